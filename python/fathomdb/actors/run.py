"""One run over the queue: claims, embeds and applies, overlapped, until there is a reason to stop.

Used by the projector's thread alone. It never embeds by itself and never writes: embedders run in
their pool, transactions on the writer, and this thread waits for whichever is done first.
"""

from __future__ import annotations

from collections import deque
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from fathomdb.actors.actor import logger
from fathomdb.actors.embed_pool import Urgency
from fathomdb.config import BACKFILL_EVERY
from fathomdb.errors import EngineClosedError, FathomError
from fathomdb.pipeline import apply, claim, embed, verify
from fathomdb.pipeline.claim import Claim
from fathomdb.pipeline.embed import EmbedOutcome, EmbedTimeoutError
from fathomdb.pipeline.outcome import BatchOutcome, Charged, Failed, FailureCause, Stored, Tally
from fathomdb.store import indexes, profiles, vectors, work

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable

    from fathomdb.actors.counters import Counters, Progress
    from fathomdb.actors.embed_pool import Reply
    from fathomdb.actors.model import Model
    from fathomdb.actors.writer import Operation, T, WriterActor
    from fathomdb.config import EngineConfig
    from fathomdb.pipeline.embed import EmbedSteps
    from fathomdb.pipeline.verify import Verified
    from fathomdb.records import StoppedBy
    from fathomdb.store.readers import ReaderPool
    from fathomdb.store.transaction import Transaction

CLAIMED_AHEAD = 3
"""Batches that are claimed beyond what is embedded at once.

With one, each batch of a fast embedder is a commit of its own, and the writer waits for the disk;
with three, batches that wait share a commit (measured: 60,000 rows/s against 50,000).
"""

