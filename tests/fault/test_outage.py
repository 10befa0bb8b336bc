"""An embedder that is away: its rows keep their attempts, the profile pauses, and work resumes."""

from __future__ import annotations

import random
import socket
import threading
import urllib.error
from datetime import UTC, datetime
from email.message import Message
from email.utils import format_datetime
from types import SimpleNamespace

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


class HttpError(Exception):
    """What clients of HTTP raise: the status is the error's own, or that of its ``response``."""

    def __init__(self, status_code=None, response=None, headers=None):
        super().__init__(f"the server said {status_code or response}")
        if status_code is not None:
            self.status_code = status_code
        if response is not None:
            self.response = SimpleNamespace(status_code=response, headers=headers or {})


def _from(cause):
    error = RuntimeError("the client wraps what it is told")
    error.__cause__ = cause
    return error


OUTAGES = [
    EmbedderUnavailableError("503 from the provider"),
    ConnectionRefusedError(111, "refused"),
    ConnectionResetError(104, "reset"),
    TimeoutError("the socket timed out"),
    socket.gaierror(-3, "the name cannot be resolved now"),
    urllib.error.URLError(ConnectionRefusedError(111, "refused")),
    urllib.error.HTTPError("http://models.example", 503, "unavailable", Message(), None),
    HttpError(429),
    HttpError(response=502),
    _from(HttpError(529)),
    _from(_from(ConnectionResetError(104, "reset"))),
]


def _nodes(count, prefix="n"):
    return [Node("Document", f"{prefix}{i}", f"text {prefix} {i}") for i in range(count)]


def _away(error=None, **when):
    return FlakyEmbedder(
        DeterministicEmbedder(), [Fault(error or EmbedderUnavailableError("away"), **when)]
    )


def _pause_seconds(db):
    return db._runtime.model.pause_seconds()


@pytest.mark.parametrize("error", OUTAGES, ids=repr)
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


# --- who says so ----------------------------------------------------------------------------------


class CannotBeAskedError(Exception):
    """Even its attributes raise, and so do its words."""

    @property
    def status_code(self):
        raise OSError("no")

    response = reason = headers = retry_after_seconds = status_code

    def __str__(self):
        raise ValueError("no words")


def _being_handled():
    error = ValueError("a text I cannot bear")
    error.__context__ = ConnectionRefusedError("a cache that the embedder can do without")
    return error


