"""Nearest neighbours by codes, against every vector compared by sqlite-vec, NumPy and usearch, and usearch's graph.

Sizes are arguments (100,000 and 1,000,000 without); 384 dimensions, made around random centres. Where
Debian's wordnet-base is installed, what is found is measured on real embeddings too: ``static`` over
100,000 glosses, MiniLM over 40,000, ``hashing`` over 40,000, each asked by 300 others.
"""

from __future__ import annotations

import random
import statistics
import sys
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from alternating import Case, aim, compare, keep
from fathomdb import _native
from fathomdb.embedders import registry
from fathomdb.store import codes, profiles, schema, vectors
from fathomdb.store.connection import open_writer
from materials import KIND, batches, folder

sys.path.append(str(Path(__file__).resolve().parent.parent / "tests"))
import models

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import apsw
    from numpy.typing import NDArray

DIMENSION, LIMIT, QUERIES = 384, 10, 100
SPEED, RECALL = 50.0, 0.995
GRAPH, THREADS = 50_000, 2
"""Rows of usearch's graph at most: it takes in 2,000 a second on a quiet machine. A small graph
is the faster one to search, so that this favours usearch."""
WORDNET = Path("/usr/share/wordnet")


def main(arguments: list[str]) -> None:
    # Real embeddings first: onnxruntime 1.32 dies of a segmentation fault where usearch 2.26 is loaded.
    if not arguments:
        found_of_real_embeddings()
    for count in [int(given) for given in arguments] or [100_000, 1_000_000]:
        speed(count)


# --- how fast -------------------------------------------------------------------------------------


def speed(count: int) -> None:
    rows = clustered(count + QUERIES)
    rows, queries = rows[:count], rows[count:]
    with folder() as scratch:
        db = open_writer(str(scratch / "codes.db"), durability="normal", cache_mib=16)
        profile = table_of(db, rows)
        print(f"\n{count:,} x {DIMENSION}, synthetic; nearest {LIMIT}")
        for int8 in (True, False):
            every = codes.Codes(follows=True, int8=int8, exact_below_rows=1)
            table = vectors.table_name(KIND, profile.profile_id)
            asked = iter(np.tile(queries, (1000, 1)))
            chosen: list[NDArray[np.float32]] = []

            def by_codes(
                query: NDArray[np.float32], every: codes.Codes = every, table: str = table
            ) -> list[tuple[int, float]]:
                blob = query.tobytes()
                found = every.candidates(db, table, DIMENSION, blob, LIMIT, None)
                assert isinstance(found, codes.Candidates), found
                return vectors.distances(db, KIND, profile, blob, found.chunk_keys)[:LIMIT]

            def reference(
                asked: Iterator[NDArray[np.float32]] = asked,
                chosen: list[NDArray[np.float32]] = chosen,
            ) -> object:
                chosen.append(next(asked))
                return vectors.nearest(db, KIND, profile, chosen[-1].tobytes(), LIMIT, None)

            def numpy(chosen: list[NDArray[np.float32]] = chosen) -> object:
                return np.argpartition(-(rows @ chosen[-1]), LIMIT)[:LIMIT]

            start = time.perf_counter()
            by_codes(queries[0])
            loaded = time.perf_counter() - start
            size, memory = every.size(table)
            name = "sign and byte codes" if int8 else "sign codes"
            most = 450 if int8 else 80
            end = keep(
                f"{name}, {count:,}: memory a vector",
                memory / size,
                "bytes",
                target=f"under {most} bytes",
                met=memory / size < most,
                load_seconds=loaded,
            )
            print(
                f"{name}: read and measured in {loaded:.2f} s, {memory / size:.0f} bytes a vector{end}"
            )
            found = statistics.fmean(
                len({key for key, _ in by_codes(query)} & {*nearest(rows, query, LIMIT)}) / LIMIT
                for query in queries
            )
            print(f"recall@{LIMIT} {found:.4f}{aim(str(RECALL), found >= RECALL)}")
            ours = partial(by_last, by_codes, chosen)
            compare(
                Case(f"{name}, {count:,}", "sqlite-vec", reference, ours, target=SPEED, rounds=9)
            )
            compare(Case(f"{name}, {count:,}, and NumPy", "NumPy", numpy, ours, rounds=9))
            if int8:
                beside_usearch(rows, queries, by_codes)
        db.close()


def beside_usearch(
    rows: NDArray[np.float32],
    queries: NDArray[np.float32],
    by_codes: Callable[[NDArray[np.float32]], object],
) -> None:
    """The same queries to usearch: every vector compared, and by its graph, which is built first."""
    try:
        from usearch.index import Index, search
    except ImportError:
        sys.exit("usearch is not installed; make bench installs it, or pip install --group bench")

    def exact(query: NDArray[np.float32]) -> NDArray[np.uint64]:
        return search(rows, query, LIMIT, "ip", exact=True, threads=1).keys

    def by_graph(query: NDArray[np.float32]) -> NDArray[np.uint64]:
        return graph.search(query, LIMIT, threads=1).keys

    kept = min(len(rows), GRAPH)
    graph = Index(ndim=DIMENSION, metric="ip", dtype="f32")
    start = time.perf_counter()
    graph.add(np.arange(kept), rows[:kept], threads=THREADS)
    built = time.perf_counter() - start
    for name, some, theirs in (
        ("usearch, every vector", rows, exact),
        ("usearch, graph", rows[:kept], by_graph),
    ):
        found = statistics.fmean(
            len({int(key) + 1 for key in theirs(query)} & {*nearest(some, query, LIMIT)}) / LIMIT
            for query in queries
        )
        asked = iter(np.tile(queries, (1000, 1)))
        chosen: list[NDArray[np.float32]] = []

        def reference(
            theirs: Callable[[NDArray[np.float32]], object] = theirs,
            asked: Iterator[NDArray[np.float32]] = asked,
            chosen: list[NDArray[np.float32]] = chosen,
        ) -> object:
            chosen.append(next(asked))
            return theirs(chosen[-1])

        is_graph = theirs is by_graph
        keep(
            f"codes of {len(rows):,}, and {name}: recall@{LIMIT}",
            found,
            "recall",
            rows=len(some),
            **({"build_seconds": built, "threads": THREADS} if is_graph else {}),
        )
        said = f"{len(some):,} rows, built in {built:.1f} s" if is_graph else "nothing to build"
        print(f"{name}: recall@{LIMIT} {found:.4f}, {said}")
        if is_graph or found == 1.0:
            ours = partial(by_last, by_codes, chosen)
            compare(Case(f"codes of {len(rows):,}, and {name}", name, reference, ours, rounds=9))
        else:
            sys.exit(f"{name} found {found:.4f} of the nearest: it is not the exact search it says")


