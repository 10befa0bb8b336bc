"""Text to searchable: write and drain with embedders that do real work, against the embedder alone."""

from __future__ import annotations

import importlib.util
import time

import fathomdb
from alternating import rates
from fathomdb.embedders.registry import resolve
from materials import KIND, batches, documents, folder, texts

COUNT = 10_000


def main() -> None:
    bodies = texts(COUNT)
    names = ["hashing"]
    if all(map(importlib.util.find_spec, ("wordllama", "tokenizers", "safetensors"))):
        names.append("static")
    else:
        print("static: skipped, install the extra [static] to measure it")
    print(f"{'':38}{'embedder alone':>19}{'write and drain':>19}{'ratio':>8}")
    for name in names:
        measure(name, bodies)


def measure(name: str, bodies: list[str]) -> None:
    nodes = documents(bodies)
    with folder() as scratch:
        turn = 0

        def alone() -> float:
            embedder = resolve(name)
            embedder.batch_embed(bodies[:1])  # the static table is read on the first call
            start = time.perf_counter()
            for some in batches(bodies, 256):
                embedder.batch_embed(some)
            return time.perf_counter() - start

        def end_to_end() -> float:
            nonlocal turn
            turn += 1
            with fathomdb.open(scratch / f"{turn}.db", embedder=name, background=False) as db:
                db.wait(db.write(documents(["the first"])), timeout=0)
                db.admin.drain_vector_projection()
                start = time.perf_counter()
                for some in batches(nodes, 256):
                    db.write(some)
                report = db.admin.drain_vector_projection(timeout=600)
                elapsed = time.perf_counter() - start
                assert report.processed == len(nodes), report
                # A text is nearest to itself.
                for n in (0, len(nodes) // 2, len(nodes) - 1):
                    assert db.semantic_search(bodies[n], limit=1)[0].node_id == nodes[n].node_id
                assert db.count(KIND) == len(nodes)
            return elapsed

        rates(name, alone, end_to_end, against="embedder alone", count=len(bodies), unit="rows/s")


if __name__ == "__main__":
    main()
