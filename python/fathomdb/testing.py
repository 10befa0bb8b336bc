"""For the tests of programs and plugins: test embedders, and the suite that every embedder passes.

What belongs here: doubles that behave, and misbehave, as a real part can, and
:class:`EmbedderContract`. What does not: anything that the library itself uses at run time.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import inspect
import math
import os
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal, get_args

import numpy as np

from fathomdb.actors.event_loop import EventLoop
from fathomdb.embedders.protocol import Embedder, EmbedderLimits, limits_of
from fathomdb.embedders.registry import is_local, resolve, spec_of
from fathomdb.engine import open as open_engine
from fathomdb.errors import InvalidInputError
from fathomdb.identity import EmbedderIdentity

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Iterable, Iterator, Sequence

    from numpy.typing import NDArray

    from fathomdb.engine import Engine

# --- test embedders -------------------------------------------------------------------------------


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
        return self._pass_on(_embed_query, self.inner, text)

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


Damage = Literal[
    "nan", "infinity", "overflow", "zero", "too_few", "too_many", "wrong_dimension", "not_numbers"
]
"""What can be wrong with a result. The first four are in the rows of the texts that a fault names;
``overflow`` is finite as a 64-bit float and infinite as a 32-bit one. The others are in the shape."""

_ROW_DAMAGE = {"nan": np.nan, "infinity": np.inf, "overflow": 1e300, "zero": 0.0}


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that goes wrong, and when: every condition that is given must hold.

    Args:
        effect: An exception, raised; the name of a damage, done to the result; or a function of
            the good result (a float64 array), and the numbers of the rows meant, which returns
            what the embedder is to return.
        texts: The texts that are poison: those with this substring, or that satisfy this function.
        calls: The numbers of the calls that go wrong, the first one being 1.
    """

    effect: BaseException | Damage | Callable[[NDArray[np.float64], list[int]], Any]
    texts: str | Callable[[str], bool] | None = None
    calls: Container[int] | None = None

    def __post_init__(self) -> None:
        known = isinstance(self.effect, BaseException) or callable(self.effect)
        if not known and self.effect not in get_args(Damage):
            raise InvalidInputError(
                f"effect must be an exception, a function or one of {get_args(Damage)}, "
                f"got {self.effect!r}"
            )

    def rows(self, call: int, texts: Sequence[str]) -> list[int]:
        """The rows it strikes in this call; empty where it does not strike."""
        if self.calls is not None and call not in self.calls:
            return []
        if self.texts is None:
            return list(range(len(texts)))
        if isinstance(self.texts, str):
            poison = self.texts
            return [row for row, text in enumerate(texts) if poison in text]
        return [row for row, text in enumerate(texts) if self.texts(text)]


class FlakyEmbedder:
    """Goes wrong by a script, and is ``inner`` otherwise.

    ``script`` may be changed between calls (an outage ends with ``flaky.script = ()``). ``calls``
    counts every call, queries and probes included.

    Example:
        >>> flaky = FlakyEmbedder(
        ...     DeterministicEmbedder(),
        ...     [
        ...         Fault(EmbedderUnavailableError("down"), calls=range(1, 4)),
        ...         Fault("nan", texts="poison"),
        ...     ],
        ... )
    """

    def __init__(self, inner: Embedder, script: Iterable[Fault] = ()) -> None:
        self.inner = inner
        self.script: Sequence[Fault] = tuple(script)
        self.calls = 0
        self.limits = limits_of(inner)
        self.local = is_local(inner)
        self._counting = threading.Lock()

    def identity(self) -> EmbedderIdentity:
        """The identity of ``inner``."""
        return self.inner.identity()

    def batch_embed(self, texts: Sequence[str]) -> Any:
        """What ``inner`` returns, after the first fault of the script that strikes."""
        return self._suffer(texts, lambda: self.inner.batch_embed(texts))

    def embed_query(self, text: str) -> Any:
        """The same for a query: a result of one row, less the batch."""
        result = self._suffer([text], lambda: [_embed_query(self.inner, text)])
        return result[0] if len(result) else result

    def _suffer(self, texts: Sequence[str], embed: Callable[[], Any]) -> Any:
        with self._counting:
            self.calls += 1
            call = self.calls
        for fault in self.script:
            rows = fault.rows(call, texts)
            if not rows:
                continue
            if isinstance(fault.effect, BaseException):
                raise fault.effect
            good = np.array(embed(), dtype=np.float64)
            if callable(fault.effect):
                return fault.effect(good, rows)
            return _damaged(fault.effect, good, rows)
        return embed()


