"""The contract of ticks and drains: which work first, how much of it, and why it stopped."""

from __future__ import annotations

import sys
import threading

import pytest

import fathomdb
import inside
from fathomdb import EngineClosedError, EngineConfig, FathomError, Node
from fathomdb.actors.run import CLAIMED_AHEAD
from fathomdb.embedders.protocol import EmbedderLimits
from fathomdb.testing import (
    DeterministicEmbedder,
    Fault,
    FlakyEmbedder,
    ManualClock,
    NullEmbedder,
    RecordingEmbedder,
)

OTHER = DeterministicEmbedder(seed=1)


def _nodes(prefix, count, kind="Document"):
    return [Node(kind, f"{prefix}{i}", f"{prefix} {i}") for i in range(count)]


def _backfill(db, count):
    """Nodes that were there before their kind was indexed: their vectors are backfill."""
    db.admin.disable_vec("Document")
    receipt = db.write(_nodes("old", count))
    assert db.admin.configure_vec("Document").enqueued_backfill_rows == count
    return receipt


# --- one tick -------------------------------------------------------------------------------------


def test_a_tick_takes_incremental_work_and_only_if_there_is_none_a_slice_of_backfill(db):
    _backfill(db, 40)
    db.write(_nodes("new", 70))

    ticks = [db.admin.run_tick() for _ in range(5)]

    assert [(tick.incremental_processed, tick.backfill_processed) for tick in ticks] == [
        (64, 0),
        (6, 0),  # not topped up with backfill
        (0, 32),
        (0, 8),
        (0, 0),
    ]
    assert all(inside.adds_up(tick) for tick in ticks)
    inside.check(db, DeterministicEmbedder())


def test_a_tick_never_takes_backfill_out_of_turn_however_many_there_were(db):
    _backfill(db, 40)
    db.write(_nodes("new", 64 * 20))

    ticks = [db.admin.run_tick() for _ in range(20)]

    assert {tick.backfill_processed for tick in ticks} == {0}
    assert db.admin.run_tick().backfill_processed == 32


def test_a_tick_settles_what_is_stale_and_embeds_the_rest(db):
    # What only a fault of ours could leave behind, planted: each is seen and none is embedded.
    db.write(_nodes("n", 4))
    db.write(_nodes("other", 1, kind="Note"))

    def plant(tx):
        tx.db.execute(
            "UPDATE vector_projection_work SET canonical_hash = zeroblob(32) WHERE chunk_key = "
            "(SELECT chunk_key FROM chunks WHERE chunk_id = 'n0#0')"
        )
        tx.db.execute("UPDATE vector_index_schemas SET enabled = 0 WHERE kind = 'Note'")
        tx.db.execute("PRAGMA defer_foreign_keys = ON")
        (key,) = tx.db.execute("SELECT chunk_key FROM chunks WHERE chunk_id = 'n1#0'").fetchone()
        tx.db.execute("UPDATE vector_projection_work SET kind = 'Note' WHERE chunk_key = ?", (key,))

    inside.in_writer(db, plant)
    report = db.admin.run_tick()

    assert report.discard_reasons == {"hash_changed": 1, "not_wanted": 2}
    assert (report.claimed, report.processed) == (5, 2)
    assert inside.adds_up(report)
    # The one that is live, wanted and not current is owed for the text as it is now.
    assert set(inside.work(db)) == {"n0#0"}
    assert db.admin.run_tick().processed == 1
    assert set(inside.vectors(db)) == {"n0#0", "n2#0", "n3#0"}


def test_a_tick_on_an_empty_queue_claims_nothing_and_calls_nobody(open_db):
    embedder = RecordingEmbedder(DeterministicEmbedder())
    db = open_db(embedder=embedder)

    assert db.admin.run_tick() == fathomdb.TickReport()
    assert embedder.batches == []


def test_an_idle_queue_costs_no_commit(db):
    db.write(_nodes("n", 1))
    db.admin.drain_vector_projection(timeout=30)

    def state(tx):
        return tx.db.execute("SELECT cursor, fence FROM engine_state").fetchone()

    before = inside.in_writer(db, state)
    for _ in range(10):
        db.admin.run_tick()

    assert inside.in_writer(db, state) == before


