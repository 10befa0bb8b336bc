"""``vector_projection_work``, the durable queue: states pending, inflight, failed.

What changes a row, and what a claim reads. Looking at the queue is ``queue``'s.

Every change of a row takes a new fence; settling requires work_id, fence and state inflight, so a
late or repeated result changes nothing. ``docs/explanation/architecture.md`` draws the states.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from fathomdb.config import BACKFILL_PRIORITY, INCREMENTAL_PRIORITY
from fathomdb.store import keys

if TYPE_CHECKING:
    from collections.abc import Iterable

    import apsw


class ClaimedRow(NamedTuple):
    """A row that this process has inflight, with its chunk as it is now.

    ``canonical_hash`` is what was asked for. ``chunk_id``, ``node_kind`` and ``text`` are None where
    the chunk is gone.
    """

    work_id: int
    chunk_key: int
    kind: str
    canonical_hash: bytes
    attempts: int
    chunk_id: str | None
    node_kind: str | None
    text: str | None


# --- enqueue --------------------------------------------------------------------------------------


def enqueue(
    db: apsw.Connection,
    kind: str,
    profile_id: int,
    chunk_keys: Iterable[int],
    *,
    priority: int,
    fence: int,
    now_ms: int,
) -> None:
    """Owes a vector for the text that these chunks of a kind have now.

    A row that is already there, in whatever state, starts anew with the new hash.
    """
    db.execute(
        "INSERT INTO vector_projection_work (chunk_key, profile_id, kind, canonical_hash, "
        "priority, state, fence, enqueued_at_ms, due_at_ms) "
        "SELECT chunk_key, ?1, ?2, canonical_hash, ?3, 'pending', ?4, ?5, ?5 FROM chunks "
        "WHERE chunk_key IN (SELECT value FROM carray(?6)) ORDER BY chunk_key "
        "ON CONFLICT (chunk_key, profile_id) DO UPDATE SET kind = excluded.kind, "
        "canonical_hash = excluded.canonical_hash, priority = excluded.priority, "
        "state = 'pending', fence = excluded.fence, attempts = 0, "
        "enqueued_at_ms = excluded.enqueued_at_ms, due_at_ms = excluded.due_at_ms, "
        "cause = NULL, last_error = NULL",
        (profile_id, kind, priority, fence, now_ms, keys.ints(chunk_keys)),
    )


def enqueue_missing(
    db: apsw.Connection,
    kind: str,
    profile_id: int,
    *,
    fence: int,
    now_ms: int,
    again: tuple[int, int] | None = None,
) -> int:
    """Owes, at backfill priority, what a kind has no current vector for; returns the rows.

    With ``again``, a range of chunk keys (first, last), vectors that are there are owed again too,
    and failed rows start anew. Other rows that are in the queue already stay as they are.
    """
    first, last = again if again is not None else (0, (1 << 63) - 1)
    db.execute(
        "INSERT INTO vector_projection_work (chunk_key, profile_id, kind, canonical_hash, "
        "priority, state, fence, enqueued_at_ms, due_at_ms) "
        "SELECT c.chunk_key, :profile, n.kind, c.canonical_hash, :priority, 'pending', :fence, "
        ":now, :now FROM chunks AS c JOIN nodes AS n USING (node_key) "
        "LEFT JOIN vector_ledger AS l ON l.chunk_key = c.chunk_key AND l.profile_id = :profile "
        "WHERE n.kind = :kind AND n.superseded_cursor IS NULL "
        "AND c.chunk_key BETWEEN :first AND :last "
        "AND (:again OR l.chunk_key IS NULL OR l.canonical_hash <> c.canonical_hash) "
        "ON CONFLICT (chunk_key, profile_id) DO UPDATE SET state = 'pending', "
        "fence = excluded.fence, attempts = 0, cause = NULL, last_error = NULL, "
        "due_at_ms = excluded.due_at_ms WHERE :again AND state = 'failed'",
        {
            "profile": profile_id,
            "kind": kind,
            "priority": BACKFILL_PRIORITY,
            "fence": fence,
            "now": now_ms,
            "first": first,
            "last": last,
            "again": again is not None,
        },
    )
    return db.changes()


# --- claim ----------------------------------------------------------------------------------------

CLAIM = (
    "UPDATE vector_projection_work SET state = 'inflight', fence = :fence, "
    "attempts = attempts + 1 WHERE work_id IN (SELECT work_id FROM vector_projection_work "
    "WHERE state = 'pending' AND profile_id = :profile AND lane = :lane AND due_at_ms <= :now "
    "ORDER BY due_at_ms, work_id LIMIT :limit) AND attempts = :attempts"
)


def claim(
    db: apsw.Connection,
    profile_id: int,
    *,
    incremental: bool,
    limit: int,
    attempts: int,
    fence: int,
    now_ms: int,
) -> int:
    """Takes the due rows of one lane of a profile: pending to inflight, attempt + 1; how many.

    Of the first ``limit`` rows those that were tried ``attempts`` times, like the first one.

    Returns no rows: read one by one, each would wait for the interpreter while another thread has
    it. Whoever claimed reads them with ``claimed``, away from the writer.
    """
    db.execute(
        CLAIM,
        {
            "fence": fence,
            "profile": profile_id,
            "lane": int(incremental),
            "now": now_ms,
            "limit": limit,
            "attempts": attempts,
        },
    )
    return db.changes()


def claimed(db: apsw.Connection, fence: int) -> list[ClaimedRow]:
    """The rows that are inflight under a fence, with their chunks as they are now."""
    rows = db.execute(
        "SELECT w.work_id, w.chunk_key, w.kind, w.canonical_hash, w.attempts, c.chunk_id, n.kind, "
        "c.text FROM vector_projection_work AS w LEFT JOIN chunks AS c USING (chunk_key) "
        "LEFT JOIN nodes AS n USING (node_key) WHERE w.fence = ? AND w.state = 'inflight' "
        "ORDER BY w.work_id",
        (fence,),
    )
    return [*map(ClaimedRow._make, rows)]


def has_due(db: apsw.Connection, profile_id: int, *, incremental: bool, now_ms: int) -> bool:
    """Whether a lane of a profile has a row to claim."""
    return (
        db.execute(
            "SELECT 1 FROM vector_projection_work WHERE state = 'pending' AND profile_id = ? "
            "AND lane = ? AND due_at_ms <= ? LIMIT 1",
            (profile_id, int(incremental), now_ms),
        ).fetchone()
        is not None
    )


class Due(NamedTuple):
    """The row that a lane's next claim begins with: how often it was tried, and how that ended."""

    attempts: int
    died: bool


