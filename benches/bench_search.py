"""Text, semantic and hybrid search against raw FTS5 and raw sqlite-vec over the same rows."""

from __future__ import annotations

import random
import statistics
import sys
import time
from typing import TYPE_CHECKING
from zlib import crc32

import numpy as np

import fathomdb
from alternating import keep
from fathomdb.embedders.protocol import EmbedderLimits
from fathomdb.identity import EmbedderIdentity
from materials import batches, documents, folder, raw, raw_insert, raw_table, texts

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    import apsw

DIMENSION, LIMIT, QUERIES, ROUNDS = 256, 10, 20, 7


class TableEmbedder:
    """Vector n of a table for the text that begins with n; any query has a vector of its own."""

    limits = EmbedderLimits(items=1024)

    def __init__(self, count: int) -> None:
        rows = np.random.default_rng(0).standard_normal((count, DIMENSION)).astype(np.float32)
        self.rows = rows / np.linalg.norm(rows, axis=1, keepdims=True)

    def identity(self) -> EmbedderIdentity:
        return EmbedderIdentity("bench/table", str(len(self.rows)), DIMENSION)

    def batch_embed(self, bodies: Sequence[str]) -> np.ndarray:
        return self.rows[[int(body.split(" ", 1)[0]) for body in bodies]]

    def embed_query(self, query: str) -> np.ndarray:
        drawn = np.random.default_rng(crc32(query.encode())).standard_normal(DIMENSION)
        return (drawn / np.linalg.norm(drawn)).astype(np.float32)


def main(counts: list[int]) -> None:
    for count in counts:
        with folder() as scratch:
            bodies, embedder = texts(count), TableEmbedder(count)
            floor = raw_search(scratch / "floor.db", bodies, embedder)
            with fathomdb.open(scratch / "ours.db", embedder=embedder, background=False) as db:
                for some in batches(documents(bodies), 1024):
                    db.write(some)
                report = db.admin.drain_vector_projection(timeout=600)
                assert report.processed == count, report
                measure(db, floor, bodies, embedder)
            floor.close()


def raw_search(path: Path, bodies: list[str], embedder: TableEmbedder) -> apsw.Connection:
    db = raw(path)
    raw_table(db, DIMENSION)
    raw_insert(db, [(n, memoryview(row.tobytes())) for n, row in enumerate(embedder.rows)], 1024)
    db.execute(
        "CREATE TABLE texts (n INTEGER PRIMARY KEY, text); CREATE VIRTUAL TABLE words USING "
        "fts5(text, content='texts', content_rowid='n', tokenize='porter unicode61')"
    )
    with db:
        db.executemany("INSERT INTO texts VALUES (?, ?)", enumerate(bodies))
        db.execute("INSERT INTO words (rowid, text) SELECT n, text FROM texts")
    return db


def measure(
    db: fathomdb.Engine, floor: apsw.Connection, bodies: list[str], embedder: TableEmbedder
) -> None:
    rng = random.Random(1)
    # Five words that some text has, the common ones among them: what a question looks like.
    queries = [" ".join(rng.sample(rng.choice(bodies).split()[1:], 5)) for _ in range(QUERIES)]

    # The engine drops words that stem to the same; the floor searches for what is left.
    expressions = {
        query: db.text_search(query, explain=True).explanation["text_expression"]
        for query in queries
    }

    def raw_text(query: str) -> list[tuple[int, float]]:
        return floor.execute(
            "SELECT rowid, rank FROM words WHERE words MATCH ? ORDER BY rank LIMIT ?",
            (expressions[query], LIMIT),
        ).fetchall()

    def raw_semantic(query: str) -> list[tuple[int, float]]:
        return floor.execute(
            "SELECT chunk_key, distance FROM vectors WHERE embedding MATCH ? AND k = ?",
            (embedder.embed_query(query).tobytes(), LIMIT),
        ).fetchall()

    agreed = 0
    for query in queries:
        similarity = embedder.rows @ embedder.embed_query(query)
        nearest = np.argsort(-similarity)[:LIMIT]
        hits = db.semantic_search(query, limit=LIMIT)
        assert [hit.node_id for hit in hits] == [f"document-{n}" for n in nearest]
        assert np.allclose([hit.distance for hit in hits], 1 - similarity[nearest], atol=1e-5)
        ranked = dict(raw_text(query))
        found = [int(hit.node_id.split("-")[1]) for hit in db.text_search(query, limit=LIMIT)]
        agreed += len(ranked.keys() & {*found})
        hybrid = db.search(query, limit=LIMIT)
        assert hybrid.degraded is None
        assert len(hybrid) == LIMIT
        assert [hit.score for hit in hybrid] == sorted((h.score for h in hybrid), reverse=True)

    # Above 4,000 chunks common words do not select: nearly the same hits (docs/decisions/0044).
    assert agreed >= 0.8 * LIMIT * len(queries), agreed

    count = len(bodies)
    print(f"\n{count:,} chunks, {DIMENSION} dimensions, {LIMIT} hits; ms a query")
    print(f"{'':14}{'raw p50':>10}{'ours p50':>10}{'ours p99':>10}{'ratio':>8}")
    report("text", count, queries, raw_text, lambda query: db.text_search(query, limit=LIMIT))
    report(
        "semantic",
        count,
        queries,
        raw_semantic,
        lambda query: db.semantic_search(query, limit=LIMIT),
    )
    report(
        "hybrid",
        count,
        queries,
        lambda query: (raw_text(query), raw_semantic(query)),
        lambda query: db.search(query, limit=LIMIT),
    )


def report(
    name: str,
    count: int,
    queries: list[str],
    reference: Callable[[str], object],
    ours: Callable[[str], object],
) -> None:
    taken: tuple[list[float], list[float]] = ([], [])
    for _ in range(ROUNDS):
        for query in queries:
            for seconds, search in zip(taken, (reference, ours), strict=True):
                start = time.perf_counter()
                search(query)
                seconds.append((time.perf_counter() - start) * 1e3)
    raw_p50, p50 = map(statistics.median, taken)
    p99 = statistics.quantiles(taken[1], n=100, method="inclusive")[98]
    keep(
        f"{count:,} chunks: {name}",
        p50,
        "ms",
        p99=p99,
        reference=raw_p50,
        against="raw FTS5 and sqlite-vec",
        ratio=raw_p50 / p50,
        count=count,
        rounds=ROUNDS,
        seed=1,
    )
    print(f"{name:14}{raw_p50:10.2f}{p50:10.2f}{p99:10.2f}{raw_p50 / p50:8.2f}x")


if __name__ == "__main__":
    main([int(given) for given in sys.argv[1:]] or [10_000, 50_000])
