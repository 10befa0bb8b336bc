"""VectorProjectionActor: works the queue off in the background; ticks and drains on request."""

from __future__ import annotations

import contextlib
import threading
from collections import deque
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from fathomdb.actors.actor import Actor, logger
from fathomdb.actors.rounds import Rounds, pause_seconds
from fathomdb.actors.run import Surroundings
from fathomdb.cancellation import CallCancelledError, on_cancel
from fathomdb.errors import EngineClosedError, FathomError
from fathomdb.pipeline.outcome import Tally
from fathomdb.records import DrainReport
from fathomdb.store import erasure, profiles, queue, status

if TYPE_CHECKING:
    from collections.abc import Callable

    from fathomdb.actors.counters import Counters, Progress
    from fathomdb.actors.reading import Reading
    from fathomdb.actors.rounds import Models, MustStop, OnApplied
    from fathomdb.actors.run import Run
    from fathomdb.actors.writer import WriterActor
    from fathomdb.config import EngineConfig
    from fathomdb.records import DrainProgress, StoppedBy, TickReport
    from fathomdb.store.readers import ReaderPool
    from fathomdb.store.transaction import Transaction


FAILED_RUN_WAIT_SECONDS = 5.0
"""How long the background waits after a run that the store made fail, such as on a full disk."""

RECOUNT_ROWS = 8192
"""Rows that a drain settles before it counts for its progress what remains."""


@dataclass(slots=True, eq=False)
class _Job:
    """A tick or a drain that a caller waits for; ``deadline`` None is a tick."""

    models: Models
    deadline: float | None
    progress: DrainProgress | None
    reply: Future[tuple[Tally, StoppedBy, int]] = field(default_factory=Future)
    cancelled: bool = False