# --- lanes over many ticks ------------------------------------------------------------------------


def _lanes(embedder):
    return ["old" if batch[0].startswith("old") else "new" for batch in embedder.batches]


@pytest.mark.parametrize("background", [False, True])
def test_every_eighth_tick_is_backfill_when_backfill_waits(open_db, background):
    limits = EmbedderLimits(items=10)
    with open_db(embedder=DeterministicEmbedder(limits=limits)) as db:
        old = _backfill(db, 30)
        new = db.write(_nodes("new", 200))
    embedder = RecordingEmbedder(DeterministicEmbedder(limits=limits))

    db = open_db(embedder=embedder, background=background)
    if background:
        assert db.wait(old, 30.0).complete
        assert db.wait(new, 30.0).complete
    else:
        db.admin.drain_vector_projection(timeout=30)

    assert _lanes(embedder) == [
        *["new"] * 7,
        "old",
        *["new"] * 7,
        "old",
        *["new"] * 6,
        "old",
    ]


def test_backfill_is_not_starved_by_fresh_work_that_never_ends(open_db):
    class WritesAsMuchAsItReads(DeterministicEmbedder):
        """For every fresh batch another one is written: the incremental lane is never empty."""

        calls = 0
        calls_to_last_old = 0

        def batch_embed(self, texts):
            self.calls += 1
            if any(text.startswith("old") for text in texts):
                self.calls_to_last_old = self.calls
            if self.calls < 2_000 and not done.is_set():
                db.write(_nodes(f"new {self.calls} ", 16))
            return super().batch_embed(texts)

    done = threading.Event()
    embedder = WritesAsMuchAsItReads(limits=EmbedderLimits(items=8))
    db = open_db(embedder=embedder)
    old = _backfill(db, 80)
    db.write(_nodes("new", 16))
    db.close()

    db = open_db(embedder=embedder, background=True)
    complete = db.wait(old, 60.0).complete
    done.set()

    assert complete
    assert 10 <= embedder.calls_to_last_old <= 8 * 10 + 10


def test_retries_do_not_jump_ahead_of_fresh_writes_nor_starve_behind_them(open_db):
    clock = ManualClock()
    flaky = FlakyEmbedder(DeterministicEmbedder(), [Fault(ValueError("bad"), texts="poison")])
    embedder = RecordingEmbedder(flaky)
    db = open_db(embedder=embedder, config=EngineConfig(clock=clock, retry_wait_seconds=10.0))
    db.write(Node("Document", "retried", "poison"))
    db.admin.run_tick()
    flaky.script = ()
    clock.advance(5.0)
    db.write(_nodes("early", 1))
    clock.advance(10.0)
    db.write(_nodes("late", 200))

    texts = []
    while db.admin.run_tick().claimed:
        texts.append(embedder.batches[-1])

    # By due time: the retry fell due after "early" was written and before "late" was. It goes
    # alone, or what it does to the embedder would be done to others again.
    assert texts[0][0] == "early 0"
    assert texts[1] == ("poison",)
    assert len(texts) == 5


# --- drains ---------------------------------------------------------------------------------------


def test_a_drain_is_idle_when_nothing_is_due(db):
    db.write(_nodes("n", 300))

    report = db.admin.drain_vector_projection(timeout=30)

    assert (report.stopped_by, report.processed, report.remaining) == ("idle", 300, 0)
    assert db.admin.get_vec_index_status("Document").state == "fresh"
    again = db.admin.drain_vector_projection(timeout=30)
    assert (again.stopped_by, again.claimed) == ("idle", 0)


def test_a_drain_with_no_time_is_one_tick(db):
    db.write(_nodes("n", 100))

    report = db.admin.drain_vector_projection(timeout=0)

    assert (report.claimed, report.remaining, report.stopped_by) == (64, 36, "timeout")
    last = db.admin.drain_vector_projection(timeout=0)
    assert (last.claimed, last.remaining, last.stopped_by) == (36, 0, "idle")


