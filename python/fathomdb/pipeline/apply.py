"""Stage 6, apply: everything that a claim came to is settled in one transaction, fenced."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from fathomdb.pipeline.outcome import BatchOutcome, Stored, Tally
from fathomdb.store import indexes, vectors, work

if TYPE_CHECKING:
    from fathomdb.store.transaction import Transaction


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """When a charged row is tried again, and when no more."""

    max_attempts: int
    wait_seconds: float

    def wait_ms(self, attempts: int) -> int:
        """The wait after this many attempts: it doubles with each."""
        return int(self.wait_seconds * 1000 * 2 ** (attempts - 1))


def apply_if_claimed(
    tx: Transaction, outcome: BatchOutcome, policy: RetryPolicy, now_ms: int
) -> Tally:
    """Settles the rows that are still inflight under the outcome's fence; the others are counted.

    A row whose fence has moved on was rewritten, retired, cancelled or recovered meanwhile: nothing
    is written for it, and it counts as discarded, ``superseded``.
    """
    db, fence = tx.db, outcome.fence
    everything = outcome.rows()
    tally = Tally()
    if not everything:
        return tally
    claimed = work.still_claimed(db, (row.work_id for row in everything), fence)
    superseded = len(everything) - len(claimed)
    if superseded:
        tally.discard_reasons["superseded"] = superseded
    new_fence = tx.fence()

    by_kind: dict[str, list[Stored]] = {}
    for item in outcome.stored:
        if item.row.work_id in claimed:
            by_kind.setdefault(item.row.kind, []).append(item)
    for kind, stored in by_kind.items():
        vectors.insert(
            db,
            kind,
            outcome.profile_id,
            [(s.row.chunk_key, s.blob, s.row.canonical_hash, s.content_hash) for s in stored],
        )
        incremental = sum(s.row.is_incremental for s in stored)
        tally.incremental_processed += incremental
        tally.backfill_processed += len(stored) - incremental

    done = [s.row.work_id for stored in by_kind.values() for s in stored]
    repend: list[tuple[int, bytes]] = []
    for discarded in outcome.discarded:
        if discarded.row.work_id in claimed:
            tally.discard_reasons[discarded.reason] += 1
            if discarded.current_hash is None:
                done.append(discarded.row.work_id)
            else:
                repend.append((discarded.row.work_id, discarded.current_hash))
    if done:
        work.delete_if_claimed(db, done, fence)
    if repend:
        work.repend_if_claimed(db, repend, fence, new_fence)

    failed: list[tuple[int, str, str]] = [
        (item.row.work_id, item.cause, item.message)
        for item in outcome.failed
        if item.row.work_id in claimed
    ]
    retried: list[tuple[int, int, str]] = []
    for charged in outcome.charged:
        row = charged.row
        if row.work_id not in claimed:
            continue
        if row.attempts >= policy.max_attempts:
            failed.append((row.work_id, "embedder_error", charged.message))
        else:
            due = now_ms + policy.wait_ms(row.attempts)
            retried.append((row.work_id, due, charged.message))
    if failed:
        work.fail_if_claimed(db, failed, fence, new_fence)
    if retried:
        work.retry_if_claimed(db, retried, fence, new_fence)
    reverted = [row.work_id for row in outcome.reverted if row.work_id in claimed]
    if reverted:
        work.revert_if_claimed(db, reverted, fence, new_fence)
    tally.failed = len(failed)
    tally.reverted = len(retried) + len(reverted)

    if by_kind:
        indexes.note_completed(db, by_kind, now_ms)
    kinds = {row.kind for row in everything}
    if outcome.error is not None:
        indexes.note_error(db, kinds, outcome.error)
    elif by_kind and not failed:
        indexes.note_error(db, by_kind, None)
    return tally
