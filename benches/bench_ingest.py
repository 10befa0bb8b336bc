"""Ingest of the same records from each kind of input, against writes of Nodes that are ready."""

from __future__ import annotations

import json
import statistics
import sys
import time
from typing import TYPE_CHECKING, Any

import pyarrow as pa
from pyarrow import csv, parquet

import fathomdb
from alternating import keep, rates
from fathomdb import Node
from fathomdb.ingest import mapping, table
from fathomdb.pipeline import columns, prepare
from materials import KIND, batches, folder, null_embedder, texts

if TYPE_CHECKING:
    from collections.abc import Callable

    from fathomdb import Engine

COUNT, BATCH, DIMENSION = 20_000, 1024, 384
TARGET = 2.5
"""How much less a record of a table costs than a dict, until the writer has it."""


def main(count: int) -> None:
    bodies = texts(count)
    records = [
        {"id": f"document-{n}", "text": body, "lang": "en", "year": 2000 + n % 25, "score": n / 7}
        for n, body in enumerate(bodies)
    ]
    nodes = [
        Node(KIND, r["id"], r["text"], {key: r[key] for key in ("lang", "year", "score")})
        for r in records
    ]
    rows = pa.Table.from_pylist(records)
    with folder() as scratch:
        (scratch / "r.jsonl").write_text("\n".join(map(json.dumps, records)), "utf-8")
        parquet.write_table(rows, scratch / "r.parquet")
        csv.write_csv(rows, scratch / "r.csv")
        turn = 0

        def stored(write: Callable[[Engine], object]) -> float:
            nonlocal turn
            turn += 1
            path = scratch / f"{turn}.db"
            embedder = null_embedder(DIMENSION, 256)
            with fathomdb.open(path, embedder=embedder, background=False) as db:
                start = time.perf_counter()
                write(db)
                elapsed = time.perf_counter() - start
                last = db.get(f"document-{count - 1}")
                assert db.count(KIND) == count
                assert last is not None
                assert last.text == bodies[-1]
            path.unlink()
            return elapsed

        def ready(db: Engine) -> None:
            for some in batches(nodes, BATCH):
                db.write(some)

        inputs: dict[str, Any] = {
            "dicts": records,
            "JSON lines": scratch / "r.jsonl",
            "CSV": scratch / "r.csv",
            "Parquet": scratch / "r.parquet",
            "a table of Arrow": rows,
            "the same, by row": rows.to_pylist,
        }
        print(f"{'':38}{'write of Nodes':>19}{'ingest':>19}{'ratio':>8}")
        for name, given in inputs.items():
            rates(
                f"{count:,} records from {name}",
                lambda: stored(ready),
                lambda given=given: stored(
                    lambda db: db.ingest(given() if callable(given) else given, kind=KIND)
                ),
                against="write of Nodes",
                count=count,
                unit="records/s",
            )
        of_callers_thread(records, nodes, rows)


def of_callers_thread(records: list[dict[str, Any]], nodes: list[Node], rows: pa.Table) -> None:
    """What each costs before the writer has it: processor time, so that a busy machine says the same."""
    given: dict[str, Any] = {"kind": KIND, "id": "id", "text": "text", "properties": None}
    to_node = mapping.build(**given, source_ref=None)
    to_columns = table.build(**given, source_ref=None, vector=None)
    assert to_columns is not None

    def of_dicts() -> list[Any]:
        some = batches(records, BATCH)
        return [prepare.prepare([to_node(r, None) for r in part], lambda _: 1000) for part in some]

    def of_nodes() -> list[Any]:
        return [prepare.prepare(part, lambda _: 1000) for part in batches(nodes, BATCH)]

    def of_table() -> list[Any]:
        prepared = []
        for read in table.read(rows):
            for first in range(0, len(read), BATCH):
                found = to_columns(read.piece(first, BATCH), None)
                assert found is not None
                prepared.append(columns.prepare(found, lambda _: 1000, lambda: None))
        return prepared

    assert of_table() == of_dicts() == [*of_nodes()]
    ways = {"Nodes": of_nodes, "dicts": of_dicts, "a table": of_table}
    taken: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(7):
        for name, work in ways.items():
            start = time.thread_time()
            work()
            taken[name].append(time.thread_time() - start)
    cost = {name: statistics.median(some) / len(records) * 1e6 for name, some in taken.items()}
    for name, microseconds in cost.items():
        print(f"until the writer has it, {name:12}{microseconds:8.2f} us a record")
    ratio = cost["dicts"] / cost["a table"]
    end = keep(
        "a table until the writer has it",
        cost["a table"],
        "us",
        reference=cost["dicts"],
        against="dicts",
        ratio=ratio,
        target=f"{TARGET:g}x",
        met=ratio >= TARGET,
    )
    print(f"a table against dicts{ratio:24.1f}x{end}")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else COUNT)
