"""How fast a Python thread still counts while another one calls a kernel on big batches."""

from __future__ import annotations

import os
import statistics
import threading
import time
from typing import TYPE_CHECKING

import numpy as np

from alternating import keep
from fathomdb._native import (
    canonical_chunk_hashes,
    content_hashes,
    pack_vectors,
    unpack_vectors,
    verify_chunk_hashes,
)
from materials import texts

if TYPE_CHECKING:
    from collections.abc import Callable

COUNT, DIMENSION = 20_000, 384
ROUNDS, SECONDS = 7, 0.4
TARGET = 0.8


def main() -> None:
    bodies = texts(COUNT)
    chunk_ids = [f"document-{n}#0" for n in range(COUNT)]
    digests = canonical_chunk_hashes(chunk_ids, bodies)
    rows = np.random.default_rng(0).standard_normal((COUNT, DIMENSION))
    blobs = pack_vectors(rows, DIMENSION).rows()
    assert content_hashes(bodies) == canonical_chunk_hashes(chunk_ids, bodies, content=True)[1]
    assert verify_chunk_hashes(chunk_ids, bodies, digests) == []
    assert unpack_vectors(blobs, DIMENSION) == rows.astype(np.float32).tobytes()

    cores = len(os.sched_getaffinity(0))
    print(f"{'':38}{'counts alone':>14}{'beside':>14}{'kept':>9}")
    few = slice(1024)  # one of the engine's batches: less than what gets a thread of its own
    kernels: list[tuple[str, Callable[[], object]]] = [
        ("1024 canonical hashes", lambda: canonical_chunk_hashes(chunk_ids[few], bodies[few])),
        (f"{COUNT} canonical hashes", lambda: canonical_chunk_hashes(chunk_ids, bodies)),
        (f"{COUNT} hashes verified", lambda: verify_chunk_hashes(chunk_ids, bodies, digests)),
        (f"{COUNT} f64 to blobs", lambda: pack_vectors(rows, DIMENSION)),
        (f"{COUNT} blobs to one buffer", lambda: unpack_vectors(blobs, DIMENSION)),
    ]
    for name, kernel in kernels:
        measure(name, kernel, TARGET if cores > 1 else None)


def measure(name: str, kernel: Callable[[], object], target: float | None) -> None:
    alone, beside = [], []
    for _ in range(ROUNDS):
        alone.append(count_for(SECONDS))
        done = threading.Event()
        calling = threading.Thread(target=call_until, args=(kernel, done))
        calling.start()
        beside.append(count_for(SECONDS))
        done.set()
        calling.join()
    before, after = statistics.median(alone), statistics.median(beside)
    kept = after / before
    wanted = keep(
        name,
        after / SECONDS,
        "counts/s",
        reference=before / SECONDS,
        against="counting alone",
        ratio=kept,
        rounds=ROUNDS,
        target=None if target is None else f"{target:.0%}",
        met=target is not None and kept >= target,
    )
    print(f"{name:38}{before / SECONDS:12,.0f}/s{after / SECONDS:12,.0f}/s{kept:9.0%}{wanted}")


def count_for(seconds: float) -> int:
    count, end = 0, time.perf_counter() + seconds
    while time.perf_counter() < end:
        count += 1
    return count


def call_until(kernel: Callable[[], object], done: threading.Event) -> None:
    while not done.is_set():
        kernel()


if __name__ == "__main__":
    main()