def test_a_drain_with_no_time_is_idle_where_what_remains_is_not_due(open_db):
    flaky = FlakyEmbedder(DeterministicEmbedder(), [Fault(ValueError("bad"), texts="n 3")])
    db = open_db(embedder=flaky, config=EngineConfig(clock=ManualClock()))
    db.write(_nodes("n", 10))

    report = db.admin.drain_vector_projection(timeout=0)

    assert (report.remaining, report.stopped_by) == (1, "idle")


def test_a_drain_stops_when_its_time_is_up_and_leaves_nothing_claimed(open_db):
    clock = ManualClock()

    class TakesASecond(DeterministicEmbedder):
        def batch_embed(self, texts):
            clock.advance(1.0)
            return super().batch_embed(texts)

    db = open_db(embedder=TakesASecond(), config=EngineConfig(clock=clock))
    db.write(_nodes("n", 1000))

    report = db.admin.drain_vector_projection(timeout=3.5)

    assert report.stopped_by == "timeout"
    # Asked between batches: what has begun when the time runs out is still embedded.
    assert 4 * 64 <= report.processed <= (4 + 1 + CLAIMED_AHEAD) * 64
    assert report.remaining == 1000 - report.processed
    assert inside.adds_up(report)
    assert db.admin.get_vec_index_status("Document").inflight == 0


def test_a_drain_stops_when_the_embedder_is_away(open_db):
    away = Fault(fathomdb.EmbedderUnavailableError("away"), calls=range(3, 100))
    db = open_db(embedder=FlakyEmbedder(DeterministicEmbedder(), [away]))
    db.write(_nodes("n", 300))

    report = db.admin.drain_vector_projection(timeout=30)

    assert (report.stopped_by, report.processed, report.remaining) == ("unavailable", 128, 172)
    assert report.embedder_unavailable_ticks >= 1
    assert inside.adds_up(report)


def test_closing_the_engine_cancels_a_drain_which_still_reports(open_db):
    embedder = RecordingEmbedder(DeterministicEmbedder())
    db = open_db(embedder=embedder)
    db.write(_nodes("n", 300))
    embedder.hold()
    reports = []
    drain = threading.Thread(
        target=lambda: reports.append(db.admin.drain_vector_projection(timeout=60))
    )
    drain.start()
    embedder.wait_held()

    db.close()
    drain.join(30)

    (report,) = reports
    assert report.stopped_by == "cancelled"
    assert inside.adds_up(report)
    assert (report.processed, report.remaining) == (0, 300)
    embedder.release()
    db = open_db()
    assert {(row.state, row.attempts) for row in inside.work(db).values()} == {("pending", 0)}
    assert db.admin.drain_vector_projection(timeout=30).processed == 300


def test_drains_that_wait_for_their_turn_are_answered_at_close(open_db):
    embedder = RecordingEmbedder(DeterministicEmbedder())
    db = open_db(embedder=embedder)
    db.write(_nodes("n", 300))
    embedder.hold()
    answers = []

    def drain():
        try:
            answers.append(db.admin.drain_vector_projection(timeout=60).stopped_by)
        except EngineClosedError:
            answers.append("closed")

    drains = [threading.Thread(target=drain) for _ in range(4)]
    for thread in drains:
        thread.start()
    embedder.wait_held()
    db.close()
    for thread in drains:
        thread.join(30)
    embedder.release()

    assert answers.count("cancelled") == 1
    assert len(answers) == 4
    with pytest.raises(EngineClosedError):
        db.admin.drain_vector_projection(timeout=0)


def test_progress_is_told_after_each_batch(db):
    db.write(_nodes("n", 150))
    told = []

    db.admin.drain_vector_projection(timeout=30, progress=lambda *at: told.append(at))

    assert [processed for processed, _ in told] == [64, 128, 150]
    assert told[-1] == (150, 0)


