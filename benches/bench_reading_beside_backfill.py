"""Reading beside a running backfill, against the same reads on an idle engine, in turns."""

from __future__ import annotations

import random
import statistics
import threading
import time
from typing import TYPE_CHECKING

import fathomdb
from alternating import keep
from fathomdb import Node
from fathomdb.testing import NullEmbedder
from materials import KIND, batches, documents, folder, texts

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from fathomdb import Engine

DIMENSION, READ, BACKLOG = 256, 10_000, 60_000
ROUNDS, READS, LIMIT = 9, 12, 10
GETS = 50
"""One takes 40 us: a batch comes between few of them, and a fresh cache is all that would be seen."""
TARGET, READS_AIMED = 1.5, (f"{GETS} gets", "text_search", "raw_vector_search")
SECONDS_PER_TEXT = 0.25 / fathomdb.BACKFILL_SLICE
"""The 250 ms for a slice of backfill that the engine aims at."""


class HeldEmbedder(NullEmbedder):
    """Waits in a batch while it is held."""

    def __init__(self, seconds_per_text: float) -> None:
        super().__init__(DIMENSION)
        self.go = threading.Event()
        self._seconds_per_text = seconds_per_text

    def batch_embed(self, bodies: Sequence[str]) -> NDArray[np.float32]:
        self.go.wait()
        if self._seconds_per_text:
            time.sleep(self._seconds_per_text * len(bodies))
        return super().batch_embed(bodies)

    def embed_query(self, query: str) -> NDArray[np.float32]:
        return super().batch_embed([query])[0]


def main() -> None:
    with folder() as scratch:
        make(scratch)
        for name, seconds in (("a free embedder", 0.0), ("250 ms a slice", SECONDS_PER_TEXT)):
            embedder = HeldEmbedder(seconds)
            with (
                fathomdb.open(scratch / "idle.db", embedder=NullEmbedder(DIMENSION)) as idle,
                fathomdb.open(scratch / "busy.db", embedder=embedder) as busy,
            ):
                # With a slow embedder a query waits for the slice that it is at: no aim for that.
                aimed = READS_AIMED if seconds else (*READS_AIMED, "search")
                measure(f"beside a backfill, {name}", idle, busy, embedder, aimed)
                embedder.go.set()


def make(scratch: Path) -> None:
    """Two files of the same texts, all with their vectors."""
    rest = texts(BACKLOG, length=200, seed=1)
    with fathomdb.open(
        scratch / "busy.db", embedder=NullEmbedder(DIMENSION), background=False
    ) as db:
        for some in batches(documents(texts(READ)), 1024):
            db.write(some)
        for first in range(0, BACKLOG, 1024):
            db.write(
                Node("Backlog", f"backlog-{first + n}", text=text)
                for n, text in enumerate(rest[first : first + 1024])
            )
        assert db.admin.drain_vector_projection(timeout=600).remaining == 0
        db.admin.safe_export(scratch / "idle.db")


def measure(
    name: str, idle: Engine, busy: Engine, embedder: HeldEmbedder, aimed: Sequence[str]
) -> None:
    rng = random.Random(2)
    bodies = texts(READ)
    queries = [" ".join(rng.sample(rng.choice(bodies).split()[1:], 5)) for _ in range(READS)]
    vectors = NullEmbedder(DIMENSION).batch_embed(queries)
    ids = [[f"document-{rng.randrange(READ)}" for _ in range(GETS)] for _ in queries]
    reads: dict[str, Callable[[Engine, int], object]] = {
        f"{GETS} gets": lambda db, n: [db.get(some) for some in ids[n]],
        "text_search": lambda db, n: [
            hit.chunk_id for hit in db.text_search(queries[n], kind=KIND, limit=LIMIT)
        ],
        "raw_vector_search": lambda db, n: [
            hit.chunk_id for hit in db.raw_vector_search(vectors[n], kind=KIND, limit=LIMIT)
        ],
        "search": lambda db, n: [
            hit.chunk_id for hit in db.search(queries[n], kind=KIND, limit=LIMIT)
        ],
    }
    taken: dict[str, tuple[list[float], list[float]]] = {read: ([], []) for read in reads}
    done: list[int] = []
    for turn in range(ROUNDS + 1):
        for db, column in ((idle, 0), (busy, 1)):
            if db is busy:
                owe(busy)
                embedder.go.set()
            # Another first in each turn: how a backfill starts is not how it goes on.
            order = [*reads.items()][turn % len(reads) :] + [*reads.items()][: turn % len(reads)]
            for read, call in order:
                for n in range(READS):
                    start = time.perf_counter()
                    call(db, n)
                    seconds = time.perf_counter() - start
                    if turn:  # the first round warms the caches
                        taken[read][column].append(seconds)
            if db is busy:
                embedder.go.clear()
                done.append(made(busy, embedder))
    for read, call in reads.items():
        for n in range(READS):
            assert call(idle, n) == call(busy, n), (read, n)

    print(f"\n{name}: {statistics.median(done):,.0f} vectors a turn; ms a read of {READ:,} chunks")
    print(
        f"{'':18}{'idle p50':>10}{'beside p50':>12}{'idle p99':>10}{'beside p99':>12}{'ratio':>8}"
    )
    for read, (alone, beside) in taken.items():
        p50s = [statistics.median(alone), statistics.median(beside)]
        p99s = [statistics.quantiles(some, n=100)[98] for some in (alone, beside)]
        ratio = p50s[1] / p50s[0]
        wanted = keep(
            f"{name}: {read}",
            p50s[1] * 1e3,
            "ms",
            p99=p99s[1] * 1e3,
            reference=p50s[0] * 1e3,
            against="idle engine",
            ratio=ratio,
            rounds=ROUNDS,
            target=f"at most {TARGET:g}x" if read in aimed else None,
            met=ratio <= TARGET,
        )
        print(
            f"{read:18}{p50s[0] * 1e3:10.3f}{p50s[1] * 1e3:12.3f}{p99s[0] * 1e3:10.3f}"
            f"{p99s[1] * 1e3:12.3f}{ratio:7.2f}x{wanted}"
        )


def owe(db: Engine) -> None:
    """Makes every vector of the backlog owed."""
    db.admin.disable_vec("Backlog")
    db.admin.configure_vec("Backlog")


def made(db: Engine, embedder: HeldEmbedder) -> int:
    """How many of them were made by now; nothing is on its way when it returns."""
    status = db.admin.get_vec_index_status("Backlog")
    assert status.pending_backfill > 0, "the backfill ended before the reads; make it longer"
    db.admin.disable_vec("Backlog")
    embedder.go.set()
    db.admin.drain_vector_projection()
    embedder.go.clear()
    return BACKLOG - status.pending_backfill - status.inflight


if __name__ == "__main__":
    main()
