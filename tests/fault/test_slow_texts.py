"""A call past its time: the text to blame is found, the others are embedded, nothing waits for ever."""

from __future__ import annotations

import threading

import pytest

import inside
from fathomdb import EngineConfig, Node
from fathomdb.embedders.protocol import EmbedderLimits
from fathomdb.testing import DeterministicEmbedder, ManualClock

POISON = "n5#0"
GOOD = DeterministicEmbedder()


class HangsOnPoison(DeterministicEmbedder):
    """Returns from a call with the poison only after the engine has given up on it.

    With a ``clock``, the time of such a call passes at once; ``hold`` keeps it for longer.
    """

    def __init__(self, clock=None, **options):
        super().__init__(**options)
        self.clock = clock
        self.db = None
        self.sizes = []
        self.go = threading.Event()
        self.go.set()

    def batch_embed(self, texts):
        if any("poison" in text for text in texts):
            self.sizes.append(len(texts))
            if self.clock is not None:
                self.clock.advance(10.0)
                self.db._runtime.projector.wake()  # nobody else tells the actor of a test's clock
            self.wait_abandoned()
            assert self.go.wait(120)  # longer than any test waits for others
        return super().batch_embed(texts)

    def wait_abandoned(self):
        for _ in range(30_000):
            if self.db._runtime.model.pool.stuck:
                return
            threading.Event().wait(0.001)
        raise AssertionError("nobody gave up on the call")


def _nodes(count=64):
    return [Node("Document", f"n{i}", "poison" if i == 5 else f"text {i}") for i in range(count)]


@pytest.fixture
def hanging(open_db):
    clock = ManualClock()
    embedder = HangsOnPoison(clock)
    config = EngineConfig(clock=clock, embed_timeout_seconds=10.0, retry_wait_seconds=100.0)
    embedder.db = open_db(embedder=embedder, config=config)
    yield embedder
    embedder.go.set()


def _drain(db, reports, timeout=100_000):
    drain = threading.Thread(
        target=lambda: reports.append(db.admin.drain_vector_projection(timeout=timeout))
    )
    drain.start()
    return drain


def _wait_settled(db, hanging):
    """Returns once the rows of the call that hangs are back in the queue."""
    hanging.wait_abandoned()
    for _ in range(30_000):
        generation = db._runtime.progress.generation
        if not db.admin.get_vec_index_status("Document").inflight:
            return
        db._runtime.progress.wait(generation, 0.001)
    raise AssertionError("the rows stayed claimed")


def test_one_slow_text_does_not_hold_back_the_other_63_of_its_batch(hanging):
    db = hanging.db
    db.write(_nodes())

    report = db.admin.drain_vector_projection(timeout=100_000)

    assert (report.processed, report.failed, report.remaining) == (63, 0, 1)
    assert report.stopped_by == "idle"
    assert inside.adds_up(report)
    assert set(inside.work(db)) == {POISON}
    assert "did not return within 10 s" in inside.work(db)[POISON].last_error
    assert hanging.sizes == [64, 8, 1]  # alone from the third time
    assert db.admin.status().outage is None
    inside.check(db, GOOD)


def test_a_slow_text_is_failed_after_its_attempts_and_nothing_else_is(hanging):
    db = hanging.db
    db.write(_nodes())
    while db.admin.drain_vector_projection(timeout=100_000).remaining:
        hanging.clock.advance(10_000.0)

    (failed,) = db.admin.failed_work()
    assert (failed.chunk_id, failed.cause, failed.attempts) == (POISON, "embedder_error", 5)
    assert hanging.sizes == [64, 8, 1, 1, 1]
    inside.check(db, GOOD)


