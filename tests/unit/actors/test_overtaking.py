"""A fresh write waits for one slice of backfill at most: the one that is in the embedder."""

from __future__ import annotations

import threading

import pytest

import fathomdb
from fathomdb.actors.embed_pool import Urgency
from fathomdb.actors.run import CLAIMED_AHEAD
from fathomdb.testing import DeterministicEmbedder, RecordingEmbedder

SLICE = fathomdb.BACKFILL_SLICE
CLAIMED = (1 + CLAIMED_AHEAD) * SLICE  # one in the embedder, the others claimed ahead


class StepByStep(RecordingEmbedder):
    """Lets one call go at a time."""

    def __init__(self):
        super().__init__(DeterministicEmbedder())
        self._steps = threading.Semaphore(0)

    def batch_embed(self, texts):
        vectors = super().batch_embed(texts)
        assert self._steps.acquire(timeout=30)
        return vectors

    def step(self, calls=1):
        self._steps.release(calls)


@pytest.mark.parametrize("background", [True, False])
def test_fresh_work_overtakes_a_slice_of_backfill_that_was_claimed_ahead(open_db, background):
    embedder = StepByStep()
    db = open_db(embedder=embedder, background=background, index_kinds=())
    db.write(fathomdb.Node("Note", f"old{n}", f"old text {n}") for n in range(2 * CLAIMED))
    db.admin.configure_vec("Note")
    drained = []
    if not background:
        drain = threading.Thread(
            target=lambda: drained.append(db.admin.drain_vector_projection(timeout=60))
        )
        drain.start()
    _wait_for_claimed(db, CLAIMED)
    receipt = db.write(fathomdb.Node("Note", "new", "a fresh text"))
    _wait_until(db, lambda: db._runtime.model.pool._waiting[Urgency.FRESH])
    embedder.step(2)

    report = db.wait(receipt, timeout=30)
    embedder.step(20)
    if not background:
        drain.join(60)
        assert drained[0].processed == 2 * CLAIMED + 1

    assert report.complete or not background
    assert len(embedder.batches[0]) == SLICE
    assert embedder.batches[1] == ("a fresh text",)


def _wait_for_claimed(db, rows):
    _wait_until(db, lambda: db.admin.get_vec_index_status("Note").inflight >= rows)


def _wait_until(db, holds):
    """Looks each time the engine says that something changed, and now and then."""
    progress = db._runtime.progress
    for _ in range(3000):
        generation = progress.generation
        if holds():
            return
        progress.wait(generation, 0.01)
    raise AssertionError("it never came to that")
