"""The public test embedders do what they say, since other tests believe them."""

from __future__ import annotations

import hashlib
import threading

import numpy as np
import pytest

from fathomdb.embedders.protocol import EmbedderLimits
from fathomdb.errors import EmbedderUnavailableError, InvalidInputError
from fathomdb.identity import EmbedderIdentity
from fathomdb.testing import (
    DeterministicEmbedder,
    Fault,
    FlakyEmbedder,
    NullEmbedder,
    RecordingEmbedder,
)

# --- deterministic --------------------------------------------------------------------------------


def test_deterministic_vectors_are_the_same_bits_on_every_platform():
    vectors = DeterministicEmbedder(16).batch_embed(["one", "two 🎉", "x" * 1000])
    found = hashlib.sha256(vectors.astype("<f4").tobytes()).hexdigest()
    assert found == "eeda1a25135dc8b27a08beff6e09fdf9cee7aefd48f3c7cf1becb364fcaaa56e"


def test_deterministic_vectors_of_unlike_texts_are_unlike():
    vectors = DeterministicEmbedder(256).batch_embed([f"text {number}" for number in range(50)])
    products = vectors @ vectors.T - np.eye(50)
    assert np.abs(products).max() < 0.35
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-6)


def test_another_seed_is_another_model():
    one, other = DeterministicEmbedder(8), DeterministicEmbedder(8, seed=1)
    assert one.identity().fingerprint != other.identity().fingerprint
    assert (one.batch_embed(["a"]) != other.batch_embed(["a"])).all()


def test_an_identity_can_be_given_and_must_fit_the_dimension():
    mine = EmbedderIdentity("acme/e5", "3", 8)
    assert DeterministicEmbedder(8, identity=mine).identity() is mine
    assert (
        DeterministicEmbedder(8, identity=EmbedderIdentity("acme/e5")).identity().dimension is None
    )
    with pytest.raises(InvalidInputError, match="does not have 16 dimensions"):
        DeterministicEmbedder(16, identity=mine)


# --- null -----------------------------------------------------------------------------------------


def test_the_null_embedder_gives_the_same_memory_again():
    null = NullEmbedder(12)
    first, second = null.batch_embed(["a"] * 100), null.batch_embed(["b"] * 50)
    assert np.shares_memory(first, second)
    assert not first.flags.writeable
    assert first.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(first, axis=1), 1, atol=1e-6)


def test_the_null_embedder_takes_any_number_of_texts():
    rows = NullEmbedder(4).batch_embed(["a"] * 5_000)
    assert rows.shape == (5_000, 4)
    assert rows.any(axis=1).all()


# --- recording ------------------------------------------------------------------------------------


def test_everything_asked_is_recorded_in_order():
    recording = RecordingEmbedder(DeterministicEmbedder(limits=EmbedderLimits(items=3)))
    recording.batch_embed(["a", "b"])
    query = recording.embed_query("q")
    recording.batch_embed(("c",))
    assert recording.batches == [("a", "b"), ("c",)]
    assert recording.texts == ["a", "b", "c"]
    assert recording.queries == ["q"]
    assert recording.limits.items == 3
    assert (query == DeterministicEmbedder().batch_embed(["q"])[0]).all()


def test_a_query_method_of_the_inner_embedder_is_used():
    class Asymmetric(DeterministicEmbedder):
        def embed_query(self, text):
            return self.batch_embed([f"query: {text}"])[0]

    for outer in (RecordingEmbedder(Asymmetric()), FlakyEmbedder(Asymmetric())):
        assert (outer.embed_query("a") == Asymmetric().embed_query("a")).all()


def test_a_call_can_be_held_until_it_is_released():
    recording = RecordingEmbedder(DeterministicEmbedder())
    recording.hold()
    results = []
    threads = [
        threading.Thread(target=lambda: results.append(recording.batch_embed(["a"])))
        for _ in range(2)
    ]
    for thread in threads:
        thread.start()
    recording.wait_held(calls=2)
    assert results == []
    recording.release()
    for thread in threads:
        thread.join()
    assert len(results) == 2
    assert recording.most_at_once == 2