def test_ticks_find_a_slow_text_too_though_none_waits_for_its_call(hanging):
    db = hanging.db
    db.write(_nodes())
    hanging.go.clear()

    first = db.admin.run_tick()
    assert (first.claimed, first.reverted, first.embedder_unavailable) == (64, 64, True)
    beside = db.admin.run_tick()
    assert (beside.claimed, beside.embedder_unavailable) == (0, True)
    assert hanging.sizes == [64]
    assert {row.attempts for row in inside.work(db).values()} == {1}
    hanging.go.set()
    for _ in range(1_000):
        db.admin.run_tick()
        if len(inside.work(db)) == 1:
            break

    assert set(inside.work(db)) == {POISON}
    inside.check(db, GOOD)


def test_the_background_finds_a_slow_text_and_goes_on(open_db):
    embedder = HangsOnPoison()
    config = EngineConfig(
        embed_timeout_seconds=0.2,
        retry_wait_seconds=0.001,
        outage_wait_seconds=0.001,
        idle_poll_seconds=0.001,
    )
    embedder.db = db = open_db(embedder=embedder, background=True, config=config)
    receipt = db.write(_nodes())

    while (report := db.wait(receipt, timeout=30.0)).pending:
        assert "did not return" in report.reason or "has not returned" in report.reason

    assert (report.projected, report.failed) == (63, 1)
    assert db.admin.failed_work()[0].chunk_id == POISON
    inside.check(db, GOOD)


def test_while_a_slow_call_has_not_returned_searches_say_so_and_nothing_is_called(hanging):
    db = hanging.db
    db.write(_nodes())
    hanging.go.clear()
    reports = []
    drain = _drain(db, reports)
    _wait_settled(db, hanging)
    hanging.clock.advance(1_000.0)  # however long the pause is over

    result = db.search("text 1")
    assert result.degraded == "outage"
    assert "is away: EmbedTimeoutError: the embedder did not return within 10 s" in result.reason
    assert hanging.sizes == [64]
    hanging.go.set()
    drain.join(30)

    assert (reports[0].processed, reports[0].stopped_by) == (63, "idle")


def test_a_drain_waits_for_a_slow_call_no_longer_than_its_time(hanging):
    db = hanging.db
    db.write(_nodes())
    hanging.go.clear()
    reports = []
    drain = _drain(db, reports, timeout=1_000)
    hanging.wait_abandoned()
    hanging.clock.advance(1_000.0)
    db._runtime.projector.wake()
    drain.join(30)

    (report,) = reports
    assert (report.stopped_by, report.processed, report.reverted) == ("unavailable", 0, 64)
    assert inside.adds_up(report)
    assert db.admin.get_vec_index_status("Document").inflight == 0


def test_closing_the_engine_does_not_wait_for_a_slow_call(hanging):
    db = hanging.db
    db.write(_nodes())
    hanging.go.clear()
    reports = []
    drain = _drain(db, reports)
    _wait_settled(db, hanging)

    db.close()
    drain.join(30)

    assert reports[0].stopped_by == "cancelled"


def test_the_time_of_a_call_begins_when_it_begins_and_not_while_it_waits_for_its_turn(open_db):
    class Watched(ManualClock):
        looks = 0  # of the actor

        def monotonic(self):
            self.looks += threading.current_thread().name == "fathomdb-projector"
            return super().monotonic()

    clock = Watched()

    class TakesSevenSeconds(DeterministicEmbedder):
        texts = 0

        def batch_embed(self, texts):
            self.texts += len(texts)
            clock.advance(7.0)
            looks = clock.looks
            while clock.looks < looks + 20:  # the actor has seen what time it is for each call
                db._runtime.projector.wake()
                threading.Event().wait(0.001)
            return super().batch_embed(texts)

    embedder = TakesSevenSeconds(limits=EmbedderLimits(items=8))
    db = open_db(embedder=embedder, config=EngineConfig(clock=clock, embed_timeout_seconds=10.0))
    db.write(_nodes(8 * 12))

    report = db.admin.drain_vector_projection(timeout=100_000)

    assert (report.processed, report.reverted, report.stopped_by) == (8 * 12, 0, "idle")
    assert embedder.texts == 8 * 12  # none was given up on, and tried again