POLL_SECONDS = 1.0
"""How often a run looks unasked whether the embedder is free: a search may have blocked it."""


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What every run of one engine works with."""

    writer: WriterActor
    readers: ReaderPool
    config: EngineConfig
    counters: Counters
    progress: Progress
    changed: threading.Condition
    """Notified whenever a run may have something new to do."""
    woken: threading.Event
    """Set when work was enqueued, cleared by whoever looks at the queue next."""
    stranded: list[BatchOutcome] = field(default_factory=list)
    """Claims that could not be settled (a full disk, say): the next run gives them back first."""


@dataclass(slots=True, eq=False)
class _Batch:
    """A claim on its way: which embed call it waits for."""

    claim: Claim
    verified: Verified
    steps: EmbedSteps
    call: Reply | None = None
    outcome: EmbedOutcome | None = None


class Run:
    """Claims of one model on their way, and what became of those that are done (``tally``).

    Args:
        around: The engine's parts.
        model: The model to embed with.
        why_stop: Asked between batches: a reason to claim no more, or None.
        must_stop: Asked while waiting: whether to leave even what is being embedded.
        on_applied: Called after each batch.
        deadline: When a drain ends, in monotonic seconds. Until then it waits for a call that took
            too long to return; a tick and the background (None) leave that to a later run.
        one_tick: One claim only, incremental work first, to the letter.
    """

    def __init__(
        self,
        around: Surroundings,
        model: Model,
        *,
        why_stop: Callable[[], StoppedBy | None],
        must_stop: Callable[[], bool],
        on_applied: Callable[[Tally], None],
        deadline: float | None,
        one_tick: bool,
    ) -> None:
        self._around = around
        self._clock = around.config.clock
        self._model = model
        self._why_stop = why_stop
        self._is_cancelled = must_stop
        self._on_applied = on_applied
        self._deadline = deadline
        self._one_tick = one_tick
        self.tally = Tally()
        self._ticks = 0
        self._window: list[_Batch] = []
        self._applying: deque[tuple[Future[Tally], BatchOutcome]] = deque()
        self._claiming: deque[Future[Claim]] = deque()
        self._dry = False  # the last claim found nothing; tried again after an apply or a commit

    def go(self) -> StoppedBy:
        """Runs; whatever ends it, no row stays claimed and each is counted."""
        try:
            while self._around.stranded:
                settle = self._settle(self._around.stranded[-1])
                self._account(self._call(settle).result())
                self._around.stranded.pop()
            stopped_by = self._work()
        except EngineClosedError:
            stopped_by = "cancelled"  # the readers or the writer went first
        finally:
            self._give_back()
        if stopped_by != "idle":
            self._around.woken.set()  # this run may have heard of work that it left
        return stopped_by

    def _work(self) -> StoppedBy:
        while True:
            if not (self._is_free() and (self._model.outage is None or self._probe())):
                return "cancelled" if self._must_stop() else "unavailable"
            stopped_by = self._loop()
            if stopped_by != "unavailable" or self._deadline is None or not self._model.timed_out:
                return stopped_by

    def _is_free(self) -> bool:
        """Whether the embedder can be called; a drain waits for it as long as it has time."""
        pool, deadline = self._model.pool, self._deadline
        with self._around.changed:
            while pool.stuck:
                seconds = 0.0 if deadline is None else deadline - self._clock.monotonic()
                if self._must_stop() or seconds <= 0:
                    self.tally.unavailable_ticks += 1
                    return False
                self._around.changed.wait(min(seconds, POLL_SECONDS))
        return True

    def _reason_to_stop(self) -> StoppedBy | None:
        if self._model.outage is not None:
            return "unavailable"
        if self._deadline is not None and self._clock.monotonic() >= self._deadline:
            return "timeout"
        return self._why_stop()

    def _loop(self) -> StoppedBy:
        stopped_by: StoppedBy | None = None
        while True:
            if self._must_stop():
                return "cancelled"
            stopped_by = stopped_by or self._reason_to_stop()
            while stopped_by is None and self._wants_more():
                # Not earlier: a claim from before the commit that woke us does not see its work.
                self._around.woken.clear()
                self._dry = False
                self._claiming.append(self._call(self._claim(), self._model.sizes.incremental))
            while self._claiming and self._claiming[0].done():
                claimed = self._claiming[0].result()
                if claimed.count:
                    self._window.append(self._begin(claimed))
                # Only the last claim says so: one from before a commit did not see its work.
                self._dry = not claimed.count and len(self._claiming) == 1
                # Not before its batch is in the window, or a failure would leave it claimed.
                self._claiming.popleft()
            while self._applying and self._applying[0][0].done():
                self._account(self._applied(*self._applying.popleft()))
                self._on_applied(self.tally)
                self._dry = False
            if stopped_by is not None:
                self._withdraw()
            for batch in [batch for batch in self._window if self._is_ready(batch)]:
                self._advance(batch)
                if batch.outcome is not None:
                    self._apply(batch, batch.outcome, claim_more=stopped_by is None)
                    self._window.remove(batch)
            if self._window or self._applying or self._claiming:
                self._wait(may_claim=stopped_by is None)
            elif stopped_by is not None or not self._wants_more():
                if stopped_by is None:
                    self._mark_fresh()
                return stopped_by or "idle"

    def _must_stop(self) -> bool:
        """Also where the model was taken out of service: nobody wants its vectors any more."""
        return self._is_cancelled() or self._model.pool.closed

    def _withdraw(self) -> None:
        """What was claimed ahead and has not begun goes back: a stop waits for no more than that."""
        for batch in [*self._window]:
            if batch.call is not None and self._model.pool.withdraw(batch.call):
                self._window.remove(batch)
                outcome = BatchOutcome(batch.claim)
                reply = self._call(self._settle(outcome), batch.claim.count)
                self._applying.append((reply, outcome))

    def _wants_more(self) -> bool:
        """Claimed is what the embedder takes at once and a few batches more; applied, as much again.

        So the next batch is ready while one is embedded and the last ones are stored, and memory
        does not grow with the queue. Where backfill was claimed ahead, a commit that wakes us has
        one place more: its fresh work must not wait for that.
        """
        if self._one_tick:
            return self._ticks == 0
        woken = self._around.woken.is_set()
        if len(self._applying) >= self._most():
            return False
        if self._is_full():
            may_wait = any(batch.claim.may_wait for batch in self._window)
            return woken and may_wait and self._claimed() == self._most()
        return woken or not self._dry

    def _claimed(self) -> int:
        return sum(batch.outcome is None for batch in self._window) + len(self._claiming)

    def _is_full(self) -> bool:
        return self._claimed() >= self._most()

    def _most(self) -> int:
        return self._model.pool.concurrency + CLAIMED_AHEAD

    # --- claim and verify -------------------------------------------------------------------------

    def _claim(self) -> Operation[Claim]:
        """The next tick's claim, as an operation of the writer."""
        model, now_ms = self._model, self._now_ms()
        if self._is_full():
            lanes = claim.FRESH_ONLY
        else:
            self._ticks += 1
            backfill = self._ticks % BACKFILL_EVERY == 0
            lanes = claim.BACKFILL_FIRST if backfill else claim.FRESH_FIRST

        def operation(tx: Transaction) -> Claim:
            return claim.claim(tx, model.profile.profile_id, model.sizes, now_ms, lanes)

        return operation

    def _begin(self, claimed: Claim) -> _Batch:
        with self._around.readers.snapshot() as db:
            rows = work.claimed(db, claimed.fence)
            wanted = {
                schema.kind
                for schema in indexes.every(db)
                if schema.enabled and schema.profile_id == claimed.profile_id
            }
        verified = verify.verify(rows, wanted)
        steps = embed.embed(verified.texts, verified.content_hashes, self._model.call_tokens)
        batch = _Batch(claimed, verified, steps)
        self._step(batch, lambda: next(steps))
        return batch

    # --- embed ------------------------------------------------------------------------------------

    def _step(self, batch: _Batch, go: Callable[[], Any], *, probe: bool = False) -> None:
        """Runs the embed stage to its next call, and makes that call."""
        try:
            texts = go()
        except StopIteration as stop:
            batch.call, batch.outcome = None, stop.value
            return
        try:
            urgency = Urgency.BACKFILL if batch.claim.may_wait else Urgency.FRESH
            batch.call = self._model.embed_batch(texts, urgency, probe=probe)
        except EngineClosedError:
            batch.call, batch.outcome = None, EmbedOutcome()
            return
        batch.call.add_done_callback(lambda _: self._notify())

    def _is_ready(self, batch: _Batch) -> bool:
        call = batch.call
        return call is None or call.done() or self._clock.monotonic() >= self._call_ends(call)

    def _call_ends(self, call: Reply) -> float:
        """When a call is abandoned at the earliest; while it waits for its turn, no time passes."""
        began_at = self._clock.monotonic() if call.began_at is None else call.began_at
        return began_at + self._around.config.embed_timeout_seconds

    def _advance(self, batch: _Batch) -> None:
        """Hands the embed stage what its call came to."""
        call = batch.call
        if call is None:
            return
        if call.cancelled():
            # The model was taken out of service: what was not embedded goes back.
            batch.call, batch.outcome = None, EmbedOutcome()
        elif not call.done():
            self._model.pool.abandon(call)
            seconds = self._around.config.embed_timeout_seconds
            timed_out = EmbedTimeoutError(
                f"the embedder did not return within {seconds:g} s", stuck=self._model.pool.stuck
            )
            self._step(batch, lambda: batch.steps.throw(timed_out))
        elif (error := call.exception()) is not None:
            self._step(batch, lambda: batch.steps.throw(error))
        else:
            self._step(batch, lambda: batch.steps.send(call.result()))

    def _probe(self) -> bool:
        """Asks a paused embedder for the probe text; True where it is back."""
        model = self._model
        steps = embed.probe()
        batch = _Batch(Claim(0, 0, True, 0), verify.NOTHING, steps)
        self._step(batch, lambda: next(steps), probe=True)
        self._window.append(batch)
        while batch.outcome is None:
            self._wait()
            if self._must_stop():
                self._give_back()
                return False
            if self._is_ready(batch):
                self._advance(batch)
        self._window.clear()
        outage = batch.outcome.outage
        if outage is None:
            model.resume()
        else:
            model.pause(outage)
            self.tally.unavailable_ticks += 1
        self._around.progress.bump()
        return outage is None

    # --- settle -----------------------------------------------------------------------------------

    def _apply(self, batch: _Batch, embedded: EmbedOutcome, *, claim_more: bool) -> None:
        outcome = self._outcome(batch, embedded)
        if embedded.outage is not None:
            self.tally.unavailable_ticks += 1
            self._model.pause(embedded.outage)
            self._around.progress.bump()
        elif claim_more and self._wants_more():
            self._settle_and_claim(outcome)
            return
        self._applying.append((self._call(self._settle(outcome), outcome.claim.count), outcome))

    def _settle(self, outcome: BatchOutcome) -> Operation[Tally]:
        """What a claim came to, as an operation of the writer."""
        config = self._around.config
        policy = apply.RetryPolicy(config.max_attempts, config.retry_wait_seconds)
        now_ms = self._now_ms()

        def operation(tx: Transaction) -> Tally:
            tally = apply.apply_if_claimed(tx, outcome, policy, now_ms)
            tx.on_commit(lambda: self._committed(tally))
            return tally

        return operation

    def _committed(self, tally: Tally) -> None:
        """On the writer's thread, so that its last transaction has the final figures."""
        self._around.counters.add_tally(tally)
        self._around.progress.bump()

    def _settle_and_claim(self, outcome: BatchOutcome) -> None:
        """Settles one batch and claims another in one transaction: half the commits of a drain."""
        settle, claim_next = self._settle(outcome), self._claim()
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
            self._notify()

        self._submit(
            lambda tx: (settle(tx), claim_next(tx)), outcome.claim.count
        ).add_done_callback(answer)
        # Not before it is submitted: a future that nobody answers would be waited for.
        self._applying.append((settled, outcome))
        self._claiming.append(claimed)

    def _applied(self, reply: Future[Tally], outcome: BatchOutcome) -> Tally:
        try:
            return reply.result()
        except FathomError:
            self._around.stranded.append(BatchOutcome(outcome.claim))
            raise

    def _outcome(self, batch: _Batch, embedded: EmbedOutcome) -> BatchOutcome:
        """What becomes of each row of a claim."""
        model, verified = self._model, batch.verified
        outcome = BatchOutcome(
            batch.claim,
            discarded=[*verified.discarded],
            kinds={row.kind for row in verified.rows},
        )
        if embedded.outage is not None:
            outcome.error = embed.describe(embedded.outage)
        bad: dict[tuple[int, int], tuple[FailureCause, str]] = {}
        batches = {id(packed): packed for packed, _ in embedded.vectors.values()}.values()
        for packed in batches:
            for n, _, cause, detail in packed.bad:
                bad[id(packed), n] = (cause, detail)
        if model.profile.dimension is None:
            # From a good row: what is wrong with a bad one may be its length, and this is for good.
            good = (packed for packed, n in embedded.vectors.values() if (id(packed), n) not in bad)
            if (first := next(good, None)) is not None:
                self._learn_dimension(first.dimension)
        dimension = model.profile.dimension
        for packed in batches:
            if dimension is not None and packed.dimension != dimension:
                detail = f"{packed.dimension} numbers, the model has {dimension}"
                bad.update(((id(packed), n), ("dimension", detail)) for n in range(packed.count))
        for place, row in enumerate(verified.rows):
            if place in embedded.errors:
                outcome.charged.append(Charged(row, embedded.errors[place]))
            elif place in embedded.suspects:
                outcome.suspected.append(Charged(row, embedded.suspects[place]))
            elif place in embedded.vectors:
                packed, n = embedded.vectors[place]
                if bad and (id(packed), n) in bad:
                    outcome.failed.append(Failed(row, *bad[id(packed), n]))
                else:
                    outcome.stored.append(Stored(row, packed, n, verified.content_hashes[place]))
        messages = [item.message for item in outcome.failed]
        messages.extend(item.message for item in outcome.charged)
        if outcome.error is None and messages:
            outcome.error = messages[0]
        return outcome

    def _learn_dimension(self, dimension: int) -> None:
        profile_id = self._model.profile.profile_id

        def operation(tx: Transaction) -> profiles.Profile:
            profiles.learn_dimension(tx.db, profile_id, dimension)
            profile = profiles.get(tx.db, profile_id)
            for schema in indexes.every(tx.db):
                if schema.enabled and schema.profile_id == profile_id:
                    vectors.create(tx.db, schema.kind, profile)
            return profile

        self._model.profile = self._call(operation).result()

    def _account(self, done: Tally) -> None:
        self.tally.add(done)

    def _mark_fresh(self) -> None:
        """Kinds that have nothing left to wait for are fresh."""
        profile_id = self._model.profile.profile_id
        with self._around.readers.snapshot() as db:
            waiting = any(
                schema.enabled and schema.state != "fresh" and schema.profile_id == profile_id
                for schema in indexes.every(db)
            )
        if waiting:
            self._call(lambda tx: indexes.complete(tx.db, profile_id)).result()

    def _give_back(self) -> None:
        """Sends what is still claimed when a run ends early back to pending, and counts it."""
        for batch in self._window:
            if batch.call is not None:
                self._model.pool.abandon(batch.call)
        claims = [batch.claim for batch in self._window]
        claims.extend(reply.result() for reply in self._claiming if reply.exception() is None)
        settling = [*self._applying]
        self._window.clear()
        self._applying.clear()
        self._claiming.clear()
        for claimed in claims:
            if not claimed.count:
                continue
            outcome = BatchOutcome(claimed)
            try:
                settling.append((self._call(self._settle(outcome)), outcome))
            except EngineClosedError:
                # The writer's last transaction reverts everything that is inflight.
                self.tally.reverted += claimed.count
            except FathomError:
                self._around.stranded.append(outcome)
        for reply, outcome in settling:
            try:
                self._account(self._applied(reply, outcome))
            except FathomError as error:
                logger.warning("claimed rows could not be settled yet: %s", error)

    # --- waiting ----------------------------------------------------------------------------------

    def _submit(self, operation: Operation[T], weight: int = 1) -> Future[T]:
        return self._around.writer.submit(
            operation,
            timeout_seconds=self._around.config.write_timeout_seconds,
            weight=weight,
        )

    def _call(self, operation: Operation[T], weight: int = 1) -> Future[T]:
        reply = self._submit(operation, weight)
        reply.add_done_callback(lambda _: self._notify())
        return reply

    def _notify(self) -> None:
        with self._around.changed:
            self._around.changed.notify_all()

    def _wait(self, *, may_claim: bool = False) -> None:
        def something() -> bool:
            return (
                self._must_stop()
                or any(self._is_ready(batch) for batch in self._window)
                or (bool(self._applying) and self._applying[0][0].done())
                or (bool(self._claiming) and self._claiming[0].done())
                or (may_claim and (self._wants_more() or self._reason_to_stop() is not None))
            )

        with self._around.changed:
            now = self._clock.monotonic()
            ends = [now + POLL_SECONDS]
            ends.extend(self._call_ends(batch.call) for batch in self._window if batch.call)
            if may_claim and self._deadline is not None:
                ends.append(self._deadline)
            self._around.changed.wait_for(something, max(0.0, min(ends) - now))

    def _now_ms(self) -> int:
        return int(self._clock.now() * 1000)
