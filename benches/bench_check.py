"""check_integrity of 200,000 chunks of 580 characters: their hashes alone, and all of it."""

from __future__ import annotations

import os
import time

import fathomdb
from alternating import keep, oracle
from fathomdb.store import audit
from materials import batches, documents, folder, null_embedder, texts

CHUNKS = 200_000
DIMENSION = 384


def main() -> None:
    bodies = texts(CHUNKS)
    with (
        folder() as scratch,
        fathomdb.open(
            scratch / "check.db",
            embedder=null_embedder(DIMENSION, 256),
            background=False,
            durability="normal",
        ) as db,
    ):
        for some in batches(documents(bodies), 1024):
            db.write(some)
        db.admin.drain_vector_projection(timeout=600)

        seen = 0

        def count(rows: int) -> None:
            nonlocal seen
            seen += rows

        taken = []
        for _ in range(5):
            with db._runtime.snapshot() as connection:
                seen, start = 0, time.perf_counter()
                assert list(audit._hashes(connection, count)) == []
                taken.append(time.perf_counter() - start)
                assert seen == CHUNKS
        rate = CHUNKS / sorted(taken)[2]
        cores = len(os.sched_getaffinity(0))
        wanted = keep(
            "hashes alone",
            rate,
            "chunks/s",
            count=CHUNKS,
            rounds=5,
            target="200,000/s",
            met=rate >= 2e5,
        )
        print(f"hashes alone, {cores} cores {rate:12,.0f} chunks/s{wanted}")

        # A whole check, and that it is one: it finds the one text that was changed.
        report = db.admin.check_integrity()
        assert report.ok, report.findings
        keep("all of it", CHUNKS / report.seconds, "chunks/s", count=CHUNKS, rounds=1)
        print(f"all of it            {CHUNKS / report.seconds:12,.0f} chunks/s")
        changed = (oracle.canonical_hash("another", "text"), CHUNKS // 2)
        db._runtime.write(
            lambda tx: tx.db.execute(
                "UPDATE chunks SET canonical_hash = ? WHERE chunk_key = ?", changed
            )
        )
        assert set(db.admin.check_integrity().found) == {"chunk_hash", "ledger_hash"}
        start = time.perf_counter()
        report = db.admin.repair()
        assert (report.ok, sum(report.repaired.values())) == (True, 2)
        print(f"a repair of one chunk{time.perf_counter() - start:12.1f} s, its checks included")


if __name__ == "__main__":
    main()
