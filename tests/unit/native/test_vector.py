from __future__ import annotations

import array
import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fathomdb._native import pack_vectors
from fathomdb.errors import EmbedderContractError, InvalidInputError

GOLDEN = json.loads((Path(__file__).parents[2] / "data" / "golden_vectors.json").read_text("utf-8"))
MATRIX = np.random.default_rng(0).standard_normal((5, 7)).astype(np.float32)


class Tensor:
    """Like a tensor of another library: no buffer, but a door to NumPy."""

    def __init__(self, inside: Any) -> None:
        self.inside = inside

    def __array__(self, dtype: Any = None, copy: Any = None) -> Any:
        if isinstance(self.inside, Exception):
            raise self.inside
        return self.inside


class Integer:
    """Counts for a float nowhere, though it could be made one."""

    def __float__(self) -> float:
        return 1.0


@pytest.mark.parametrize("case", GOLDEN, ids=lambda case: case["name"])
def test_rows_are_judged_and_normalized_as_the_golden_ones(case: dict[str, Any]) -> None:
    row = np.array([case["bits"]], dtype=np.uint32).view(np.float32)
    plain = pack_vectors(row, None)
    unit = pack_vectors(row, None, normalize=True)
    if case["fault"] is None:
        assert plain.bad == unit.bad == []
        assert plain.blob == row.tobytes()
        assert unit.blob == np.array(case["unit_bits"], dtype=np.uint32).tobytes()
    else:
        assert [fault[:3] for fault in plain.bad] == [(0, case["column"], case["fault"])]
        assert plain.bad == unit.bad
        assert plain.blob == unit.blob == bytes(row.nbytes)


@pytest.mark.parametrize(
    "rows",
    [
        MATRIX,
        MATRIX.astype(np.float64),
        MATRIX.astype(np.float16),
        np.asfortranarray(MATRIX),
        MATRIX[::-1, ::-2],
        np.repeat(MATRIX, 2, axis=1).astype(np.float64)[:, ::2],
        np.broadcast_to(MATRIX[0], (4, 7)),
        MATRIX.tolist(),
        [tuple(row) for row in MATRIX.tolist()],
        tuple(MATRIX.tolist()),
        list(MATRIX),
        list(MATRIX.astype(np.float64)[:, ::-1]),
        [list(row) for row in MATRIX],
        [array.array("d", row) for row in MATRIX.tolist()],
        Tensor(MATRIX),
        [Tensor(row) for row in MATRIX],
        [[1, 2, 3], [4, 5, 6]],
    ],
)
def test_every_array_like_becomes_the_same_blob_as_in_numpy(rows: Any) -> None:
    inner = [getattr(row, "inside", row) for row in getattr(rows, "inside", rows)]
    expected = np.array(inner).astype("<f4")
    packed = pack_vectors(rows, None)
    assert (packed.count, packed.dimension, packed.bad) == (*expected.shape, [])
    assert packed.blob == expected.tobytes()


def test_read_only_unaligned_and_bare_buffers_are_read() -> None:
    frozen = MATRIX.copy()
    frozen.setflags(write=False)
    unaligned = np.frombuffer(b"x" + MATRIX.tobytes(), dtype=np.uint8)[1:].view(np.float32)
    assert pack_vectors(frozen, 7).blob == MATRIX.tobytes()
    assert pack_vectors(memoryview(MATRIX), 7).blob == MATRIX.tobytes()
    assert pack_vectors(unaligned.reshape(5, 7), 7).blob == MATRIX.tobytes()
    assert pack_vectors(unaligned.reshape(5, 7)[:, ::-1], 7).blob == MATRIX[:, ::-1].tobytes()


def test_rows_are_views_into_the_one_blob() -> None:
    packed = pack_vectors(MATRIX, 7)
    rows = packed.rows()
    assert len(packed) == len(rows) == 5
    assert [row.tobytes() for row in rows] == [row.tobytes() for row in MATRIX]
    assert all(row.obj is packed.blob and row.readonly and row.contiguous for row in rows)


def test_all_bad_rows_are_returned_each_with_its_cause_and_value() -> None:
    rows = [
        [1.0, 2.0],
        [1.0],
        [float("nan"), 1.0],
        [1.0, -1e300],
        [0.0, -0.0],
        [1.0, "two"],
        [True, 1.0],
        None,
        [1.0, 10**400],
        {"a": 1},
        np.zeros((2, 2)),
        [[1.0], 2.0],
        [1.0, np.complex64(1)],
        [1.0, np.True_],
        [1.0, Integer()],
        np.array([1.0, np.inf], dtype=np.float16),
        np.array([1, 2]),
        np.ma.masked_array([1.0, 2.0], [False, True]),
        [np.float32(3), np.int64(4)],
    ]
    packed = pack_vectors(rows, 2)
    assert [(row, column, cause) for row, column, cause, _ in packed.bad] == [
        (1, None, "dimension"),
        (2, 0, "not_finite"),
        (3, 1, "not_finite"),
        (4, None, "zero"),
        (5, 1, "not_numeric"),
        (6, 0, "not_numeric"),
        (7, None, "not_numeric"),
        (8, 1, "not_finite"),
        (9, None, "not_numeric"),
        (10, None, "not_numeric"),
        (11, 0, "not_numeric"),
        (12, 1, "not_numeric"),
        (13, 1, "not_numeric"),
        (14, 1, "not_numeric"),
        (15, 1, "not_finite"),
        (16, None, "not_numeric"),
        (17, None, "not_numeric"),
    ]
    details = {row: detail for row, _, _, detail in packed.bad}
    assert details[1] == "it has 1 columns, expected 2"
    assert details[3] == "column 1 is -inf as a 32-bit float"
    assert details[5] == "column 1 is 'two' (str), not a number"
    assert details[10] == "it is numpy.ndarray, shape (2, 2), dtype float64, not a vector"
    good = {0: [1.0, 2.0], 18: [3.0, 4.0]}
    expected = [struct.pack("<2f", *good.get(row, (0.0, 0.0))) for row in range(len(rows))]
    assert packed.rows() == expected


