"""A model in service: an embedder with its profile, its pool of threads, and its outages."""

from __future__ import annotations

import random
import threading
from concurrent.futures import CancelledError
from typing import TYPE_CHECKING

from fathomdb.actors.embed_pool import EmbedPool, Urgency
from fathomdb.embedders.protocol import Embedder, limits_of
from fathomdb.errors import EmbedderUnavailableError, EngineClosedError
from fathomdb.pipeline import validate
from fathomdb.pipeline.claim import BatchSizes
from fathomdb.pipeline.embed import OUTAGES, describe

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from concurrent.futures import Future

    from fathomdb._native import PackedVectors
    from fathomdb.actors.counters import Counters
    from fathomdb.config import EngineConfig
    from fathomdb.store.profiles import Profile


class Model:
    """What the projector and searches call; safe for any thread.

    The profile is paused after an outage, with growing, jittered waits; ``Retry-After`` wins.
    """

    def __init__(
        self, embedder: Embedder, profile: Profile, config: EngineConfig, counters: Counters
    ) -> None:
        self.embedder = embedder
        self.profile = profile
        self.pool = EmbedPool(embedder)
        self.sizes = BatchSizes.of(limits_of(embedder))
        self._config = config
        self._clock = config.clock
        self._counters = counters
        self._count_truncated: Callable[[Sequence[str]], int] | None = getattr(
            embedder, "count_truncated", None
        )
        self._lock = threading.Lock()
        self._away: Exception | None = None
        self._outage_since = 0.0
        self._paused_until = 0.0
        self._wait_seconds = 0.0
        self._jitter = random.Random()  # noqa: S311 - spreads probes, hides nothing

    # --- calls ------------------------------------------------------------------------------------

    def embed_batch(
        self, texts: Sequence[str], urgency: Urgency, *, probe: bool = False
    ) -> Future[PackedVectors]:
        """Has a batch of texts embedded on the pool; a probe is tried even in an outage.

        The vectors are copied and checked before the embedder is called again: it may use the
        same array for each batch.
        """

        def call() -> PackedVectors:
            if not probe and (away := self._away) is not None:
                raise away
            began = self._clock.monotonic()
            try:
                array = self.embedder.batch_embed(texts)
            except OUTAGES as error:
                # Here, on the pool's thread: what waits behind this call must not be sent any more.
                self.pause(error)
                raise
            finally:
                truncated = self._count_truncated(texts) if self._count_truncated else 0
                self._counters.add_call(self._clock.monotonic() - began, truncated)
            return validate.validate(array, len(texts), self.profile)

        return self.pool.submit(call, urgency)

    def embed_query(self, text: str, timeout_seconds: float) -> bytes | None:
        """One query's vector, by the query method where the embedder has one, as f32.

        None where the model's dimension is not known yet: there is nothing to compare it with.

        Raises:
            EmbedderUnavailableError: The model cannot say now, for whatever reason.
            EngineClosedError: The model was closed, with the engine or to make room for another.
        """
        method = getattr(self.embedder, "embed_query", None)

        def call() -> bytes | None:
            began = self._clock.monotonic()
            try:
                vector = self.embedder.batch_embed([text])[0] if method is None else method(text)
            finally:
                self._counters.add_call(self._clock.monotonic() - began, 0)
            profile = self.profile
            return None if profile.dimension is None else validate.query_blob(vector, profile)

        reply = self.pool.submit(call, Urgency.QUERY)
        try:
            blob: bytes | None = reply.result(timeout_seconds)
        except EmbedderUnavailableError:
            raise
        except CancelledError:  # the pool was closed while the query waited for its turn
            raise EngineClosedError from None
        except TimeoutError as error:
            if not reply.done():
                self.pool.abandon(reply)
            raise EmbedderUnavailableError(
                f"{self.profile} did not embed the query within {timeout_seconds:g} s"
            ) from error
        except Exception as error:
            raise EmbedderUnavailableError(
                f"{self.profile} could not embed the query: {describe(error)}"
            ) from error
        return blob

    # --- outages ----------------------------------------------------------------------------------

    @property
    def outage(self) -> str | None:
        """Why the profile is paused, in the embedder's own words, or None."""
        away = self._away
        return None if away is None else describe(away)

    def pause(self, error: Exception) -> None:
        """Begins an outage, or makes its wait longer."""
        asked = getattr(error, "retry_after_seconds", None)
        with self._lock:
            now = self._clock.monotonic()
            if self._away is None:
                self._outage_since = now
                self._wait_seconds = self._config.outage_wait_seconds
                self._counters.add_outage()
            elif now < self._paused_until and asked is None:
                return  # a call that was on its way when the outage began says nothing new
            else:
                self._wait_seconds = min(
                    2 * self._wait_seconds, self._config.outage_wait_max_seconds
                )
            self._away = error
            # Full jitter would probe at once half the time; a quarter either way spreads enough.
            wait = self._wait_seconds * self._jitter.uniform(0.75, 1.25) if asked is None else asked
            self._paused_until = now + wait

    def resume(self) -> None:
        """Ends an outage."""
        with self._lock:
            if self._away is not None:
                self._counters.add_outage_seconds(self._clock.monotonic() - self._outage_since)
                self._away = None

    def pause_seconds(self) -> float:
        """How long until the next probe; 0 where it is due."""
        with self._lock:
            return max(0.0, self._paused_until - self._clock.monotonic())

    def close(self) -> None:
        """Ends the pool, and the embedder where it has a ``close``."""
        self.pool.close()
        close = getattr(self.embedder, "close", None)
        if close is not None:
            close()
