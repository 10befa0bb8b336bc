"""Memory does not grow with the queue: only what is on its way is held."""

from __future__ import annotations

import json
import subprocess
import sys

CHUNKS = 200_000
MAX_GROWTH_MIB = 100

# A process of its own: this one has had other tests in it. Peaks, so that nothing passes unseen.
CHILD = """
import json, resource, sys
import fathomdb
from fathomdb.testing import NullEmbedder

path, count, phase = sys.argv[1], int(sys.argv[2]), sys.argv[3]
unit = 1 << 20 if sys.platform == "darwin" else 1 << 10

def peak_mib():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit

with fathomdb.open(path, embedder=NullEmbedder(128), background=False, durability="normal") as db:
    if phase == "write":
        for first in range(0, count, 1000):
            db.write(
                fathomdb.Node("Document", f"n{first + i}", chunks=[f"text {first + i}-{j}" for j in range(10)])
                for i in range(0, 100)
            )
        print(json.dumps({"pending": db.admin.status().pending}))
    else:
        db.admin.run_tick()
        idle = peak_mib()
        report = db.admin.drain_vector_projection(timeout=500)
        print(json.dumps({
            "processed": report.processed, "remaining": report.remaining,
            "idle_mib": idle, "peak_mib": peak_mib(), "seconds": report.seconds,
        }))
"""


def _child(path, phase):
    ran = subprocess.run(
        [sys.executable, "-c", CHILD, path, str(CHUNKS), phase],
        check=True,
        capture_output=True,
        text=True,
    )
    return json.loads(ran.stdout)


def test_draining_a_long_queue_takes_no_more_memory_than_a_few_batches(path):
    assert _child(path, "write")["pending"] == CHUNKS

    drained = _child(path, "drain")

    assert (drained["processed"], drained["remaining"]) == (CHUNKS - 64, 0)
    assert drained["peak_mib"] - drained["idle_mib"] <= MAX_GROWTH_MIB, drained