def first_due(
    db: apsw.Connection, profile_id: int, *, incremental: bool, now_ms: int
) -> Due | None:
    """What a lane's next claim begins with; None where nothing is due."""
    row: tuple[int, int | None] | None = db.execute(
        "SELECT attempts, last_error = ?4 FROM vector_projection_work WHERE state = 'pending' "
        "AND profile_id = ?1 AND lane = ?2 AND due_at_ms <= ?3 ORDER BY due_at_ms, work_id LIMIT 1",
        (profile_id, int(incremental), now_ms, PROCESS_DIED),
    ).fetchone()
    return None if row is None else Due(row[0], bool(row[1]))


def inflight(db: apsw.Connection) -> list[Due]:
    """Of the rows that are inflight the first two: none, one that is alone, or more than one."""
    rows = db.execute(
        "SELECT attempts, last_error = ? FROM vector_projection_work WHERE state = 'inflight' "
        "LIMIT 2",
        (PROCESS_DIED,),
    )
    return [Due(attempts, bool(died)) for attempts, died in rows]


# --- settle: every statement is guarded by fence and state ----------------------------------------


def still_claimed(db: apsw.Connection, fence: int) -> set[int]:
    """The rows that are still inflight under this fence."""
    return {
        row[0]
        for row in db.execute(
            "SELECT work_id FROM vector_projection_work WHERE fence = ? AND state = 'inflight'",
            (fence,),
        )
    }


