"""Whatever an embedder returns: a typed outcome, and never one vector bound to another's text."""

from __future__ import annotations

import array
import re

import numpy as np
import pytest

import fathomdb
import inside
from fathomdb import EngineConfig, Node
from fathomdb.pipeline.embed import PROBE_TEXT
from fathomdb.testing import DeterministicEmbedder, Fault, FlakyEmbedder, ManualClock

DIMENSION = 32
GOOD = DeterministicEmbedder(DIMENSION)
COUNT = 64
POISON = ("n5#0", "n40#0")


def _nodes():
    return [
        Node("Document", f"n{i}", f"poison {i}" if f"n{i}#0" in POISON else f"text {i}")
        for i in range(COUNT)
    ]


class GpuLike:
    """A tensor on a device: NumPy cannot have its numbers without an explicit copy."""

    def __init__(self, shape):
        self.shape = shape
        self.ndim = len(shape)
        self.dtype = "float32"
        self.__cuda_array_interface__ = {"shape": shape, "typestr": "<f4", "data": (0, False)}

    def __len__(self):
        return self.shape[0]

    def __array__(self, dtype=None, copy=None):
        raise TypeError("can't convert cuda:0 device type tensor to numpy; use Tensor.cpu()")


class NotTheSameTwice:
    """Says another length each time it is asked."""

    def __init__(self, good):
        self._good = good
        self._asked = 0

    def __len__(self):
        self._asked += 1
        return len(self._good) - self._asked % 2

    def __getitem__(self, place):
        return self._good[place]


def _with_row(value):
    def effect(good, rows):
        good[rows, 7] = value
        return good

    return effect


def _replaced(replacement):
    def effect(good, rows):
        made = good.tolist()
        for row in rows:
            made[row] = replacement
        return made

    return effect


# A bad row in an otherwise good result: it fails alone, at once and for good.
BAD_ROWS = {
    "nan": ("nan", "not_finite"),
    "infinity": ("infinity", "not_finite"),
    "minus_infinity": (_with_row(-np.inf), "not_finite"),
    "1e300_which_is_infinite_as_f32": ("overflow", "not_finite"),
    "zero": ("zero", "zero"),
    "a_shorter_row": (_replaced([0.5] * (DIMENSION - 1)), "dimension"),
    "a_longer_row": (_replaced([0.5] * (DIMENSION + 1)), "dimension"),
    "an_empty_row": (_replaced([]), "dimension"),
    "none_for_a_row": (_replaced(None), "not_numeric"),
    "words_in_a_row": (_replaced(["a"] * DIMENSION), "not_numeric"),
}


@pytest.mark.parametrize(("effect", "cause"), BAD_ROWS.values(), ids=BAD_ROWS)
def test_a_bad_row_fails_alone_and_finally_with_its_cause(open_db, effect, cause):
    flaky = FlakyEmbedder(GOOD, [Fault(effect, texts="poison")])
    db = open_db(embedder=flaky)
    db.write(_nodes())

    report = db.admin.drain_vector_projection(timeout=30)

    assert (report.claimed, report.processed, report.failed) == (COUNT, COUNT - 2, 2)
    assert inside.adds_up(report)
    assert flaky.calls == 1  # the same model would say the same again
    failed = db.admin.failed_work()
    assert {row.chunk_id for row in failed} == set(POISON)
    assert {(row.cause, row.attempts) for row in failed} == {(cause, 1)}
    assert all(row.message for row in failed)
    # Its place in a batch of long ago would say nothing to whoever reads this.
    assert not any(re.search(r"\brow \d", row.message) for row in failed)
    inside.check(db, GOOD)


def _rows(change):
    return lambda good, rows: change(good)


# A result of which no row can be bound to a text: the batch is split, and culprits stand alone.
BAD_BATCHES = {
    "too_few": "too_few",
    "too_many": "too_many",
    "none_at_all": _rows(lambda good: good[:0]),
    "a_generator": _rows(lambda good: (row for row in good)),
    "a_masked_array": _rows(lambda good: np.ma.masked_array(good, mask=good > 0)),
    "a_masked_array_with_nothing_masked": _rows(np.ma.masked_array),
    "a_gpu_like_object": _rows(lambda good: GpuLike(good.shape)),
    "a_length_that_changes": _rows(NotTheSameTwice),
    "one_dimension": _rows(np.ravel),
    "three_dimensions": _rows(lambda good: good[None]),
    "integers": _rows(lambda good: (good * 1000).astype(np.int64)),
    "complex_numbers": _rows(lambda good: good.astype(np.complex64)),
    "objects": _rows(lambda good: good.astype(object)),
    "a_dict": _rows(lambda good: dict(enumerate(good))),
    "a_set": _rows(lambda good: {tuple(row) for row in good}),
    "none": _rows(lambda good: None),
    "text": _rows(lambda good: "0.5"),
    "bytes": _rows(lambda good: good.tobytes()),
    "a_number": _rows(lambda good: 0.5),
}


