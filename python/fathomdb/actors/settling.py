"""Settling of claims on the writer: what is on its way there, what came of it, what must be again."""

from __future__ import annotations

import itertools
from collections import deque
from concurrent.futures import Future
from typing import TYPE_CHECKING

from fathomdb.actors.actor import logger
from fathomdb.errors import EngineClosedError, FathomError
from fathomdb.pipeline import apply
from fathomdb.pipeline.outcome import BatchOutcome, Tally

if TYPE_CHECKING:
    import threading
    from collections.abc import Iterable

    from fathomdb.actors.counters import Counters, Progress
    from fathomdb.actors.writer import Operation, T, WriterActor
    from fathomdb.config import EngineConfig
    from fathomdb.pipeline.claim import Claim
    from fathomdb.store.transaction import Transaction


class Settling:
    """Settles the claims of one run; used by the projector's thread alone. ``tally`` has the sums.

    Args:
        writer: Where transactions run.
        config: The retry policy, the clock and how long the writer is waited for.
        counters: Get what was committed, on the writer's thread.
        progress: Told of each commit.
        changed: Notified when a transaction was answered.
        stranded: Claims that could not be settled; those of this run are added.
    """

    def __init__(
        self,
        writer: WriterActor,
        config: EngineConfig,
        counters: Counters,
        progress: Progress,
        changed: threading.Condition,
        stranded: list[BatchOutcome],
    ) -> None:
        self._writer = writer
        self._config = config
        self._counters = counters
        self._progress = progress
        self._changed = changed
        self._stranded = stranded
        self._under_way: deque[tuple[Future[Tally], BatchOutcome]] = deque()
        self.tally = Tally()

    # --- the writer -------------------------------------------------------------------------------

    def call(self, operation: Operation[T], weight: int = 1) -> Future[T]:
        """Has the writer run an operation; whoever waits for ``changed`` hears of its answer."""
        reply = self._submit(operation, weight)
        reply.add_done_callback(lambda _: self.notify())
        return reply

    def notify(self) -> None:
        """Wakes the run; from any thread."""
        with self._changed:
            self._changed.notify_all()

    def _submit(self, operation: Operation[T], weight: int) -> Future[T]:
        return self._writer.submit(
            operation, timeout_seconds=self._config.write_timeout_seconds, weight=weight
        )

    # --- settling ---------------------------------------------------------------------------------

    def __len__(self) -> int:
        """How many claims are on their way."""
        return len(self._under_way)

    @property
    def has_backfill(self) -> bool:
        """Whether one of them is backfill."""
        return any(not outcome.claim.incremental for _, outcome in self._under_way)

    @property
    def answered(self) -> int:
        """How many claims, from the one that was sent first on, ``collect`` need not wait for."""
        return sum(1 for _ in itertools.takewhile(lambda sent: sent[0].done(), self._under_way))

    def is_under_way(self, outcome: BatchOutcome) -> bool:
        """Whether what a claim came to is not in the file yet."""
        return any(sent is outcome and not reply.done() for reply, sent in self._under_way)

    def begin(self, outcome: BatchOutcome) -> None:
        """Sends what a claim came to to the writer."""
        reply = self.call(self._operation(outcome), outcome.claim.count)
        self._under_way.append((reply, outcome))

    def begin_and_claim(self, outcome: BatchOutcome, claim_next: Operation[Claim]) -> Future[Claim]:
        """Settles one batch and claims another in one transaction: half the commits of a drain."""
        settle = self._operation(outcome)
        settled: Future[Tally] = Future()
        claimed: Future[Claim] = Future()

        def answer(reply: Future[tuple[Tally, Claim]]) -> None:
            error = reply.exception()
            if error is not None:
                settled.set_exception(error)
                claimed.set_exception(error)
            else:
                tally, following = reply.result()
                settled.set_result(tally)
                claimed.set_result(following)
            self.notify()

        self._submit(
            lambda tx: (settle(tx), claim_next(tx)), outcome.claim.count
        ).add_done_callback(answer)
        # Not before it is submitted: a future that nobody answers would be waited for.
        self._under_way.append((settled, outcome))
        return claimed

    def collect(self) -> Claim:
        """Counts the claim that was sent first, waits until it is settled, and returns it.

        Raises:
            FathomError: It could not be settled; it is stranded.
        """
        reply, outcome = self._under_way.popleft()
        self._count(reply, outcome)
        return outcome.claim

    def settle_stranded(self) -> None:
        """Gives back what runs before could not settle; what fails again stays stranded."""
        while self._stranded:
            outcome = self._stranded[-1]
            self.tally.add(self.call(self._operation(outcome)).result())
            self._stranded.pop()

    def give_back(self, claims: Iterable[Claim]) -> None:
        """Sends these claims back to pending and counts all that is on its way; never raises."""
        settling = [*self._under_way]
        self._under_way.clear()
        for claimed in claims:
            if not claimed.count:
                continue
            outcome = BatchOutcome(claimed)
            try:
                settling.append((self.call(self._operation(outcome)), outcome))
            except EngineClosedError:
                # The writer's last transaction reverts everything that is inflight.
                self.tally.reverted += claimed.count
            except FathomError:
                self._stranded.append(outcome)
        for reply, outcome in settling:
            try:
                self._count(reply, outcome)
            except Exception as error:  # kept as stranded, whatever it was
                logger.warning("claimed rows could not be settled yet: %s", error)

    def _operation(self, outcome: BatchOutcome) -> Operation[Tally]:
        config = self._config
        policy = apply.RetryPolicy(config.max_attempts, config.retry_wait_seconds)
        now_ms = int(config.clock.now() * 1000)
        outcome.arrange()

        def operation(tx: Transaction) -> Tally:
            tally = apply.apply_if_claimed(tx, outcome, policy, now_ms)
            tx.on_commit(lambda: self._committed(tally))
            return tally

        return operation

    def _committed(self, tally: Tally) -> None:
        """On the writer's thread, so that its last transaction has the final figures."""
        self._counters.add_tally(tally)
        self._progress.bump()

    def _count(self, reply: Future[Tally], outcome: BatchOutcome) -> None:
        try:
            self.tally.add(reply.result())
        except Exception:
            # The vectors are lost with the transaction, and made again. What was learned of the
            # rows that failed is not, or a text that aborts its batch would be tried for ever.
            self._stranded.append(outcome.without_vectors())
            raise