def count_claimed(db: apsw.Connection, fence: int) -> int:
    """How many rows are still inflight under this fence."""
    return int(
        db.execute(
            "SELECT count(*) FROM vector_projection_work WHERE fence = ? AND state = 'inflight'",
            (fence,),
        ).get
    )


def delete_all_claimed(db: apsw.Connection, fence: int) -> None:
    """Ends every row that is inflight under this fence."""
    db.execute(
        "DELETE FROM vector_projection_work WHERE fence = ? AND state = 'inflight'", (fence,)
    )


def delete_if_claimed(db: apsw.Connection, work_ids: Iterable[int], fence: int) -> int:
    """Ends rows that were applied or that nobody wants; returns how many there were."""
    db.execute(
        "DELETE FROM vector_projection_work WHERE fence = ? AND state = 'inflight' "
        "AND work_id IN (SELECT value FROM carray(?))",
        (fence, keys.ints(work_ids)),
    )
    return db.changes()


def fail_if_claimed(
    db: apsw.Connection, rows: Iterable[tuple[int, str, str]], fence: int, new_fence: int
) -> None:
    """Fails (work_id, cause, message) rows for good."""
    db.executemany(
        "UPDATE vector_projection_work SET state = 'failed', fence = ?, cause = ?, last_error = ? "
        "WHERE work_id = ? AND fence = ? AND state = 'inflight'",
        ((new_fence, cause, message, work_id, fence) for work_id, cause, message in rows),
    )


def retry_if_claimed(
    db: apsw.Connection, rows: Iterable[tuple[int, int, str]], fence: int, new_fence: int
) -> None:
    """Sends (work_id, due_at_ms, message) rows back to pending, their attempt charged."""
    db.executemany(
        "UPDATE vector_projection_work SET state = 'pending', fence = ?, due_at_ms = ?, "
        "last_error = ? WHERE work_id = ? AND fence = ? AND state = 'inflight'",
        ((new_fence, due_at_ms, message, work_id, fence) for work_id, due_at_ms, message in rows),
    )


def revert_rest(db: apsw.Connection, fence: int, new_fence: int) -> int:
    """Sends what is still inflight under a fence back to pending, and gives its attempt back."""
    db.execute(
        "UPDATE vector_projection_work SET state = 'pending', fence = ?, attempts = attempts - 1 "
        "WHERE fence = ? AND state = 'inflight'",
        (new_fence, fence),
    )
    return db.changes()


def repend_if_claimed(
    db: apsw.Connection, rows: Iterable[tuple[int, bytes]], fence: int, new_fence: int
) -> None:
    """Owes (work_id, canonical_hash) rows for the text as it is now, attempts anew."""
    db.executemany(
        "UPDATE vector_projection_work SET state = 'pending', fence = ?, canonical_hash = ?, "
        "attempts = 0, last_error = NULL WHERE work_id = ? AND fence = ? AND state = 'inflight'",
        ((new_fence, canonical_hash, work_id, fence) for work_id, canonical_hash in rows),
    )


# --- recovery and close ---------------------------------------------------------------------------


PROCESS_DIED = "the process died while this text was claimed"
"""The last error of rows that were found inflight at open. Their claims ask for it (``Due.died``):
of all rows that are tried again, only these must be embedded with nothing else beside them."""


def recover(db: apsw.Connection, new_fence: int, now_ms: int) -> int:
    """Sends what a dead process left inflight back to pending, attempts kept; returns the rows.

    Due now, behind what waits: whatever killed the process must not do so first of all again.
    """
    db.execute(
        "UPDATE vector_projection_work SET state = 'pending', fence = ?, due_at_ms = ?, "
        "last_error = ? WHERE state = 'inflight'",
        (new_fence, now_ms, PROCESS_DIED),
    )
    return db.changes()


