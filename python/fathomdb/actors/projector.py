"""VectorProjectionActor: works the queue off in the background; ticks and drains on request."""

from __future__ import annotations

import threading
from collections import deque
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from fathomdb.actors.actor import Actor, logger
from fathomdb.actors.run import Run, Surroundings
from fathomdb.cancellation import CallCancelledError, on_cancel
from fathomdb.errors import EngineClosedError, FathomError
from fathomdb.records import DrainReport
from fathomdb.store import erasure, queue, status, work

if TYPE_CHECKING:
    from fathomdb.actors.counters import Counters, Progress
    from fathomdb.actors.model import Model
    from fathomdb.actors.writer import WriterActor
    from fathomdb.config import EngineConfig
    from fathomdb.pipeline.outcome import Tally
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

    model: Model
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
            writer, readers, config, counters, progress, self._changed, self._woken
        )
        self._config = config
        self._clock = config.clock
        self._background = background
        self._model: Model | None = None
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
            self._woken.set()
            self._changed.notify_all()

    def serve(self, model: Model | None) -> None:
        """Works with this model from now on; None stops the background work."""
        with self._changed:
            self._model = model
            self._woken.set()
            self._changed.notify_all()

    def tick(self, model: Model) -> TickReport:
        """One claim-to-apply round."""
        tally, _, _ = self._ask(_Job(model, None, None))
        return tally.tick_report()

    def drain(
        self, model: Model, timeout_seconds: float, progress: DrainProgress | None
    ) -> DrainReport:
        """Ticks until nothing is due, time is up, or the embedder is away; 0 means one tick."""
        began = self._clock.monotonic()
        deadline = began + timeout_seconds if timeout_seconds else None
        tally, stopped_by, remaining = self._ask(_Job(model, deadline, progress))
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
        models = (self._model, job.model, None if current is None else current.model)
        if any(model is not None and model.pool.runs_here() for model in models):
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
                model = self._model
                self._woken.clear()
            if self._job is not None:
                self._run_job(self._job)
                self._job = None
                self._woken.set()  # the background may have been stopped for it
            elif model is not None and self._background:
                self._work_off(model)
            self._flush_status()
        self._refuse_jobs(EngineClosedError())

    def _has_something_to_do(self) -> bool:
        if self._closing or self._jobs:
            return True
        return self._woken.is_set() and self._background and self._rest_seconds() == 0

    def _idle_seconds(self) -> float:
        rest = self._rest_seconds()
        return min(self._config.idle_poll_seconds, rest) if rest else self._config.idle_poll_seconds

    def _rest_seconds(self) -> float:
        """How long the background must not work: a paused model, or a store that just failed."""
        rest = self._not_before - self._clock.monotonic()
        if self._model is not None and self._model.outage is not None:
            rest = max(rest, self._model.pause_seconds())
        return max(0.0, rest)

    def _run_job(self, job: _Job) -> None:
        counted_at, counted = 0, 0

        def on_applied(tally: Tally) -> None:
            nonlocal counted_at, counted
            if job.progress is not None:
                settled = tally.processed + tally.failed
                # Counting reads the whole queue: in between, what was settled since is taken off.
                if not counted_at or settled - counted_at >= RECOUNT_ROWS:
                    counted_at, counted = settled, self._remaining(job.model)
                job.progress(tally.processed, max(0, counted - (settled - counted_at)))
            self._flush_status()

        run = Run(
            self._around,
            job.model,
            why_stop=lambda: None,
            must_stop=lambda: self._closing or job.cancelled,
            on_applied=on_applied,
            deadline=job.deadline,
            one_tick=job.deadline is None,
        )
        try:
            waiting = self._remaining(job.model)
            stopped_by = self._go(run)
            try:
                remaining = self._remaining(job.model)
                if job.deadline is None and stopped_by == "idle" and self._is_due(job.model):
                    stopped_by = "timeout"
            except EngineClosedError:
                # The readers went first; what was not settled of what waited is what remains.
                remaining = waiting - run.tally.processed - run.tally.failed
        except BaseException as error:  # the sys.exit() of a progress callback ends its caller
            error.add_note(f"done before: {run.tally.tick_report()}")
            job.reply.set_exception(error)
        else:
            job.reply.set_result((run.tally, stopped_by, remaining))

    def _go(self, run: Run) -> StoppedBy:
        self._going = True
        try:
            return run.go()
        finally:
            self._going = False

    def _remaining(self, model: Model) -> int:
        with self._around.readers.snapshot() as db:
            return queue.unsettled(db, model.profile.profile_id)

    def _is_due(self, model: Model) -> bool:
        profile_id, now_ms = model.profile.profile_id, int(self._clock.now() * 1000)
        with self._around.readers.snapshot() as db:
            return any(
                work.has_due(db, profile_id, incremental=incremental, now_ms=now_ms)
                for incremental in (True, False)
            )

    def _work_off(self, model: Model) -> None:
        if self._rest_seconds():
            return
        run = Run(
            self._around,
            model,
            why_stop=lambda: "cancelled" if self._jobs or self._model is not model else None,
            must_stop=lambda: self._closing,
            on_applied=lambda _: self._flush_status(),
            deadline=None,
            one_tick=False,
        )
        try:
            self._go(run)
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
        model = self._model
        values["outage"] = None if model is None else model.outage
        if values == self._status_written:
            return
        self._status_due = now + 1.0
        heartbeat = {**values, "heartbeat_ms": int(self._clock.now() * 1000)}

        def operation(tx: Transaction) -> None:
            if model is not None:
                # Not as it is now: an erasure may be before this in the writer's mailbox.
                heartbeat["outage"] = model.outage_after(erasure.count(tx.db))
            status.write(tx.db, heartbeat)

        try:
            self._around.writer.submit(
                operation, timeout_seconds=self._config.write_timeout_seconds
            )
        except FathomError as error:
            logger.warning("status could not be written: %s", error)
            return
        self._status_written = values