def by_last(
    search: Callable[[NDArray[np.float32]], object], chosen: list[NDArray[np.float32]]
) -> object:
    """The query that the reference was asked just before."""
    return search(chosen[-1])


def clustered(count: int) -> NDArray[np.float32]:
    rng = np.random.default_rng(0)
    centres = rng.standard_normal((2_000, DIMENSION), dtype=np.float32)
    rows = rng.standard_normal((count, DIMENSION), dtype=np.float32)
    for some in range(0, count, 65_536):
        part = rows[some : some + 65_536]
        part += centres[rng.integers(0, len(centres), len(part))]
        part /= np.linalg.norm(part, axis=1, keepdims=True)
    return rows


def table_of(db: apsw.Connection, rows: NDArray[np.float32]) -> profiles.Profile:
    """A file of the engine's with these vectors in its table, under keys from 1 on."""
    schema.migrate(db, 0)
    profile = profiles.Profile(1, "", "bench/codes", "1", DIMENSION, "l2", "active", None)
    vectors.create(db, KIND, profile)
    table = vectors.table_name(KIND, profile.profile_id)
    for some in batches(range(len(rows)), 4096):
        with db:
            db.executemany(
                f'INSERT INTO "{table}" (chunk_key, embedding) VALUES (?, ?)',
                ((n + 1, memoryview(rows[n]).cast("B")) for n in some),
            )
    return profile


def nearest(rows: NDArray[np.float32], query: NDArray[np.float32], count: int) -> list[int]:
    similarity = rows @ query
    return [int(n) + 1 for n in np.argpartition(-similarity, count)[:count]]


# --- how well -------------------------------------------------------------------------------------


def found_of_real_embeddings() -> None:
    """What share of the nearest is found, for three models."""
    if not WORDNET.exists():
        print(f"no recall on real embeddings: {WORDNET} is not there; apt install wordnet-base")
        return
    texts = read_glosses(WORDNET)
    print(
        f"{'real embeddings, recall@k':40}{'codes':>10}{'rows':>10}{'candidates':>12}{'recall':>9}"
    )
    for name, spec, count in (
        ("static", "static", 100_000),
        ("MiniLM, int8 model", f"onnx:{models.minilm_folder()}", 40_000),
        ("hashing", "hashing", 40_000),
    ):
        rows = embedded(spec, texts[: count + 300])
        for k in (10, 200):
            for int8 in (True, False):
                recall(name, rows[:-300], rows[-300:], k, int8=int8)


def read_glosses(glosses: Path) -> list[str]:
    """``word, word: what they mean``, in an order that has nothing to do with the meaning."""
    texts = []
    for part in ("noun", "verb", "adj", "adv"):
        for line in (glosses / f"data.{part}").read_text(encoding="latin-1").splitlines():
            if not line.startswith("  "):
                fields, _, meaning = line.partition("|")
                columns = fields.split(" ")
                words = columns[4 : 4 + 2 * int(columns[3], 16) : 2]
                texts.append(f"{', '.join(words).replace('_', ' ')}: {meaning.strip()}")
    random.Random(7).shuffle(texts)
    return texts


def embedded(spec: str, texts: list[str]) -> NDArray[np.float32]:
    embedder = registry.resolve(spec)
    parts = [np.asarray(embedder.batch_embed(some), np.float32) for some in batches(texts, 256)]
    rows = np.concatenate(parts)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def recall(
    name: str, rows: NDArray[np.float32], queries: NDArray[np.float32], k: int, *, int8: bool
) -> None:
    every = _native.CodeIndex(rows.shape[1], int8=int8)
    every.put(range(1, len(rows) + 1), rows.tobytes(), range(len(rows)))
    index = codes.Index(every, 0, 0)
    index.finish_loading()
    reads = codes.reads_of(k, int8=int8)
    candidates = index.candidates(k, reads)
    found = statistics.fmean(
        len({*every.search(query.tobytes(), candidates, reads)} & {*nearest(rows, query, k)}) / k
        for query in queries
    )
    kind = "bytes" if int8 else "signs"
    has_target = int8 and k == LIMIT
    said = keep(
        f"{name}, {kind}, recall@{k}",
        found,
        "recall",
        target=f"at least {RECALL}" if has_target else None,
        met=found >= RECALL,
        rows=len(rows),
        candidates=candidates,
    )
    print(
        f"{name + f', {rows.shape[1]}, k={k}':40}{kind:>10}{len(rows):>10,}{candidates:>12,}{found:>9.4f}{said}"
    )


if __name__ == "__main__":
    main(sys.argv[1:])
