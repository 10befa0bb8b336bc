from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from fathomdb._native import pack_vectors, unpack_vectors
from fathomdb.errors import DimensionMismatchError, InvalidInputError

MATRIX = np.random.default_rng(0).standard_normal((5, 7)).astype(np.float32)


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_what_was_packed_is_unpacked_bit_for_bit(kind: type) -> None:
    rows = [kind(row.tobytes()) for row in MATRIX]
    assert unpack_vectors(rows, 7) == MATRIX.tobytes()
    assert unpack_vectors(pack_vectors(MATRIX, 7).rows(), 7) == MATRIX.tobytes()


def test_bits_that_no_arithmetic_would_keep_are_kept() -> None:
    bits = np.array([[0x7FC01234, 0x80000000], [0x00000001, 0xFF800001]], dtype=np.uint32)
    assert unpack_vectors([row.tobytes() for row in bits], 2) == bits.tobytes()


def test_no_blobs_are_no_bytes() -> None:
    assert unpack_vectors([], 3) == b""


def test_a_blob_of_another_length_names_its_index() -> None:
    with pytest.raises(DimensionMismatchError, match="index 1 has 9 bytes; dimension 2"):
        unpack_vectors([b"12345678", b"123456789"], 2)


@pytest.mark.parametrize(
    ("blobs", "dimension", "message"),
    [
        (["text"], 1, "blobs at index 0 must be bytes, got str"),
        ([b"1234", None], 1, "blobs at index 1 must be bytes, got NoneType"),
        ([memoryview(b"12345678")[::2]], 1, "blobs at index 0 must be bytes, got memoryview"),
        (b"1234", 1, "blobs must be a list, got bytes"),
        ([b""], 0, "dimension must be an integer of 1 or more, got 0"),
        ([b""], None, "dimension must be an integer of 1 or more, got None"),
    ],
)
def test_what_is_no_blob_is_refused(blobs: Any, dimension: Any, message: str) -> None:
    with pytest.raises(InvalidInputError, match=message):
        unpack_vectors(blobs, dimension)
