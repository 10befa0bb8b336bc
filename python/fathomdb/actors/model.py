"""A model in service: an embedder with its profile, its pool of threads, and its outages."""

from __future__ import annotations

import inspect
import math
import operator
import threading
from concurrent.futures import CancelledError
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from fathomdb.actors import calls
from fathomdb.actors.actor import logger
from fathomdb.actors.closing import begin_close
from fathomdb.actors.embed_pool import EmbedPool, Urgency
from fathomdb.actors.pace import Pace
from fathomdb.cancellation import CallCancelledError
from fathomdb.embedders.protocol import Embedder, limits_of
from fathomdb.embedders.ready import ReadyVectors
from fathomdb.errors import (
    EmbedderContractError,
    EmbedderUnavailableError,
    EngineClosedError,
    FathomError,
)
from fathomdb.pipeline import validate
from fathomdb.pipeline.claim import BatchSizes
from fathomdb.pipeline.embed import EmbedTimeoutError, describe, type_name
from fathomdb.pipeline.outage import asked_seconds, is_outage

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from fathomdb._native import PackedVectors
    from fathomdb.actors.counters import Counters
    from fathomdb.actors.embed_pool import Reply
    from fathomdb.actors.event_loop import EventLoop
    from fathomdb.config import EngineConfig
    from fathomdb.store.profiles import Profile


RATE_SECONDS = 30.0
"""What a rate is measured over, about: long enough to be steady, short enough to be of now."""


@dataclass(frozen=True, slots=True)
class _Away:
    """An outage: what began it, and in whose words; printed once, since that is another's code."""

    error: Exception
    said: str
    name: str
    erasures: int

    def words(self, erasures: int) -> str:
        """What it said; its name alone where a text that it may quote was erased since."""
        if self.erasures >= erasures or isinstance(self.error, EmbedTimeoutError):
            return self.said
        return f"{self.name}: its message went with an erasure"


