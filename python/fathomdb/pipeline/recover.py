"""Before all stages, recover: what a process that died had claimed is pending again.

Whose text it was that killed the process is found by narrowing, as for a text that hangs: such rows
are claimed in ever smaller batches, and from the third time with nothing else beside them. Only a
row that was the only one inflight can be failed, and only once its attempts are used up.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fathomdb.pipeline.claim import ALONE_AFTER
from fathomdb.pipeline.outcome import Tally
from fathomdb.store import indexes, work

if TYPE_CHECKING:
    from fathomdb.store.transaction import Transaction

MOST_ATTEMPTS = 1 << 62
"""What SQLite can compare with: a program that never gives up may say any number."""
MOST_MS = 1 << 62


def recover(tx: Transaction, max_attempts: int, now_ms: int, longest_retry_seconds: float) -> Tally:
    """Sends what is inflight back to pending, attempts kept, behind what waits; at open, once.

    What is due later than any wait was put there by a clock that has been set back since: it is due
    now. Returns what became of rows for good: one may have ``failed``, with the cause ``process_died``.
    """
    # A row that was alone by chance has died alone once: that is no proof, whatever its attempts.
    attempts = min(max(max_attempts, ALONE_AFTER + 1), MOST_ATTEMPTS)
    kind = work.fail_if_died_alone(tx.db, attempts, tx.fence())
    if kind is not None:
        indexes.note_error(tx.db, [kind], work.PROCESS_DIED)
    work.recover(tx.db, tx.fence(), now_ms)
    latest_ms = int(min(now_ms + 1000 * longest_retry_seconds, MOST_MS))
    work.bring_forward(tx.db, latest_ms, now_ms)
    return Tally(failed=0 if kind is None else 1)