def test_a_progress_callback_that_raises_ends_the_drain_and_leaves_nothing_claimed(db):
    db.write(_nodes("n", 300))

    def progress(processed, remaining):
        raise ValueError("I have seen enough")

    with pytest.raises(ValueError, match="seen enough") as caught:
        db.admin.drain_vector_projection(timeout=30, progress=progress)

    assert "done before" in caught.value.__notes__[0]  # the report is not lost
    assert db.admin.get_vec_index_status("Document").inflight == 0
    db.admin.drain_vector_projection(timeout=30)
    inside.check(db, DeterministicEmbedder())


def test_a_drain_beside_the_background_leaves_nothing_undone_or_done_twice(open_db):
    embedder = RecordingEmbedder(DeterministicEmbedder())
    db = open_db(embedder=embedder, background=True)
    stop = threading.Event()
    reports = []

    def drain():
        while not stop.is_set():
            reports.append(db.admin.drain_vector_projection(timeout=5))

    drains = [threading.Thread(target=drain) for _ in range(2)]
    for thread in drains:
        thread.start()
    receipts = [db.write(_nodes(f"w{n} ", 37)) for n in range(30)]
    for receipt in receipts:
        assert db.wait(receipt, 60.0).complete
    stop.set()
    for thread in drains:
        thread.join(30)

    assert all(inside.adds_up(report) for report in reports)
    assert len(embedder.texts) == len(set(embedder.texts)) == 30 * 37
    assert embedder.most_at_once == 1
    counters = db.admin.status().counters
    assert counters["claimed"] == counters["applied"] == 30 * 37
    inside.check(db, DeterministicEmbedder())


# --- embedders that are in the way ----------------------------------------------------------------


def test_an_embedder_that_asks_its_own_engine_for_a_drain_is_refused(open_db):
    class Asks(DeterministicEmbedder):
        def batch_embed(self, texts):
            try:
                db.admin.drain_vector_projection(timeout=1)
            except FathomError as error:
                asked.append(str(error))
            return super().batch_embed(texts)

    asked = []
    db = open_db(embedder=Asks())
    db.write(_nodes("n", 3))

    assert db.admin.drain_vector_projection(timeout=30).processed == 3
    assert len(asked) == 1
    assert "an embedder asked its own engine" in asked[0]


def test_an_embedder_may_write_to_its_own_engine(open_db):
    class Logs(DeterministicEmbedder):
        def batch_embed(self, texts):
            db.write(Node("Log", f"call {texts[0]}"))
            return super().batch_embed(texts)

    db = open_db(embedder=Logs())
    db.write(_nodes("n", 3))

    assert db.admin.drain_vector_projection(timeout=30).processed == 3
    assert db.count("Log") == 1


def test_a_call_past_its_time_pauses_an_embedder_of_concurrency_one_until_it_returns(open_db):
    clock = ManualClock()
    embedder = RecordingEmbedder(DeterministicEmbedder())
    db = open_db(embedder=embedder, config=EngineConfig(clock=clock, embed_timeout_seconds=10.0))
    db.write(_nodes("n", 3))
    embedder.hold()
    reports = []
    drain = threading.Thread(
        target=lambda: reports.append(db.admin.drain_vector_projection(timeout=10))
    )
    drain.start()
    embedder.wait_held()
    clock.advance(10.0)
    db._runtime.projector.wake()  # the clock is the test's: nobody else tells the actor of it
    drain.join(30)

    assert reports[0].stopped_by == "timeout"  # of its own 10 s
    assert "10 s" in db.admin.status().outage
    assert {(row.state, row.attempts) for row in inside.work(db).values()} == {("pending", 1)}
    clock.advance(1000.0)
    assert db.admin.run_tick().embedder_unavailable
    assert db.search("n", mode="hybrid").degraded == "outage"
    assert len(embedder.batches) == 1  # not even a probe while the call has not returned
    assert embedder.most_at_once == 1

    embedder.release()
    while db.admin.drain_vector_projection(timeout=30).stopped_by != "idle":
        pass
    assert embedder.most_at_once == 1
    assert inside.work(db) == {}
    inside.check(db, DeterministicEmbedder())


