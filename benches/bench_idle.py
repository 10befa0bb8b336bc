"""What an open engine with nothing to do takes of a core."""

from __future__ import annotations

import time

import fathomdb
from alternating import keep
from fathomdb import Node
from fathomdb.testing import NullEmbedder
from materials import KIND, folder

SECONDS = 5.0


def main() -> None:
    with (
        folder() as scratch,
        fathomdb.open(scratch / "idle.db", embedder=NullEmbedder(384)) as db,
    ):
        assert db.wait(db.write(Node(KIND, "one", text="nothing more to do"))).complete
        time.sleep(1.5)  # the status of that work is still to be written
        start = time.process_time()
        time.sleep(SECONDS)
        share = (time.process_time() - start) / SECONDS
    wanted = keep(
        "idle engine",
        share * 100,
        "% of a core",
        seconds=SECONDS,
        target="0.5 %",
        met=share < 0.005,
    )
    print(f"idle engine, background on: {share:.3%} of a core {wanted}")


if __name__ == "__main__":
    main()
