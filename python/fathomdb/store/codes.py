"""Codes of vectors in memory, which tell a search what is worth a look (``codes.rs`` says how).

They are kept by the one writer and are never what is answered: whatever they name is compared by
its stored vector in the search's own snapshot. ``vector_commits`` in the file numbers the commits
that changed vectors, so that a snapshot and the codes can say which of the two is ahead. What
changed between them is read from the file, too much of it, or what is not known, has the search
compare every vector. What belongs here: which codes there are and what they stand for. What does
not: the vectors (``vectors.py``).
"""

from __future__ import annotations

import threading
from collections import deque
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING, Literal, NamedTuple

from fathomdb import _native
from fathomdb.errors import CorruptDatabaseError
from fathomdb.store.connection import is_count, only_row, quote

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    import apsw

    from fathomdb.store.conditions import Condition

_MOST_CHANGED = 1_000
"""Chunks that are looked at besides, because they changed since: 20 to 30 us each."""
_MOST_LOGGED = 65_536
"""Changed chunks that are remembered for snapshots from before; older ones compare everything."""
_SAMPLES = 16
_NEAREST = 10
"""Rows whose nearest ten say how far signs can be trusted, whatever the model (note 0040)."""
_GROWTH = 0.9
"""The power of k by which candidates grow: with three quarters of what twenty times ten would take,
0.9975 of 200 nearest are found, and not 0.9988 (static, 100,000 rows; 0.9934 with a power of 0.75)."""
_SMALL_GROWTH = 4_096
"""Rows more than twice what was measured that do not have the codes read again."""
_ASKED_FIRST = 8
"""Chunks for each that is to be found that are asked first whether they meet a filter (note 0056)."""
_ASKED_SHARE = 32
"""One of so many rows is asked at most: to ask costs six times what it does to list, here and in vain."""
_MOST_ASKED = 2_048
"""Nor are more asked: what so few meet is listed by an index as soon, if there is one."""
_BLOCKS_AT_ONCE = 64
"""vec0 blocks that are read before they are coded: 6 MB at 384 dimensions."""

Reason = Literal["small", "asked", "further", "loading", "older", "behind", "changing", "failed"]
"""Why every vector is compared: few vectors; ``exact=True``; nodes with very many chunks; another
search reads the codes; the snapshot is from before the codes; another process wrote since; too much
changed meanwhile; the codes could not be read or are not what the file holds."""


class Changes:
    """What one transaction does to vectors, in order."""

    def __init__(self) -> None:
        self._done: list[_Change] = []
        self._mark = 0

    def put(self, table: str, rows: memoryview, chunk_keys: Sequence[int]) -> None:
        """Vectors were stored, a row for each chunk; the rows must stay as they are."""
        self._done.append(_Change(table, chunk_keys, rows))

    def remove(self, table: str, chunk_keys: Sequence[int]) -> None:
        """The vectors of these chunks were removed."""
        self._done.append(_Change(table, chunk_keys))

    def drop(self, table: str) -> None:
        """A whole table went."""
        self._done.append(_Change(table, None))

    def mark(self) -> None:
        """Remembers what was done so far."""
        self._mark = len(self._done)

    def undo(self) -> None:
        """Forgets what was done since the mark."""
        del self._done[self._mark :]

    def all(self) -> list[_Change]:
        """What was done."""
        return self._done


class _Change(NamedTuple):
    table: str
    chunk_keys: Sequence[int] | None
    rows: memoryview | None = None