def test_waiting_for_a_call_or_for_a_release_ends():
    recording = RecordingEmbedder(DeterministicEmbedder(), patience_seconds=0.01)
    recording.hold()
    with pytest.raises(TimeoutError, match="0 calls are held, not 1"):
        recording.wait_held()
    with pytest.raises(TimeoutError, match=r"held for 0\.01 seconds"):
        recording.batch_embed(["a"])


def test_calls_one_after_the_other_are_never_at_once():
    recording = RecordingEmbedder(DeterministicEmbedder())
    recording.batch_embed(["a"])
    recording.batch_embed(["b"])
    assert recording.most_at_once == 1


# --- flaky ----------------------------------------------------------------------------------------

TEXTS = ["fine", "poison", "good"]


def flaky(*faults):
    return FlakyEmbedder(DeterministicEmbedder(8), faults)


def test_without_a_fault_it_is_the_inner_embedder():
    assert (flaky().batch_embed(TEXTS) == DeterministicEmbedder(8).batch_embed(TEXTS)).all()


def test_an_outage_lasts_for_its_calls():
    embedder = flaky(Fault(EmbedderUnavailableError("down"), calls=range(2, 4)))
    embedder.batch_embed(TEXTS)
    for _ in range(2):
        with pytest.raises(EmbedderUnavailableError, match="down"):
            embedder.batch_embed(TEXTS)
    embedder.batch_embed(TEXTS)
    assert embedder.calls == 4


def test_a_poison_text_fails_every_batch_it_is_in_and_no_other():
    embedder = flaky(Fault(ValueError("poison"), texts="poison"))
    with pytest.raises(ValueError, match="poison"):
        embedder.batch_embed(TEXTS)
    with pytest.raises(ValueError, match="poison"):
        embedder.embed_query("poison")
    assert embedder.batch_embed(["fine", "good"]).shape == (2, 8)


@pytest.mark.parametrize(
    ("effect", "broken"),
    [
        ("nan", lambda row: np.isnan(row).any()),
        ("infinity", lambda row: np.isinf(row).any()),
        ("overflow", lambda row: np.isfinite(row).all() and row.max() > np.finfo(np.float32).max),
        ("zero", lambda row: not row.any()),
    ],
)
def test_a_damaged_row_is_that_of_the_poison_text(effect, broken):
    result = flaky(Fault(effect, texts=lambda text: text == "poison")).batch_embed(TEXTS)
    assert [bool(broken(row)) for row in result] == [False, True, False]
    good = DeterministicEmbedder(8).batch_embed(TEXTS)
    assert (result[[0, 2]] == good[[0, 2]]).all()


@pytest.mark.parametrize(
    ("effect", "shape"),
    [
        ("too_few", (2, 8)),
        ("too_many", (4, 8)),
        ("wrong_dimension", (3, 7)),
        ("not_numbers", (3, 2)),
    ],
)
def test_a_damaged_shape_is_as_named(effect, shape):
    assert np.shape(flaky(Fault(effect)).batch_embed(TEXTS)) == shape


def test_a_function_can_do_any_damage():
    embedder = flaky(Fault(lambda vectors, rows: (vectors[::-1], rows), texts="poison", calls={1}))
    vectors, rows = embedder.batch_embed(TEXTS)
    assert rows == [1]
    assert (vectors[::-1] == DeterministicEmbedder(8).batch_embed(TEXTS)).all()
    assert embedder.batch_embed(TEXTS).shape == (3, 8)


def test_a_script_can_be_changed_between_calls():
    embedder = flaky(Fault(EmbedderUnavailableError("down")))
    with pytest.raises(EmbedderUnavailableError):
        embedder.batch_embed(TEXTS)
    embedder.script = ()
    assert embedder.batch_embed(TEXTS).shape == (3, 8)


def test_an_unknown_damage_is_refused():
    with pytest.raises(InvalidInputError, match="got 'nann'"):
        Fault("nann")
