"""One transaction of the writer: commit cursor, fences, full-text rows and what follows a commit.

What belongs here: what all requests of one group share. What does not: the statements of one table
family, and waiting for requests (``actors/writer.py``).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from fathomdb.errors import CorruptDatabaseError
from fathomdb.store import fts, residue
from fathomdb.store.codes import Changes, Codes
from fathomdb.store.connection import is_count, only_row
from fathomdb.store.reuse import Cache, Contents

if TYPE_CHECKING:
    from collections.abc import Callable

    import apsw

    from fathomdb.store.indexes import Owed


@dataclass(slots=True)
class Answers:
    """What writes of one group asked the file, and would be told again."""

    owed: dict[str, list[Owed]] = field(default_factory=dict)
    """By kind; a kind that is here has its row, and one that owes nothing has an empty list."""
    node_key: int | None = None
    chunk_key: int | None = None
    """The next that no row has, where it is known."""


class Transaction:
    """A transaction of the writer, used by its thread alone.

    Each request runs between ``savepoint`` and ``release``. Full-text rows wait for ``commit``:
    FTS5 flushes at every savepoint, which costs almost half of the write rate.
    """

    def __init__(
        self,
        db: apsw.Connection,
        contents: Contents | None = None,
        *,
        cache_bytes: int = 0,
        codes: Codes | None = None,
    ) -> None:
        self.db = db
        self.contents = contents if contents is not None else Contents()
        self.cache = Cache(self.contents, cache_bytes) if cache_bytes else None
        """Where vectors of texts that are gone go; None where none are kept."""
        self._reads = self.contents.reads
        self.vectors = Changes()
        """What is done to vectors, for the codes of them to follow."""
        self._codes = codes
        self._is_published = False
        self._answers: Answers | None = None
        self._kept_answers: Answers | None = None
        self._on_commit: list[Callable[[], None]] = []
        self._on_commit_mark = 0
        db.execute("BEGIN IMMEDIATE")
        try:
            row = only_row(
                db.execute("SELECT cursor, fence, wal_pending, vector_commits FROM engine_state")
            )
            self._stored_cursor, self._stored_fence = _counted(row[0]), _counted(row[1])
        except BaseException:
            self.rollback()  # or the next BEGIN would find this one open
            raise
        self._was_pending = bool(row[2])
        self.vector_commits_are_wrong = not is_count(row[3])
        """Whether the file does not say how many commits changed vectors; the next count mends it."""
        # Nothing in the file hangs on that number: it begins again where none that it had can be.
        self._vector_commits = (
            self._stored_cursor + self._stored_fence if self.vector_commits_are_wrong else row[3]
        )
        if codes is not None:
            codes.begin(self._vector_commits)
        self.fts = fts.PendingRows(db)
        self._fence = self._stored_fence
        self._is_canonical = self._was_canonical = False
        self._reached = 0

    # --- what requests use ------------------------------------------------------------------------

    def cursor(self) -> int:
        """The number of this canonical commit; requests committed together share it."""
        self._is_canonical = True
        return self._stored_cursor + 1

    def fence(self) -> int:
        """A number that was never used before in this file."""
        self._fence += 1
        return self._fence

    def latest_fence(self) -> int:
        """The last number that ``fence`` gave, here or in any transaction before."""
        return self._fence

    def latest_cursor(self) -> int:
        """The last canonical commit, this one included once it is one."""
        return self._stored_cursor + int(self._is_canonical)

    def answers(self) -> Answers:
        """What the request before this one left with ``keep``, once; nothing is known otherwise."""
        left, self._answers = self._answers, None
        return left or Answers()

    def keep(self, answers: Answers) -> None:
        """Leaves to the request after this one what this one was told or has made true.

        The last thing that a request does: what it changes from then on must change no answer. What
        any other request does may, so nothing is left where one that does not call this came
        between.
        """
        self._kept_answers = answers

    def reach(self, *, cursor: int = 0, fence: int = 0) -> None:
        """Has the file come to a commit, or given a fence, at least: rows are there that say so."""
        self._reached = max(self._reached, cursor)
        self._fence = max(self._fence, fence)

    def on_commit(self, call: Callable[[], None]) -> None:
        """Has ``call`` run on the writer's thread once the commit has returned."""
        self._on_commit.append(call)

    # --- what the writer uses ---------------------------------------------------------------------

    def savepoint(self) -> None:
        """Begins one request."""
        self.db.execute("SAVEPOINT request")
        self._was_canonical = self._is_canonical
        self._on_commit_mark = len(self._on_commit)
        self._answers, self._kept_answers = self._kept_answers, None
        self.vectors.mark()
        self.fts.mark()

    def release(self) -> None:
        """Ends a request that succeeded."""
        self.db.execute("RELEASE request")

    def rollback_request(self) -> bool:
        """Undoes the request; False where SQLite had to end the whole transaction."""
        # Fences taken stay taken: they only have to be new, not dense.
        self._is_canonical = self._was_canonical
        self._kept_answers = None
        self._unread()
        del self._on_commit[self._on_commit_mark :]
        self.vectors.undo()
        self.fts.undo()
        if not self.db.in_transaction:
            return False
        self.db.execute("ROLLBACK TO request")
        self.db.execute("RELEASE request")
        return True

    def commit(self) -> list[Callable[[], None]]:
        """Makes everything durable and returns what to call now."""
        self.fts.flush()
        cursor = max(self.latest_cursor(), self._reached)
        number = self._vector_commits + bool(self.vectors.all())
        now = (cursor, self._fence, number)
        if now != (self._stored_cursor, self._stored_fence, self._vector_commits):
            self.db.execute(
                "UPDATE engine_state SET cursor = ?, fence = ?, vector_commits = ?", now
            )
        if self._was_pending or residue.is_pending(self.db):
            wait_ms = 0 if self._was_pending else residue.FIRST_WAIT_MS
            self._on_commit.insert(0, lambda: self._clear_residue(wait_ms))
        if (codes := self._codes) is not None and self.vectors.all():
            # Before it can be seen: a search that sees it knows of it.
            codes.publish(number, self.vectors)
            self._is_published = True
            self._on_commit.insert(0, lambda: codes.apply(number, self.vectors))
        self.db.execute("COMMIT")
        return self._on_commit

    def _clear_residue(self, wait_ms: int) -> None:
        # Where a reader is in the way it stays pending, and the next commit tries again.
        residue.clear(self.db, wait_ms)

    def _unread(self) -> None:
        # What was deleted before the ledger was read is there again, and would be missed.
        if self.contents.reads != self._reads:
            self.contents.forget()

    def rollback(self) -> None:
        """Undoes everything."""
        self._unread()
        if self._codes is not None and self._is_published:
            self._codes.withdraw()
        if self.db.in_transaction:
            self.db.execute("ROLLBACK")


def _counted(number: Any) -> int:
    if is_count(number):
        return int(number)
    raise CorruptDatabaseError(
        f"the file counts its commits or fences to {number!r}, which cannot be; restore a "
        "backup, or look at admin.check_integrity() with read_only=True"
    )