def test_an_array_of_another_dimension_is_bad_in_every_row() -> None:
    packed = pack_vectors(MATRIX, 8)
    assert [(row, cause) for row, _, cause, _ in packed.bad] == [(n, "dimension") for n in range(5)]
    assert packed.blob == bytes(5 * 8 * 4)


def test_a_dimension_is_learned_from_the_first_row_that_has_one() -> None:
    assert pack_vectors(MATRIX, None).dimension == 7
    packed = pack_vectors([None, [], [1.0, 2.0], [1.0, 2.0, 3.0]], None)
    assert packed.dimension == 2
    assert [row for row, *_ in packed.bad] == [0, 1, 3]


def test_no_rows_are_no_vectors() -> None:
    assert pack_vectors([], 3).blob == b""
    assert pack_vectors(np.empty((0, 3)), None).dimension == 3
    assert pack_vectors([], 3).rows() == []


def test_a_big_batch_in_blocks_names_the_right_rows() -> None:
    rows = np.ones((5000, 512), dtype=np.float32)
    rows[[0, 2047, 2048, 4999], 511] = np.nan
    for given in (rows, list(rows), rows.tolist()):
        packed = pack_vectors(given, 512)
        assert [(row, column) for row, column, *_ in packed.bad] == [
            (row, 511) for row in (0, 2047, 2048, 4999)
        ]
        rows[np.isnan(rows).any(axis=1)] = 0
        assert packed.blob == rows.tobytes()
        rows[[0, 2047, 2048, 4999]] = 1
        rows[[0, 2047, 2048, 4999], 511] = np.nan


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (MATRIX[0], r"numpy.ndarray, shape \(7,\), dtype float32, which has 1 dimensions"),
        (np.zeros((2, 2, 2)), r"shape \(2, 2, 2\).*3 dimensions"),
        (np.float32(1), r"numpy.float32, shape \(\), dtype float32"),
        (np.array(1.0), r"shape \(\), dtype float64"),
        (MATRIX > 0, "dtype bool"),
        (MATRIX.astype(object), "dtype object"),
        (MATRIX.astype(np.complex64), "dtype complex64"),
        (MATRIX.astype(np.int64), "dtype int64"),
        (MATRIX.astype(">f4"), "dtype >f4.*native byte order"),
        (MATRIX.astype("M8[s]"), "dtype datetime64"),
        (np.ma.masked_array(MATRIX, MATRIX > 0), "MaskedArray.*is masked"),
        (Tensor(np.ma.masked_array(MATRIX, MATRIX > 0)), "is masked"),
        (Tensor(TypeError("can't convert cuda:0 tensor")), "Tensor.*can't convert cuda:0 tensor"),
        ((row for row in MATRIX), "generator"),
        ({0: [1.0]}, "dict"),
        ({1.0}, "set"),
        ("text", "str"),
        (b"text", "bytes"),
        (None, "NoneType"),
        (object(), "object"),
        ([1.0, 2.0], "float, which stands in the place of a row"),
        ([np.float32(1)], "numpy.float32.*stands in the place of a row"),
        ([], "cannot be learned from 0 rows"),
        ([[]], "cannot be learned from 1 rows"),
        (np.empty((2, 0)), "cannot be learned from 2 rows"),
    ],
)
def test_what_is_no_array_of_vectors_breaks_the_contract(rows: Any, message: str) -> None:
    with pytest.raises(EmbedderContractError, match=message):
        pack_vectors(rows, None)


def test_an_interrupt_inside_an_array_is_not_taken_for_a_broken_contract() -> None:
    class Interrupted:
        def __array__(self) -> Any:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        pack_vectors(Interrupted(), None)


@pytest.mark.skipif(
    not Path("/sys/kernel/mm/transparent_hugepage").exists(), reason="Linux with huge pages alone"
)
def test_a_big_blob_asks_for_huge_pages() -> None:
    blob = pack_vectors(np.ones((4096, 512), np.float32), 512).blob
    middle = np.frombuffer(blob, np.uint8).ctypes.data + len(blob) // 2
    flags: list[str] = []
    is_in_it = False
    for line in Path("/proc/self/smaps").read_text("utf-8").splitlines():
        name, *values = line.split()
        if not name.endswith(":"):
            first, end = (int(part, 16) for part in name.split("-"))
            is_in_it = first <= middle < end
        elif is_in_it and name == "VmFlags:":
            flags = values
    assert "hg" in flags


@pytest.mark.parametrize("dimension", [0, -1, True, 1.0, "7", 2**80])
def test_a_dimension_that_is_no_positive_integer_is_refused(dimension: Any) -> None:
    with pytest.raises(InvalidInputError, match="dimension must be an integer of 1 or more, got"):
        pack_vectors(MATRIX, dimension)


def test_a_shape_that_no_memory_has_is_refused() -> None:
    with pytest.raises(InvalidInputError, match="do not fit into memory"):
        pack_vectors([[1.0]] * 4, 2**62)


def test_a_list_that_shrinks_while_it_is_read_is_an_error_not_a_crash() -> None:
    row: list[Any] = []

    class Meddler(np.float32):
        @property
        def dtype(self) -> Any:
            row.clear()
            return np.dtype(np.float32)

    row.extend([1.0, Meddler(2.0), 3.0])
    with pytest.raises(IndexError):
        pack_vectors([row], 3)