def bring_forward(db: apsw.Connection, latest_ms: int, now_ms: int) -> int:
    """Has what is due after ``latest_ms`` be due now; returns the rows."""
    # By profile and lane, so that the index of pending rows is asked and not the whole queue.
    db.execute(
        "UPDATE vector_projection_work SET due_at_ms = ?2 WHERE state = 'pending' "
        "AND profile_id IN (SELECT profile_id FROM vector_embedding_profiles) AND lane IN (0, 1) "
        "AND due_at_ms > ?1",
        (latest_ms, now_ms),
    )
    return db.changes()


def fail_if_died_alone(db: apsw.Connection, attempts: int, new_fence: int) -> str | None:
    """Fails the row that is the only one inflight, if its claim before this one ended so as well.

    Only with as many attempts at least. Returns its kind, or None where no row was failed.
    """
    row: tuple[str] | None = db.execute(
        "UPDATE vector_projection_work SET state = 'failed', fence = ?1, cause = 'process_died' "
        "WHERE state = 'inflight' AND attempts >= ?2 AND last_error = ?3 AND 1 = "
        "(SELECT count(*) FROM vector_projection_work WHERE state = 'inflight') RETURNING kind",
        (new_fence, attempts, PROCESS_DIED),
    ).fetchone()
    return None if row is None else row[0]


def revert_all(db: apsw.Connection, new_fence: int) -> int:
    """Sends everything inflight back to pending with its attempt; a close's last transaction."""
    db.execute(
        "UPDATE vector_projection_work SET state = 'pending', fence = ?, attempts = attempts - 1 "
        "WHERE state = 'inflight'",
        (new_fence,),
    )
    return db.changes()


# --- requeuing and cancelling ---------------------------------------------------------------------


def requeue_failed(
    db: apsw.Connection, kind: str | None, cause: str | None, *, fence: int, now_ms: int
) -> int:
    """Sends failed rows back to pending, attempts anew; returns how many there were."""
    db.execute(
        "UPDATE vector_projection_work SET state = 'pending', fence = ?1, attempts = 0, "
        "cause = NULL, last_error = NULL, due_at_ms = ?2 WHERE state = 'failed' "
        "AND (?3 IS NULL OR kind = ?3) AND (?4 IS NULL OR cause = ?4)",
        (fence, now_ms, kind, cause),
    )
    return db.changes()


def promote(db: apsw.Connection, profile_id: int, *, fence: int) -> int:
    """Makes what waits under a profile fresh work; returns how many rows did.

    For an index that answers again and was only kept before.
    """
    db.execute(
        "UPDATE vector_projection_work SET priority = ?1, fence = ?2 "
        "WHERE profile_id = ?3 AND state = 'pending' AND lane = 0",
        (INCREMENTAL_PRIORITY, fence, profile_id),
    )
    return db.changes()


def delete_chunks(db: apsw.Connection, chunk_keys: Iterable[int]) -> None:
    """Ends all work of these chunks."""
    db.execute(
        "DELETE FROM vector_projection_work WHERE chunk_key IN (SELECT value FROM carray(?))",
        (keys.ints(chunk_keys),),
    )


def delete_of_profile(db: apsw.Connection, chunk_keys: Iterable[int], profile_id: int) -> None:
    """Ends the work of these chunks under a profile: their vectors came another way."""
    db.execute(
        "DELETE FROM vector_projection_work WHERE profile_id = ? "
        "AND chunk_key IN (SELECT value FROM carray(?))",
        (profile_id, keys.ints(chunk_keys)),
    )


def delete_kind(db: apsw.Connection, kind: str, profile_id: int) -> None:
    """Ends all work of a kind under a profile."""
    db.execute(
        "DELETE FROM vector_projection_work WHERE kind = ? AND profile_id = ?", (kind, profile_id)
    )
