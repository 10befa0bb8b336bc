"""Check, convert and serialize (n, 384) against one vectorized isfinite and one tobytes in NumPy."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from alternating import Case, compare, header, oracle
from fathomdb._native import pack_vectors

if TYPE_CHECKING:
    from collections.abc import Iterator

DIMENSION = 384
NUMPY = "np.asarray, isfinite, tobytes"


def with_numpy(rows: Any) -> bytes:
    array = np.asarray(rows, dtype=np.float32)
    assert np.isfinite(array).all()
    return array.tobytes()


def normalized_with_numpy(rows: Any) -> bytes:
    array = np.asarray(rows, dtype=np.float32)
    norms = np.linalg.norm(array, axis=1, keepdims=True)
    assert np.isfinite(norms).all()
    assert norms.all()
    return (array / norms).tobytes()


def cases(count: int) -> Iterator[Case]:
    ready = np.random.default_rng(0).standard_normal((count, DIMENSION)).astype(np.float32)
    rounds = {64: 301, 1024: 51}.get(count, 11)
    for name, rows, target in (
        ("f32, ready", ready, 1.0),
        ("f64", ready.astype(np.float64), 2.0),
        ("f16", ready.astype(np.float16), 2.0),
        ("f32, every second column", np.repeat(ready, 2, axis=1)[:, ::2], None),
        ("list of f32 arrays", list(ready), None),
    ):
        packed = pack_vectors(rows, DIMENSION)
        assert packed.blob == with_numpy(rows)
        assert packed.bad == []
        assert packed.rows()[:9] == [
            oracle.packed([list(map(float, row))], DIMENSION) for row in rows[:9]
        ]
        yield Case(
            f"{count} rows, {name}",
            NUMPY,
            lambda rows=rows: with_numpy(rows),
            lambda rows=rows: pack_vectors(rows, DIMENSION),
            target=target,
            rounds=rounds,
        )
    lists = ready.tolist()
    assert pack_vectors(lists, DIMENSION).blob == ready.tobytes()
    yield Case(
        f"{count} rows, lists",
        "np.asarray, which checks nothing",
        lambda: np.asarray(lists),
        lambda: pack_vectors(lists, DIMENSION),
        target=5.0,
        rounds=5 if count == 20_000 else 21,
    )
    yield Case(
        f"{count} rows, f32, normalized",
        "np.linalg.norm, a division, tobytes",
        lambda: normalized_with_numpy(ready),
        lambda: pack_vectors(ready, DIMENSION, normalize=True),
        rounds=rounds,
    )


def main() -> None:
    header("NumPy")
    for count in (64, 1024, 20_000):
        for case in cases(count):
            compare(case)


if __name__ == "__main__":
    main()
