"""A text that makes the embedder raise: it is found, charged alone, and failed in the end."""

from __future__ import annotations

import pytest

import inside
from fathomdb import DiskFullError, EmbedderUnavailableError, EngineConfig, Node
from fathomdb.pipeline.embed import PROBE_TEXT
from fathomdb.testing import (
    DeterministicEmbedder,
    Fault,
    FlakyEmbedder,
    ManualClock,
    RecordingEmbedder,
)

POISON = "n17"


def _nodes(count=64):
    texts = (f"a healthy text, number {i}" for i in range(count))
    return [
        Node("Document", f"n{i}", "poison" if f"n{i}" == POISON else text)
        for i, text in enumerate(texts)
    ]


def _flaky(effect=None, **when):
    when = when or {"texts": "poison"}
    return FlakyEmbedder(
        DeterministicEmbedder(), [Fault(effect or ValueError("a text I cannot bear"), **when)]
    )


def test_one_text_that_raises_does_not_hold_back_the_other_63_of_its_batch(open_db):
    db = open_db(embedder=_flaky())
    db.write(_nodes())

    report = db.admin.drain_vector_projection(timeout=30)

    assert (report.incremental_processed, report.reverted, report.failed) == (63, 1, 0)
    assert (report.stopped_by, report.remaining) == ("idle", 1)
    assert inside.adds_up(report)
    assert set(inside.work(db)) == {f"{POISON}#0"}
    poison = inside.work(db)[f"{POISON}#0"]
    assert (poison.state, poison.attempts) == ("pending", 1)
    assert poison.last_error == "ValueError: a text I cannot bear"
    inside.check(db, DeterministicEmbedder())


def test_one_tick_finds_the_culprit_too(open_db):
    db = open_db(embedder=_flaky())
    db.write(_nodes())

    report = db.admin.run_tick()

    assert (report.claimed, report.incremental_processed, report.reverted) == (64, 63, 1)


def test_a_charged_row_waits_twice_as_long_each_time_and_fails_after_its_attempts(open_db):
    clock = ManualClock()
    db = open_db(
        embedder=_flaky(),
        config=EngineConfig(clock=clock, max_attempts=4, retry_wait_seconds=10.0),
    )
    db.write(_nodes())
    db.admin.drain_vector_projection(timeout=30)

    for attempt, wait in ((2, 10.0), (3, 20.0)):
        clock.advance(wait - 0.01)
        assert db.admin.drain_vector_projection(timeout=30).claimed == 0
        clock.advance(0.02)
        report = db.admin.drain_vector_projection(timeout=30)
        assert (report.claimed, report.reverted) == (1, 1)
        assert inside.work(db)[f"{POISON}#0"].attempts == attempt
    clock.advance(40.01)
    report = db.admin.drain_vector_projection(timeout=30)

    assert (report.claimed, report.failed, report.remaining) == (1, 1, 0)
    (failed,) = db.admin.failed_work()
    assert (failed.node_id, failed.cause, failed.attempts) == (POISON, "embedder_error", 4)
    assert failed.message == "ValueError: a text I cannot bear"
    status = db.admin.get_vec_index_status("Document")
    assert (status.failed, status.last_error) == (1, "ValueError: a text I cannot bear")
    clock.advance(1_000_000)
    assert db.admin.drain_vector_projection(timeout=30).claimed == 0


def test_a_failed_row_that_is_requeued_starts_anew_and_is_applied_once_the_cause_is_gone(open_db):
    flaky = _flaky()
    db = open_db(embedder=flaky, config=EngineConfig(max_attempts=1))
    db.write(_nodes())
    assert db.admin.drain_vector_projection(timeout=30).failed == 1

    flaky.script = ()
    assert db.admin.requeue_failed("Document") == 1
    assert inside.work(db)[f"{POISON}#0"].attempts == 0

    assert db.admin.drain_vector_projection(timeout=30).processed == 1
    assert db.admin.failed_work() == ()
    assert db.admin.get_vec_index_status("Document").last_error is None
    inside.check(db, DeterministicEmbedder())


def test_failed_rows_do_not_block_or_slow_what_is_written_later(open_db):
    flaky = _flaky()
    db = open_db(embedder=flaky, config=EngineConfig(max_attempts=1))
    db.write(_nodes())
    db.admin.drain_vector_projection(timeout=30)
    calls = flaky.calls

    db.write([Node("Document", f"later{i}", f"later {i}") for i in range(10)])
    report = db.admin.drain_vector_projection(timeout=30)

    assert (report.claimed, report.processed) == (10, 10)
    assert flaky.calls == calls + 1


def test_when_every_text_of_a_batch_raises_and_the_probe_passes_the_rows_are_charged(open_db):
    embedder = RecordingEmbedder(_flaky(texts=lambda text: text != PROBE_TEXT))
    db = open_db(embedder=embedder)
    db.write(_nodes())

    report = db.admin.drain_vector_projection(timeout=30)

    assert (report.reverted, report.embedder_unavailable_ticks) == (64, 0)
    assert embedder.texts.count(PROBE_TEXT) == 7  # of 1 text, of 2, of 4, ...: not for each
    assert {row.attempts for row in inside.work(db).values()} == {1}
    assert db.admin.status().outage is None


