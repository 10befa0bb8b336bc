"""CodeIndex against NumPy."""

from __future__ import annotations

import threading

import numpy as np
import pytest

from fathomdb import CorruptDatabaseError, DimensionMismatchError, InvalidInputError, _native

SEED = 20261123
DIMENSION = 100


def unit(count: int, dimension: int = DIMENSION, seed: int = SEED) -> np.ndarray:
    rows = np.random.default_rng(seed).standard_normal((count, dimension)).astype(np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def index_of(rows: np.ndarray, *, int8: bool) -> _native.CodeIndex:
    index = _native.CodeIndex(rows.shape[1], int8=int8)
    index.put(range(len(rows)), rows.tobytes(), range(len(rows)))
    index.finish_loading()
    return index


def by_signs(rows: np.ndarray, query: np.ndarray, count: int) -> set[int]:
    """The rows that an oracle finds nearest by their signs, those as near as the last included."""
    scaled = np.rint(query * np.float32(7 / np.abs(query).max()))
    scores = (rows > 0).astype(np.float32) @ scaled
    return set(np.flatnonzero(scores >= np.sort(scores)[-count]))


def test_signs_find_what_numpy_finds_by_them():
    rows = unit(3000)
    index = index_of(rows, int8=False)
    for query in unit(20, seed=1):
        found = index.search(query.tobytes(), 50, 50)
        assert len(found) == 50
        assert set(found) <= by_signs(rows, query, 50)


def test_bytes_put_the_candidates_into_the_order_of_their_cosines():
    rows = unit(3000) * np.random.default_rng(2).uniform(0.1, 9, (3000, 1)).astype(np.float32)
    index = index_of(rows, int8=True)
    for query in unit(20, seed=1):
        cosines = rows @ query / np.linalg.norm(rows, axis=1)
        found = index.search(query.tobytes(), 3000, 20)
        assert set(np.argsort(-cosines)[:10]) <= set(found)
        assert np.all(np.diff(cosines[found]) < 0.002)


def test_it_follows_what_is_put_and_removed_and_finds_only_what_is_allowed():
    rows = unit(500)
    index = index_of(rows, int8=True)
    index.put([3], rows[7:8].tobytes(), [0])
    index.remove([7, 9, 10**12])
    assert len(index) == 498
    assert sorted(index.keys()) == [key for key in range(500) if key not in (7, 9)]
    assert index.search(rows[7].tobytes(), 100, 1) == [3]
    assert index.search(rows[7].tobytes(), 100, 500, [5, 7, 11, 10**15]) in ([5, 11], [11, 5])
    assert index.search(rows[7].tobytes(), 100, 5, []) == []


@pytest.mark.parametrize(
    ("call", "error", "says"),
    [
        (lambda index: index.put([1], b"\0" * 7, [0]), DimensionMismatchError, "7 bytes"),
        (lambda index: index.put([1], b"\0" * 8, [1]), DimensionMismatchError, "index 1"),
        (lambda index: index.put([1], b"\0" * 8, []), InvalidInputError, "1 and 0"),
        (lambda index: index.put([1], b"\0" * 8, [-1]), InvalidInputError, "-1"),
        (lambda index: index.put(["x"], b"\0" * 8, [0]), InvalidInputError, "'x'"),
        (
            lambda index: index.put([1], np.float32([1, np.nan]).tobytes(), [0]),
            CorruptDatabaseError,
            "not finite",
        ),
        (lambda index: index.load([b"\1"], [b"\0" * 8], [b"\0"]), CorruptDatabaseError, "fit"),
        (lambda index: index.load([b"\1"], [b"\0" * 8], []), InvalidInputError, "1, 1 and 0"),
        (
            lambda index: index.load([b"\1"], [b"\5" + b"\0" * 7], [b"\xff" * 8]),
            CorruptDatabaseError,
            "chunk_key 5",
        ),
        (lambda index: index.search(b"\0" * 4, 1, 1), DimensionMismatchError, "4 bytes"),
        (lambda index: index.search(b"\0" * 8, 0, 1), InvalidInputError, "candidates"),
        (lambda index: index.search(b"\0" * 8, 1, 1, [None]), InvalidInputError, "None"),
        (lambda index: index.candidates_needed(0, 1), InvalidInputError, "samples"),
        (lambda _: _native.CodeIndex(0, int8=True), InvalidInputError, "dimension"),
    ],
)
def test_what_it_cannot_take_it_refuses_and_says_why(call, error, says):
    with pytest.raises(error, match=says):
        call(_native.CodeIndex(2, int8=True))


def test_two_searches_overlap_and_a_third_thread_changes_rows_meanwhile():
    rows = unit(4000)
    index = index_of(rows, int8=True)
    start, done = threading.Barrier(3), threading.Event()
    found: list[list[int]] = []

    def search() -> None:
        start.wait()
        found.extend(index.search(rows[number].tobytes(), 100, 1) for number in range(50))
        done.set()

    threads = [threading.Thread(target=search) for _ in range(2)]
    for thread in threads:
        thread.start()
    start.wait()
    while not done.is_set():  # other rows come and go
        index.remove(range(3000, 4000))
        index.put(range(3000, 4000), rows[3000:].tobytes(), range(1000))
    for thread in threads:
        thread.join()
    assert sorted(found) == sorted([[number] for number in range(50)] * 2)
