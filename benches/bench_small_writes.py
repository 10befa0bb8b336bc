"""Eight threads that write one record at a time, against one commit a write; each survives a power loss."""

from __future__ import annotations

import threading
import time

import fathomdb
from alternating import rates
from fathomdb import EngineConfig, Node
from materials import KIND, folder, say_commit, texts

THREADS, EACH = 8, 250
TARGET = 3.0


def main() -> None:
    count = THREADS * EACH
    bodies = texts(count)
    with folder() as scratch:
        say_commit(scratch / "fsync")
        turn = 0

        def write(config: EngineConfig, *, grouped: bool) -> float:
            nonlocal turn
            turn += 1
            path = scratch / f"{turn}.db"
            with fathomdb.open(path, embedder=False, config=config) as db:
                cursors: set[int] = set()
                begin = threading.Barrier(THREADS + 1)

                def writer(thread: int) -> None:
                    begin.wait()
                    for n in range(thread * EACH, (thread + 1) * EACH):
                        receipt = db.write(Node(KIND, f"record-{n}", text=bodies[n]))
                        cursors.add(receipt.cursor)

                threads = [threading.Thread(target=writer, args=(n,)) for n in range(THREADS)]
                for thread in threads:
                    thread.start()
                begin.wait()
                start = time.perf_counter()
                for thread in threads:
                    thread.join()
                elapsed = time.perf_counter() - start
                assert db.count(KIND) == count
                assert (len(cursors) < count) if grouped else (len(cursors) == count)
            return elapsed

        print(f"{'':38}{'a commit each':>20}{'group commit':>20}{'ratio':>8}")
        rates(
            f"{THREADS} threads, {EACH} writes of one record",
            lambda: write(EngineConfig(group_size=1), grouped=False),
            lambda: write(EngineConfig(), grouped=True),
            against="a commit each",
            count=count,
            unit="writes/s",
            target=TARGET,
        )


if __name__ == "__main__":
    main()
