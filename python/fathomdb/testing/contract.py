"""EmbedderContract: the conformance suite of embedders."""

from __future__ import annotations

import functools
import inspect
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from fathomdb.actors.event_loop import EventLoop
from fathomdb.embedders.protocol import Embedder, limits_of
from fathomdb.embedders.registry import resolve, spec_of
from fathomdb.identity import EmbedderIdentity
from fathomdb.testing.embedders import embed_query

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray


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
        query = np.asarray(_awaited(embed_query(embedder, self.texts[0])), dtype=np.float64)
        _require(
            query.shape == (dimension,),
            f"embed_query must return the shape ({dimension},), got {query.shape}",
        )
        _require(bool(np.isfinite(query).all() and query.any()), "the query's vector is no vector")
        again = np.asarray(_awaited(embed_query(embedder, self.texts[0])), dtype=np.float64)
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