@dataclass(slots=True)
class Index:
    """The codes of one table.

    ``base`` is the oldest commit that they can be searched at, ``applied`` the last whose changes
    are all in them, ``log`` what changed since the base, by commit. ``needed`` is how many of the
    ``needed_of`` rows that were loaded signs could not tell from the nearest ten.
    """

    codes: _native.CodeIndex
    base: int
    applied: int
    is_loaded: bool = False
    needed: int = 0
    needed_of: int = 1
    log: deque[tuple[int, Sequence[int]]] = field(default_factory=deque)
    logged: int = 0

    def finish_loading(self) -> None:
        """Measures how far the signs of these vectors can be trusted."""
        self.codes.finish_loading()
        self.needed = self.codes.candidates_needed(_SAMPLES, _NEAREST)
        self.needed_of = max(1, len(self.codes))

    @property
    def has_outgrown(self) -> bool:
        """Whether there are so many more rows than were measured that they may be of another sort."""
        return len(self.codes) > 2 * self.needed_of + _SMALL_GROWTH

    def candidates(self, k: int, reads: int) -> int:
        """Rows nearest by their signs that are worth a closer look, by bytes or by vectors."""
        if not self.needed:
            return reads
        # Twice what the sample needed, and more as there are more rows and more are asked for.
        grown = 2 * self.needed * max(1, len(self.codes)) // self.needed_of
        return min(
            max(10 * k + 400, int(grown * max(1.0, k / _NEAREST) ** _GROWTH)),
            max(reads, len(self.codes)),
        )

    def changed_since(self, number: int) -> set[int]:
        """The chunks that changed after a commit."""
        found: set[int] = set()
        for at, chunk_keys in reversed(self.log):
            if at <= number:
                break
            found.update(chunk_keys)
        return found


@dataclass(frozen=True, slots=True)
class Candidates:
    """What is worth a look: chunk keys, and whether every allowed chunk is among them."""

    chunk_keys: list[int]
    is_all: bool
    must_be_there: frozenset[int]


