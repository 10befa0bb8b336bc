"""Commit to searchable by meaning: on an idle queue, and beside a backfill that never ends."""

from __future__ import annotations

import statistics
import time
from typing import TYPE_CHECKING

import fathomdb
from alternating import keep
from fathomdb import Node
from fathomdb.config import BACKFILL_SLICE
from fathomdb.testing import NullEmbedder
from materials import KIND, batches, documents, folder, say_commit, texts

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray

    from fathomdb import Engine

DIMENSION, WRITES = 384, 300
BACKFILL, WRITES_BESIDE, SECONDS_PER_TEXT = 5_000, 60, 0.25 / BACKFILL_SLICE


class SlowEmbedder(NullEmbedder):
    """Takes the 250 ms for a slice of backfill that the engine aims at, and 8 for one text."""

    def batch_embed(self, bodies: Sequence[str]) -> NDArray[np.float32]:
        time.sleep(SECONDS_PER_TEXT * len(bodies))
        return super().batch_embed(bodies)


def main() -> None:
    bodies = texts(WRITES, seed=1)
    with folder() as scratch:
        say_commit(scratch / "fsync")
        with fathomdb.open(scratch / "idle.db", embedder=NullEmbedder(DIMENSION)) as db:
            db.wait(db.write(Node(KIND, "first", text="makes the table")))
            report("idle queue", fresh(db, bodies), p50_ms=5, p99_ms=25)

        path = scratch / "backfill.db"
        with fathomdb.open(path, embedder=False) as db:
            for some in batches(documents(texts(BACKFILL)), 1024):
                db.write(some)
        with fathomdb.open(path, embedder=SlowEmbedder(DIMENSION)) as db:
            db.admin.configure_vec(KIND)
            taken = fresh(db, bodies[:WRITES_BESIDE])
            status = db.admin.get_vec_index_status(KIND)
            assert status.pending_backfill > 0, status
            assert status.pending_backfill < BACKFILL, status
            report("beside a backfill, 250 ms a slice", taken, p99_ms=300)


def fresh(db: Engine, bodies: list[str]) -> list[float]:
    """Milliseconds from the return of each write to its vector's visibility."""
    taken = []
    for n, body in enumerate(bodies):
        receipt = db.write(Node(KIND, f"fresh-{n}", text=body))
        start = time.perf_counter()
        report = db.wait(receipt)
        taken.append((time.perf_counter() - start) * 1e3)
        assert report.complete, report
        if n % 50 == 0:
            hits = db.semantic_search(body, ids=[f"fresh-{n}"], limit=1)
            assert [hit.node_id for hit in hits] == [f"fresh-{n}"]
    return taken


def report(name: str, taken: list[float], *, p99_ms: float, p50_ms: float | None = None) -> None:
    p50, p99 = statistics.median(taken), statistics.quantiles(taken, n=100, method="inclusive")[98]
    target, met = f"p99 {p99_ms:g} ms", p99 < p99_ms
    if p50_ms is not None:
        target, met = f"p50 {p50_ms:g} ms, {target}", met and p50 < p50_ms
    wanted = keep(
        name, p50, "ms", p99=p99, max=max(taken), count=len(taken), target=target, met=met
    )
    print(f"{name:38} p50 {p50:7.2f} ms   p99 {p99:7.2f} ms   max {max(taken):7.2f} ms {wanted}")


if __name__ == "__main__":
    main()
