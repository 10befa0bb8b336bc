"""Rows as blobs and back: views to bind against tobytes a row, unpacking against a join."""

from __future__ import annotations

import numpy as np

from alternating import compare, header
from fathomdb._native import pack_vectors, unpack_vectors

DIMENSION = 384


def main() -> None:
    for count in (64, 1024, 20_000):
        ready = np.random.default_rng(0).standard_normal((count, DIMENSION)).astype(np.float32)
        blobs = [row.tobytes() for row in ready]
        assert pack_vectors(ready, DIMENSION).rows() == blobs
        assert unpack_vectors(blobs, DIMENSION) == ready.tobytes()
        rounds = 301 if count == 64 else 51 if count == 1024 else 11
        header("NumPy")
        compare(
            f"{count} rows to blobs, checked",
            lambda ready=ready: [row.tobytes() for row in ready if np.isfinite(row).all()],
            lambda ready=ready: pack_vectors(ready, DIMENSION).rows(),
            rounds=rounds,
        )
        compare(
            f"{count} blobs to one buffer",
            lambda blobs=blobs: b"".join(blobs),
            lambda blobs=blobs: unpack_vectors(blobs, DIMENSION),
            rounds=rounds,
        )


if __name__ == "__main__":
    main()