class Codes:
    """The codes of all vector tables of an open file; any thread may search.

    ``follows`` is whether this process writes the file, so that it hears of every change.
    """

    def __init__(self, *, follows: bool, int8: bool, exact_below_rows: int) -> None:
        self._follows = follows
        self._int8 = int8
        self._exact_below_rows = exact_below_rows
        self._lock = threading.Lock()
        self._loading = threading.Lock()
        self._indexes: dict[str, Index] = {}
        self._published = 0
        self._asked_at: dict[str, int] = {}

    # --- the writer's -----------------------------------------------------------------------------

    def begin(self, number: int) -> None:
        """Hears which commit a transaction begins after."""
        with self._lock:
            if number != self._published:
                self._indexes.clear()  # somebody else wrote, or a commit did not say how it ended
                self._published = number

    def publish(self, number: int, changes: Changes) -> None:
        """Says what a commit is about to change, before any search can see it."""
        with self._lock:
            self._published = number
            for change in changes.all():
                if change.chunk_keys is None:
                    self._indexes.pop(change.table, None)
                elif (index := self._indexes.get(change.table)) is not None:
                    index.log.append((number, change.chunk_keys))
                    index.logged += len(change.chunk_keys)

    def withdraw(self) -> None:
        """Forgets everything: a commit that was published failed, and may stand all the same."""
        with self._lock:
            self._indexes.clear()

    def apply(self, number: int, changes: Changes) -> None:
        """Brings what a commit changed into the codes."""
        failure: Exception | None = None
        for change in changes.all():
            with self._lock:
                index = self._indexes.get(change.table)
            if index is None or change.chunk_keys is None:
                continue
            try:
                if change.rows is None:
                    index.codes.remove(change.chunk_keys)
                else:
                    places = range(len(change.chunk_keys))
                    index.codes.put(change.chunk_keys, bytes(change.rows), places)
            except Exception as error:
                self._forget(change.table, index)
                failure = error
        with self._lock:
            for table, index in [*self._indexes.items()]:
                index.applied = number
                if index.logged > _MOST_LOGGED and not (index.is_loaded or self._loading.locked()):
                    del self._indexes[table]  # told of too late to be read, and not asked for since
                while index.logged > _MOST_LOGGED:
                    at, chunk_keys = index.log.popleft()
                    index.logged -= len(chunk_keys)
                    index.base = max(index.base, at)
        if failure is not None:
            raise failure

    # --- a search's -------------------------------------------------------------------------------

    def candidates(
        self,
        db: apsw.Connection,
        table: str,
        dimension: int,
        query: bytes,
        k: int,
        where: Condition | None,
    ) -> Candidates | Reason:
        """The chunks of which the nearest ``k`` are to be told by their vectors, or why not.

        ``where`` is what the node of a chunk must meet.

        Raises:
            CorruptDatabaseError: The file holds no vectors that codes can be made of.
        """
        reads = reads_of(k, int8=self._int8)
        found = self._usable(db, table, dimension, reads)
        if not isinstance(found, tuple):
            return found
        index, number = found
        if index.has_outgrown:
            self._forget(table, index)  # what was measured of its first rows says little of these
            return "loading"
        applied = index.applied
        if where is None:
            chunk_keys = index.codes.search(query, index.candidates(k, reads), reads)
        else:
            chunk_keys, are_listed = _allowed(db, index, query, k, reads, where)
            if are_listed:
                # Told by the snapshot, not by codes: some may have no vector yet, or one elsewhere.
                return Candidates(chunk_keys, True, frozenset())
        # After the scan: what changed while it ran was changed by a commit that is in the log.
        since = min(number, applied)
        with self._lock:
            if since < index.base:
                return "changing"
            changed = index.changed_since(since)
        if len(changed) > _MOST_CHANGED:
            return "changing"
        same = [key for key in chunk_keys if key not in changed]
        besides = changed if where is None else _meeting(db, where, changed)
        is_all = len(chunk_keys) < reads
        if is_all and changed:
            return "changing"  # or rows went while they were chosen, and others are as near
        return Candidates([*same, *besides], is_all, frozenset(same))

    def forget(self, table: str) -> None:
        """Has the codes of a table read again: they are not what the file holds."""
        with self._lock:
            self._indexes.pop(table, None)

    def size(self, table: str) -> tuple[int, int]:
        """(rows, bytes) of the codes of a table that are in memory now."""
        with self._lock:
            index = self._indexes.get(table)
        return (0, 0) if index is None else (len(index.codes), index.codes.nbytes)

    def chunk_keys(self, table: str) -> set[int] | None:
        """Which chunks there are codes of; None where they were never asked for."""
        with self._lock:
            index = self._indexes.get(table)
        return set(index.codes.keys()) if index is not None and index.is_loaded else None

    # --- reading them -----------------------------------------------------------------------------

    def _usable(
        self, db: apsw.Connection, table: str, dimension: int, reads: int
    ) -> tuple[Index, int] | Reason:
        with self._lock:
            index = self._indexes.get(table)
        is_loaded = index is not None and index.is_loaded
        rows = len(index.codes) if index is not None and is_loaded else _most_rows(db, table)
        if rows * _MANY_READS < self._exact_below_rows * max(_MANY_READS, reads):
            return "small"
        number = commits(db)
        if index is not None and is_loaded:
            if number >= index.base and (self._follows or number == index.base):
                return index, number
            if self._follows:
                return "older"
        if not self._loading.acquire(blocking=False):
            return "loading"
        try:
            return self._load(db, table, dimension, number)
        finally:
            self._loading.release()

    def _load(
        self, db: apsw.Connection, table: str, dimension: int, number: int
    ) -> tuple[Index, int] | Reason:
        with self._lock:
            index = self._indexes.get(table)
            if index is not None and index.is_loaded:
                if number < index.base:
                    return "older"
                if self._follows or number == index.base:
                    return index, number  # another search was faster
            if index is None or not self._follows:
                # Codes of another process's file are read when it has not written for a while.
                if index is not None and self._asked_at.get(table) != number:
                    self._asked_at[table] = number
                    return "behind"
                base = self._published if self._follows else number
                index = Index(_native.CodeIndex(dimension, int8=self._int8), base, base)
                # From here on it hears of what changes: what is loaded is older than that.
                self._indexes[table] = index
        if number < index.base:
            return "older"  # it was told of too late: the next search loads it
        try:
            _read_into(db, table, index.codes)
        except BaseException:
            self._forget(table, index)
            raise
        index.finish_loading()
        with self._lock:
            index.is_loaded = True
        return index, number

    def _forget(self, table: str, index: Index) -> None:
        with self._lock:
            if self._indexes.get(table) is index:
                del self._indexes[table]


