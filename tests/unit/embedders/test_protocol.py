from __future__ import annotations

import pytest

from fathomdb.embedders.protocol import Embedder, EmbedderLimits, limits_of
from fathomdb.errors import InvalidInputError
from fathomdb.identity import MAX_DIMENSION, EmbedderIdentity
from fathomdb.testing import DeterministicEmbedder


def identity(**changes):
    whole = {
        "model_identity": "acme/e5",
        "model_version": "3",
        "dimension": 4,
        "normalization_policy": "l2",
        "preparation": {"pooling": "mean", "prefix": "query: "},
    }
    return EmbedderIdentity(**{**whole, **changes})


def test_equal_identities_have_one_fingerprint_whatever_the_order_of_the_preparation():
    other = identity(preparation={"prefix": "query: ", "pooling": "mean"})
    assert identity() == other
    assert identity().fingerprint == other.fingerprint
    assert hash(identity()) == hash(other)


def test_the_fingerprint_is_the_same_in_every_version_of_the_package():
    assert identity().fingerprint == (
        "3224386243e138123360029005040ca1a45978242359b6c2ad12ab85597c1db2"
    )


@pytest.mark.parametrize(
    "change",
    [
        {"model_identity": "acme/e6"},
        {"model_version": "4"},
        {"dimension": 5},
        {"dimension": None},
        {"normalization_policy": "none"},
        {"preparation": {}},
        {"preparation": {"pooling": "cls", "prefix": "query: "}},
    ],
)
def test_whatever_changes_the_vector_space_changes_the_fingerprint(change):
    assert identity(**change).fingerprint != identity().fingerprint


def test_the_preparation_cannot_be_changed_afterwards():
    mine = {"pooling": "mean"}
    made = identity(preparation=mine)
    before = made.fingerprint
    mine["pooling"] = "cls"
    assert made.fingerprint == before
    with pytest.raises(TypeError):
        made.preparation["pooling"] = "cls"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model_identity": ""}, "model_identity must be a non-empty string, got ''"),
        ({"model_identity": "a\0b"}, "model_identity"),
        ({"model_version": 3}, "model_version must be a non-empty string, got 3"),
        ({"dimension": 0}, "got 0"),
        ({"dimension": True}, "got True"),
        ({"dimension": 3.0}, "got 3.0"),
        ({"dimension": MAX_DIMENSION + 1}, str(MAX_DIMENSION + 1)),
        ({"normalization_policy": "l1"}, "'l1'"),
        ({"preparation": {"max_tokens": 256}}, "'max_tokens': 256"),
    ],
)
def test_an_invalid_identity_is_refused_with_its_value(change, message):
    with pytest.raises(InvalidInputError, match=message):
        identity(**change)


@pytest.mark.parametrize("name", ["items", "tokens", "concurrency"])
@pytest.mark.parametrize("value", [0, -1, True, 1.5, "2"])
def test_invalid_limits_are_refused_with_their_value(name, value):
    with pytest.raises(InvalidInputError, match=f"limits.{name} must be 1 or more, got {value!r}"):
        EmbedderLimits(**{name: value})


def test_limits_are_the_declared_ones_or_the_defaults():
    class Silent:
        def identity(self):
            return identity()

        def batch_embed(self, texts):
            return [[1.0] * 4] * len(texts)

    declared = EmbedderLimits(items=8, concurrency=3)
    assert limits_of(DeterministicEmbedder(limits=declared)) == declared
    assert limits_of(Silent()) == EmbedderLimits()
    assert isinstance(Silent(), Embedder)
    Silent.limits = 8
    with pytest.raises(InvalidInputError, match="must be an EmbedderLimits, got 8"):
        limits_of(Silent())
