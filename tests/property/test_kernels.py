"""Every kernel against its oracle, on whatever Hypothesis thinks of."""

from __future__ import annotations

import struct
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import oracle
from fathomdb import _native as native

texts = st.text(st.characters(exclude_categories=["Cs"]))
ids = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1)
floats = st.floats(allow_subnormal=True) | st.sampled_from([0.0, -0.0, 1e300, 1e-300, 1e-45, 3e38])
batches = st.integers(1, 40).flatmap(
    lambda dimension: st.tuples(
        st.just(dimension),
        st.lists(st.lists(floats, min_size=dimension, max_size=dimension), min_size=1, max_size=9),
    )
)


@given(st.lists(st.tuples(ids, texts)))
def test_hashes_are_those_of_hashlib(pairs: list[tuple[str, str]]) -> None:
    chunk_ids, bodies = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
    canonical = [oracle.canonical_hash(*pair) for pair in pairs]
    content = [oracle.content_hash(text) for text in bodies]
    assert native.canonical_chunk_hashes(chunk_ids, bodies, content=True) == (canonical, content)
    assert native.verify_chunk_hashes(chunk_ids, bodies, canonical) == []
    for chunk_id, text in pairs:
        single = native.canonical_chunk_hash(chunk_id, text)
        assert single == oracle.canonical_hash(chunk_id, text).hex()


@given(st.lists(st.tuples(ids, texts, st.booleans())))
def test_verify_finds_exactly_the_altered_ones(rows: list[tuple[str, str, bool]]) -> None:
    expected = [oracle.canonical_hash(key, text + "!" * altered) for key, text, altered in rows]
    differing = native.verify_chunk_hashes([r[0] for r in rows], [r[1] for r in rows], expected)
    assert differing == [index for index, row in enumerate(rows) if row[2]]


@given(batches, st.sampled_from([np.float64, np.float32, np.float16, list, tuple]), st.booleans())
def test_packing_judges_and_stores_like_the_oracle(
    batch: tuple[int, list[list[float]]], kind: Any, strided: bool
) -> None:
    dimension, numbers = batch
    rows: Any = [kind(row) for row in numbers] if kind in {list, tuple} else None
    if rows is None:
        with np.errstate(over="ignore"):
            rows = np.array(numbers).astype(kind)
        numbers = rows.astype(np.float64).tolist()
        rows = np.repeat(rows, 2, axis=1)[:, ::2] if strided else rows
    packed = native.pack_vectors(rows, dimension)
    faults = {
        row: fault
        for row, number in enumerate(numbers)
        if (fault := oracle.fault_of(number, dimension))
    }
    assert {row: (cause, column) for row, column, cause, _ in packed.bad} == faults
    assert packed.blob == oracle.packed(numbers, dimension)
    assert native.unpack_vectors(packed.rows(), dimension) == packed.blob


@given(batches)
def test_normalized_rows_are_those_of_the_oracle_to_the_last_bit_but_one(
    batch: tuple[int, list[list[float]]],
) -> None:
    dimension, numbers = batch
    packed = native.pack_vectors(numbers, dimension, normalize=True)
    bad = {row for row, *_ in packed.bad}
    for row, blob in enumerate(packed.rows()):
        if row in bad:
            continue
        stored = np.frombuffer(blob, dtype="<f4")
        expected = np.array(oracle.unit(numbers[row]), dtype=np.float32)
        np.testing.assert_array_max_ulp(stored, expected, maxulp=1)
        assert np.linalg.norm(stored.astype(np.float64)) == pytest.approx(1.0, abs=1e-6)


@given(st.lists(st.lists(st.integers(0, 2**32 - 1), min_size=3, max_size=3)))
def test_unpacking_keeps_every_bit(rows: list[list[int]]) -> None:
    blobs = [struct.pack("<3I", *row) for row in rows]
    assert native.unpack_vectors(blobs, 3) == b"".join(blobs)


prose = st.text(
    st.sampled_from("aé日😀\u0301\u200d.!? \t\n\r\u2003\u00a0,-")
    | st.characters(exclude_categories=["Cs"]),
    max_size=300,
)


@settings(max_examples=300)
@given(prose, st.integers(1, 60))
def test_a_split_loses_nothing_and_makes_no_blank_piece(text: str, chunk_chars: int) -> None:
    pieces = native.split_text(text, chunk_chars)
    assert oracle.fault_of_split(text, chunk_chars, pieces) is None


@settings(max_examples=100)
@given(st.lists(prose, min_size=1, max_size=6), st.integers(1, 60), st.integers(1, 40))
def test_a_split_of_many_windows_keeps_the_same_promises(
    parts: list[str], chunk_chars: int, repeats: int
) -> None:
    text = "".join(part * repeats for part in parts)
    pieces = native.split_text(text, chunk_chars)
    assert oracle.fault_of_split(text, chunk_chars, pieces) is None
    assert native.split_text(text, chunk_chars) == pieces
