"""Writing node, chunk, full text and work row, against FathomDB 0.5.5 without the work row."""

from __future__ import annotations

import json
import sys
import time
from typing import TYPE_CHECKING

import fathomdb
from alternating import keep, rates
from fathomdb.pipeline import prepare
from materials import KIND, batches, documents, folder, null_embedder, say_commit, texts
from peers.environment import FATHOMDB_055, Peer

if TYPE_CHECKING:
    from fathomdb.store.connection import Durability

COUNT, BATCH, DIMENSION = 20_000, 256, 384
TARGET = 2.0


def main(count: int) -> None:
    bodies = texts(count)
    nodes = documents(bodies)
    query = str(count // 2)
    expected = {f"document-{count // 2}"}
    embedder = null_embedder(DIMENSION, BATCH)

    with folder() as scratch:
        say_commit(scratch / "fsync")
        turn = 0

        def ours(durability: Durability = "full") -> float:
            nonlocal turn
            turn += 1
            path = scratch / f"ours-{turn}.db"
            with fathomdb.open(
                path, embedder=embedder, background=False, durability=durability
            ) as db:
                start = time.perf_counter()
                for some in batches(nodes, BATCH):
                    receipt = db.write(some)
                    assert receipt.enqueued == len(some)
                elapsed = time.perf_counter() - start
                assert db.count(KIND) == count
                assert {hit.node_id for hit in db.text_search(query)} == expected
            return elapsed

        if FATHOMDB_055.is_available():
            given = scratch / "texts.json"
            given.write_text(json.dumps(bodies), encoding="utf-8")
            with Peer(FATHOMDB_055) as peer:

                def theirs() -> float:
                    path = scratch / f"theirs-{turn}"
                    path.mkdir(exist_ok=True)
                    job = {"folder": str(path), "texts": str(given), "batch": BATCH}
                    answer = peer.run(do="write", **job)
                    assert answer["rows"] == count
                    return float(answer["seconds"])

                print(f"{'':38}{'FathomDB 0.5.5':>18}{'ours':>21}{'ratio':>8}")
                rates(
                    f"{count:,} nodes, {BATCH} a write",
                    theirs,
                    ours,
                    against="FathomDB 0.5.5",
                    count=count,
                    unit="chunks/s",
                    target=TARGET,
                )
                # 0.5.5 commits without an fsync (synchronous=NORMAL); this is as durable as that.
                rates(
                    "the same, durability='normal'",
                    theirs,
                    lambda: ours("normal"),
                    against="FathomDB 0.5.5",
                    count=count,
                    unit="chunks/s",
                )
        else:
            print("FathomDB 0.5.5 has wheels for CPython 3.10 to 3.12 only; ours alone:")
            ours()
            rate = count / ours()
            keep(f"{count:,} nodes, {BATCH} a write", rate, "chunks/s", count=count)
            print(f"{rate:,.0f} chunks/s")

        start = time.perf_counter()
        for some in batches(nodes, BATCH):
            prepare.prepare(some, lambda _: 1000)
        prepared = time.perf_counter() - start
        total = ours()
        print(
            f"of {total / count * 1e6:.1f} us a chunk, {prepared / count * 1e6:.1f} us prepare it "
            f"on the caller's thread ({prepared / total:.0%}); the rest is the writer's commit"
        )


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else COUNT)
