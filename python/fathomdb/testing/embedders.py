"""Embedders that behave: deterministic, free of cost, and held in the middle of a call."""

from __future__ import annotations

import hashlib
import math
import threading
import time
from typing import TYPE_CHECKING, Any

import numpy as np

from fathomdb.embedders.protocol import Embedder, EmbedderLimits, limits_of
from fathomdb.embedders.registry import is_local
from fathomdb.errors import InvalidInputError
from fathomdb.identity import EmbedderIdentity

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray


class DeterministicEmbedder:
    """A unit vector drawn from a hash of the text: equal texts are near, and nothing else is.

    The vectors depend on the text and the seed alone, never on the batch, and are the same bits on
    every platform.

    Args:
        dimension: Numbers in a vector.
        identity: Said in place of ``fathomdb/deterministic-test``, for tests of model changes; its
            dimension, if it has one, must be ``dimension``.
        seed: Another seed is another model: other vectors, and another version in the identity.
        limits: What it declares.
    """

    local = True

    def __init__(
        self,
        dimension: int = 32,
        *,
        identity: EmbedderIdentity | None = None,
        seed: int = 0,
        limits: EmbedderLimits | None = None,
    ) -> None:
        if identity is not None and identity.dimension not in {None, dimension}:
            raise InvalidInputError(f"the identity {identity} does not have {dimension} dimensions")
        self._dimension = dimension
        self._seed = seed
        self._identity = identity or EmbedderIdentity(
            "fathomdb/deterministic-test", str(seed), dimension
        )
        self.limits = limits or EmbedderLimits()

    def identity(self) -> EmbedderIdentity:
        """The identity given, or one of its own."""
        return self._identity

    def batch_embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Unit vectors, shape (n, dimension), float32."""
        vectors = np.empty((len(texts), self._dimension), dtype=np.float32)
        for vector, text in zip(vectors, texts, strict=True):
            drawn = hashlib.shake_256(f"{self._seed}\0{text}".encode()).digest(4 * self._dimension)
            # The half keeps every number, and so every vector, away from zero.
            numbers = np.frombuffer(drawn, dtype="<u4") + 0.5 - 2.0**31
            # fsum rounds once: the order of NumPy's additions depends on the machine.
            vector[:] = numbers / math.sqrt(math.fsum((numbers * numbers).tolist()))
        return vectors


class NullEmbedder:
    """The same fixed rows for whatever it is given: for benches, where embedding must cost nothing.

    Args:
        dimension: Numbers in a vector.
        seconds_per_call: Spent waiting outside the GIL in every call, as a remote model would.
        concurrency: How many calls it declares to bear at once.
    """

    local = True

    def __init__(
        self, dimension: int = 384, *, seconds_per_call: float = 0.0, concurrency: int = 1
    ) -> None:
        self._identity = EmbedderIdentity("fathomdb/null-test", "1", dimension)
        self._seconds_per_call = seconds_per_call
        self._rows = _unit_rows(1_024, dimension)
        self.limits = EmbedderLimits(concurrency=concurrency)

    def identity(self) -> EmbedderIdentity:
        """The identity, of ``dimension``."""
        return self._identity

    def batch_embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """The first n of the fixed unit rows, shape (n, dimension), float32, read-only."""
        if self._seconds_per_call:
            time.sleep(self._seconds_per_call)
        if len(texts) > len(self._rows):
            self._rows = _unit_rows(len(texts), self._rows.shape[1])
        return self._rows[: len(texts)]


def _unit_rows(count: int, dimension: int) -> NDArray[np.float32]:
    rows = np.random.default_rng(0).standard_normal((count, dimension))
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    fixed: NDArray[np.float32] = rows.astype(np.float32)
    fixed.flags.writeable = False
    return fixed


class RecordingEmbedder:
    """Passes everything on to ``inner``, remembers it, and can be held in the middle of a call.

    ``batches`` and ``queries`` are what was asked so far, in the order in which the calls began;
    ``most_at_once`` is the greatest number of calls that were running together. A test that must
    act while a text is being embedded writes::

        embedder.hold()
        ...                       # something that makes the engine embed
        embedder.wait_held()      # the call has begun
        ...                       # act
        embedder.release()

    A call held for longer than ``patience_seconds`` raises TimeoutError, so that a failing test
    ends.
    """

    def __init__(self, inner: Embedder, *, patience_seconds: float = 30.0) -> None:
        self.inner = inner
        self.limits = limits_of(inner)
        self.local = is_local(inner)
        self.batches: list[tuple[str, ...]] = []
        self.queries: list[str] = []
        self.most_at_once = 0
        self._patience_seconds = patience_seconds
        self._running = 0
        self._changed = threading.Condition()
        self._open = True
        self._held = 0

    @property
    def texts(self) -> list[str]:
        """Every document text that was embedded, once for each time."""
        with self._changed:
            return [text for batch in self.batches for text in batch]

    def identity(self) -> EmbedderIdentity:
        """The identity of ``inner``."""
        return self.inner.identity()

    def batch_embed(self, texts: Sequence[str]) -> Any:
        """What ``inner`` returns."""
        with self._changed:
            self.batches.append(tuple(texts))
        return self._pass_on(self.inner.batch_embed, texts)

    def embed_query(self, text: str) -> Any:
        """What ``inner`` returns for a query; a batch of one where it has no method for queries."""
        with self._changed:
            self.queries.append(text)
        return self._pass_on(embed_query, self.inner, text)

    def hold(self) -> None:
        """Let every call wait, before it reaches ``inner``, until :meth:`release`."""
        with self._changed:
            self._open = False

    def release(self) -> None:
        """Let the calls that wait, and all later ones, go on."""
        with self._changed:
            self._open = True
            self._changed.notify_all()

    def wait_held(self, calls: int = 1) -> None:
        """Return as soon as ``calls`` calls are held.

        Raises:
            TimeoutError: They are not, after ``patience_seconds``.
        """
        with self._changed:
            if not self._changed.wait_for(lambda: self._held >= calls, self._patience_seconds):
                raise TimeoutError(f"{self._held} calls are held, not {calls}")

    def _pass_on(self, call: Callable[..., Any], *arguments: Any) -> Any:
        with self._changed:
            self._running += 1
            self.most_at_once = max(self.most_at_once, self._running)
            self._held += 1
            self._changed.notify_all()
            released = self._changed.wait_for(lambda: self._open, self._patience_seconds)
            self._held -= 1
        try:
            if not released:
                raise TimeoutError(f"the call was held for {self._patience_seconds} seconds")
            return call(*arguments)
        finally:
            with self._changed:
                self._running -= 1


def embed_query(embedder: Embedder, text: str) -> Any:
    """The query method of an embedder, or a batch of one where it has none."""
    own = getattr(embedder, "embed_query", None)
    return own(text) if own is not None else embedder.batch_embed([text])[0]
