"""Backfill rests while callers read; fresh work and what somebody waits for do not."""

from __future__ import annotations

import contextlib

import pytest

import fathomdb
from fathomdb.actors.reading import LULL_SECONDS, Reading
from fathomdb.actors.run import CLAIMED_AHEAD
from fathomdb.actors.settling import Settling
from fathomdb.testing import DeterministicEmbedder, ManualClock

AHEAD = (1 + CLAIMED_AHEAD) * fathomdb.BACKFILL_SLICE
ROWS = 4 * AHEAD


@pytest.fixture
def clock(monkeypatch):
    """Stands still but for a second in which each batch of backfill is stored."""
    manual = ManualClock()
    collect = Settling.collect

    def in_a_second(self):
        if self.has_backfill:
            manual.advance(1)
        return collect(self)

    monkeypatch.setattr(Settling, "collect", in_a_second)
    return manual


@pytest.fixture
def db(open_db, clock):
    db = open_db(
        embedder=DeterministicEmbedder(),
        config=fathomdb.EngineConfig(clock=clock),
        background=True,
        index_kinds=(),
    )
    db.write(fathomdb.Node("Note", f"old{n}", f"old text {n}") for n in range(ROWS))
    return db


def _pending(db):
    return db.admin.get_vec_index_status("Note").pending_backfill


def test_backfill_rests_while_someone_reads_and_fresh_work_does_not(db):
    with contextlib.ExitStack() as reader:
        reader.enter_context(db._runtime.reading())
        db.admin.configure_vec("Note")
        for n in range(20):  # under load without end, backfill would have had four turns
            receipt = db.write(fathomdb.Node("Note", f"new{n}", f"fresh text {n}"))
            assert db.wait(receipt, timeout=30).complete
        # What was claimed before anything was stored, at most.
        assert ROWS - _pending(db) <= AHEAD
        # Not another turn for what comes after: it rests as long as time stands still.
        before = _pending(db)
        for n in range(20):
            receipt = db.write(fathomdb.Node("Note", f"newer{n}", f"fresher text {n}"))
            assert db.wait(receipt, timeout=30).complete
        assert before - _pending(db) <= AHEAD


def test_a_rest_is_not_over_where_a_run_ends_before_it(db):
    with db._runtime.reading():
        db.admin.configure_vec("Note")
        fresh = db.write(fathomdb.Node("Note", "new", "a fresh text"))
        assert db.wait(fresh, timeout=30).complete
        before = _pending(db)
        for _ in range(20):  # each drain ends the run of the background, and has nothing to do
            db._runtime.projector.drain((), 1.0, None)
        assert before - _pending(db) <= AHEAD


def test_a_drain_does_not_rest(db):
    with db._runtime.reading():
        db.admin.configure_vec("Note")
        report = db.admin.drain_vector_projection(timeout=60)

    assert report.remaining == 0


def test_backfill_comes_on_when_its_rest_is_over_and_when_nobody_reads(db, clock):
    with db._runtime.reading():
        db.admin.configure_vec("Note")
        receipt = db.write(fathomdb.Node("Note", "new", "a fresh text"))
        assert db.wait(receipt, timeout=30).complete
        before = _pending(db)
        assert before
        progress = db._runtime.progress
        while _pending(db) == before:  # pytest's limit is the bound
            generation = progress.generation
            clock.advance(100)
            progress.wait(generation, 0.1)
    clock.advance(2 * LULL_SECONDS)
    receipt = db.write(fathomdb.Node("Note", "last", "the last text"))
    assert db.wait(receipt, timeout=30).complete
    while _pending(db):
        generation = progress.generation
        clock.advance(100)
        progress.wait(generation, 0.1)


@pytest.mark.parametrize(
    "read",
    [
        lambda db: db.get("old1"),
        lambda db: db.get_many(["old1"]),
        lambda db: next(db.nodes()),
        lambda db: db.count(),
        lambda db: db.search("old"),
        lambda db: db.text_search("old"),
        lambda db: db.semantic_search("old"),
        lambda db: db.raw_vector_search([1.0] * 8),
    ],
)
def test_backfill_gives_way_to_every_sort_of_read(open_db, clock, read):
    db = open_db(embedder=DeterministicEmbedder(8), config=fathomdb.EngineConfig(clock=clock))
    receipt = db.write(fathomdb.Node("Note", f"old{n}", f"old text {n}") for n in range(3))
    db.admin.drain_vector_projection(timeout=30)
    # Who waits for backfill, or watches it, does not slow it.
    assert db.wait(receipt, timeout=30).complete
    db.admin.status()
    db.admin.get_vec_index_status("Note")
    assert not db._runtime._reading.is_on

    read(db)

    assert db._runtime._reading.is_on


def test_reading_is_on_from_the_first_read_until_a_while_after_the_last():
    clock = ManualClock()
    reading = Reading(clock)
    assert not reading.is_on
    with reading:
        clock.advance(1000)
        with reading:
            assert reading.is_on
        clock.advance(1000)
        assert reading.is_on
    clock.advance(LULL_SECONDS / 2)
    assert reading.is_on
    clock.advance(LULL_SECONDS)
    assert not reading.is_on