class VectorProjectionActor(Actor):
    """The only thread that claims. It wakes on commits that enqueued work; polling is the net.

    Runs by turns what callers asked for and, where ``background`` is on, what waits.
    """

    def __init__(
        self,
        writer: WriterActor,
        readers: ReaderPool,
        reading: Reading,
        config: EngineConfig,
        counters: Counters,
        progress: Progress,
        *,
        background: bool,
    ) -> None:
        super().__init__("projector")
        self._changed = threading.Condition()
        self._woken = threading.Event()
        self._woken.set()  # there may be work from before
        self._around = Surroundings(
            writer, readers, reading, config, counters, progress, self._changed, self._woken
        )
        self._rounds = Rounds(self._around, lambda: self._wakes, self._go)
        self._config = config
        self._clock = config.clock
        self._background = background
        self._models: Models = ()
        self._wakes = 0
        self.on_switched: Callable[[], None] = lambda: None
        """Called on this thread after kinds have flipped: which model works for what may differ."""
        self._jobs: deque[_Job] = deque()
        self._job: _Job | None = None
        self._going = False
        self._closing = False
        self._not_before = 0.0
        self._status_due = 0.0
        self._status_written: dict[str, status.Value] = {}

    # --- from any thread --------------------------------------------------------------------------

    @property
    def background(self) -> bool:
        """Whether it works unasked."""
        return self._background

    @property
    def has_claims(self) -> bool:
        """Whether a run may have rows inflight; asked on the writer's thread, the answer is exact.

        A run is going before its first claim and until its last one is settled.
        """
        return self._going or bool(self._around.stranded)

    def wake(self) -> None:
        """Work was enqueued."""
        with self._changed:
            self._wakes += 1
            self._woken.set()
            self._changed.notify_all()

    def serve(self, models: Models) -> None:
        """Works with these models from now on, what the first is owed before the rest."""
        with self._changed:
            self._models = models
            self._woken.set()
            self._changed.notify_all()

    @property
    def models(self) -> Models:
        """Those that it works with, in order."""
        return self._models

    def tick(self, models: Models) -> TickReport:
        """One claim-to-apply round of the first of these models that has something to do."""
        tally, _, _ = self._ask(_Job(models, None, None))
        return tally.tick_report()

    def drain(
        self, models: Models, timeout_seconds: float, progress: DrainProgress | None
    ) -> DrainReport:
        """Ticks until nothing is due, time is up, or an embedder is away; 0 means one tick."""
        began = self._clock.monotonic()
        deadline = began + timeout_seconds if timeout_seconds else None
        tally, stopped_by, remaining = self._ask(_Job(models, deadline, progress))
        return DrainReport(
            claimed=tally.claimed,
            incremental_processed=tally.incremental_processed,
            backfill_processed=tally.backfill_processed,
            failed=tally.failed,
            discarded_stale=tally.discarded,
            reverted=tally.reverted,
            discard_reasons=tally.reasons(),
            embedder_unavailable_ticks=tally.unavailable_ticks,
            reused=tally.reused,
            remaining=remaining,
            stopped_by=stopped_by,
            seconds=self._clock.monotonic() - began,
        )

    def stop(self) -> None:
        """Has the thread end soon; what is being embedded goes back to pending."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()

    def _ask(self, job: _Job) -> tuple[Tally, StoppedBy, int]:
        if threading.current_thread() is self._thread:
            raise FathomError(
                "a drain's progress callback asked its own engine for a drain or a tick, which "
                "would wait for itself; call it after the drain"
            )
        current = self._job
        models = (*self._models, *job.models, *(() if current is None else current.models))
        if any(model.pool.runs_here() for model in models):
            raise FathomError(
                "an embedder asked its own engine for a drain or a tick, which would wait for "
                "itself; call it outside batch_embed"
            )
        with self._changed:
            if self._closing:
                raise EngineClosedError
            self._jobs.append(job)
            self._changed.notify_all()

        def cancel() -> None:
            with self._changed:
                job.cancelled = True
                if job in self._jobs:  # it need not wait for its turn to be told so
                    self._jobs.remove(job)
                    job.reply.set_exception(CallCancelledError())
                self._changed.notify_all()

        try:
            with on_cancel(cancel):
                return job.reply.result()
        except KeyboardInterrupt:
            cancel()
            raise

    # --- the loop ---------------------------------------------------------------------------------

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(self._has_something_to_do, self._idle_seconds())
                if self._closing:
                    break
                self._job = self._jobs.popleft() if self._jobs else None
                models = self._models
                self._woken.clear()
            if self._job is not None:
                self._run_job(self._job)
                self._job = None
                self._woken.set()  # the background may have been stopped for it
            elif models and self._background:
                self._work_off(models)
            self._flush_status()
        self._refuse_jobs(EngineClosedError())

    def _has_something_to_do(self) -> bool:
        if self._closing or self._jobs:
            return True
        return self._woken.is_set() and self._background and self._rest_seconds() == 0

    def _idle_seconds(self) -> float:
        pauses = (pause_seconds(model) for model in self._models)
        rest = min((pause for pause in pauses if pause), default=0.0)
        rest = max(rest, self._not_before - self._clock.monotonic())
        return min(self._config.idle_poll_seconds, rest) if rest else self._config.idle_poll_seconds

    def _rest_seconds(self) -> float:
        """How long the background must not work: all models paused, or a store that just failed."""
        rest = min((pause_seconds(model) for model in self._models), default=0.0)
        return max(0.0, rest, self._not_before - self._clock.monotonic())

    def _run_job(self, job: _Job) -> None:
        counted_at, counted = 0, 0
        done = Tally()

        def on_applied(tally: Tally) -> None:
            nonlocal counted_at, counted
            if job.progress is not None:
                processed = done.processed + tally.processed
                settled = processed + done.failed + tally.failed
                # Counting reads the whole queue: in between, what was settled since is taken off.
                if not counted_at or settled - counted_at >= RECOUNT_ROWS:
                    counted_at, counted = settled, self._remaining(job.models)
                job.progress(processed, max(0, counted - (settled - counted_at)))
            self._flush_status()

        def must_stop() -> bool:
            return self._closing or job.cancelled

        try:
            waiting = self._remaining(job.models)
            if job.deadline is None:
                stopped_by = self._tick(job, done, must_stop, on_applied)
            else:
                stopped_by = self._rounds.run(
                    job.models, done, lambda: None, must_stop, on_applied, job.deadline
                )
            try:
                remaining = self._remaining(job.models)
                if (
                    job.deadline is None
                    and stopped_by == "idle"
                    and self._rounds.is_due(job.models)
                ):
                    stopped_by = "timeout"
            except EngineClosedError:
                # The readers went first; what was not settled of what waited is what remains.
                remaining = waiting - done.processed - done.failed
        except BaseException as error:  # the sys.exit() of a progress callback ends its caller
            error.add_note(f"done before: {done.tick_report()}")
            job.reply.set_exception(error)
        else:
            job.reply.set_result((done, stopped_by, remaining))

    def _tick(
        self, job: _Job, done: Tally, must_stop: MustStop, on_applied: OnApplied
    ) -> StoppedBy:
        stopped_by: StoppedBy = "idle"
        for model in job.models:
            run = self._rounds.new_run(
                model, lambda: None, must_stop, on_applied, None, one_tick=True
            )
            stopped_by = self._go(run, done)
            if stopped_by != "idle" or done.claimed:
                break
        return stopped_by

    def _go(self, run: Run, done: Tally) -> StoppedBy:
        self._going = True
        try:
            return run.go()
        finally:
            self._going = False
            done.add(run.tally)
            if run.tally.flipped:
                self._switched()

    def _switched(self) -> None:
        with contextlib.suppress(EngineClosedError):  # the next open reads it
            self.on_switched()

    def _remaining(self, models: Models) -> int:
        with self._around.readers.snapshot() as db:
            return sum(queue.unsettled(db, model.profile.profile_id) for model in models)

    def _work_off(self, models: Models) -> None:
        if self._rest_seconds():
            return
        try:
            self._rounds.run(
                models,
                Tally(),
                lambda: "cancelled" if self._jobs or self._models is not models else None,
                lambda: self._closing,
                lambda _: self._flush_status(),
                None,
            )
        except EngineClosedError:
            return
        except Exception:
            # The queue is in the file, so nothing is lost; but not again at once.
            self._not_before = self._clock.monotonic() + FAILED_RUN_WAIT_SECONDS
            logger.exception("the vector projection pauses for %g s", FAILED_RUN_WAIT_SECONDS)

    def _refuse_jobs(self, error: Exception) -> None:
        with self._changed:
            jobs, self._jobs = [*self._jobs], deque()
        for job in jobs:
            job.reply.set_exception(error)

    def _crashed(self, error: BaseException) -> None:
        with self._changed:
            self._closing = True
        failure = FathomError(f"the vector projection stopped: {error!r}; open the engine again")
        if self._job is not None and not self._job.reply.done():
            self._job.reply.set_exception(failure)
        self._refuse_jobs(failure)
        self._around.progress.bump()

    # --- status -----------------------------------------------------------------------------------

    def _flush_status(self) -> None:
        """Writes the counters into the file, at most once a second and only when changed."""
        now = self._clock.monotonic()
        if now < self._status_due or self._closing:
            return  # at the end the writer's last transaction has the final figures
        values: dict[str, status.Value] = dict(self._around.counters.values())
        outages = (model.outage for model in self._models)
        values["outage"] = next((outage for outage in outages if outage is not None), None)
        if values == self._status_written:
            return
        self._status_due = now + 1.0
        heartbeat = {**values, "heartbeat_ms": int(self._clock.now() * 1000)}
        models = self._models
        rates = {model.profile.profile_id: model.chunks_per_second for model in models}

        def operation(tx: Transaction) -> None:
            # Not as they are now: an erasure may be before this in the writer's mailbox.
            erasures = erasure.count(tx.db)
            outages = (model.outage_after(erasures) for model in models)
            heartbeat["outage"] = next((outage for outage in outages if outage is not None), None)
            status.write(tx.db, heartbeat)
            for profile_id, rate in rates.items():
                if rate is not None:
                    profiles.note_rate(tx.db, profile_id, rate)

        try:
            self._around.writer.submit(
                operation, timeout_seconds=self._config.write_timeout_seconds
            )
        except FathomError as error:
            logger.warning("status could not be written: %s", error)
            return
        self._status_written = values
