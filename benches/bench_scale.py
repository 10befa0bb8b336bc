"""A long queue drains as fast as a short one, in the same memory; each in a process of its own."""

from __future__ import annotations

import json
import shutil
import statistics
import subprocess
import sys
import time
from pathlib import Path

import fathomdb
from alternating import aim
from materials import KIND, batches, documents, folder, null_embedder, texts

DIMENSION, BATCH = 384, 256
SHORT, LONG, TURNS = 10_000, 200_000, 5
PIECE = 10_000
SLOPE_TARGET, MEMORY_TARGET_MB = 0.8, 100


def main(long: int) -> None:
    if not Path("/proc/self/clear_refs").exists():
        sys.exit("this bench reads its peak memory from /proc, which is Linux's")
    with folder() as scratch:
        queues = {count: scratch / f"{count}.db" for count in (SHORT, long)}
        for count, path in queues.items():
            queue(path, count)
        rows: dict[int, list[float]] = {SHORT: [], long: []}
        memory: dict[int, list[float]] = {SHORT: [], long: []}
        for _ in range(TURNS):
            for count, path in queues.items():
                shutil.copyfile(path, scratch / "drained.db")
                answer = json.loads(
                    subprocess.run(
                        [sys.executable, __file__, "drain", scratch / "drained.db", str(count)],
                        check=True,
                        capture_output=True,
                        text=True,
                    ).stdout
                )
                rows[count].append(count / answer["seconds"])
                memory[count].append(answer["peak_mb"])
        for count in queues:
            print(
                f"{count:>11,} rows {statistics.median(rows[count]):11,.0f} rows/s   "
                f"peak {statistics.median(memory[count]):5.0f} MB above the idle engine"
            )
        slope = statistics.median(rows[long]) / statistics.median(rows[SHORT])
        print(f"slope {slope:.2f} {aim(f'{SLOPE_TARGET:g}', slope >= SLOPE_TARGET)}")
        most = statistics.median(memory[long])
        print(f"memory {most:.0f} MB {aim(f'{MEMORY_TARGET_MB} MB', most <= MEMORY_TARGET_MB)}")


def queue(path: Path, count: int) -> None:
    embedder = null_embedder(DIMENSION, BATCH)
    with fathomdb.open(path, embedder=embedder, background=False) as db:
        for first in range(0, count, PIECE):
            piece = documents(texts(min(PIECE, count - first), seed=first), first=first)
            for some in batches(piece, 1024):
                db.write(some)
        assert db.count(KIND) == count


def drain(path: str, count: int) -> None:
    embedder = null_embedder(DIMENSION, BATCH)
    with fathomdb.open(path, embedder=embedder, background=False) as db:
        Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
        idle = peak_kb()
        start = time.perf_counter()
        report = db.admin.drain_vector_projection(timeout=3600)
        seconds = time.perf_counter() - start
        assert report.processed == count, report
    print(json.dumps({"seconds": seconds, "peak_mb": (peak_kb() - idle) / 1000}))


def peak_kb() -> int:
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0])


if __name__ == "__main__":
    if sys.argv[1:2] == ["drain"]:
        drain(sys.argv[2], int(sys.argv[3]))
    else:
        main(int(sys.argv[1]) if len(sys.argv) > 1 else LONG)
