"""Counts what kernels, a write and a drain cost, which no busy machine can blur, and compares with ``guard.json``.

``make bench-guard`` fails where a figure has moved by more than its tolerance, in either direction: what
got better is kept by writing the figures anew, ``python benches/guard.py --write``, and committing them.

Of the kernels it is the instructions of the portable path that are counted, by callgrind: what they do on
CPUs with more is faster, and callgrind does not know all of it. They are the compiler's too, so
another version of it, or another architecture, is told and not judged.
"""

from __future__ import annotations

import json
import os
import platform
import re
import shutil
import subprocess
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
TOLERANCE = {
    "statements a batch": 0.0,
    "steps a chunk": 0.02,
    "pages a batch": 0.02,
    "instructions": 0.01,
}
"""Of SQLite's choices, and the linker's, a little may move; the statements are ours alone."""
ROOT = Path(__file__).resolve().parent.parent
PORTABLE = ROOT / "target" / "portable"

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


def instructions() -> dict[str, dict[str, float]]:
    """Of one run of each kernel: those of two runs less those of one, so that only the run is left."""
    env = {**os.environ, "RUSTFLAGS": '--cfg portable --cfg sha2_backend="soft"'}
    build = ["cargo", "build", "--quiet", "--release", "--locked", "--package", "fathomdb-core"]
    build += ["--example", "portable", "--target-dir", str(PORTABLE)]
    subprocess.run(build, check=True, cwd=ROOT, env=env)
    program = str(PORTABLE / "release" / "examples" / "portable")
    callgrind = ["valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null", program]

    def count(*arguments: str) -> int:
        done = subprocess.run(
            [*callgrind, *arguments], check=True, capture_output=True, text=True, cwd=ROOT
        )
        return int(done.stderr.split("Collected :")[1].split()[0])

    named = subprocess.run([program], check=True, capture_output=True, text=True)
    return {
        f"{name} ({platform.machine()})": {"instructions": count(name, "2") - count(name, "1")}
        for name in named.stdout.splitlines()
    }


def compiler() -> str:
    done = subprocess.run(["rustc", "--version"], check=True, capture_output=True, text=True)
    return " ".join(done.stdout.split()[:2])


def main() -> int:
    found, rustc = measure(), compiler()
    has_valgrind = shutil.which("valgrind") is not None
    if has_valgrind:
        found |= instructions()
    else:
        print(
            "The kernels' instructions are left out: valgrind is not installed "
            "(apt-get install valgrind, dnf install valgrind)."
        )
    kept = json.loads(KEPT.read_text(encoding="utf-8"))
    if "--write" in sys.argv[1:]:
        kept |= found | {"rustc": rustc if has_valgrind else kept["rustc"]}
        KEPT.write_text(json.dumps(kept, indent=2) + "\n", encoding="utf-8")
    moved = 0
    print(f"{COUNT:,} chunks, {BATCH} a batch, {DIMENSION} dimensions{'kept':>18}{'now':>16}")
    for name, figures in found.items():
        for what, now in figures.items():
            before = kept.get(name, {}).get(what)
            if before is None:
                print(f"{name + ': ' + what:42}{'none':>16}{now:>16,.2f}  NOT KEPT")
                continue
            is_off = abs(now - before) > TOLERANCE[what] * before
            is_theirs = what == "instructions" and rustc != kept["rustc"]
            verdict = "" if not is_off else f"  by {rustc}" if is_theirs else "  MOVED"
            moved += is_off and not is_theirs
            print(f"{name + ': ' + what:42}{before:>16,.2f}{now:>16,.2f}{verdict}")
    if rustc != kept["rustc"]:
        print(f"Instructions are kept of {kept['rustc']}; with {rustc} they are not judged.")
    return min(moved, 1)


if __name__ == "__main__":
    sys.exit(main())