@pytest.mark.parametrize(
    "error",
    [
        HttpError(400),
        HttpError(response=413),
        CannotBeAskedError(),
        _being_handled(),
        OSError("disk"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_an_error_that_does_not_blame_the_embedder_is_a_texts(open_db, error):
    db = open_db(embedder=_away(error, texts="n 7"))
    db.write(_nodes(64))

    report = db.admin.drain_vector_projection(timeout=30)

    assert (report.processed, report.reverted, report.stopped_by) == (63, 1, "idle")
    (row,) = inside.work(db).values()
    assert (row.chunk_id, row.attempts) == ("n7#0", 1)
    assert row.last_error.startswith(type(error).__name__)


def test_the_words_of_an_error_are_kept_though_no_utf_8_could_hold_them(open_db):
    db = open_db(embedder=_away(ValueError("a lone \ud800 surrogate"), texts="n 7"))
    db.write(_nodes(64))

    assert db.admin.drain_vector_projection(timeout=30).processed == 63
    (row,) = inside.work(db).values()
    assert row.last_error == "ValueError: a lone ? surrogate"


# --- how long -------------------------------------------------------------------------------------


def _date(clock, seconds):
    return format_datetime(datetime.fromtimestamp(clock.now() + seconds, UTC), usegmt=True)


@pytest.mark.parametrize(
    ("header", "wait"),
    [
        (lambda clock: "90", 90.0),
        (lambda clock: " 90 ", 90.0),
        (lambda clock: _date(clock, 90), 90.0),
        (lambda clock: _date(clock, 86_400), 3600.0),
        (lambda clock: "9" * 400, 3600.0),
    ],
    ids=["seconds", "spaces", "a_date", "a_date_of_tomorrow", "for_ever"],
)
@pytest.mark.parametrize("name", ["Retry-After", "retry-after"])
def test_a_retry_after_header_of_the_answer_wins_over_our_own_wait(open_db, header, wait, name):
    clock = ManualClock()
    error = HttpError(response=429, headers={name: header(clock)})
    db = open_db(embedder=_away(_from(error)), config=EngineConfig(clock=clock))
    db.write(_nodes(10))

    db.admin.drain_vector_projection(timeout=30)

    assert _pause_seconds(db) == wait


@pytest.mark.parametrize(
    "header",
    ["", "soon", "-5", "0", "1e3", "Wed, 99 Foo", "Mon, 01 Jan 2001 00:00:00 GMT", b"\xff"],
)
def test_a_retry_after_header_that_cannot_be_meant_leaves_our_own_wait(open_db, header):
    error = HttpError(response=503, headers={"Retry-After": header})
    db = open_db(embedder=_away(error), config=EngineConfig(clock=ManualClock()))
    db.write(_nodes(10))

    assert db.admin.drain_vector_projection(timeout=30).stopped_by == "unavailable"
    assert 0.75 * 0.25 <= _pause_seconds(db) <= 1.25 * 0.25


def test_a_retry_after_that_is_said_once_makes_no_later_wait_longer(open_db):
    # The probe's error is heard twice, on the embedder's thread and where the batch is settled.
    clock = ManualClock()
    flaky = _away(EmbedderUnavailableError("429", retry_after_seconds=7.0))
    db = open_db(embedder=flaky, config=EngineConfig(clock=clock, jitter=lambda low, high: 1.0))
    db.write(_nodes(10))
    db.admin.drain_vector_projection(timeout=30)
    flaky.script = (Fault(EmbedderUnavailableError("503")),)
    clock.advance(7.0)
    db.admin.drain_vector_projection(timeout=30)

    assert _pause_seconds(db) == 0.5


def test_the_jitter_is_that_of_the_config_so_that_waits_can_be_replayed(open_db):
    waits = []
    for _ in range(2):
        clock = ManualClock()
        config = EngineConfig(clock=clock, jitter=random.Random(7).uniform)
        with open_db(embedder=_away(), config=config) as db:
            db.write(_nodes(10, f"n{len(waits)}"))
            told = []
            for _ in range(6):
                db.admin.drain_vector_projection(timeout=30)
                told.append(_pause_seconds(db))
                clock.advance(told[-1])
            waits.append(told)

    assert waits[0] == waits[1]


def test_one_models_outage_does_not_pause_another_object_of_the_same_model(open_db):
    db = open_db(embedder=_away(), config=EngineConfig(clock=ManualClock()))
    db.write(_nodes(10))
    assert db.admin.drain_vector_projection(timeout=30).stopped_by == "unavailable"

    report = db.admin.drain_vector_projection(timeout=30, embedder=DeterministicEmbedder())

    assert (report.processed, report.stopped_by) == (10, "idle")


def test_a_machine_that_has_no_thread_left_for_the_embedder_is_an_outage(open_db):
    db = open_db(config=EngineConfig(clock=(clock := ManualClock())))
    db.write(_nodes(100))
    before = threading.stack_size(1 << 46)  # no address space has room for such a stack
    try:
        report = db.admin.drain_vector_projection(timeout=30)
    finally:
        threading.stack_size(before)

    assert (report.stopped_by, report.processed) == ("unavailable", 0)
    assert inside.adds_up(report)
    assert {(row.state, row.attempts) for row in inside.work(db).values()} == {("pending", 0)}
    assert "no thread could be started" in db.admin.status().outage
    clock.advance(60.0)
    assert db.admin.drain_vector_projection(timeout=30).processed == 100


def test_no_thread_for_what_waits_behind_calls_that_hang_is_an_outage_and_no_row_is_stuck(open_db):
    clock, hang = ManualClock(), threading.Event()
    inside_it = threading.Barrier(3)

    class Hangs(DeterministicEmbedder):
        def batch_embed(self, texts):
            if any("hang" in text for text in texts):
                inside_it.wait(30)
                hang.wait(60)
            return super().batch_embed(texts)

    embedder = Hangs(limits=EmbedderLimits(items=1, concurrency=2))
    db = open_db(embedder=embedder, config=EngineConfig(clock=clock, embed_timeout_seconds=10.0))
    db.write([Node("Document", f"h{i}", f"hang {i}") for i in range(2)] + _nodes(10))
    reports = []
    drain = threading.Thread(
        target=lambda: reports.append(db.admin.drain_vector_projection(timeout=1000))
    )
    drain.start()
    inside_it.wait(30)
    before = threading.stack_size(1 << 46)  # no address space has room for such a stack
    try:
        clock.advance(10.0)
        drain.join(30)
    finally:
        threading.stack_size(before)

    (report,) = reports
    assert (report.stopped_by, report.processed) == ("unavailable", 0)
    assert inside.adds_up(report)
    assert {row.state for row in inside.work(db).values()} == {"pending"}
    assert "no thread could be started" in db.admin.status().outage
    clock.advance(60.0)
    hang.set()
    inside_it.abort()
    embedder.batch_embed = DeterministicEmbedder().batch_embed
    assert db.admin.drain_vector_projection(timeout=1000).remaining == 0


# --- an hour of it --------------------------------------------------------------------------------


def test_an_outage_of_an_hour_costs_a_probe_a_wait_and_work_resumes_within_one_wait(open_db):
    clock = ManualClock()
    embedder = RecordingEmbedder(flaky := _away())
    db = open_db(embedder=embedder, config=EngineConfig(clock=clock))
    db.write(_nodes(200))
    db.admin.drain_vector_projection(timeout=30)
    queued = inside.work(db).keys()
    tried = len(embedder.batches)
    while clock.monotonic() < 3600.0:
        clock.advance(_pause_seconds(db))
        assert db.admin.drain_vector_projection(timeout=30).claimed == 0

    probes = embedder.batches[tried:]
    assert set(probes) == {(PROBE_TEXT,)}
    # 9 waits that grow from 0.25 s to 60 s, then one of 45 s at least: the jitter takes a quarter.
    assert len(probes) <= 9 + 3600 / 45
    assert inside.work(db).keys() == queued
    assert {(row.state, row.attempts) for row in inside.work(db).values()} == {("pending", 0)}

    flaky.script = ()
    assert _pause_seconds(db) <= 75.0
    clock.advance(_pause_seconds(db))
    assert db.admin.drain_vector_projection(timeout=30).processed == 200
    inside.check(db, DeterministicEmbedder())


def test_an_outage_wakes_the_background_for_commits_and_polls_alone(open_db):
    class Watched(ManualClock):
        looks = 0  # of the actor: each time that it wakes up it looks at the time

        def monotonic(self):
            self.looks += threading.current_thread().name == "fathomdb-projector"
            return super().monotonic()

    clock = Watched()
    embedder = RecordingEmbedder(_away())
    config = EngineConfig(clock=clock, idle_poll_seconds=3600.0)
    db = open_db(embedder=embedder, background=True, config=config)
    db.wait(db.write(_nodes(100)), timeout=30.0)
    assert _sleeps(db, clock)
    looks, calls = clock.looks, len(embedder.batches)

    for i in range(50):
        db.write(Node("Document", f"more{i}", f"more {i}"))
    assert _sleeps(db, clock)

    assert clock.looks - looks <= 50 * 10
    assert len(embedder.batches) == calls


def _sleeps(db, clock):
    """Whether the actor comes to rest: not one look at the time while others search 100 times."""
    for _ in range(100):
        looks = clock.looks
        for _ in range(100):
            db.text_search("text")
        if clock.looks == looks:
            return True
    return False


def test_the_backlog_of_an_outage_neither_jumps_ahead_of_fresh_writes_nor_starves_behind_them(
    open_db,
):
    clock = ManualClock()
    limits = EmbedderLimits(items=10)
    flaky = FlakyEmbedder(DeterministicEmbedder(limits=limits), [Fault(OUTAGES[0])])
    embedder = RecordingEmbedder(flaky)
    db = open_db(embedder=embedder, config=EngineConfig(clock=clock))
    db.admin.disable_vec("Document")
    db.write(_nodes(30, "old"))
    db.admin.configure_vec("Document")
    db.write(_nodes(20, "during"))
    for _ in range(3):  # claimed, and given back by the outage
        db.admin.drain_vector_projection(timeout=30)
        clock.advance(60.0)
    db.write(_nodes(200, "fresh"))
    flaky.script = ()
    embedder.batches.clear()

    db.admin.drain_vector_projection(timeout=30)

    lanes = [batch[0].split()[1] for batch in embedder.batches if batch != (PROBE_TEXT,)]
    # What was fresh when the outage began keeps its turn; old work has every eighth, no more.
    assert lanes[:2] == ["during"] * 2
    assert [n for n, lane in enumerate(lanes, 1) if lane == "old"] == [8, 16, 24]
    assert lanes.count("fresh") == 20
