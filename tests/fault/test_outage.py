"""An embedder that is away: its rows keep their attempts, the profile pauses, and work resumes."""

from __future__ import annotations

import pytest

import inside
from fathomdb import EmbedderUnavailableError, EngineConfig, Node
from fathomdb.embedders.protocol import EmbedderLimits
from fathomdb.pipeline.embed import PROBE_TEXT
from fathomdb.testing import (
    DeterministicEmbedder,
    Fault,
    FlakyEmbedder,
    ManualClock,
    RecordingEmbedder,
)

OUTAGES = [
    EmbedderUnavailableError("503 from the provider"),
    ConnectionRefusedError(111, "refused"),
    ConnectionResetError(104, "reset"),
    TimeoutError("the socket timed out"),
]


def _nodes(count, prefix="n"):
    return [Node("Document", f"{prefix}{i}", f"text {prefix} {i}") for i in range(count)]


def _away(error=None, **when):
    return FlakyEmbedder(
        DeterministicEmbedder(), [Fault(error or EmbedderUnavailableError("away"), **when)]
    )


def _pause_seconds(db):
    return db._runtime.model.pause_seconds()


@pytest.mark.parametrize("error", OUTAGES, ids=lambda error: type(error).__name__)
def test_an_outage_charges_nobody_and_pauses_the_profile_with_the_real_message(open_db, error):
    db = open_db(embedder=_away(error))
    db.write(_nodes(200))

    report = db.admin.drain_vector_projection(timeout=30)

    assert report.stopped_by == "unavailable"
    assert report.claimed == report.reverted > 0
    assert report.embedder_unavailable_ticks >= 1
    assert report.remaining == 200
    assert inside.adds_up(report)
    rows = inside.work(db).values()
    assert {(row.state, row.attempts) for row in rows} == {("pending", 0)}
    assert str(error) in db.admin.status().outage
    assert str(error) in db.admin.get_vec_index_status("Document").last_error
    assert _pause_seconds(db) > 0


def test_an_outage_of_any_length_takes_no_attempt_and_loses_no_row(open_db):
    clock = ManualClock()
    flaky = _away()
    db = open_db(embedder=flaky, config=EngineConfig(clock=clock, max_attempts=2))
    db.write(_nodes(100))
    for _ in range(60):
        report = db.admin.drain_vector_projection(timeout=30)
        assert (report.stopped_by, report.remaining) == ("unavailable", 100)
        assert inside.adds_up(report)
        clock.advance(60.0)

    assert {row.attempts for row in inside.work(db).values()} == {0}
    assert db.admin.status().counters["outages"] == 1
    flaky.script = ()
    report = db.admin.drain_vector_projection(timeout=30)

    assert (report.processed, report.failed, report.remaining) == (100, 0, 0)
    assert db.admin.status().outage is None
    assert db.admin.status().counters["outage_seconds"] == pytest.approx(3600.0)
    inside.check(db, DeterministicEmbedder())


def test_an_outage_is_probed_with_a_fixed_text_and_never_with_a_row(open_db):
    flaky = _away()
    embedder = RecordingEmbedder(flaky)
    db = open_db(embedder=embedder)
    db.write(_nodes(100))
    db.admin.drain_vector_projection(timeout=30)
    embedder.batches.clear()

    for _ in range(3):
        db.admin.drain_vector_projection(timeout=30)
        db.admin.run_tick()

    assert embedder.batches == [(PROBE_TEXT,)] * 6
    flaky.script = ()
    db.admin.run_tick()
    assert embedder.batches[6] == (PROBE_TEXT,)
    assert len(embedder.batches[7]) == 64


def test_a_batch_that_waits_behind_an_outage_is_not_sent_to_the_embedder(open_db):
    embedder = RecordingEmbedder(_away())
    embedder.hold()
    db = open_db(embedder=embedder, background=True)
    db.write(_nodes(200))
    embedder.wait_held()

    # The next batch is claimed by now or will be; it must not be tried once the first says "away".
    embedder.release()
    report = db.admin.drain_vector_projection(timeout=30)

    assert report.stopped_by == "unavailable"
    assert [batch for batch in embedder.batches if batch != (PROBE_TEXT,)] == [embedder.batches[0]]


def test_the_waits_of_an_outage_grow_from_a_quarter_second_to_a_minute_with_jitter(open_db):
    clock = ManualClock()
    db = open_db(embedder=_away(), config=EngineConfig(clock=clock))
    db.write(_nodes(200))
    waits = []
    for _ in range(12):
        db.admin.drain_vector_projection(timeout=30)
        waits.append(_pause_seconds(db))
        clock.advance(waits[-1])

    for n, wait in enumerate(waits):
        nominal = min(0.25 * 2**n, 60.0)
        assert 0.75 * nominal <= wait <= 1.25 * nominal
    assert len(set(waits)) == len(waits)


def test_retry_after_wins_over_our_own_wait(open_db):
    clock = ManualClock()
    error = EmbedderUnavailableError("429, slow down", retry_after_seconds=123.0)
    db = open_db(embedder=_away(error), config=EngineConfig(clock=clock))
    db.write(_nodes(10))

    db.admin.drain_vector_projection(timeout=30)

    assert _pause_seconds(db) == 123.0
    clock.advance(100.0)
    assert _pause_seconds(db) == 23.0


