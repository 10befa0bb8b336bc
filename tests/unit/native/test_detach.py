"""The GIL is released while a kernel works on a big batch, and kept for a small one.

With a switch interval of hours no thread is ever asked to give the GIL away, so that another one
can run before the kernel returns only if the kernel itself released it.
"""

from __future__ import annotations

import sys
import threading
from typing import TYPE_CHECKING

import numpy as np
import pytest

from fathomdb._native import (
    CodeIndex,
    canonical_chunk_hash,
    canonical_chunk_hashes,
    content_hashes,
    pack_vectors,
    split_text,
    unpack_vectors,
    verify_chunk_hashes,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

TEXT = "x" * 1_000_000
IDS, TEXTS = ["id"] * 100, [TEXT] * 100
ROW = np.ones(1024, dtype=np.float32)
COUNT = 16_384
KEYS = range(COUNT)
NUMBERS = np.random.default_rng(0).standard_normal((COUNT, 1024), np.float32)


def code_index() -> CodeIndex:
    index = CodeIndex(1024, int8=True)
    index.put(KEYS, NUMBERS.tobytes(), KEYS)
    return index


INDEX = code_index()
BLOCK = [b"\xff" * (COUNT // 8)], [np.arange(COUNT).tobytes()], [NUMBERS.tobytes()]

BIG = {
    "canonical_chunk_hash": lambda: canonical_chunk_hash("id", TEXT * 50),
    "canonical_chunk_hashes": lambda: canonical_chunk_hashes(IDS, TEXTS),
    "verify_chunk_hashes": lambda: verify_chunk_hashes(IDS, TEXTS, [b"x" * 32] * 100),
    "content_hashes": lambda: content_hashes(TEXTS),
    "pack_vectors, array": lambda: pack_vectors(np.broadcast_to(ROW, (COUNT, 1024)), 1024),
    "pack_vectors, rows": lambda: pack_vectors([ROW] * COUNT, 1024, normalize=True),
    "pack_vectors, lists": lambda: pack_vectors([ROW.tolist()] * COUNT, 1024, normalize=True),
    "unpack_vectors": lambda: unpack_vectors([ROW.tobytes()] * COUNT, 1024),
    "split_text": lambda: split_text(TEXT[:300_000], 1000),
    "CodeIndex.put": code_index,
    "CodeIndex.load": lambda: CodeIndex(1024, int8=True).load(*BLOCK),
    "CodeIndex.candidates_needed": lambda: INDEX.candidates_needed(4, 10),
    "CodeIndex.search": lambda: INDEX.search(NUMBERS[0].tobytes(), 4_000, 100),
}
SMALL = {
    "canonical_chunk_hash": lambda: canonical_chunk_hash("id", "text"),
    "canonical_chunk_hashes": lambda: canonical_chunk_hashes(["id"], ["text"]),
    "pack_vectors": lambda: pack_vectors(ROW.reshape(1, -1), 1024),
    "unpack_vectors": lambda: unpack_vectors([ROW.tobytes()], 1024),
    "split_text": lambda: split_text("one two", 5),
}


@pytest.fixture(autouse=True)
def _no_forced_switches() -> Iterator[None]:
    interval = sys.getswitchinterval()
    sys.setswitchinterval(3600)
    yield
    sys.setswitchinterval(interval)


def order_of_events(kernel: Callable[[], object], *, calls: int) -> list[str]:
    events: list[str] = []
    started, go = threading.Event(), threading.Event()

    def other() -> None:
        started.set()
        go.wait()
        events.append("other thread ran")

    thread = threading.Thread(target=other)
    thread.start()
    started.wait()
    go.set()
    for _ in range(calls):
        kernel()
        if events:
            break
    events.append("kernel returned")
    thread.join()
    return events


@pytest.mark.parametrize("kernel", BIG.values(), ids=BIG.keys())
def test_another_thread_runs_while_a_kernel_works(kernel: Callable[[], object]) -> None:
    # A busy machine may need more than one call to wake the other thread up; without a release
    # no number of calls is enough.
    assert order_of_events(kernel, calls=20) == ["other thread ran", "kernel returned"]


@pytest.mark.parametrize("kernel", SMALL.values(), ids=SMALL.keys())
def test_a_small_batch_keeps_the_gil(kernel: Callable[[], object]) -> None:
    assert order_of_events(kernel, calls=20) == ["kernel returned", "other thread ran"]


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.float16])
def test_what_was_checked_is_what_is_stored_while_another_thread_writes(dtype: type) -> None:
    sys.setswitchinterval(1e-5)
    rows = np.ones((512, 384), dtype=dtype)
    stop = threading.Event()

    def meddle() -> None:
        while not stop.is_set():
            rows[:] = np.nan
            rows[:] = 1.0

    thread = threading.Thread(target=meddle)
    thread.start()
    try:
        for _ in range(50):
            packed = pack_vectors(rows, 384)
            stored = np.frombuffer(packed.blob, dtype="<f4").reshape(512, 384)
            bad = {row for row, *_ in packed.bad}
            assert {row for row in range(512) if not (stored[row] == 1.0).all()} == bad
            assert not stored[sorted(bad)].any()
    finally:
        stop.set()
        thread.join()
