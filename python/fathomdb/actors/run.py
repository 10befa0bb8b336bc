"""One run over the queue: claims, embeds and applies, overlapped, until there is a reason to stop.

Used by the projector's thread alone. It never embeds by itself and never writes: embedders run in
their pool, transactions on the writer, and this thread waits for whichever is done first.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from fathomdb.actors.batch import Batch
from fathomdb.actors.settling import Settling
from fathomdb.config import BACKFILL_EVERY
from fathomdb.errors import EngineClosedError
from fathomdb.pipeline import claim, find, outcome, verify
from fathomdb.pipeline.outcome import BatchOutcome
from fathomdb.store import indexes, profiles, switching, vectors, work

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable
    from concurrent.futures import Future

    from fathomdb.actors.batch import Shares
    from fathomdb.actors.counters import Counters, Progress
    from fathomdb.actors.model import Model
    from fathomdb.actors.reading import Reading
    from fathomdb.actors.writer import Operation, WriterActor
    from fathomdb.config import EngineConfig
    from fathomdb.pipeline.claim import Claim
    from fathomdb.pipeline.embed import EmbedOutcome
    from fathomdb.pipeline.find import Found
    from fathomdb.pipeline.outcome import Tally
    from fathomdb.pipeline.verify import Verified
    from fathomdb.records import StoppedBy
    from fathomdb.store.readers import ReaderPool
    from fathomdb.store.transaction import Transaction

CLAIMED_AHEAD = 3
"""Batches that are claimed beyond what is embedded at once.

With one, each batch of a fast embedder is a commit of its own, and the writer waits for the disk;
with three, batches that wait share a commit (measured: 60,000 rows/s against 50,000).
"""

REST_SHARE = 0.5
"""How long backfill rests beside reads, as a share of the engine's own part of its last batch."""