def test_after_an_outage_the_first_wait_is_short_again(open_db):
    clock = ManualClock()
    flaky = _away()
    db = open_db(embedder=flaky, config=EngineConfig(clock=clock))
    db.write(_nodes(10))
    for _ in range(6):
        db.admin.drain_vector_projection(timeout=30)
        clock.advance(60.0)
    flaky.script = ()
    db.admin.drain_vector_projection(timeout=30)
    flaky.script = (Fault(EmbedderUnavailableError("away again")),)
    db.write(_nodes(10, "again"))

    db.admin.drain_vector_projection(timeout=30)

    assert 0.75 * 0.25 <= _pause_seconds(db) <= 1.25 * 0.25
    assert db.admin.status().counters["outages"] == 2


def test_the_background_resumes_by_itself_once_the_wait_is_over_and_the_embedder_back(open_db):
    flaky = _away(calls=range(1, 4))
    db = open_db(
        embedder=flaky,
        background=True,
        config=EngineConfig(outage_wait_seconds=0.001, idle_poll_seconds=0.001),
    )
    receipt = db.write(_nodes(100))

    while not (report := db.wait(receipt, timeout=30.0)).complete:
        assert report.failed == 0
        assert report.reason is not None
        assert "away" in report.reason

    assert inside.work(db) == {}
    assert db.admin.status().counters["reverted"] > 0
    inside.check(db, DeterministicEmbedder())


def test_wait_returns_at_once_with_the_reason_while_the_embedder_is_away(open_db):
    clock = ManualClock()
    db = open_db(embedder=_away(), background=True, config=EngineConfig(clock=clock))

    report = db.wait(db.write(_nodes(3)), timeout=1_000_000.0)

    assert (report.complete, report.pending) == (False, 3)
    assert report.reason == "the embedder is away: EmbedderUnavailableError: away"


def test_the_paused_background_does_not_call_the_embedder_before_the_wait_is_over(open_db):
    # The clock stands still, so the pause never ends by itself, however often the actor looks.
    clock = ManualClock()
    flaky = _away()
    db = open_db(
        embedder=flaky,
        background=True,
        config=EngineConfig(clock=clock, idle_poll_seconds=0.001),
    )
    receipt = db.write(_nodes(3))
    db.wait(receipt, timeout=30.0)
    calls = flaky.calls
    for i in range(50):  # each write wakes the actor
        db.write(Node("Document", f"more{i}", f"more {i}"))
    assert flaky.calls == calls
    assert db.search("more", mode="hybrid").degraded == "outage"
    assert flaky.calls == calls

    flaky.script = ()
    clock.advance(60.0)
    while not (report := db.wait(receipt, timeout=30.0)).complete:
        assert report.pending == 3  # until the actor's next look at the clock


def test_an_outage_in_the_middle_of_a_claim_applies_what_was_embedded_before_it(open_db):
    def breaks_in_second_half(good, rows):
        raise ValueError("too many at once")

    # A batch of 16 is too much for this embedder, eight are not; then it goes away.
    flaky = FlakyEmbedder(
        DeterministicEmbedder(limits=EmbedderLimits(items=16)),
        [
            Fault(breaks_in_second_half, calls=[1]),
            Fault(EmbedderUnavailableError("away"), calls=range(3, 100)),
        ],
    )
    db = open_db(embedder=flaky)
    db.write(_nodes(16))

    report = db.admin.run_tick()

    assert (report.claimed, report.incremental_processed, report.reverted) == (16, 8, 8)
    assert report.embedder_unavailable
    assert {row.attempts for row in inside.work(db).values()} == {0}
    inside.check(db, DeterministicEmbedder())


@pytest.mark.parametrize("asked", ["5", float("nan"), -1, 0, True, object(), None])
def test_a_retry_after_that_cannot_be_meant_leaves_our_own_wait(open_db, asked):
    error = EmbedderUnavailableError("away", retry_after_seconds=asked)
    db = open_db(embedder=_away(error), config=EngineConfig(clock=ManualClock()))
    db.write(_nodes(10))

    assert db.admin.drain_vector_projection(timeout=30).stopped_by == "unavailable"
    assert 0.75 * 0.25 <= _pause_seconds(db) <= 1.25 * 0.25


@pytest.mark.parametrize("asked", [float("inf"), 1e300, 10**400])
def test_a_retry_after_of_days_is_an_hour(open_db, asked):
    error = EmbedderUnavailableError("away", retry_after_seconds=asked)
    db = open_db(embedder=_away(error), config=EngineConfig(clock=ManualClock()))
    db.write(_nodes(10))

    db.admin.drain_vector_projection(timeout=30)

    assert _pause_seconds(db) == 3600.0


class _CannotCount(DeterministicEmbedder):
    def count_truncated(self, texts):
        raise KeyError("a text")


def test_a_count_of_truncated_texts_that_fails_does_not_fail_the_batch(open_db, caplog):
    db = open_db(embedder=_CannotCount())
    db.write(_nodes(200))

    assert db.admin.drain_vector_projection(timeout=30).processed == 200
    assert caplog.text.count("count_truncated of") == 1  # not for every batch
    assert "a text" not in caplog.text


def test_a_count_of_truncated_texts_that_fails_does_not_hide_an_outage(open_db):
    class Away(_CannotCount):
        def batch_embed(self, texts):
            raise EmbedderUnavailableError("503 from the provider")

    db = open_db(embedder=Away())
    db.write(_nodes(3))
    db.admin.drain_vector_projection(timeout=30)

    assert db.admin.status().outage == "EmbedderUnavailableError: 503 from the provider"
