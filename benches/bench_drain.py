"""The drain with an embedder that costs nothing, against the raw vec0 insert of the same rows."""

from __future__ import annotations

import os
import shutil
import sys
import time
from collections import Counter
from typing import TYPE_CHECKING

import fathomdb
from alternating import rates
from fathomdb.store.vectors import table_name
from fathomdb.testing import NullEmbedder
from materials import (
    KIND,
    batches,
    documents,
    folder,
    null_embedder,
    raw,
    raw_insert,
    raw_table,
    say_commit,
    texts,
)

if TYPE_CHECKING:
    from pathlib import Path

DIMENSION = 384
TARGET = 0.5


def queue(path: Path, nodes: list[fathomdb.Node], batch: int) -> None:
    """A closed file in which every chunk still owes its vector."""
    embedder = null_embedder(DIMENSION, batch)
    with fathomdb.open(path, embedder=embedder, background=False) as db:
        for some in batches(nodes, 1024):
            db.write(some)


def blobs(path: Path, table: str) -> Counter[bytes]:
    db = raw(path)
    found = Counter(row[0] for row in db.execute(f'SELECT embedding FROM "{table}"'))
    db.close()
    return found


def main(counts: list[int]) -> None:
    with folder() as scratch:
        say_commit(scratch / "fsync")
        print(f"{'':38}{'raw vec0 insert':>19}{'drain':>20}{'ratio':>8}")
        for count in counts:
            queue(scratch / "queue.db", documents(texts(count)), 256)
            for batch in (256, 64, None):
                measure(scratch, count, batch)
            os.remove(scratch / "queue.db")


def measure(scratch: Path, count: int, declared: int | None) -> None:
    """Against the floor at the same batch, or, where nothing is declared, at 256."""
    batch = declared or 256
    embedder = null_embedder(DIMENSION, batch) if declared else NullEmbedder(DIMENSION)
    unit_rows = embedder.batch_embed([""] * batch)
    size = 4 * DIMENSION
    view = memoryview(unit_rows.tobytes())
    ready = [(n + 1, view[size * (n % batch) : size * (n % batch + 1)]) for n in range(count)]

    def floor() -> float:
        path = scratch / "floor.db"
        path.unlink(missing_ok=True)
        db = raw(path)
        raw_table(db, DIMENSION)
        start = time.perf_counter()
        raw_insert(db, ready, batch)
        elapsed = time.perf_counter() - start
        db.close()
        return elapsed

    def drain() -> float:
        path = scratch / "drain.db"
        path.unlink(missing_ok=True)
        shutil.copyfile(scratch / "queue.db", path)
        with fathomdb.open(path, embedder=embedder, background=False) as db:
            start = time.perf_counter()
            report = db.admin.drain_vector_projection(timeout=600)
            elapsed = time.perf_counter() - start
        assert report.processed == count, report
        assert report.remaining == 0, report
        return elapsed

    rates(
        f"{count:,} rows, {f'{batch} a batch' if declared else 'batches by its pace'}",
        floor,
        drain,
        against="raw vec0 insert",
        count=count,
        unit="rows/s",
        target=TARGET if declared == 256 else None,
    )
    stored = blobs(scratch / "drain.db", table_name(KIND, 1))
    if declared:
        assert stored == blobs(scratch / "floor.db", "vectors")
    else:  # which of the rows a text gets is where it is in its batch
        assert stored.total() == count


if __name__ == "__main__":
    main([int(given) for given in sys.argv[1:]] or [20_000, 50_000])
