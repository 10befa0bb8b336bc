"""A conformance suite is worth what it refuses: each of its tests fails for the fault it is for."""

from __future__ import annotations

import itertools
import threading

import numpy as np
import pytest

from fathomdb.embedders.protocol import EmbedderLimits
from fathomdb.identity import EmbedderIdentity
from fathomdb.testing import DeterministicEmbedder, EmbedderContract, Fault, FlakyEmbedder

contract = EmbedderContract()


def flaky(effect, **when):
    return FlakyEmbedder(DeterministicEmbedder(8), [Fault(effect, **when)])


def reversed_when_shuffled(vectors, rows):
    return vectors[::-1]


class ChangingIdentity(DeterministicEmbedder):
    numbers = itertools.count()

    def identity(self):
        return EmbedderIdentity("acme/changing", str(next(self.numbers)), 32)


class DependsOnTheBatch(DeterministicEmbedder):
    def batch_embed(self, texts):
        return super().batch_embed(texts) + 0.01 * len(texts)


class Random(DeterministicEmbedder):
    generator = np.random.default_rng(0)

    def batch_embed(self, texts):
        return super().batch_embed(texts) + self.generator.normal(0, 0.01, (len(texts), 32))


class SortsItsInput(DeterministicEmbedder):
    def batch_embed(self, texts):
        if isinstance(texts, list):
            texts.sort()
        return super().batch_embed(texts)


class NamesAnotherPlugin(DeterministicEmbedder):
    plugin_spec = "hashing:64"


class MatrixForAQuery(DeterministicEmbedder):
    def embed_query(self, text):
        return self.batch_embed([text])


class CountsWrong(DeterministicEmbedder):
    max_tokens = 10

    def count_truncated(self, texts):
        return len(texts)


class ChokesOnLongTexts(DeterministicEmbedder):
    def batch_embed(self, texts):
        vectors = super().batch_embed(texts)
        vectors[[len(text) > 10_000 for text in texts]] = 0
        return vectors


class NotReentrant(DeterministicEmbedder):
    """Keeps its texts in an attribute; the barrier makes two calls always meet there."""

    def __init__(self):
        super().__init__(limits=EmbedderLimits(concurrency=2))
        self.meeting = threading.Barrier(2)
        self.first = True

    def batch_embed(self, texts):
        if self.first:
            self.first = False
            return super().batch_embed(texts)
        self.seen = threading.get_ident()
        self.meeting.wait(timeout=30)
        mine = self.seen == threading.get_ident()
        self.meeting.wait(timeout=30)
        return super().batch_embed(texts) if mine else super().batch_embed(texts)[::-1]


@pytest.mark.parametrize(
    ("broken", "test", "message"),
    [
        (ChangingIdentity(), "test_identity_is_one_and_stays_the_same", "identity.. changed"),
        (NamesAnotherPlugin(), "test_it_is_accepted_by_the_registry", "plugin_spec 'hashing:64'"),
        (flaky("too_few"), "test_one_vector_a_text_of_the_declared_dimension", "must give"),
        (flaky("too_many"), "test_one_vector_a_text_of_the_declared_dimension", "must give"),
        (flaky("wrong_dimension"), "test_one_vector_a_text_of_the_declared_dimension", "must have"),
        (flaky("nan", texts="🎉"), "test_every_vector_is_finite_and_not_zero", "not finite"),
        (flaky("infinity", texts="a"), "test_every_vector_is_finite_and_not_zero", "not finite"),
        (flaky("zero", texts="?!…"), "test_every_vector_is_finite_and_not_zero", "is zero"),
        (
            flaky(reversed_when_shuffled, calls={2}),
            "test_vectors_come_in_the_order_of_the_texts",
            "in a shuffled batch",
        ),
        (
            flaky(lambda vectors, rows: np.ones_like(vectors)),
            "test_different_texts_have_different_vectors",
            "same vector",
        ),
        (DependsOnTheBatch(), "test_a_text_alone_has_the_vector_it_has_in_a_batch", "alone"),
        (Random(), "test_the_same_text_has_the_same_vector_again", "twice in a batch"),
        (SortsItsInput(), "test_the_texts_may_come_in_any_sequence", "from a list"),
        (ChokesOnLongTexts(), "test_a_long_text_is_embedded", "long text is zero"),
        (MatrixForAQuery(), "test_a_query_has_one_vector_of_the_same_dimension", "shape"),
        (CountsWrong(), "test_truncated_texts_are_counted", "says 4"),
        (NotReentrant(), "test_as_many_calls_at_once_as_it_declares", "2 calls at once"),
    ],
    ids=lambda value: value if isinstance(value, str) else type(value).__name__,
)
def test_the_contract_finds(broken, test, message):
    with pytest.raises(AssertionError, match=message):
        getattr(contract, test)(broken)