def _damaged(damage: Damage, good: NDArray[np.float64], rows: list[int]) -> Any:
    if damage in _ROW_DAMAGE:
        # NaN, infinity and the like in one column are enough; a zero vector is zero in all.
        columns = slice(None) if damage == "zero" else good.shape[1] - 1
        good[rows, columns] = _ROW_DAMAGE[damage]
        return good
    if damage == "too_few":
        return good[:-1]
    if damage == "too_many":
        return np.concatenate([good, good[:1]])
    if damage == "wrong_dimension":
        return good[:, :-1]
    return [["not", "numbers"]] * len(good)


def _embed_query(embedder: Embedder, text: str) -> Any:
    own = getattr(embedder, "embed_query", None)
    return own(text) if own is not None else embedder.batch_embed([text])[0]


# --- the conformance suite ------------------------------------------------------------------------


class EmbedderContract:
    """The suite that every embedder passes.

    pytest runs it on a subclass that has a fixture ``embedder``::

        class TestMyEmbedder(EmbedderContract):
            @pytest.fixture
            def embedder(self):
                return MyEmbedder()

    A model whose numbers depend a little on the batch sets ``tolerance``: the greatest difference,
    in any number of a vector of unit length, between two embeddings of one text. 0 stands for a
    model whose vectors are the same bits in every batch, for which alone two databases with the
    same content have the same projection digest.
    """

    tolerance: ClassVar[float] = 1e-5

    texts: ClassVar[tuple[str, ...]] = (
        "The quick brown fox jumps over the lazy dog.",
        "a",
        "An embedded datastore keeps its records in one file.",
        "Full-text and vector search, side by side: BM25 and cosine.",
        "Größe, naïve, coöperate, İstanbul, ﬁne",
        "数据库 データベース 데이터베이스",
        "مرحبا بالعالم שלום עולם",
        "🎉👩‍👩‍👧‍👦🇪🇺",
        "?!…",
        "  leading, trailing and\tinner\nwhite space  ",
        "zero\u200bwidth, combining e\u0301, and a control \x07 character",
        "def f(x):\n    return {'a': [1, 2, 3]}  # 0x1F",
        "1234567890 3.14159 1e-10",
        "<s> [CLS] </s> [SEP] <unk> tokens of models written in a text",
    )

    def test_identity_is_one_and_stays_the_same(self, embedder: Embedder) -> None:
        """identity() returns an EmbedderIdentity, equal before and after embedding."""
        before = embedder.identity()
        _require(
            isinstance(before, EmbedderIdentity),
            f"identity() must return an EmbedderIdentity, got {before!r}",
        )
        _embed(embedder, self.texts[:2])
        after = embedder.identity()
        _require(before == after, f"identity() changed from {before} to {after} by a batch")
        _require(before.fingerprint == after.fingerprint, "the fingerprint changed by a batch")

    def test_it_is_accepted_by_the_registry(self, embedder: Embedder) -> None:
        """resolve() takes the object, and its plugin_spec, if it has one, makes an equal one."""
        _require(resolve(embedder) is embedder, "resolve() must return the object itself")
        spec = spec_of(embedder)
        if spec is not None:
            again = resolve(spec).identity()
            _require(
                again.fingerprint == embedder.identity().fingerprint,
                f"plugin_spec {spec!r} makes {again}, not {embedder.identity()}",
            )

    def test_one_vector_a_text_of_the_declared_dimension(self, embedder: Embedder) -> None:
        """The result of n texts has the shape (n, dimension), for any n from 1."""
        dimension = embedder.identity().dimension
        for count in (1, 2, 3, len(self.texts)):
            shape = _embed(embedder, self.texts[:count]).shape
            _require(
                len(shape) == 2 and shape[0] == count,
                f"{count} texts must give {count} vectors, got the shape {shape}",
            )
            dimension = dimension or shape[1]
            _require(
                shape[1] == dimension, f"vectors must have {dimension} dimensions, got {shape[1]}"
            )

    def test_every_vector_is_finite_and_not_zero(self, embedder: Embedder) -> None:
        """Any text with something in it, in any script, has a direction."""
        for text, vector in zip(self.texts, _embed(embedder, self.texts), strict=True):
            _require(bool(np.isfinite(vector).all()), f"the vector of {text!r} is not finite")
            _require(bool(vector.any()), f"the vector of {text!r} is zero")

    def test_vectors_come_in_the_order_of_the_texts(self, embedder: Embedder) -> None:
        """A shuffled batch gives the shuffled vectors."""
        order = np.random.default_rng(0).permutation(len(self.texts))
        expected = _embed(embedder, self.texts)[order]
        shuffled = _embed(embedder, [self.texts[number] for number in order])
        self._same(expected, shuffled, "in a shuffled batch")

    def test_different_texts_have_different_vectors(self, embedder: Embedder) -> None:
        """Two sentences that have nothing in common are told apart."""
        first, second = _unit(_embed(embedder, (self.texts[0], self.texts[3])))
        _require(
            float(np.abs(first - second).max()) > max(self.tolerance, 1e-3),
            "two different texts have the same vector",
        )

    def test_a_text_alone_has_the_vector_it_has_in_a_batch(self, embedder: Embedder) -> None:
        """No vector depends on its neighbours by more than the tolerance."""
        together = _embed(embedder, self.texts)
        alone = np.concatenate([_embed(embedder, [text]) for text in self.texts])
        self._same(together, alone, "alone")

    def test_the_same_text_has_the_same_vector_again(self, embedder: Embedder) -> None:
        """Twice in one batch and in two batches."""
        twice = _embed(embedder, [self.texts[0], self.texts[1], self.texts[0]])
        self._same(twice[:1], twice[2:], "twice in a batch")
        self._same(twice, _embed(embedder, [*self.texts[:2], self.texts[0]]), "a second time")

    def test_the_texts_may_come_in_any_sequence(self, embedder: Embedder) -> None:
        """A list and a tuple of texts are the same batch, and neither is changed."""
        batch = list(self.texts)
        self._same(_embed(embedder, tuple(batch)), _embed(embedder, batch), "from a list")
        _require(batch == list(self.texts), "batch_embed changed the list it was given")

    def test_a_long_text_is_embedded(self, embedder: Embedder) -> None:
        """100,000 characters are cut or taken whole, and leave their neighbours alone."""
        long = "the embedded datastore keeps every record " * 2_400
        vectors = _embed(embedder, [self.texts[0], long])
        _require(bool(np.isfinite(vectors).all()), "the vector of a long text is not finite")
        _require(bool(vectors[1].any()), "the vector of a long text is zero")
        self._same(_embed(embedder, self.texts[:1]), vectors[:1], "beside a long text")

    def test_a_query_has_one_vector_of_the_same_dimension(self, embedder: Embedder) -> None:
        """embed_query, where there is one, returns (dimension,) and is as steady as a batch."""
        if getattr(embedder, "embed_query", None) is None:
            return
        dimension = _embed(embedder, self.texts[:1]).shape[1]
        query = np.asarray(_awaited(_embed_query(embedder, self.texts[0])), dtype=np.float64)
        _require(
            query.shape == (dimension,),
            f"embed_query must return the shape ({dimension},), got {query.shape}",
        )
        _require(bool(np.isfinite(query).all() and query.any()), "the query's vector is no vector")
        again = np.asarray(_awaited(_embed_query(embedder, self.texts[0])), dtype=np.float64)
        self._same(query[np.newaxis], again[np.newaxis], "as a query a second time")

    def test_truncated_texts_are_counted(self, embedder: Embedder) -> None:
        """count_truncated, where there is one, counts the texts that max_tokens cuts."""
        count = getattr(embedder, "count_truncated", None)
        if count is None:
            return
        limit = getattr(embedder, "max_tokens", None)
        if type(limit) is not int or limit < 1:
            raise AssertionError(f"count_truncated() needs max_tokens, got {limit!r}")
        found = count(["a", "word " * (limit + 1), "b", "word " * (limit + 2)])
        _require(
            found == 2, f"2 of 4 texts are cut at {limit} tokens, count_truncated says {found}"
        )

    def test_as_many_calls_at_once_as_it_declares(self, embedder: Embedder) -> None:
        """Calls that run together, up to limits.concurrency, do not disturb each other."""
        concurrency = min(limits_of(embedder).concurrency, 8)
        expected = _embed(embedder, self.texts)
        start = threading.Barrier(concurrency)

        def work(_: int) -> list[NDArray[np.float64]]:
            start.wait(timeout=60)
            return [_embed(embedder, self.texts) for _ in range(3)]

        with ThreadPoolExecutor(concurrency) as pool:
            for results in pool.map(work, range(concurrency)):
                for result in results:
                    self._same(expected, result, f"with {concurrency} calls at once")

    def _same(self, one: NDArray[np.float64], other: NDArray[np.float64], how: str) -> None:
        difference = float(np.abs(_unit(one) - _unit(other)).max())
        _require(
            difference <= self.tolerance,
            f"a text has another vector {how}: it differs by {difference:.2g}, "
            f"the tolerance is {self.tolerance:.2g}",
        )


