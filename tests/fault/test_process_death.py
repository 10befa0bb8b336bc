"""A process that dies between claim and apply: nothing is lost, nothing is stuck."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest

import inside
from fathomdb import Node
from fathomdb.testing import DeterministicEmbedder

NODES = 100
# The child says "embedding" as soon as its embedder is called with rows, and then never returns.
CHILD = """
import os, sys, threading
import fathomdb
from fathomdb.embedders.protocol import EmbedderLimits
from fathomdb.testing import DeterministicEmbedder

class HangsInCall(DeterministicEmbedder):
    calls = 0
    def batch_embed(self, texts):
        self.calls += 1
        if self.calls >= int(sys.argv[3]):
            os.write(1, b"embedding\\n")  # whole lines, from two threads
            threading.Event().wait()
        return super().batch_embed(texts)

db = fathomdb.open(sys.argv[1], embedder=HangsInCall(limits=EmbedderLimits(items=16)))
first = int(sys.argv[2])
db.write([fathomdb.Node("Document", f"n{i}", f"text number {i}") for i in range(first, first + 100)])
os.write(1, b"written\\n")
threading.Event().wait()
"""


def _killed_while_embedding(path, *, first=0, in_call=1):
    """Writes 100 nodes in a child process and kills it inside a call of its embedder."""
    child = subprocess.Popen(
        [sys.executable, "-c", CHILD, path, str(first), str(in_call)],
        stdout=subprocess.PIPE,
        text=True,
    )
    with child:
        try:
            said = {child.stdout.readline().strip() for _ in range(2)}
            assert said == {"written", "embedding"}
        finally:
            child.send_signal(signal.SIGKILL)
    assert child.returncode == -signal.SIGKILL


@pytest.fixture
def undisturbed(tmp_path):
    """What a file holds whose process never died."""
    import fathomdb

    with fathomdb.open(tmp_path / "undisturbed.db", embedder=DeterministicEmbedder()) as db:
        receipt = db.write([Node("Document", f"n{i}", f"text number {i}") for i in range(300)])
        assert db.wait(receipt).complete
        return inside.blobs(db)


def test_rows_claimed_by_a_killed_process_are_pending_again_and_status_shows_them(path, open_db):
    _killed_while_embedding(path)

    db = open_db()

    status = db.admin.get_vec_index_status("Document")
    assert (status.pending_incremental, status.inflight, status.failed) == (NODES, 0, 0)
    assert db.admin.status().pending == NODES
    assert {row.state for row in inside.work(db).values()} == {"pending"}
    assert db.count() == NODES


def test_a_drain_after_a_kill_reaches_what_an_undisturbed_run_reaches(path, open_db, undisturbed):
    # By the sixth call the first batches are applied: a run claims only a few ahead.
    _killed_while_embedding(path, first=0, in_call=1)
    _killed_while_embedding(path, first=100, in_call=6)
    _killed_while_embedding(path, first=200, in_call=6)

    db = open_db()
    applied_before = len(inside.blobs(db))
    report = db.admin.drain_vector_projection(timeout=60)

    assert applied_before > 0
    assert (report.stopped_by, report.remaining) == ("idle", 0)
    assert report.processed == 300 - applied_before
    assert inside.adds_up(report)
    assert inside.blobs(db) == undisturbed
    assert inside.work(db) == {}
    inside.check(db, DeterministicEmbedder())


def test_recovery_keeps_the_attempt_of_what_a_dead_process_had_claimed(path, open_db):
    _killed_while_embedding(path)

    attempts = [row.attempts for row in inside.work(open_db()).values()]

    # The first claim of 16 is in the call; others may be waiting behind it.
    assert attempts.count(1) >= 16
    assert max(attempts) == 1
