"""A claim on its way through the embedder: one call at a time, each abandoned when it is too long."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fathomdb.actors.embed_pool import Urgency
from fathomdb.errors import EmbedderUnavailableError, EngineClosedError
from fathomdb.pipeline import embed, verify
from fathomdb.pipeline.claim import Claim
from fathomdb.pipeline.embed import EmbedOutcome, EmbedTimeoutError

if TYPE_CHECKING:
    from collections.abc import Callable

    from fathomdb.actors.embed_pool import Reply
    from fathomdb.actors.model import Model
    from fathomdb.config import EngineConfig
    from fathomdb.pipeline.embed import EmbedSteps
    from fathomdb.pipeline.find import Found
    from fathomdb.pipeline.outcome import BatchOutcome
    from fathomdb.pipeline.verify import Verified


Shares = dict[int, tuple["Batch", int]]


class Batch:
    """Runs the embed stage of one claim on the model's pool; used by the projector's thread alone.

    ``outcome`` is None until the stage has ended; ``call`` is what it waits for until then, and after
    that for the batches that it ``shares`` texts with.

    Args:
        model: The model to embed with.
        config: How long a call may take, and the clock.
        notify: Called, from any thread, when a call was answered.
        claim: The claimed rows.
        verified: What of them is to be embedded.
        steps: The embed stage.
        found: Vectors that need no call, by place.
        shares: The batch before it, and the place there, that embeds the text of a place already.
    """

    def __init__(
        self,
        model: Model,
        config: EngineConfig,
        notify: Callable[[], None],
        claim: Claim,
        verified: Verified,
        steps: EmbedSteps,
        *,
        found: Found | None = None,
        shares: Shares | None = None,
        probe: bool = False,
    ) -> None:
        self.claim = claim
        self.verified = verified
        self.call: Reply | None = None
        self.outcome: EmbedOutcome | None = None
        self.came_to: BatchOutcome | None = None
        """What was sent to the writer, once it was."""
        self.place_of = {content: place for place, content in enumerate(verified.content_hashes)}
        """A place of each text, by content hash: for batches that share it."""
        self._own: EmbedOutcome | None = None
        self._found = found or {}
        self._shares = shares or {}
        self._model = model
        self._timeout_seconds = config.embed_timeout_seconds
        self._clock = config.clock
        self._notify = notify
        self._steps = steps
        self._probe = probe
        self._step(lambda: next(steps))

    @classmethod
    def of_rows(
        cls,
        model: Model,
        config: EngineConfig,
        notify: Callable[[], None],
        claim: Claim,
        verified: Verified,
        found: Found,
        shares: Shares,
    ) -> Batch:
        """Begins to embed what is still wanted of a claim and nobody has embedded."""
        skip = found.keys() | shares.keys()
        if model.refusal is None:
            steps = embed.embed(verified.texts, verified.content_hashes, model.call_tokens, skip)
        else:
            steps = embed.miss(len(verified.rows), skip)
        return cls(model, config, notify, claim, verified, steps, found=found, shares=shares)

    @classmethod
    def of_probe(cls, model: Model, config: EngineConfig, notify: Callable[[], None]) -> Batch:
        """Begins to embed the probe text, also in an outage."""
        nothing = Claim(0, 0, True, 0, erasures=model.erasures)
        return cls(model, config, notify, nothing, verify.NOTHING, embed.probe(), probe=True)

    @property
    def is_ready(self) -> bool:
        """Whether ``advance`` has something to do."""
        call = self.call
        if call is None:
            return all(lender.outcome is not None for lender, _ in self._shares.values())
        return call.done() or self._clock.monotonic() >= self._ends_at(call)

    @property
    def ends_at(self) -> float | None:
        """When its call is abandoned at the earliest, in monotonic seconds; None without a call."""
        return None if self.call is None else self._ends_at(self.call)

    def _ends_at(self, call: Reply) -> float:
        # While a call waits for its turn, no time passes.
        began_at = self._clock.monotonic() if call.began_at is None else call.began_at
        return began_at + self._timeout_seconds

    def advance(self) -> None:
        """Hands the embed stage what its call came to."""
        call, steps = self.call, self._steps
        if call is None:
            self._finish()
        elif call.cancelled():
            # The model was taken out of service: what was not embedded goes back.
            self._end(EmbedOutcome())
        elif not call.done():
            self._model.pool.abandon(call)
            timed_out = EmbedTimeoutError(
                f"the embedder did not return within {self._timeout_seconds:g} s",
                stuck=self._model.pool.stuck,
            )
            self._step(lambda: steps.throw(timed_out))
        elif (error := call.exception()) is not None:
            self._step(lambda: steps.throw(error))
        else:
            self._step(lambda: steps.send(call.result()))

    def withdraw(self) -> bool:
        """Takes its call back where it has not begun; False where it has."""
        if self.call is None or not self._model.pool.withdraw(self.call):
            return False
        self.outcome = EmbedOutcome()  # whoever shares a text with it need not wait
        return True

    def abandon(self) -> None:
        """Gives up on its call."""
        if self.call is not None:
            self._model.pool.abandon(self.call)

    def _step(self, go: Callable[[], Any]) -> None:
        """Runs the embed stage to its next call, and makes that call."""
        try:
            texts = go()
        except StopIteration as stop:
            self._end(stop.value)
            return
        urgency = Urgency.BACKFILL if self.claim.may_wait else Urgency.FRESH
        try:
            self.call = self._model.embed_batch(
                texts, urgency, self.claim.erasures, probe=self._probe
            )
        except EngineClosedError:
            self._end(EmbedOutcome())
        except EmbedderUnavailableError as error:
            # Nobody called it, and what was embedded before is kept.
            away = error
            self._step(lambda: self._steps.throw(away))
        else:
            self.call.add_done_callback(lambda _: self._notify())

    def _end(self, own: EmbedOutcome) -> None:
        self.call, self._own = None, own
        self._finish()

    def _finish(self) -> None:
        """Adds what was found and what others embedded, as soon as they have."""
        own = self._own
        if own is None or not self.is_ready or self.outcome is not None:
            return
        own.vectors.update(self._found)
        own.reused.update(self._found)
        for place, (lender, there) in self._shares.items():
            if lender.outcome is not None:
                own.take_over(place, lender.outcome, there)
        self._shares.clear()  # or every batch would keep all that were before it
        self.outcome = own
