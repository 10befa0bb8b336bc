"""A text that kills the process: real processes die of it until it is found, and it alone."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest

import inside
from fathomdb import EngineConfig, Node
from fathomdb.embedders.protocol import EmbedderLimits
from fathomdb.store import work
from fathomdb.testing import DeterministicEmbedder

MAX_ATTEMPTS = EngineConfig().max_attempts
# Drains what the file owes, with an embedder that one of its texts kills; exits with 0 once idle.
CHILD = """
import os, signal, sys
import fathomdb
from fathomdb.embedders.protocol import EmbedderLimits
from fathomdb.testing import DeterministicEmbedder

class DiesOfIt(DeterministicEmbedder):
    def batch_embed(self, texts):
        if any("poison" in text for text in texts):
            os.kill(os.getpid(), signal.SIGKILL)
        return super().batch_embed(texts)

limits = EmbedderLimits(items=int(sys.argv[2]), concurrency=int(sys.argv[3]))
config = fathomdb.EngineConfig(max_attempts=int(sys.argv[4]))
with fathomdb.open(
    sys.argv[1], embedder=DiesOfIt(limits=limits), background=False, config=config
) as db:
    report = db.admin.drain_vector_projection(timeout=60)
    assert report.stopped_by == "idle", report
"""


def _dies(path, items=64, concurrency=1, max_attempts=MAX_ATTEMPTS):
    """Whether a process that opens the file and drains it dies of a text."""
    arguments = [path, *map(str, (items, concurrency, max_attempts))]
    child = subprocess.run([sys.executable, "-c", CHILD, *arguments], check=False, timeout=120)
    assert child.returncode in {0, -signal.SIGKILL}
    return child.returncode != 0


def _write(open_db, poison):
    texts = {f"n{i}": "poison" * (f"n{i}" in poison) + f" text {i}" for i in range(100)}
    with open_db() as db:
        db.write([Node("Document", node_id, text) for node_id, text in texts.items()])


def _check_failed(db, poison, attempts):
    failed = db.admin.failed_work()
    assert {row.node_id for row in failed} == poison
    assert {(row.cause, row.attempts) for row in failed} == {("process_died", attempts)}
    assert all("the process died" in row.message for row in failed)
    assert set(inside.work(db)) == {f"{node_id}#0" for node_id in poison}
    assert len(inside.blobs(db)) == 100 - len(poison)
    inside.check(db, DeterministicEmbedder())


def test_a_text_that_kills_the_process_is_found_alone_and_failed_and_no_other_ever_is(
    path, open_db
):
    _write(open_db, {"n17"})
    for _ in range(MAX_ATTEMPTS - 1):
        assert _dies(path)
    # What kills is not tried first of all: by now everything else is done, and nothing failed.
    with open_db(embedder=False) as db:
        assert {key: row.state for key, row in inside.work(db).items()} == {"n17#0": "pending"}
    assert _dies(path)

    assert not _dies(path)

    db = open_db()
    _check_failed(db, {"n17"}, MAX_ATTEMPTS)
    status = db.admin.get_vec_index_status("Document")
    assert (status.failed, status.inflight) == (1, 0)
    assert "the process died" in status.last_error
    # With an embedder that bears it, it is a text like any other.
    assert db.admin.requeue_failed("Document", cause="process_died") == 1
    assert db.admin.drain_vector_projection(timeout=30).processed == 1
    inside.check(db, DeterministicEmbedder())


def test_two_texts_that_kill_are_found_where_several_calls_run_at_once(path, open_db):
    poison = {"n3", "n90"}
    _write(open_db, poison)
    deaths = 0
    while _dies(path, items=8, concurrency=3, max_attempts=3):
        deaths += 1
        assert deaths <= 3 * len(poison)

    _check_failed(open_db(), poison, 3)


@pytest.mark.parametrize("background", [False, True])
@pytest.mark.parametrize("concurrency", [1, 3])
def test_what_must_be_alone_is_embedded_with_nothing_beside_it_and_the_others_go_on(
    open_db, concurrency, background
):
    class LooksAround(DeterministicEmbedder):
        """Sees for each call with a suspect how many rows of the file are inflight."""

        beside = ()

        def batch_embed(self, texts):
            if any("suspect" in text for text in texts):
                states = [row.state for row in inside.work(db).values()]
                self.beside += ((len(texts), states.count("inflight")),)
            return super().batch_embed(texts)

    embedder = LooksAround(limits=EmbedderLimits(items=4, concurrency=concurrency))
    with open_db(embedder=False) as db:
        db.admin.configure_embedding(embedder)
    db = open_db(embedder=False)
    receipt = db.write(
        [Node("Document", f"n{i}", f"{'suspect' if i % 5 == 0 else 'text'} {i}") for i in range(60)]
    )

    def plant(tx):
        tx.db.execute(
            "UPDATE vector_projection_work SET attempts = 2, last_error = ? WHERE chunk_key IN "
            "(SELECT chunk_key FROM chunks WHERE text LIKE 'suspect%')",
            (work.PROCESS_DIED,),
        )

    inside.in_writer(db, plant)
    db.close()

    config = EngineConfig(idle_poll_seconds=3600.0)
    db = open_db(embedder=embedder, background=background, config=config)
    if background:
        # No poll in this time: a claim that was held back is made again by what it waited for.
        assert db.wait(receipt, timeout=30).complete
    else:
        report = db.admin.drain_vector_projection(timeout=60)
        assert (report.processed, report.stopped_by) == (60, "idle")

    assert embedder.beside == ((1, 1),) * 12
    inside.check(db, DeterministicEmbedder())