def test_a_call_past_its_time_is_split_where_the_embedder_takes_more_than_one(open_db):
    clock = ManualClock()
    hang = threading.Event()

    class HangsOnPoison(DeterministicEmbedder):
        def batch_embed(self, texts):
            if any("poison" in text for text in texts):
                clock.advance(10.0)
                db._runtime.projector.wake()
                assert hang.wait(30)
            return super().batch_embed(texts)

    embedder = HangsOnPoison(limits=EmbedderLimits(items=4, concurrency=2))
    db = open_db(embedder=embedder, config=EngineConfig(clock=clock, embed_timeout_seconds=10.0))
    db.write([*_nodes("n", 3), Node("Document", "poison", "poison")])

    report = db.admin.run_tick()
    hang.set()

    assert (report.claimed, report.processed, report.reverted) == (4, 3, 1)
    (poison,) = inside.work(db).values()
    assert (poison.chunk_id, poison.attempts) == ("poison#0", 1)
    assert "did not return within 10 s" in poison.last_error


def test_as_many_batches_are_embedded_at_once_as_the_embedder_takes(open_db):
    embedder = RecordingEmbedder(
        DeterministicEmbedder(limits=EmbedderLimits(items=5, concurrency=3))
    )
    embedder.hold()
    db = open_db(embedder=embedder, background=True)
    receipt = db.write(_nodes("n", 100))
    embedder.wait_held(3)
    embedder.release()

    assert db.wait(receipt, 30.0).complete
    assert embedder.most_at_once == 3
    inside.check(db, DeterministicEmbedder())


def test_a_fresh_write_does_not_wait_for_a_slow_batch_where_the_embedder_takes_two(open_db):
    embedder = RecordingEmbedder(
        DeterministicEmbedder(limits=EmbedderLimits(items=8, concurrency=2))
    )
    embedder.hold()
    db = open_db(embedder=embedder, background=True)
    db.write(_nodes("first", 3))
    embedder.wait_held(1)

    db.write(_nodes("second", 3))

    embedder.wait_held(2)
    embedder.release()


# --- dimensions -----------------------------------------------------------------------------------


def _undeclared(**options):
    identity = fathomdb.EmbedderIdentity("acme/undeclared", "1", None)
    return DeterministicEmbedder(24, identity=identity, **options)


def test_a_dimension_of_none_is_learned_from_the_first_batch(open_db):
    db = open_db(embedder=_undeclared())
    db.write([*_nodes("n", 100), *_nodes("note", 3, kind="Note")])
    assert "? dimensions" in db.admin.status().active_profile

    assert db.admin.drain_vector_projection(timeout=30).processed == 103

    assert "24 dimensions" in db.admin.status().active_profile
    assert {len(vector) for vector in inside.vectors(db).values()} == {24}
    assert db.semantic_search("n 7", limit=1)[0].node_id == "n7"
    inside.check(db, _undeclared())
    db.close()
    assert open_db(embedder=_undeclared()).semantic_search("n 7", limit=1)[0].node_id == "n7"


def test_a_dimension_is_learned_once_when_two_batches_arrive_together(open_db):
    limits = EmbedderLimits(items=5, concurrency=2)
    embedder = RecordingEmbedder(_undeclared(limits=limits))
    embedder.hold()
    db = open_db(embedder=embedder, background=True)
    receipt = db.write(_nodes("n", 50))
    embedder.wait_held(2)
    embedder.release()

    assert db.wait(receipt, 30.0).complete
    inside.check(db, _undeclared())


def test_a_dimension_that_cannot_be_stored_leaves_nothing_claimed(open_db):
    db = open_db(embedder=_undeclared())
    db.write(_nodes("n", 3))

    with inside.full_disk(db), pytest.raises(FathomError, match="full"):
        db.admin.drain_vector_projection(timeout=30)

    assert db.admin.get_vec_index_status("Document").inflight == 0
    assert db.admin.drain_vector_projection(timeout=30).processed == 3


