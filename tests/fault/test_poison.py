"""A text that makes the embedder raise: it is found, charged alone, and failed in the end."""

from __future__ import annotations

import pytest

import inside
from fathomdb import EmbedderUnavailableError, EngineConfig, Node
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
    db.write(_nodes(4))

    report = db.admin.drain_vector_projection(timeout=30)

    assert (report.reverted, report.embedder_unavailable_ticks) == (4, 0)
    assert embedder.texts.count(PROBE_TEXT) == 1
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


def test_an_outage_after_a_poison_text_charges_the_poison_alone(open_db):
    # The culprit stands alone in the last calls of the split; then the provider goes away.
    flaky = _flaky()
    db = open_db(embedder=flaky)
    db.write(_nodes())

    class GoesAway:
        def __contains__(self, call):
            return call >= 10

    flaky.script = (
        Fault(EmbedderUnavailableError("away"), calls=GoesAway()),
        *flaky.script,
    )
    report = db.admin.drain_vector_projection(timeout=30)

    assert report.stopped_by == "unavailable"
    assert inside.adds_up(report)
    assert report.claimed == 64
    assert report.processed + report.reverted == 64
    attempts = {chunk_id: row.attempts for chunk_id, row in inside.work(db).items()}
    assert attempts.pop(f"{POISON}#0") == 1
    assert set(attempts.values()) == {0}
    inside.check(db, DeterministicEmbedder())
