"""Rounds: several models work by turns, so that what answers is current and what is built comes on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from fathomdb.actors.run import Run
from fathomdb.config import BACKFILL_EVERY
from fathomdb.store import work

if TYPE_CHECKING:
    from collections.abc import Callable

    from fathomdb.actors.model import Model
    from fathomdb.actors.run import Surroundings
    from fathomdb.pipeline.outcome import Tally
    from fathomdb.records import StoppedBy

    Models = tuple[Model, ...]
    WhyStop = Callable[[], StoppedBy | None]
    MustStop = Callable[[], bool]
    OnApplied = Callable[[Tally], None]


def pause_seconds(model: Model) -> float:
    """How long a model must not be asked: 0 where it is not away."""
    return 0.0 if model.outage is None else model.pause_seconds()


@dataclass(slots=True, eq=False)
class _Ended:
    """How one model's run gave way: ``by`` is whose turn it is, itself where an earlier one's is.

    ``waited`` is how many claims the first model had before this run since a later one had any.
    """

    waited: int
    run: Run | None = None
    by: Model | None = None


class Rounds:
    """Decides which model runs; used by the projector's thread alone.

    Args:
        around: The engine's parts.
        wakes: How many commits have enqueued work so far.
        go: Runs a run, and adds its tally to another.
    """

    def __init__(
        self,
        around: Surroundings,
        wakes: Callable[[], int],
        go: Callable[[Run, Tally], StoppedBy],
    ) -> None:
        self._around = around
        self._wakes = wakes
        self._go = go

    def run(
        self,
        models: Models,
        done: Tally,
        why_stop: WhyStop,
        must_stop: MustStop,
        on_applied: OnApplied,
        deadline: float | None,
    ) -> StoppedBy:
        """Runs each model until nothing of it is due, the first one before all others.

        A commit that owes an earlier model something takes the turn from a later one, and after
        BACKFILL_EVERY claims under load without end an earlier one gives a later one a single tick.
        """
        turn: Model | None = None
        waited = 0
        while True:
            only, turn, away = turn, None, False
            for place, model in enumerate(models):
                if only is not None and model is not only:
                    continue
                if deadline is None and pause_seconds(model):
                    away = True
                    continue
                ended = _Ended(waited)
                a_turn = only is not None
                asked = why_stop if a_turn else self._asking(models, place, ended, why_stop)
                run = self.new_run(model, asked, must_stop, on_applied, deadline, one_tick=a_turn)
                ended.run = run
                stopped_by = self._go(run, done)
                if not place:
                    waited += run.claims
                elif run.tally.claimed > run.tally.reverted:
                    waited = 0
                if ended.by is not None:
                    turn = ended.by if ended.by is not model else None
                    break
                if stopped_by == "unavailable":
                    away = True
                elif stopped_by != "idle":
                    return stopped_by
            else:
                if only is None:
                    return "unavailable" if away else "idle"

    def _asking(self, models: Models, place: int, ended: _Ended, why_stop: WhyStop) -> WhyStop:
        """Why the run of a model is to stop, for itself or for the sake of another."""
        seen, turn_at = -1, BACKFILL_EVERY - ended.waited

        def asked() -> StoppedBy | None:
            nonlocal seen, turn_at
            if ended.by is not None:
                return "cancelled"
            reason = why_stop()
            if reason is not None or ended.run is None:
                return reason
            if place and seen != self._wakes():
                seen = self._wakes()
                # One that is away cannot take the turn: the later ones would stand still with it.
                if self.is_due(tuple(item for item in models[:place] if not pause_seconds(item))):
                    ended.by = models[place]
                    return "cancelled"
            if ended.run.claims >= turn_at:
                turn_at = ended.run.claims + BACKFILL_EVERY  # looking costs a snapshot
                later = [
                    model
                    for model in models[place + 1 :]
                    if not pause_seconds(model) and self.is_due((model,))
                ]
                if later:
                    ended.by = later[0]
                    return "cancelled"
            return None

        return asked

    def new_run(
        self,
        model: Model,
        why_stop: WhyStop,
        must_stop: MustStop,
        on_applied: OnApplied,
        deadline: float | None,
        *,
        one_tick: bool,
    ) -> Run:
        """A run of one model, whose rate is measured as it goes."""
        at, processed = self._around.config.clock.monotonic(), 0

        def applied(tally: Tally) -> None:
            nonlocal at, processed
            now = self._around.config.clock.monotonic()
            model.note_stored(tally.processed - processed, now - at)
            at, processed = now, tally.processed
            on_applied(tally)

        return Run(
            self._around,
            model,
            why_stop=why_stop,
            must_stop=must_stop,
            on_applied=applied,
            deadline=deadline,
            one_tick=one_tick,
        )

    def is_due(self, models: Models) -> bool:
        """Whether any of these models is owed something that is due."""
        now_ms = int(self._around.config.clock.now() * 1000)
        with self._around.readers.snapshot() as db:
            return any(
                work.has_due(db, model.profile.profile_id, incremental=incremental, now_ms=now_ms)
                for model in models
                for incremental in (True, False)
            )