@pytest.mark.parametrize("effect", BAD_BATCHES.values(), ids=BAD_BATCHES)
def test_a_result_that_is_no_batch_of_vectors_is_traced_to_the_text_that_makes_it(open_db, effect):
    flaky = FlakyEmbedder(GOOD, [Fault(effect, texts="poison")])
    db = open_db(embedder=flaky, config=EngineConfig(clock=ManualClock(), max_attempts=2))
    db.write(_nodes())

    report = db.admin.drain_vector_projection(timeout=30)

    assert (report.claimed, report.processed) == (COUNT, COUNT - 2)
    assert (report.reverted, report.stopped_by) == (2, "idle")
    assert set(inside.work(db)) == set(POISON)
    assert all(
        row.last_error.startswith("EmbedderContractError: ") for row in inside.work(db).values()
    )
    inside.check(db, GOOD)


@pytest.mark.parametrize("effect", BAD_BATCHES.values(), ids=BAD_BATCHES)
def test_an_embedder_that_returns_nothing_usable_stores_nothing_and_is_away(open_db, effect):
    flaky = FlakyEmbedder(GOOD, [Fault(effect)])
    db = open_db(embedder=flaky)
    db.write(_nodes())

    report = db.admin.drain_vector_projection(timeout=30)

    assert (report.stopped_by, report.processed) == ("unavailable", 0)
    assert inside.adds_up(report)
    assert inside.vectors(db) == {}
    assert {row.attempts for row in inside.work(db).values()} == {0}
    assert "EmbedderContractError" in db.admin.status().outage
    with pytest.raises(fathomdb.EmbedderUnavailableError):
        db.semantic_search("text")


def test_a_wrong_dimension_for_every_text_fails_each_with_that_cause(open_db):
    db = open_db(embedder=FlakyEmbedder(GOOD, [Fault("wrong_dimension")]))
    db.write(_nodes())

    report = db.admin.drain_vector_projection(timeout=30)

    assert (report.failed, report.processed) == (COUNT, 0)
    assert {row.cause for row in db.admin.failed_work()} == {"dimension"}
    assert inside.vectors(db) == {}


def _fortran(good, rows):
    return np.asfortranarray(good)


def _read_only(good, rows):
    good.flags.writeable = False
    return good


def _strided(good, rows):
    wide = np.full((2 * len(good), 3 * DIMENSION), np.nan)
    wide[::2, ::3] = good
    return wide[::2, ::3]


GOOD_SHAPES = {
    "f32": lambda good, rows: good.astype(np.float32),
    "f64": lambda good, rows: good,
    "fortran_order": _fortran,
    "read_only": _read_only,
    "strided": _strided,
    "backwards": lambda good, rows: good[::-1].copy()[::-1],
    "lists": lambda good, rows: good.tolist(),
    "tuples": lambda good, rows: tuple(map(tuple, good)),
    "list_of_arrays": lambda good, rows: list(good.astype(np.float32)),
    "list_of_buffers": lambda good, rows: [array.array("f", row) for row in good],
    "memoryview": lambda good, rows: memoryview(np.ascontiguousarray(good)),
}


@pytest.mark.parametrize("effect", GOOD_SHAPES.values(), ids=GOOD_SHAPES)
def test_vectors_in_any_shape_that_is_promised_are_stored_each_with_its_own_text(open_db, effect):
    db = open_db(embedder=FlakyEmbedder(GOOD, [Fault(effect)]))
    db.write(_nodes())

    assert db.admin.drain_vector_projection(timeout=30).processed == COUNT
    inside.check(db, GOOD)


def test_half_precision_is_stored_as_what_it_is(open_db):
    db = open_db(embedder=FlakyEmbedder(GOOD, [Fault(lambda good, _: good.astype(np.float16))]))
    db.write(_nodes())

    assert db.admin.drain_vector_projection(timeout=30).processed == COUNT
    stored, expected = inside.vectors(db)["n3#0"], GOOD.batch_embed(["text 3"])[0]
    np.testing.assert_allclose(stored, expected, atol=1e-3)
    assert np.linalg.norm(stored) == pytest.approx(1.0, abs=1e-6)


def test_an_array_that_the_embedder_writes_to_again_is_not_what_is_stored(open_db):
    class OneBuffer(DeterministicEmbedder):
        buffer = np.empty((COUNT, DIMENSION), dtype=np.float32)

        def batch_embed(self, texts):
            self.buffer[:] = np.nan  # what the call before was given is gone
            self.buffer[: len(texts)] = super().batch_embed(texts)
            return self.buffer[: len(texts)]

    db = open_db(embedder=OneBuffer(DIMENSION))
    db.write([Node("Document", f"n{i}", f"text {i}") for i in range(500)])

    assert db.admin.drain_vector_projection(timeout=30).processed == 500
    inside.check(db, GOOD)


def test_the_probe_text_is_never_stored(open_db):
    db = open_db(embedder=FlakyEmbedder(GOOD, [Fault(ValueError("no"), texts="poison")]))
    db.write([Node("Document", "a", "poison"), Node("Document", "b", PROBE_TEXT)])

    db.admin.drain_vector_projection(timeout=30)

    assert set(inside.vectors(db)) == {"b#0"}
    inside.check(db, GOOD)