def _allowed(
    db: apsw.Connection, index: Index, query: bytes, k: int, reads: int, where: Condition
) -> tuple[list[int], bool]:
    """The nearest of the chunks that meet a condition, or, and then True, a list of all of them.

    They are listed where they are fewer than ``reads``.

    Which of the nearest meet it is asked, further and further out, as long as that is less work than
    to list all that do.
    """
    condition = where.chunk_keys()
    listing = db.execute(condition.sql, condition.parameters)
    asked = _ASKED_FIRST * reads
    # A list that is as short as the first question is the answer, and costs no more.
    listed = [row[0] for row in islice(listing, asked)]
    most = min(_MOST_ASKED, len(index.codes) // _ASKED_SHARE) if len(listed) == asked else 0
    while asked <= most:
        nearest = index.codes.search(query, index.candidates(asked, asked), asked)
        meeting = _meeting(db, where, nearest)
        if len(meeting) >= reads:
            listing.close()
            return [key for key in nearest if key in meeting][:reads], False
        # What the share that met it asks for, and half as much again.
        asked = max(2 * asked, 3 * asked * reads // (2 * max(1, len(meeting))))
    listed += [row[0] for row in listing]
    if len(listed) < reads:
        return listed, True
    return index.codes.search(query, index.candidates(k, reads), reads, listed), False


def _meeting(db: apsw.Connection, where: Condition, chunk_keys: Iterable[int]) -> set[int]:
    asked = where.among(chunk_keys)
    return {row[0] for row in db.execute(asked.sql, asked.parameters)}


_MANY_READS = 1_000
"""Point reads up to which codes are the faster ones from ``exact_below_rows`` on; for more they need
more rows. Measured at 20,000 rows: 6 ms for so many reads and the codes, 11 ms for comparing all.
"""


def reads_of(k: int, *, int8: bool) -> int:
    """Vectors that are compared for the nearest ``k`` (measured; note 0040)."""
    return k + k // 8 + 10 if int8 else 4 * k + 200


def commits(db: apsw.Connection) -> int:
    """The number of the last commit that changed vectors, as a snapshot has it.

    -1, which is before any codes, where the file has no such number: what changes vectors gives it one.
    """
    (number,) = only_row(db.execute("SELECT vector_commits FROM engine_state"))
    return int(number) if is_count(number) else -1


def _most_rows(db: apsw.Connection, table: str) -> int:
    """The rows of a vec0 table, or a little more: those of all blocks that it ever made."""
    row = db.execute(f"SELECT max(rowid) FROM {quote(table + '_chunks')}").fetchone()
    return 0 if row is None or row[0] is None else int(row[0]) * _native_rows(db, table)


def _native_rows(db: apsw.Connection, table: str) -> int:
    row = db.execute(f"SELECT size FROM {quote(table + '_chunks')} LIMIT 1").fetchone()
    return 0 if row is None else int(row[0])


def _read_into(db: apsw.Connection, table: str, codes: _native.CodeIndex) -> None:
    """Reads vec0's own tables, block by block: through it a row costs twenty times as much."""
    # From the vectors: the column that they call rowid has no index that a join by it would use.
    blocks = db.execute(
        f"SELECT c.validity, c.rowids, v.vectors FROM {quote(table + '_vector_chunks00')} AS v "
        f"JOIN {quote(table + '_chunks')} AS c ON c.chunk_id = v.rowid"
    )
    count = 0
    while part := [*islice(blocks, _BLOCKS_AT_ONCE)]:
        validity, keys, vectors = zip(*part, strict=True)
        codes.load(validity, keys, vectors)
        count += len(part)
    expected = db.execute(f"SELECT count(*) FROM {quote(table + '_chunks')}").get
    if count != expected:
        raise CorruptDatabaseError(
            f"{db.filename} is damaged: {table} has vectors of {count} of its {expected} blocks; look "
            "at admin.check_integrity()"
        )
