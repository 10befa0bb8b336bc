"""What waits in ``vector_projection_work``, and what failed: looked at, never changed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from fathomdb.store import keys
from fathomdb.store.connection import only_row

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    import apsw

    from fathomdb.store.conditions import Condition


@dataclass(frozen=True, slots=True)
class Backlog:
    """What waits for one kind under one profile, in rows."""

    pending_incremental: int = 0
    pending_backfill: int = 0
    inflight: int = 0
    failed: int = 0
    oldest_pending_at_ms: int | None = None

    @property
    def unsettled(self) -> int:
        """Rows that are neither failed nor done."""
        return self.pending_incremental + self.pending_backfill + self.inflight


_PAGES_OF_A_COUNT = 16


def backlogs(db: apsw.Connection) -> dict[tuple[str, int], Backlog]:
    """The backlog by (kind, profile_id); reads the whole queue."""
    rows = db.execute(
        "SELECT kind, profile_id, count(*) FILTER (WHERE state = 'pending' AND lane = 1), "
        "count(*) FILTER (WHERE state = 'pending' AND lane = 0), "
        "count(*) FILTER (WHERE state = 'inflight'), count(*) FILTER (WHERE state = 'failed'), "
        "min(enqueued_at_ms) FILTER (WHERE state = 'pending') "
        "FROM vector_projection_work GROUP BY kind, profile_id"
    )
    return {(row[0], row[1]): Backlog(*row[2:]) for row in rows}


def unsettled(db: apsw.Connection, profile_id: int) -> int:
    """Rows of a profile that are neither failed nor done; reads the whole queue, in little memory."""
    cache_size = db.execute("PRAGMA cache_size").get
    # Each page is read once: those of a long queue would fill the cache for nothing.
    db.execute(f"PRAGMA cache_size = {_PAGES_OF_A_COUNT}")
    try:
        return int(
            db.execute(
                "SELECT (SELECT count(*) FROM vector_projection_work WHERE state = 'pending' "
                "AND profile_id = ?1) + (SELECT count(*) FROM vector_projection_work "
                "WHERE state = 'inflight' AND profile_id = ?1)",
                (profile_id,),
            ).get
        )
    finally:
        db.execute(f"PRAGMA cache_size = {cache_size}")


def has_unsettled(db: apsw.Connection, kind: str, profile_id: int) -> bool:
    """Whether anything of a kind under a profile is neither failed nor done."""
    return any(
        db.execute(
            f"SELECT 1 FROM vector_projection_work WHERE {states} AND profile_id = ? AND kind = ? "
            "LIMIT 1",
            (profile_id, kind),
        ).fetchone()
        for states in ("state = 'pending'", "state = 'inflight'")
    )


def count_failed(db: apsw.Connection, kind: str, profile_id: int) -> int:
    """Rows of a kind under a profile that failed for good."""
    return int(
        db.execute(
            "SELECT count(*) FROM vector_projection_work WHERE state = 'failed' AND kind = ? "
            "AND profile_id = ?",
            (kind, profile_id),
        ).get
    )


def count_stored(db: apsw.Connection, profile_id: int) -> int:
    """Vectors that are there under a profile."""
    return int(
        db.execute("SELECT count(*) FROM vector_ledger WHERE profile_id = ?", (profile_id,)).get
    )


@dataclass(frozen=True, slots=True)
class FailedRow:
    """A failed row; ``cause`` is one word, ``message`` the last error's own."""

    node_id: str
    chunk_id: str
    kind: str
    cause: str
    message: str
    attempts: int
    enqueued_at_ms: int


def failed(db: apsw.Connection, kind: str | None) -> Iterator[FailedRow]:
    """Failed rows, of one kind where given, oldest first."""
    rows = db.execute(
        "SELECT n.logical_id, c.chunk_id, w.kind, w.cause, w.last_error, w.attempts, "
        "w.enqueued_at_ms FROM vector_projection_work AS w JOIN chunks AS c USING (chunk_key) "
        "JOIN nodes AS n USING (node_key) WHERE w.state = 'failed' AND (?1 IS NULL OR w.kind = ?1) "
        "ORDER BY w.work_id",
        (kind,),
    )
    return (FailedRow(*row) for row in rows)


@dataclass(frozen=True, slots=True)
class ChunkWork:
    """The queue's row for one chunk and profile."""

    chunk_key: int
    profile_id: int
    state: str
    priority: int
    attempts: int
    due_at_ms: int
    cause: str | None
    last_error: str | None


def of_chunks(db: apsw.Connection, chunk_keys: Iterable[int]) -> list[ChunkWork]:
    """The queue's rows for these chunks."""
    rows = db.execute(
        "SELECT chunk_key, profile_id, state, priority, attempts, due_at_ms, cause, last_error "
        "FROM vector_projection_work WHERE chunk_key IN (SELECT value FROM carray(?))",
        (keys.ints(chunk_keys),),
    )
    return [ChunkWork(*row) for row in rows]


def progress(db: apsw.Connection, chunk_ids: Sequence[str]) -> tuple[int, int, int]:
    """(projected, unsettled, failed) of these chunk ids in the indexes that answer.

    What is gone, and what no index wants, is none of them.
    """
    row = only_row(
        db.execute(
            "SELECT count(*) FILTER (WHERE l.chunk_key IS NOT NULL AND w.work_id IS NULL), "
            "count(*) FILTER (WHERE w.state <> 'failed'), count(*) FILTER (WHERE w.state = 'failed') "
            "FROM carray(?1) AS k JOIN chunks AS c ON c.chunk_id = k.value "
            "JOIN nodes AS n USING (node_key) "
            "JOIN vector_index_schemas AS s ON s.kind = n.kind AND s.enabled = 1 "
            "LEFT JOIN vector_projection_work AS w "
            "ON w.chunk_key = c.chunk_key AND w.profile_id = s.profile_id "
            "LEFT JOIN vector_ledger AS l "
            "ON l.chunk_key = c.chunk_key AND l.profile_id = s.profile_id",
            (keys.texts(chunk_ids),),
        )
    )
    return int(row[0]), int(row[1]), int(row[2])


COUNTED_WORK = 1_000
"""Waiting rows that a search looks at to say how many match its filter; more are not counted."""


def waiting_within(
    db: apsw.Connection, profile_id: int, kinds: Iterable[str], condition: Condition
) -> tuple[int, int, bool]:
    """(pending, failed, exact) rows of these kinds under a profile, whose node ``n`` meets a condition.

    Looks at the first COUNTED_WORK rows of each, so that a long queue does not slow a search.
    """
    counts = []
    exact = True
    named = [*kinds]
    for states in ("state = 'pending'", "state = 'inflight'", "state = 'failed'"):
        row = only_row(
            db.execute(
                "SELECT count(*) FILTER (WHERE matches), count(*) FROM (SELECT ("
                f"{condition.sql}) AND w.kind IN (SELECT value FROM carray(?)) AS matches FROM "
                "(SELECT chunk_key, kind FROM vector_projection_work WHERE "
                f"{states} AND profile_id = ? LIMIT {COUNTED_WORK + 1}) AS w "
                "JOIN chunks AS c USING (chunk_key) JOIN nodes AS n USING (node_key))",
                (*condition.parameters, keys.texts(named), profile_id),
            )
        )
        counts.append(int(row[0]))
        exact = exact and int(row[1]) <= COUNTED_WORK
    return counts[0] + counts[1], counts[2], exact