POLL_SECONDS = 1.0
"""How often a run looks unasked whether the embedder is free: a search may have blocked it."""


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What every run of one engine works with."""

    writer: WriterActor
    readers: ReaderPool
    reading: Reading
    config: EngineConfig
    counters: Counters
    progress: Progress
    changed: threading.Condition
    """Notified whenever a run may have something new to do."""
    woken: threading.Event
    """Set when work was enqueued, cleared by whoever looks at the queue next."""
    stranded: list[BatchOutcome] = field(default_factory=list)
    """Claims that could not be settled (a full disk, say): the next run gives them back first."""


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
        self._settling = Settling(
            around.writer,
            around.config,
            around.counters,
            around.progress,
            around.changed,
            around.stranded,
        )
        self._ticks = 0
        self._claims = 0
        self._window: list[Batch] = []
        self._unsettled: list[Batch] = []  # whose vectors no snapshot has yet
        # Each with what was known when it was sent: a claim that finds nothing says so of no more.
        self._claiming: deque[tuple[Future[Claim], int]] = deque()
        self._news = 1  # counts the applies and commits that may have brought something to claim
        self._dry = 0  # the news as of which a claim found nothing
        # Of the engine's own part of a batch, not the embedder's: since when, and how much so far.
        self._working_since = self._clock.monotonic()
        self._worked_seconds = 0.0

    @property
    def claims(self) -> int:
        """How many claims found something."""
        return self._claims

    @property
    def tally(self) -> Tally:
        """What became of the claims that are settled."""
        return self._settling.tally

    def go(self) -> StoppedBy:
        """Runs; whatever ends it, no row stays claimed and each is counted."""
        try:
            self._settling.settle_stranded()
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
            # Asked before each claim: the commit that makes it wanted may be why to stop.
            while (stopped_by := stopped_by or self._reason_to_stop()) is None and (
                self._wants_more()
            ):
                if self._around.woken.is_set():
                    # Not earlier: a claim from before that commit does not see its work.
                    self._around.woken.clear()
                    self._news += 1
                lanes = self._lanes()
                self._working_since = self._clock.monotonic()
                claiming = self._settling.call(self._claim(lanes), self._sizes().incremental)
                # One for fresh work alone says nothing of the rest.
                heard = self._dry if lanes is claim.FRESH_ONLY else self._news
                self._claiming.append((claiming, heard))
            # Counted first: a claim from before a settled batch must be heard before it. What it
            # did not find may be there now.
            settled = self._settling.answered
            while self._claiming and self._claiming[0][0].done():
                claimed = self._claiming[0][0].result()
                if claimed.count:
                    self._claims += 1
                    self._window.append(self._begin(claimed))
                    self._note_worked()
                else:
                    self._dry = self._claiming[0][1]
                # Not before its batch is in the window, or a failure would leave it claimed.
                self._claiming.popleft()
            for _ in range(settled):
                claimed = self._settling.collect()
                self._note_worked()
                if not claimed.incremental:
                    self._around.reading.rest(REST_SHARE * self._worked_seconds)
                self._worked_seconds = 0.0
                self._on_applied(self.tally)
                self._news += 1
            if stopped_by is not None:
                self._withdraw()
            for batch in [batch for batch in self._window if batch.is_ready]:
                batch.advance()
                if batch.outcome is not None:
                    self._apply(batch, batch.outcome, claim_more=stopped_by is None)
                    self._window.remove(batch)
            under_way = self._window or self._settling or self._claiming
            if under_way or (stopped_by is None and self._may_have_more()):
                self._wait(may_claim=stopped_by is None)
            else:
                if stopped_by is None:
                    self._mark_fresh()
                return stopped_by or "idle"

    def _must_stop(self) -> bool:
        """Also where the model was taken out of service: nobody wants its vectors any more."""
        return self._is_cancelled() or self._model.pool.closed

    def _withdraw(self) -> None:
        """What was claimed ahead and has not begun goes back: a stop waits for no more than that."""
        for batch in [*self._window]:
            if batch.withdraw():
                self._window.remove(batch)
                batch.came_to = BatchOutcome(batch.claim)
                self._settling.begin(batch.came_to)

    def _wants_more(self) -> bool:
        """Claimed is what the embedder takes at once and a few batches more; applied, as much again.

        So the next batch is ready while one is embedded and the last ones are stored, and memory
        does not grow with the queue. Where backfill was claimed ahead, a commit that wakes us has
        one place more: its fresh work must not wait for that.
        """
        if self._one_tick:
            return self._may_have_more()
        woken = self._around.woken.is_set()
        if len(self._settling) >= self._most():
            return False
        if self._is_full():
            may_wait = any(batch.claim.may_wait for batch in self._window)
            return woken and may_wait and self._claimed() == self._most()
        return woken or (self._dry < self._news and not self._gives_way)

    def _may_have_more(self) -> bool:
        """Whether a claim may still find something, now or when it need not give way any more."""
        if self._one_tick:
            return self._ticks == 0
        return self._around.woken.is_set() or self._dry < self._news

    @property
    def _gives_way(self) -> bool:
        """Whether backfill waits, since someone reads and a batch of it is or was just stored.

        After each it rests for REST_SHARE of the engine's own part of it, so that reads have some of
        the time to themselves, and backfill still comes on (decision 0058).
        """
        return self._is_beside_reads and (
            self._settling.has_backfill
            or self._clock.monotonic() < self._around.reading.rests_until
        )

    @property
    def _is_beside_reads(self) -> bool:
        """Whether someone reads, and nobody waits for this run."""
        return self._deadline is None and not self._one_tick and self._around.reading.is_on

    def _note_worked(self) -> None:
        now = self._clock.monotonic()
        self._worked_seconds += now - self._working_since
        self._working_since = now

    def _claimed(self) -> int:
        return sum(batch.outcome is None for batch in self._window) + len(self._claiming)

    def _is_full(self) -> bool:
        return self._claimed() >= self._most()

    def _most(self) -> int:
        return self._model.pool.concurrency + CLAIMED_AHEAD

    # --- claim and verify -------------------------------------------------------------------------

    def _lanes(self) -> claim.Lanes:
        """Where the next tick's claim looks."""
        if self._is_full() or self._gives_way:
            return claim.FRESH_ONLY
        self._ticks += 1
        return claim.FRESH_FIRST if self._ticks % BACKFILL_EVERY else claim.BACKFILL_FIRST

    def _claim(self, lanes: claim.Lanes) -> Operation[Claim]:
        """The next tick's claim, as an operation of the writer."""
        model, now_ms = self._model, self._now_ms()

        def operation(tx: Transaction) -> Claim:
            return claim.claim(tx, model.profile.profile_id, self._sizes(), now_ms, lanes)

        return operation

    def _sizes(self) -> claim.BatchSizes:
        return self._model.tick_sizes if self._one_tick else self._model.pace.sizes

    def _begin(self, claimed: Claim) -> Batch:
        # Before the snapshot: it must have what is settled now.
        self._unsettled = [
            batch
            for batch in self._unsettled
            if batch.came_to is None or self._settling.is_under_way(batch.came_to)
        ]
        with self._around.readers.snapshot() as db:
            rows = work.claimed(db, claimed.fence)
            wanted = {*indexes.kinds_under(db, claimed.profile_id)}
            verified = verify.verify(rows, wanted)
            found = find.find(
                db,
                self._around.writer.contents,
                self._model.profile,
                verified,
                can_embed=self._model.refusal is None,
            )
        batch = Batch.of_rows(
            self._model,
            self._around.config,
            self._settling.notify,
            claimed,
            verified,
            found,
            self._shares(verified, found),
        )
        self._unsettled.append(batch)
        return batch

    def _shares(self, verified: Verified, found: Found) -> Shares:
        """The texts that a batch before this one embeds already, or has just embedded."""
        shares: Shares = {}
        asked = set(verified.content_hashes)
        if all(asked.isdisjoint(lender.place_of) for lender in self._unsettled):
            return shares  # as nearly always
        places: dict[bytes, list[int]] = {}
        for place, content_hash in enumerate(verified.content_hashes):
            if place not in found:
                places.setdefault(content_hash, []).append(place)
        for lender in self._unsettled:
            for content_hash in places.keys() & lender.place_of.keys():
                there = lender.place_of[content_hash]
                shares |= dict.fromkeys(places.pop(content_hash), (lender, there))
        return shares

    # --- probe ------------------------------------------------------------------------------------

    def _probe(self) -> bool:
        """Asks a paused embedder for the probe text; True where it is back."""
        model = self._model
        batch = Batch.of_probe(model, self._around.config, self._settling.notify)
        self._window.append(batch)
        while batch.outcome is None:
            self._wait()
            if self._must_stop():
                self._give_back()
                return False
            if batch.is_ready:
                batch.advance()
        self._window.clear()
        outage = batch.outcome.outage
        if outage is None:
            model.resume()
        else:
            model.pause(outage, batch.claim.erasures)
            self.tally.unavailable_ticks += 1
        self._around.progress.bump()
        return outage is None

    # --- settle -----------------------------------------------------------------------------------

    def _apply(self, batch: Batch, embedded: EmbedOutcome, *, claim_more: bool) -> None:
        model = self._model
        if model.profile.dimension is None:
            learned = outcome.learned_dimension(embedded)
            if learned is not None:
                self._learn_dimension(learned)
        came_to = outcome.of_batch(batch.claim, batch.verified, embedded, model.profile.dimension)
        batch.came_to = came_to
        self._working_since = self._clock.monotonic()
        if embedded.outage is not None:
            self.tally.unavailable_ticks += 1
            model.pause(embedded.outage, batch.claim.erasures)
            self._around.progress.bump()
        elif claim_more and not self._is_beside_reads and self._wants_more():
            claiming = self._settling.begin_and_claim(came_to, self._claim(self._lanes()))
            self._claiming.append((claiming, self._news))
            return
        self._settling.begin(came_to)

    def _learn_dimension(self, dimension: int) -> None:
        profile_id = self._model.profile.profile_id

        def operation(tx: Transaction) -> profiles.Profile:
            profiles.learn_dimension(tx.db, profile_id, dimension)
            profile = profiles.get(tx.db, profile_id)
            for kind in indexes.kinds_under(tx.db, profile_id):
                vectors.create(tx.db, kind, profile)
            return profile

        self._model.profile = self._settling.call(operation).result()

    def _mark_fresh(self) -> None:
        """Kinds that have nothing left to wait for are fresh, and flip where they are built."""
        profile_id = self._model.profile.profile_id
        with self._around.readers.snapshot() as db:
            waiting = any(
                schema.enabled and schema.state != "fresh" and schema.profile_id == profile_id
                for schema in indexes.every(db)
            )
            building = profiles.building(db)
            complete = (
                building is not None
                and building.profile_id == profile_id
                and not building.paused
                and switching.can_flip(db, building)
            )

        def operation(tx: Transaction) -> int:
            indexes.complete(tx.db, profile_id)
            return len(switching.flip(tx))

        if waiting or complete:
            self.tally.flipped += self._settling.call(operation).result()
            self._around.progress.bump()

    def _give_back(self) -> None:
        """Sends what is still claimed when a run ends early back to pending, and counts it."""
        window, self._window = self._window, []
        try:
            for batch in window:
                batch.abandon()
        finally:
            claims = [batch.claim for batch in window]
            claims.extend(reply.result() for reply, _ in self._claiming if not reply.exception())
            self._claiming.clear()
            self._settling.give_back(claims)

    # --- waiting ----------------------------------------------------------------------------------

    def _wait(self, *, may_claim: bool = False) -> None:
        def something() -> bool:
            return (
                self._must_stop()
                or any(batch.is_ready for batch in self._window)
                or self._settling.answered > 0
                or (bool(self._claiming) and self._claiming[0][0].done())
                or (may_claim and (self._wants_more() or self._reason_to_stop() is not None))
            )

        with self._around.changed:
            now = self._clock.monotonic()
            ends = [now + POLL_SECONDS]
            ends.extend(end for batch in self._window if (end := batch.ends_at) is not None)
            if may_claim and self._deadline is not None:
                ends.append(self._deadline)
            if may_claim and self._around.reading.rests_until > now:
                ends.append(self._around.reading.rests_until)
            self._around.changed.wait_for(something, max(0.0, min(ends) - now))

    def _now_ms(self) -> int:
        return int(self._clock.now() * 1000)
