"""Rows as blobs and back: views to bind against a blob a row, unpacking against a join."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import sqlite_vec

from alternating import Case, compare, header
from fathomdb._native import pack_vectors, unpack_vectors

if TYPE_CHECKING:
    from collections.abc import Iterator

DIMENSION = 384


def cases(count: int) -> Iterator[Case]:
    ready = np.random.default_rng(0).standard_normal((count, DIMENSION)).astype(np.float32)
    blobs = [row.tobytes() for row in ready]
    assert pack_vectors(ready, DIMENSION).rows() == blobs
    assert [sqlite_vec.serialize_float32(row) for row in ready[:9]] == blobs[:9]
    assert unpack_vectors(blobs, DIMENSION) == ready.tobytes()
    rounds = {64: 301, 1024: 51}.get(count, 11)
    yield Case(
        f"{count} rows to blobs, checked",
        "isfinite and tobytes, a row at a time",
        lambda: [row.tobytes() for row in ready if np.isfinite(row).all()],
        lambda: pack_vectors(ready, DIMENSION).rows(),
        rounds=rounds,
    )
    yield Case(
        f"{count} rows to blobs, sqlite_vec",
        "sqlite_vec.serialize_float32, which checks nothing",
        lambda: [sqlite_vec.serialize_float32(row) for row in ready],
        lambda: pack_vectors(ready, DIMENSION).rows(),
        rounds=min(rounds, 21),
    )
    yield Case(
        f"{count} blobs to one buffer",
        "b''.join, which checks nothing",
        lambda: b"".join(blobs),
        lambda: unpack_vectors(blobs, DIMENSION),
        rounds=rounds,
    )


def main() -> None:
    for count in (64, 1024, 20_000):
        header("NumPy, Python")
        for case in cases(count):
            compare(case)


if __name__ == "__main__":
    main()