def test_when_the_probe_fails_too_it_was_an_outage_and_nobody_is_charged(open_db):
    embedder = RecordingEmbedder(_flaky(RuntimeError("out of memory"), calls=range(1, 1000)))
    db = open_db(embedder=embedder)
    db.write(_nodes(4))

    report = db.admin.drain_vector_projection(timeout=30)

    assert (report.claimed, report.reverted, report.stopped_by) == (4, 4, "unavailable")
    assert {row.attempts for row in inside.work(db).values()} == {0}
    assert db.admin.status().outage == "RuntimeError: out of memory"


def test_a_batch_of_one_that_raises_is_decided_by_the_probe(open_db):
    embedder = RecordingEmbedder(_flaky())
    db = open_db(embedder=embedder)
    db.write(Node("Document", POISON, "poison"))

    assert db.admin.drain_vector_projection(timeout=30).reverted == 1

    assert embedder.texts == ["poison", PROBE_TEXT]
    assert inside.work(db)[f"{POISON}#0"].attempts == 1


@pytest.mark.parametrize(
    "error", [StopIteration(), GeneratorExit(), SystemExit(3), KeyboardInterrupt(), MemoryError()]
)
def test_whatever_an_embedder_raises_is_one_rows_failure_and_ends_no_thread(open_db, error):
    db = open_db(embedder=_flaky(error, texts="poison"))
    db.write(_nodes())

    report = db.admin.drain_vector_projection(timeout=30)

    assert (report.processed, report.reverted) == (63, 1)
    assert type(error).__name__ in inside.work(db)[f"{POISON}#0"].last_error
    db.write(Node("Document", "later", "later"))
    assert db.admin.drain_vector_projection(timeout=30).processed == 1


ALONE_IN_CALL = 9
"""The call of the split in which the culprit of 64 stands alone."""


def _from_call(first):
    return range(first, 1_000_000)


@pytest.mark.parametrize(
    ("first", "charged"),
    [(ALONE_IN_CALL + 1, 0), (ALONE_IN_CALL + 2, 1)],
    ids=["before_another_call_passed", "after_another_call_passed"],
)
def test_an_outage_after_a_poison_text_charges_at_most_the_poison(open_db, first, charged):
    # Only a call that passes after it says that it was the text: the outage may have begun there.
    flaky = _flaky()
    db = open_db(embedder=flaky)
    db.write(_nodes())
    away = Fault(EmbedderUnavailableError("away"), calls=_from_call(first))
    flaky.script = (away, *flaky.script)

    report = db.admin.drain_vector_projection(timeout=30)

    assert report.stopped_by == "unavailable"
    assert inside.adds_up(report)
    assert report.claimed == 64
    assert report.processed + report.reverted == 64
    attempts = {chunk_id: row.attempts for chunk_id, row in inside.work(db).items()}
    assert attempts.pop(f"{POISON}#0") == charged
    assert set(attempts.values()) == {0}
    inside.check(db, DeterministicEmbedder())


@pytest.mark.parametrize("first", range(1, 17))
def test_an_outage_that_looks_like_any_other_error_charges_nobody_whenever_it_begins(
    open_db, first
):
    # With a culprit in the batch the embedder is called 15 times; then comes the probe, never needed.
    flaky = _flaky()
    db = open_db(embedder=flaky, durability="normal")
    db.write(_nodes())
    away = Fault(RuntimeError("CUDA error: device lost"), calls=_from_call(first))
    flaky.script = (away, *flaky.script)

    report = db.admin.drain_vector_projection(timeout=30)

    rows = inside.work(db)
    charged = {chunk_id for chunk_id, row in rows.items() if row.attempts}
    assert inside.adds_up(report)
    assert report.claimed == report.processed + report.reverted == 64
    assert charged <= {f"{POISON}#0"}
    assert bool(charged) == (first > ALONE_IN_CALL + 1)
    if len(rows) > 1:
        assert report.stopped_by == "unavailable"
        assert "device lost" in db.admin.status().outage
    # It is seen within a split: not every text of the rest is tried, alone, in vain.
    assert flaky.calls - first <= 8
    flaky.script = ()
    db.admin.drain_vector_projection(timeout=30)
    inside.check(db, DeterministicEmbedder())


def test_failure_bookkeeping_survives_the_abort_of_the_batch_it_describes(open_db):
    # The disk is full when the vectors of the others are stored: the transaction is rolled back.
    clock = ManualClock()
    inner = DeterministicEmbedder(2048)
    bad = [Fault(ValueError("bad"), texts="poison"), Fault("nan", texts="number 3")]
    db = open_db(embedder=FlakyEmbedder(inner, bad), config=EngineConfig(clock=clock))
    db.write(_nodes())

    with inside.full_disk(db):
        with pytest.raises(DiskFullError):
            db.admin.drain_vector_projection(timeout=30)
        assert inside.vectors(db) == {}
        with pytest.raises(DiskFullError):  # what is known of the rows has room; vectors have none
            db.admin.drain_vector_projection(timeout=30)

    poison = inside.work(db)[f"{POISON}#0"]
    assert (poison.state, poison.attempts, poison.last_error) == ("pending", 1, "ValueError: bad")
    failed = db.admin.failed_work()
    assert {row.cause for row in failed} == {"not_finite"}
    assert "n3#0" in {row.chunk_id for row in failed}

    report = db.admin.drain_vector_projection(timeout=30)
    assert inside.adds_up(report)
    assert (report.stopped_by, report.processed) == ("idle", 63 - len(failed))
    assert set(inside.work(db)) == {f"{POISON}#0", *(row.chunk_id for row in failed)}
    assert inside.work(db)[f"{POISON}#0"].attempts == 1  # not due yet, and not tried again
    inside.check(db, inner)
