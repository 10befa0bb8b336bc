"""A clock that is set back, as when a machine learns the right time: nothing waits for it."""

from __future__ import annotations

import pytest

import inside
from fathomdb import EngineConfig, Node
from fathomdb.testing import DeterministicEmbedder, Fault, FlakyEmbedder, ManualClock

TEN_DAYS = 10 * 86_400.0


@pytest.mark.parametrize("reopened", [False, True])
def test_what_was_written_before_the_clock_was_set_back_is_due(open_db, reopened):
    clock = ManualClock()
    config = EngineConfig(clock=clock)
    db = open_db(config=config)
    db.write(Node("Note", "a", "text of a"))
    if reopened:
        db.close()
    clock.advance(-TEN_DAYS)
    if reopened:
        db = open_db(config=config)
    db.write(Node("Note", "b", "text of b"))

    assert db.admin.drain_vector_projection().incremental_processed == 2
    assert db.admin.check_integrity().ok
    inside.check(db, DeterministicEmbedder())


def test_a_retry_that_waited_before_the_clock_was_set_back_is_due_at_the_next_open(open_db):
    clock = ManualClock()
    embedder = FlakyEmbedder(DeterministicEmbedder(), [Fault(ValueError("no"), texts="bad")])
    config = EngineConfig(clock=clock)
    db = open_db(embedder=embedder, config=config)
    db.write([Node("Note", "good", "good"), Node("Note", "bad", "bad")])
    assert db.admin.run_tick().reverted == 1
    embedder.script = ()
    db.close()
    clock.advance(-TEN_DAYS)

    db = open_db(embedder=embedder, config=config)
    assert db.admin.drain_vector_projection().incremental_processed == 1
    assert db.admin.check_integrity().ok
