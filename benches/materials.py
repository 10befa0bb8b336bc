"""What the engine's benches work on: texts, a folder on a real disk, and the raw vec0 floor."""

from __future__ import annotations

import contextlib
import random
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import apsw
import sqlite_vec

from alternating import keep  # which refuses a debug build, whoever asks
from fathomdb import Node
from fathomdb.embedders.protocol import EmbedderLimits
from fathomdb.store.blocks import ROWS as BLOCK_ROWS
from fathomdb.store.schema import PAGE_BYTES
from fathomdb.testing import NullEmbedder

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

SCRATCH = Path(__file__).resolve().parent.parent / ".bench"
KIND = "Document"


@contextlib.contextmanager
def folder() -> Iterator[Path]:
    """A folder beside the project, not in /tmp: a file system in memory has no fsync to pay."""
    SCRATCH.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=SCRATCH) as path:
        yield Path(path)


def texts(count: int, *, length: int = 580, seed: int = 0) -> list[str]:
    """Texts of about ``length`` characters that begin with their number; words drawn as in a language."""
    rng = random.Random(seed)
    syllables = [a + b for a in "bcdfghklmnprstvz" for b in ("a", "e", "i", "o", "u", "an", "er")]
    vocabulary = ["".join(rng.choices(syllables, k=rng.randint(1, 4))) for _ in range(20_000)]
    weights = [1 / rank for rank in range(1, len(vocabulary) + 1)]
    drawn = rng.choices(vocabulary, weights, k=count * length // 4)
    found, start = [], 0
    for number in range(count):
        text = str(number)
        while len(text) < length:
            text += " " + drawn[start]
            start += 1
        found.append(text)
    return found


def documents(bodies: Sequence[str], *, first: int = 0) -> list[Node]:
    return [Node(KIND, f"document-{n}", text=text) for n, text in enumerate(bodies, first)]


def batches(items: Sequence, size: int) -> Iterator[Sequence]:
    return (items[start : start + size] for start in range(0, len(items), size))


def null_embedder(dimension: int, items: int, **options) -> NullEmbedder:
    """Embeds for nothing, in batches of ``items``."""
    embedder = NullEmbedder(dimension, **options)
    embedder.limits = EmbedderLimits(items=items, concurrency=embedder.limits.concurrency)
    return embedder


def raw(path: Path) -> apsw.Connection:
    """SQLite with sqlite-vec and nothing else, as durable as the engine is by default."""
    db = apsw.Connection(str(path))
    db.enable_load_extension(True)
    db.load_extension(sqlite_vec.loadable_path())
    db.pragma("page_size", PAGE_BYTES)
    db.pragma("journal_mode", "wal")
    db.pragma("synchronous", "full")
    return db


def raw_table(db: apsw.Connection, dimension: int) -> None:
    """The engine's vec0 table, by hand."""
    db.execute(
        f"CREATE VIRTUAL TABLE vectors USING vec0(chunk_key INTEGER PRIMARY KEY, "
        f"embedding float[{dimension}] distance_metric=l2, chunk_size={BLOCK_ROWS})"
    )


def raw_insert(db: apsw.Connection, rows: Sequence[tuple[int, memoryview]], batch: int) -> None:
    """Ready blobs into the raw table, a transaction a batch."""
    for some in batches(rows, batch):
        db.execute("BEGIN IMMEDIATE")
        db.executemany("INSERT INTO vectors (chunk_key, embedding) VALUES (?, ?)", some)
        db.execute("COMMIT")


def say_commit(path: Path) -> None:
    """Prints what one WAL commit of one small row costs here, at the median: mostly its fsync."""
    db = raw(path)
    db.execute("CREATE TABLE one (value)")
    taken = []
    for value in range(101):
        start = time.perf_counter()
        db.execute("INSERT INTO one VALUES (?)", (value,))
        taken.append(time.perf_counter() - start)
    db.close()
    microseconds = sorted(taken)[len(taken) // 2] * 1e6
    keep("commit of one row", microseconds, "us")
    print(f"commit of one row, with its fsync: {microseconds:.0f} us")