class Model:
    """What the projector and searches call; safe for any thread.

    The profile is paused after an outage, with growing, jittered waits; ``Retry-After`` wins.
    ``built`` says that the engine built the embedder from a name: only then is it closed here.
    What an embedder returns may be awaitable: it is awaited on the engine's ``event_loop``.
    """

    def __init__(
        self,
        embedder: Embedder,
        profile: Profile,
        config: EngineConfig,
        counters: Counters,
        event_loop: EventLoop,
        *,
        built: bool = False,
    ) -> None:
        self.embedder = embedder
        self.profile = profile
        self.refusal = embedder.why_not() if isinstance(embedder, ReadyVectors) else None
        """Why it embeds no text at all, where it takes ready vectors only."""
        self.pool = EmbedPool(embedder, config.clock)
        limits = limits_of(embedder)
        self.tick_sizes = BatchSizes.of(limits)
        """Items in the claim of a tick, which is the same at any pace."""
        self.pace = Pace(limits)
        self.call_tokens = limits.tokens
        self._unused = threading.Event()
        # Begun now, since from Python 3.12 on no thread starts once the interpreter ends.
        self._closing = begin_close(embedder, self._until_unused) if built else None
        self._config = config
        self._clock = config.clock
        self._counters = counters
        self._event_loop = event_loop
        self._count_truncated: Callable[[Sequence[str]], int] | None = getattr(
            embedder, "count_truncated", None
        )
        self._lock = threading.Lock()
        self._away: _Away | None = None
        self.erasures = 0
        """How many erasures the model was told of."""
        self._outage_since = 0.0
        self._paused_until = 0.0
        self._wait_seconds = 0.0
        self._jitter = config.jitter
        self._stored, self._working_seconds = 0.0, 0.0

    # --- calls ------------------------------------------------------------------------------------

    def embed_batch(
        self, texts: Sequence[str], urgency: Urgency, erasures: int, *, probe: bool = False
    ) -> Reply:
        """Has a batch of texts embedded on the pool; a probe is tried even in an outage.

        ``erasures`` is how many there were when the texts were claimed.

        The vectors are copied and checked before the embedder is called again: it may use the
        same array for each batch.
        """

        def call() -> PackedVectors:
            if not probe and (away := self._away) is not None:
                # Of these texts it says nothing, whatever it was that began the outage.
                raise EmbedderUnavailableError(away.words(erasures))
            began = self._clock.monotonic()
            try:
                array = self._awaited(self.embedder.batch_embed(texts))
            except Exception as error:
                if is_outage(error):
                    # Here, on the pool's thread: what waits behind must not be sent any more.
                    self.pause(error, erasures)
                raise
            finally:
                seconds = self._clock.monotonic() - began
                self._counters.add_call(seconds)
            self._add_truncated(texts)
            packed = validate.validate(array, len(texts), self.profile)
            # One that was given up on says nothing of other texts.
            if not probe and seconds < self._config.embed_timeout_seconds:
                self.pace.note(len(texts), seconds)
            return packed

        return self.pool.submit(call, urgency)

    def _awaited(self, result: Any) -> Any:
        if not inspect.isawaitable(result):
            return result
        return self._event_loop.run(result, self._config.embed_timeout_seconds)

    def _add_truncated(self, texts: Sequence[str]) -> None:
        if self._count_truncated is None:
            return
        try:
            self._counters.add_truncated(operator.index(self._count_truncated(texts)))
        except Exception as error:
            # A figure of the status is not worth the vectors, nor a line for every batch.
            self._count_truncated = None
            logger.warning(
                "count_truncated of %s raised %s; truncated texts are no longer counted",
                self.profile,
                type_name(error),
            )

    def embed_query(self, text: str, timeout_seconds: float) -> bytes | None:
        """One query's vector, by the query method where the embedder has one, as f32.

        None where the model's dimension is not known yet: there is nothing to compare it with.

        Raises:
            EmbedderUnavailableError: The model cannot say now.
            EmbedderContractError: What it said is no vector to compare with.
            EngineClosedError: The model was closed, with the engine or to make room for another.
            FathomError: The caller is a call of this very embedder, and would wait for itself.
        """
        if self.pool.runs_here() or self._event_loop.runs_here():
            raise FathomError(
                "an embedder asked its own engine for a search by meaning, which would wait for "
                "itself; call it outside batch_embed, or search with mode='text'"
            )
        method = getattr(self.embedder, "embed_query", None)

        def call() -> bytes | None:
            began = self._clock.monotonic()
            try:
                vector = self._awaited(
                    self.embedder.batch_embed([text]) if method is None else method(text)
                )
            finally:
                self._counters.add_call(self._clock.monotonic() - began)
            profile = self.profile
            if profile.dimension is None:
                return None
            try:
                return validate.query_blob(vector[0] if method is None else vector, profile)
            except Exception as error:
                raise EmbedderContractError(
                    f"{profile} returned a bad query vector: {describe(error)}"
                ) from error

        reply = self.pool.submit(call, Urgency.QUERY)
        try:
            blob: bytes | None = calls.result(reply, timeout_seconds)
        except CallCancelledError:
            self.pool.withdraw(reply)
            raise
        except (EmbedderUnavailableError, EmbedderContractError):
            raise
        except CancelledError:  # the pool was closed while the query waited for its turn
            raise EngineClosedError from None
        except Exception as error:
            # A TimeoutError of an answered call is the transport's, with words of its own.
            if isinstance(error, TimeoutError) and not reply.done():
                self.pool.abandon(reply)
                raise EmbedderUnavailableError(
                    f"{self.profile} did not embed the query within {timeout_seconds:g} s"
                ) from error
            raise EmbedderUnavailableError(
                f"{self.profile} could not embed the query: {describe(error)}"
            ) from error
        return blob

    # --- the rate ---------------------------------------------------------------------------------

    @property
    def chunks_per_second(self) -> float | None:
        """How fast vectors were stored of late, while it worked; None where that is not known."""
        return self._stored / self._working_seconds if self._working_seconds > 0 else None

    def note_stored(self, chunks: int, seconds: float) -> None:
        """Counts what was stored in a time in which it had work; the projector's thread alone."""
        if self._working_seconds > RATE_SECONDS:
            self._stored, self._working_seconds = self._stored / 2, self._working_seconds / 2
        self._stored += chunks
        self._working_seconds += seconds

    # --- outages ----------------------------------------------------------------------------------

    @property
    def outage(self) -> str | None:
        """Why the profile is paused, in the embedder's own words, or None."""
        return self.outage_after(self.erasures)

    def outage_after(self, erasures: int) -> str | None:
        """As ``outage``, without words from before the last of so many erasures."""
        away = self._away
        if away is not None:
            return away.words(erasures)
        return "a call that took too long has not returned yet" if self.pool.stuck else None

    @property
    def timed_out(self) -> bool:
        """Whether the profile is paused by a call that took too long, and by nothing else."""
        away = self._away
        return self.pool.stuck if away is None else isinstance(away.error, EmbedTimeoutError)

    def pause(self, error: Exception, erasures: int) -> None:
        """Begins an outage, or makes its wait longer.

        ``erasures`` is how many there were when the texts were claimed that the error may quote.
        """
        away = _Away(error, describe(error), type_name(error), erasures)
        asked = asked_seconds(error, self._clock.now())
        with self._lock:
            now = self._clock.monotonic()
            if self._away is None:
                self._outage_since = now
                self._wait_seconds = self._config.outage_wait_seconds
                self._counters.add_outage()
            elif now < self._paused_until and (asked is None or error is self._away.error):
                return  # a call that was on its way when the outage began says nothing new
            else:
                self._wait_seconds = min(
                    2 * self._wait_seconds, self._config.outage_wait_max_seconds
                )
            self._away = away
            # Full jitter would probe at once half the time; a quarter either way spreads enough.
            wait = self._wait_seconds * self._jitter(0.75, 1.25) if asked is None else asked
            self._paused_until = now + wait

    def resume(self) -> None:
        """Ends an outage."""
        with self._lock:
            if self._away is not None:
                self._counters.add_outage_seconds(self._clock.monotonic() - self._outage_since)
                self._away = None

    def forget_message(self, erasures: int) -> None:
        """Keeps that the embedder is away, and not what it said: that may quote an erased text."""
        with self._lock:
            self.erasures = max(self.erasures, erasures)
            away = self._away
            if away is not None and not isinstance(away.error, EmbedTimeoutError):
                # Its traceback has the texts too.
                said = away.words(self.erasures)
                self._away = replace(away, error=EmbedderUnavailableError(), said=said)

    def pause_seconds(self) -> float:
        """How long until the next probe; 0 where it is due, infinity where it cannot be made."""
        if self.pool.stuck:
            return math.inf
        with self._lock:
            return max(0.0, self._paused_until - self._clock.monotonic())

    # --- the end ----------------------------------------------------------------------------------

    def close(self) -> None:
        """Ends the pool, then an embedder that the engine built; idempotent, and waits for none."""
        self.pool.close()
        self._unused.set()

    def _until_unused(self) -> None:
        self._unused.wait()
        interrupt = getattr(self.embedder, "interrupt", None)
        if interrupt is not None:
            interrupt()
        self.pool.wait_idle()

    def join(self, timeout_seconds: float) -> bool:
        """After ``close``: waits until the embedder is closed; False where it was not in time."""
        if self._closing is not None:
            self._closing.join(timeout_seconds)
        return self._closing is None or not self._closing.is_alive()
