"""A drain with an embedder that takes 20 ms a batch outside the GIL, against the embedder alone."""

from __future__ import annotations

import time

import fathomdb
from alternating import rates
from materials import batches, documents, folder, null_embedder, texts

DIMENSION, BATCH, BATCHES, SECONDS = 384, 64, 60, 0.02
TARGET = 0.95


def main() -> None:
    count = BATCH * BATCHES
    bodies = texts(count)
    with folder() as scratch:
        turn = 0

        def alone() -> float:
            embedder = null_embedder(DIMENSION, BATCH, seconds_per_call=SECONDS)
            start = time.perf_counter()
            for some in batches(bodies, BATCH):
                embedder.batch_embed(some)
            return time.perf_counter() - start

        def drain() -> float:
            nonlocal turn
            turn += 1
            embedder = null_embedder(DIMENSION, BATCH, seconds_per_call=SECONDS)
            path = scratch / f"{turn}.db"
            with fathomdb.open(path, embedder=embedder, background=False) as db:
                db.write(documents(bodies))
                start = time.perf_counter()
                report = db.admin.drain_vector_projection(timeout=600)
                elapsed = time.perf_counter() - start
            assert report.processed == count, report
            return elapsed

        print(f"{'':38}{'embedder alone':>19}{'drain':>19}{'ratio':>8}")
        rates(
            f"{SECONDS * 1e3:.0f} ms a batch of {BATCH}",
            alone,
            drain,
            against="embedder alone",
            count=count,
            unit="rows/s",
            target=TARGET,
        )


if __name__ == "__main__":
    main()
