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
from alternating import keep
from materials import KIND, batches, documents, folder, null_embedder, texts

DIMENSION, BATCH = 384, 256
COUNTS, TURNS = (10_000, 100_000, 1_000_000), 5
PIECE = 10_000
SLOPE, MEMORY = 0.8, 1.1


def main(counts: list[int]) -> None:
    if not Path("/proc/self/clear_refs").exists():
        sys.exit("this bench reads its peak memory from /proc, which is Linux's")
    with folder() as scratch:
        queues = {count: scratch / f"{count}.db" for count in counts}
        for count, path in queues.items():
            queue(path, count)
        rates: dict[int, list[float]] = {count: [] for count in counts}
        peaks: dict[int, list[float]] = {count: [] for count in counts}
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
                rates[count].append(count / answer["seconds"])
                peaks[count].append(answer["peak_mb"])
        short, long = counts[0], counts[-1]
        rate = {count: statistics.median(some) for count, some in rates.items()}
        peak = {count: statistics.median(some) for count, some in peaks.items()}
        for count in counts:
            keep(
                f"{count:,} rows",
                rate[count],
                "rows/s",
                count=count,
                rounds=TURNS,
                peak_mb=peak[count],
            )
            print(f"{count:>11,} rows {rate[count]:11,.0f} rows/s   peak {peak[count]:5.0f} MB")
        slope, memory = rate[long] / rate[short], peak[long] / peak[short]
        wanted = keep("slope", slope, "", target=f"{SLOPE:g}", met=slope >= SLOPE)
        print(f"rows/s of the longest queue over those of the shortest {slope:.2f} {wanted}")
        wanted = keep("memory", memory, "", target=f"at most {MEMORY:g}", met=memory <= MEMORY)
        print(f"peak memory of the longest queue over that of the shortest {memory:.2f} {wanted}")


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
        start = time.perf_counter()
        report = db.admin.drain_vector_projection(timeout=3600)
        seconds = time.perf_counter() - start
        assert report.processed == count, report
    print(json.dumps({"seconds": seconds, "peak_mb": peak_kb() / 1000}))


def peak_kb() -> int:
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0])


if __name__ == "__main__":
    if sys.argv[1:2] == ["drain"]:
        drain(sys.argv[2], int(sys.argv[3]))
    else:
        main([int(given) for given in sys.argv[1:]] or list(COUNTS))
