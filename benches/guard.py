"""Counts what a write and a drain cost, which no busy machine can blur, and compares with ``guard.json``.

``make bench-guard`` fails where a figure has moved by more than its tolerance, in either direction: what
got better is kept by writing the figures anew, ``python benches/guard.py --write``, and committing them.
"""

from __future__ import annotations

import json
import os
import re
import sys
from collections import Counter
from pathlib import Path

import apsw

import fathomdb
from fathomdb.store.schema import PAGE_BYTES
from fathomdb.testing import ManualClock
from materials import batches, documents, folder, null_embedder, texts

COUNT, BATCH, DIMENSION = 4096, 256, 384
KEPT = Path(__file__).with_name("guard.json")
TOLERANCE = {"statements a batch": 0.0, "steps a chunk": 0.02, "pages a batch": 0.02}
"""Of SQLite's choices a little may move with its version; the statements are ours alone."""

_FRAME_BYTES = PAGE_BYTES + 24
# Statements that FTS5 and vec0 run inside name their shadow tables with the schema in quotes.
_INSIDE = re.compile(r"""['"]main['"]\.""")


def measure() -> dict[str, dict[str, float]]:
    """What the write connection does, by phase: statements and steps of ours, pages into the WAL."""
    counts: Counter[str] = Counter()

    def heard(event: dict) -> None:
        if not _INSIDE.search(event["sql"]):
            counts["statements"] += 1
            counts["steps"] += event["stmt_status"]["SQLITE_STMTSTATUS_VM_STEP"]

    def listen(tx) -> None:
        tx.db.trace_v2(apsw.SQLITE_TRACE_PROFILE, heard)
        tx.on_commit(lambda: tx.db.pragma("wal_autocheckpoint", 1_000_000))

    nodes = documents(texts(COUNT))
    config = fathomdb.EngineConfig(clock=ManualClock())
    with folder() as scratch:
        path = scratch / "guard.db"
        wal = f"{path}-wal"
        embedder = null_embedder(DIMENSION, BATCH)
        with fathomdb.open(path, embedder=embedder, background=False, config=config) as db:
            db.write(documents(["the first of its kind"], first=COUNT))
            db.admin.run_tick()
            db._runtime.write(listen)

            def phase(run) -> dict[str, float]:
                counts.clear()
                before = os.path.getsize(wal)
                run()
                pages = (os.path.getsize(wal) - before) / _FRAME_BYTES
                return {
                    "statements a batch": round(counts["statements"] / (COUNT / BATCH), 2),
                    "steps a chunk": round(counts["steps"] / COUNT, 2),
                    "pages a batch": round(pages / (COUNT / BATCH), 2),
                }

            def write() -> None:
                for some in batches(nodes, BATCH):
                    assert db.write(some).enqueued == BATCH

            def drain() -> None:
                for _ in range(COUNT // BATCH):
                    assert db.admin.run_tick().incremental_processed == BATCH

            found = {"write": phase(write), "drain": phase(drain)}
            assert db.admin.status().counters["applied"] == COUNT + 1
    return found


def main() -> int:
    found = measure()
    if "--write" in sys.argv[1:]:
        KEPT.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    kept = json.loads(KEPT.read_text(encoding="utf-8"))
    moved = 0
    print(f"{COUNT:,} chunks, {BATCH} a batch, {DIMENSION} dimensions{'kept':>16}{'now':>10}")
    for name, figures in found.items():
        for what, now in figures.items():
            before = kept[name][what]
            is_off = abs(now - before) > TOLERANCE[what] * before
            moved += is_off
            print(
                f"{name + ': ' + what:42}{before:>14,.2f}{now:>10,.2f}{'  MOVED' if is_off else ''}"
            )
    return min(moved, 1)


if __name__ == "__main__":
    sys.exit(main())