def _embed(embedder: Embedder, texts: Sequence[str]) -> NDArray[np.float64]:
    # In C order, or the sums of _unit would depend on how the array is laid out.
    return np.array(_awaited(embedder.batch_embed(texts)), dtype=np.float64, order="C")


def _awaited(result: Any) -> Any:
    return _event_loop().run(result, 300.0) if inspect.isawaitable(result) else result


@functools.cache
def _event_loop() -> EventLoop:
    """One for all suites: a client of an async embedder belongs to the loop of its first call."""
    return EventLoop()


def _unit(vectors: NDArray[np.float64]) -> NDArray[np.float64]:
    scaled: NDArray[np.float64] = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return scaled


def _require(holds: bool, message: str) -> None:
    # A bare assert would say nothing here: pytest rewrites those of test files only.
    if not holds:
        raise AssertionError(message)


# --- the engine's test tools ----------------------------------------------------------------------


class ManualClock:
    """A clock that stands still until it is told: ``EngineConfig(clock=ManualClock())``.

    Rows fall due and pauses end by ``advance`` alone; it may go back, as a machine's clock does,
    for ``now`` but not for ``monotonic``. Actors look at it when they are woken and at every idle
    poll, which is in real time.
    """

    def __init__(self, now: float = 1_700_000_000.0) -> None:
        self._lock = threading.Lock()
        self._now = now
        self._monotonic = 0.0

    def now(self) -> float:
        """Seconds since the epoch, as it was set."""
        with self._lock:
            return self._now

    def monotonic(self) -> float:
        """Seconds that were advanced in all."""
        with self._lock:
            return self._monotonic

    def advance(self, seconds: float) -> None:
        """Moves the time; a negative number moves ``now`` alone."""
        with self._lock:
            self._now += seconds
            self._monotonic += max(0.0, seconds)


@contextlib.contextmanager
def temporary(**options: Any) -> Iterator[Engine]:
    """An engine on a real file in a folder that is removed afterwards.

    Takes what :func:`fathomdb.open` takes but the path; without an ``embedder`` it has a
    :class:`DeterministicEmbedder`.
    """
    options.setdefault("embedder", DeterministicEmbedder())
    with (
        tempfile.TemporaryDirectory(prefix="fathomdb-") as folder,
        open_engine(os.path.join(folder, "temporary.db"), **options) as engine,
    ):
        yield engine