# --- an actor that cannot work --------------------------------------------------------------------


def test_a_background_run_that_fails_is_not_tried_again_at_once_and_then_goes_on(open_db, caplog):
    # The disk fills up between a claim and its apply: nothing can be stored, not even given back.
    class Watched(ManualClock):
        looks = 0  # of the actor

        def monotonic(self):
            self.looks += threading.current_thread().name == "fathomdb-projector"
            return super().monotonic()

    clock = Watched()
    embedder = RecordingEmbedder(DeterministicEmbedder(2048))
    db = open_db(
        embedder=embedder,
        background=True,
        config=EngineConfig(clock=clock, idle_poll_seconds=0.001),
    )
    embedder.hold()
    receipt = db.write(_nodes("n", 60))
    embedder.wait_held()
    with inside.full_disk(db):
        embedder.release()
        generation = db._runtime.progress.generation
        while "the vector projection pauses" not in caplog.text:
            db._runtime.progress.wait(generation, 0.01)
        looks = clock.looks
        while clock.looks < looks + 50:
            db._runtime.projector.wake()

        assert caplog.text.count("the vector projection pauses for 5 s") == 1
        assert len(embedder.batches) == 1
    clock.advance(5.0)

    assert db.wait(receipt, 30.0).complete
    assert inside.work(db) == {}
    inside.check(db, embedder.inner)


def test_a_progress_callback_that_exits_ends_its_caller_and_not_the_projector(open_db):
    db = open_db()
    db.write(_nodes("n", 200))
    with pytest.raises(SystemExit, match="enough"):
        db.admin.drain_vector_projection(progress=lambda *_: sys.exit("enough"))
    assert db.admin.drain_vector_projection(timeout=30).stopped_by == "idle"
    assert db.admin.status().counters["applied"] == 200


def test_an_actor_that_dies_is_not_started_again_and_whoever_asks_is_told(open_db, caplog):
    class Breaks(ManualClock):
        broken = False

        def monotonic(self):
            if self.broken and threading.current_thread().name == "fathomdb-projector":
                raise RuntimeError("no time")
            return super().monotonic()

    clock = Breaks()
    db = open_db(background=True, config=EngineConfig(clock=clock, idle_poll_seconds=0.001))
    threads = {thread.name for thread in threading.enumerate()}
    clock.broken = True
    db._runtime.projector.join(30)
    clock.broken = False
    receipt = db.write(_nodes("n", 10))

    assert threads - {thread.name for thread in threading.enumerate()} == {"fathomdb-projector"}
    assert caplog.text.count("stopped after an unexpected error") == 1
    assert "no time" in db.wait(receipt, 30.0).reason
    with pytest.raises(FathomError):
        db.admin.run_tick()
    assert len(db.text_search("n")) == 10  # words go on
    db.close()
    assert open_db().admin.drain_vector_projection(timeout=30).processed == 10


def test_no_commit_is_missed_while_claims_are_on_their_way(open_db):
    # Polling would find what a lost wake-up left, so there is none in this test.
    config = EngineConfig(idle_poll_seconds=3600.0)
    db = open_db(embedder=NullEmbedder(8), background=True, config=config)
    for n in range(1_000):
        report = db.wait(db.write(Node("Document", f"n{n}", text="fresh")), timeout=10.0)
        assert report.complete, (n, report)


def test_a_dimension_learned_by_a_drain_with_another_object_serves_queries_at_once(open_db):
    @fathomdb.embedder("acme/learns")
    def learns(texts):
        return DeterministicEmbedder(8).batch_embed(texts)

    @fathomdb.embedder("acme/learns")
    def the_same(texts):
        return DeterministicEmbedder(8).batch_embed(texts)

    db = open_db(embedder=learns)
    db.write(_nodes("n", 3))
    assert db.admin.drain_vector_projection(timeout=30, embedder=the_same).processed == 3

    result = db.semantic_search("n 1", limit=3)

    assert len(result) == 3
    assert result.degraded is None
