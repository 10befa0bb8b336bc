"""Stage 6, apply: everything that a claim came to is settled in one transaction, fenced."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from fathomdb.pipeline.outcome import BatchOutcome, Columns, FailureCause, Tally
from fathomdb.store import erasure, indexes, switching, vectors, work

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fathomdb.pipeline.claim import Claim
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
    db, fence = tx.db, outcome.claim.fence
    tally = Tally()
    if not outcome.claim.count:
        return tally
    claimed = work.count_claimed(db, fence)
    superseded = outcome.claim.count - claimed
    if superseded:
        tally.discard_reasons["superseded"] = superseded
        outcome = outcome.without_superseded(work.still_claimed(db, fence))
    new_fence = tx.fence()

    stored = Columns.of(outcome.stored) if outcome.columns is None else outcome.columns
    _store(tx, outcome.claim, stored)
    tally.reused = sum(part.reused for part in stored)
    if outcome.claim.incremental:
        tally.incremental_processed = len(outcome.stored)
    else:
        tally.backfill_processed = len(outcome.stored)

    done = [work_id for part in stored for work_id in part.work_ids]
    repend: list[tuple[int, bytes]] = []
    for discarded in outcome.discarded:
        tally.discard_reasons[discarded.reason] += 1
        if discarded.current_hash is None:
            done.append(discarded.row.work_id)
        else:
            repend.append((discarded.row.work_id, discarded.current_hash))
    failed: list[tuple[int, FailureCause, str]] = [
        (item.row.work_id, item.cause, item.message) for item in outcome.failed
    ]
    retried: list[tuple[int, int, str]] = []
    for charged in outcome.charged:
        row = charged.row
        if row.attempts >= policy.max_attempts:
            failed.append((row.work_id, "embedder_error", charged.message))
        else:
            due = now_ms + policy.wait_ms(row.attempts)
            retried.append((row.work_id, due, charged.message))
    # Due at once, behind what waits: the next claims are so small that the culprit stands alone.
    retried.extend((item.row.work_id, now_ms, item.message) for item in outcome.suspected)
    if len(done) == claimed:
        work.delete_all_claimed(db, fence)
    elif done:
        work.delete_if_claimed(db, done, fence)
    if repend:
        work.repend_if_claimed(db, repend, fence, new_fence)
    if failed:
        work.fail_if_claimed(db, failed, fence, new_fence)
    if retried:
        work.retry_if_claimed(db, retried, fence, new_fence)
    rest = claimed - len(done) - len(repend) - len(failed) - len(retried)
    if rest:
        work.revert_rest(db, fence, new_fence)
    tally.failed = len(failed)
    tally.reverted = len(retried) + rest

    kinds = {part.kind for part in stored}
    if kinds:
        indexes.note_completed(db, kinds, now_ms)
        # Here, in the transaction of a kind's last vector: its new index answers from then on.
        tally.flipped = len(switching.flip_kinds(tx, kinds, outcome.claim.profile_id))
    if outcome.error is not None:
        # Rows that are gone may have been erased, and a message may quote a text of its batch, or
        # that of an outage one of the batch which began it.
        may_quote = superseded or erasure.count(db) != outcome.claim.erasures
        said = outcome.error.partition(":")[0] if may_quote else outcome.error
        indexes.note_error(db, outcome.kinds, said)
    return tally


def _store(tx: Transaction, claim: Claim, stored: Sequence[Columns]) -> None:
    """Inserts the vectors, in a few statements for each kind and packed batch that they are of."""
    for part in stored:
        vectors.insert(
            tx.db,
            part.kind,
            claim.profile_id,
            part.packed.dimension,
            part.vectors,
            part.chunk_keys,
            canonical_hashes=part.canonical_hashes,
            content_hashes=part.content_hashes,
            contents=tx.contents,
            changes=tx.vectors,
        )
