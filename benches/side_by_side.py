"""Ours and other embedded stores in turns: the same texts, the same vectors, each in its own process.

``make bench-peers`` runs it; the first time it installs them (some 700 MB) into ``.bench/``.
"""

from __future__ import annotations

import json
import random
import shutil
import statistics
import sys
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import numpy as np

from alternating import keep
from materials import folder, say_commit, texts
from peers.environment import OURS, PEERS, Peer, Store

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

COUNT, BATCH, DIMENSION, LIMIT, QUERIES, TURNS = 20_000, 256, 384, 10, 100, 5
CENTRES, SPREAD = 200, 0.8
TARGETS = {"FathomDB 0.5.5": 2.0, "Chroma 1.5.9": 20.0}
WITH_VECTORS = {"Chroma 1.5.9", "LanceDB 0.40.0", "sqlite-vec 0.1.9 alone"}
BY_TEXT = {"FathomDB 0.5.5", "FathomDB 0.8.27", "LanceDB 0.40.0"}


def main(count: int) -> None:
    stores = [store for store in PEERS if store.is_available()]
    for store in set(PEERS) - set(stores):
        print(f"{store.title}: left out, it has no wheel for this Python")
    bodies, (rows, asked) = texts(count), vectors(count)
    rng = random.Random(1)
    drawn = rng.sample(range(count), QUERIES)
    # Words of one text, without its number: what someone asks who remembers them.
    queries = [" ".join(rng.sample(bodies[n].split()[1:], 5)) for n in drawn]
    nearest = np.argsort(-(asked @ rows.T), axis=1)[:, :LIMIT]
    exact = [[f"document-{n}" for n in some] for some in nearest]

    with folder() as scratch, ExitStack() as stack:
        say_commit(scratch / "fsync")
        given = {"texts": scratch / "texts.json", "vectors": scratch / "rows.npy"}
        given["texts"].write_text(json.dumps(bodies), encoding="utf-8")
        np.save(given["vectors"], rows)
        np.save(scratch / "asked.npy", asked)
        peers = {store: stack.enter_context(Peer(store)) for store in (OURS, *stores)}
        run = Run(scratch, given, peers, count)
        report_write(run, stores)
        report_text(run, stores, queries, [f"document-{n}" for n in drawn])
        report_vectors(run, stores, exact)
        for store in (OURS, *stores):
            keep(
                f"file: {store.title}",
                run.bytes[store] / count,
                "bytes a row",
                peak_mb=run.peak_kb[store] / 1000,
                with_vectors=store is OURS or store.title in WITH_VECTORS,
                durability=store.durability,
                lacks=store.lacks,
                requirements=list(store.requirements),
            )
            print(
                f"{store.title:26}{run.bytes[store] / count:8,.0f} bytes a row"
                f"{run.peak_kb[store] / 1000:8,.0f} MB at most   {store.durability}; {store.lacks}"
            )


