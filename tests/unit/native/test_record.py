from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import oracle
from fathomdb._native import read_records
from fathomdb.errors import InvalidInputError

if TYPE_CHECKING:
    from collections.abc import Sequence

pa = pytest.importorskip("pyarrow")

LIMITS = {"id_bytes": 1024, "text_bytes": 1 << 20, "chunk_chars": 1000}


def read(rows: int, **given_: Any) -> Any:
    options = {
        "kind": "K",
        "ids": [],
        "id_is_optional": True,
        "texts": [],
        "keys": [],
        "properties": [],
        "are_json": [],
    }
    return read_records(rows, **{**options, **LIMITS, **given_})


def texts(values: Sequence[str | None]) -> Any:
    return pa.array(values, pa.large_string())


def as_properties(column: Any, *, is_json: bool = False) -> Any:
    ids = pa.array([*range(len(column))], pa.int64())
    found = read(len(column), ids=[ids], keys=['"x"'], properties=[column], are_json=[is_json])
    return None if found is None else found[2]


def as_python(values: Sequence[object]) -> list[str]:
    return [json.dumps({"x": value}, ensure_ascii=False, separators=(",", ":")) for value in values]


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"])), min_size=1))
def test_texts_are_written_as_python_writes_them(values: list[str]) -> None:
    assert as_properties(texts(values)) == as_python(values)


@given(st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=1))
def test_floats_are_written_as_python_writes_them(values: list[float]) -> None:
    assert as_properties(pa.array(values, pa.float64())) == as_python(values)


@given(st.lists(st.none() | st.integers(-(2**63), 2**63 - 1), min_size=1))
def test_whole_numbers_are_written_as_python_writes_them(values: list[int | None]) -> None:
    assert as_properties(pa.array(values, pa.int64())) == as_python(values)


@given(st.lists(st.none() | st.booleans(), min_size=9), st.integers(0, 8))
def test_rows_of_a_slice_are_those_of_the_slice(values: list[bool | None], first: int) -> None:
    column = pa.array(values, pa.bool_())
    assert as_properties(column.slice(first)) == as_python(values[first:])


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])
def test_a_number_that_json_has_not_is_for_somebody_else(bad: float) -> None:
    assert as_properties(pa.array([1.0, bad], pa.float64())) is None


def test_what_is_not_there_is_null_whatever_lies_below() -> None:
    column = pa.array(
        [float("nan"), 1.0], pa.float64(), mask=pa.array([True, False]).to_numpy(False)
    )
    assert as_properties(column) == ['{"x":null}', '{"x":1.0}']


def test_json_is_taken_as_it_is() -> None:
    assert as_properties(texts(['{"a":[1]}', None]), is_json=True) == [
        '{"x":{"a":[1]}}',
        '{"x":null}',
    ]


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=20), min_size=1))
def test_chunks_are_named_and_hashed_where_a_text_is_one(values: list[str]) -> None:
    ids = pa.array([*range(len(values))], pa.int64())

    found = read(len(values), ids=[ids], texts=[texts(values)], chunk_chars=10)

    kept = [None if not value or value.isspace() else value for value in values]
    assert found[0] == [str(n) for n in range(len(values))]
    assert found[1] == kept
    one = [value is not None and len(value) <= 10 for value in kept]
    assert found[3] == [f"{n}#0" if whole else None for n, whole in enumerate(one)]
    assert found[4] == [len((value or "").encode()) for value in kept]
    assert found[5] == [
        oracle.canonical_hash(f"{n}#0", value) if whole and value is not None else None
        for n, (value, whole) in enumerate(zip(kept, one, strict=True))
    ]


def test_ids_are_joined_and_made() -> None:
    body = texts(["one", "two"])
    joined = read(2, ids=[texts(["a", "b"]), pa.array([1, 2**64 - 1], pa.uint64())], texts=[body])
    made = read(2, ids=[texts(["a", None])], texts=[body])

    assert joined[0] == ["a/1", "b/18446744073709551615"]
    assert made[0] == ["a", hashlib.sha256(b"K\0two").hexdigest()[:32]]


BAD_IDS = {
    "empty": texts([""]),
    "with a NUL": texts(["a\0"]),
    "too long": texts(["ä" * 513]),
    "a float": pa.array([1.0]),
    "a truth value": pa.array([True]),
    "missing, and no text to make it of": texts([None]),
}


@pytest.mark.parametrize("ids", BAD_IDS.values(), ids=BAD_IDS)
def test_a_bad_id_is_for_somebody_else(ids: Any) -> None:
    assert read(1, ids=[ids]) is None


def test_an_id_that_is_there_twice_is_for_somebody_else() -> None:
    assert read(2, ids=[texts(["a", "a"])]) is None


def test_an_id_that_was_named_is_never_made() -> None:
    assert read(1, ids=[texts([None])], texts=[texts(["t"])], id_is_optional=False) is None


def test_texts_are_joined_and_blank_ones_left_out() -> None:
    columns = [texts(["a", " \x1c", None]), texts(["b", "c", "\u3000"])]
    assert read(3, ids=[texts(["1", "2", "3"])], texts=columns)[1] == ["a\n\nb", "c", None]


def test_a_text_that_is_no_utf8_or_too_long_is_for_somebody_else() -> None:
    bad = pa.array([b"\xff"], pa.large_binary()).view(pa.large_string())
    assert read(1, ids=[texts(["a"])], texts=[bad]) is None
    assert read(1, ids=[texts(["a"])], texts=[texts(["xyz"])], text_bytes=2) is None
    assert read(1, ids=[texts(["a"])], texts=[pa.array([5])]) is None


REFUSED = {
    "no array": ([5], "ids must be arrays of Arrow, got int"),
    "another length": ([texts(["a", "b"])], "ids at index 0 has 2 rows, and the table has 1"),
    "another type": ([pa.array(["a"], pa.string())], 'ids at index 0 has the format "u"'),
    "no list": ("ab", "ids must be a list, got str"),
}


@pytest.mark.parametrize(("ids", "message"), REFUSED.values(), ids=REFUSED)
def test_what_is_no_column_is_refused(ids: Any, message: str) -> None:
    with pytest.raises(InvalidInputError, match=message):
        read(1, ids=ids)


def test_properties_need_a_key_each() -> None:
    with pytest.raises(InvalidInputError, match="one item for each of the 1 columns"):
        read(1, ids=[texts(["a"])], properties=[texts(["x"])])


def test_a_table_of_no_rows_has_no_records() -> None:
    assert read(0, ids=[texts([])], texts=[texts([])]) == ([], [], [], [], [], [])