def vectors(count: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows and queries of unit length, in clusters as embeddings are: at random all are equally far."""
    rng = np.random.default_rng(0)
    centres = rng.standard_normal((CENTRES, DIMENSION)) / np.sqrt(DIMENSION)

    def drawn(some: int) -> np.ndarray:
        noise = rng.standard_normal((some, DIMENSION)) * (SPREAD / np.sqrt(DIMENSION))
        found = (centres[rng.integers(CENTRES, size=some)] + noise).astype(np.float32)
        return found / np.linalg.norm(found, axis=1, keepdims=True)

    return drawn(count), drawn(QUERIES)


class Run:
    """What the stores are asked to do; each keeps the folder of its last write."""

    def __init__(
        self, scratch: Path, given: dict[str, Path], peers: dict[Store, Peer], count: int
    ) -> None:
        self.scratch, self.peers, self.count = scratch, peers, count
        self.given = {name: str(path) for name, path in given.items()}
        self.bytes: dict[Store, int] = {}
        self.peak_kb: dict[Store, int] = {}

    def write(self, store: Store, *, with_vectors: bool) -> float:
        path = self.folder(store)
        shutil.rmtree(path, ignore_errors=True)
        path.mkdir()
        given = self.given if with_vectors else {"texts": self.given["texts"]}
        answer = self._run(store, do="write", batch=BATCH, **given)
        assert answer["rows"] == self.count, (store.title, answer["rows"])
        return float(answer["seconds"])

    def search(self, store: Store, **asked: Any) -> dict[str, Any]:
        return self._run(store, do="search", limit=LIMIT, **asked)

    def folder(self, store: Store) -> Path:
        return self.scratch / store.title.replace(" ", "-")

    def _run(self, store: Store, **job: Any) -> dict[str, Any]:
        answer = self.peers[store].run(folder=str(self.folder(store)), **job)
        self.bytes[store], self.peak_kb[store] = answer["bytes"], answer["peak_kb"]
        return answer


def report_write(run: Run, stores: list[Store]) -> None:
    alone: dict[Store, list[float]] = {}
    beside: dict[Store, list[float]] = {}
    for _ in range(TURNS):
        for store in (OURS, *stores):
            if store.title not in WITH_VECTORS:
                alone.setdefault(store, []).append(run.write(store, with_vectors=False))
        for store in (OURS, *stores):
            if store is OURS or store.title in WITH_VECTORS:
                beside.setdefault(store, []).append(run.write(store, with_vectors=True))
    print(f"\n{run.count:,} texts of 580 bytes, {BATCH} a write, {TURNS} turns; rows/s")
    print(f"{'':42}{'peer':>10}{'ours':>10}{'ratio':>9}")
    for store in stores:
        if store in alone or store.title in TARGETS:
            # Chroma writes no text without its vector; ours writes the row of the queue.
            theirs, target = alone.get(store) or beside[store], TARGETS.get(store.title)
            said(run, f"write, vectors owed: {store.title}", store, theirs, alone[OURS], target)
    for store in stores:
        if store in beside:
            said(run, f"write, ready vectors: {store.title}", store, beside[store], beside[OURS])


def said(
    run: Run,
    name: str,
    store: Store,
    theirs: list[float],
    ours: list[float],
    target: float | None = None,
) -> None:
    slow, fast = statistics.median(theirs), statistics.median(ours)
    wanted = keep(
        name,
        run.count / fast,
        "rows/s",
        reference=run.count / slow,
        against=store.title,
        ratio=slow / fast,
        rounds=TURNS,
        count=run.count,
        target=None if target is None else f"{target:g}x",
        met=target is not None and slow / fast >= target,
    )
    print(f"{name:42}{run.count / slow:10,.0f}{run.count / fast:10,.0f}{slow / fast:8.2f}x{wanted}")


def report_text(run: Run, stores: list[Store], queries: list[str], meant: list[str]) -> None:
    found = in_turns(run, [s for s in stores if s.title in BY_TEXT], queries=queries)
    print(
        f"\n{QUERIES} queries of five words, {LIMIT} hits; p50 in ms, share that found the text meant"
    )
    for store, (millis, hits, prepared) in found.items():
        share = sum(key in some for key, some in zip(meant, hits, strict=True)) / QUERIES
        searched("text", run, store, millis, found[OURS][0], found=share, prepared=prepared)


def report_vectors(run: Run, stores: list[Store], exact: list[list[str]]) -> None:
    asked = str(run.scratch / "asked.npy")
    found = in_turns(run, [s for s in stores if s.title in WITH_VECTORS], vectors=asked)
    print(f"\n{QUERIES} vectors, {DIMENSION} dimensions, {LIMIT} hits; p50 in ms, recall@{LIMIT}")
    for store, (millis, hits, prepared) in found.items():
        pairs = zip(exact, hits, strict=True)
        recall = sum(len(set(a) & set(b)) for a, b in pairs) / (QUERIES * LIMIT)
        if store is not OURS and "approximate" not in store.lacks:
            assert [some[0] for some in hits] == [some[0] for some in exact], store.title
        searched("vectors", run, store, millis, found[OURS][0], recall=recall, prepared=prepared)


def in_turns(
    run: Run, stores: Iterable[Store], **asked: Any
) -> dict[Store, tuple[list[float], list[list[str]], float]]:
    """Milliseconds of all turns, the hits, and the seconds that the first search had to prepare."""
    found: dict[Store, tuple[list[float], list[list[str]], float]] = {}
    for _ in range(TURNS):
        for store in (OURS, *stores):
            answer = run.search(store, **asked)
            millis, hits, _ = found.setdefault(store, ([], answer["hits"], answer["prepared"]))
            millis += [seconds * 1e3 for seconds in answer["seconds"]]
            assert hits == answer["hits"] or "approximate" in store.lacks, store.title
    return found


def searched(
    what: str, run: Run, store: Store, theirs: list[float], ours: list[float], **about: float
) -> None:
    p50, our_p50 = statistics.median(theirs), statistics.median(ours)
    if store is OURS:
        keep(f"search, {what}", p50, "ms", count=run.count, rounds=TURNS, **about)
    else:
        keep(
            f"search, {what}: {store.title}",
            our_p50,
            "ms",
            reference=p50,
            against=store.title,
            ratio=p50 / our_p50,
            count=run.count,
            rounds=TURNS,
            **about,
        )
    rest = "   ".join(f"{name} {value:.3f}" for name, value in about.items())
    print(f"{store.title:26}{p50:10.2f} ms   {p50 / our_p50:6.2f}x ours   {rest}")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else COUNT)
