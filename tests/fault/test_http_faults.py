"""The engine on an embedder over HTTP, with a server that goes wrong: nothing is lost or mixed up."""

from __future__ import annotations

import random
import threading

import pytest

import inside
from fathomdb import EngineConfig, Node
from fathomdb.embedders.openai import OpenAIEmbedder
from fathomdb.embedders.registry import resolve
from fathomdb.pipeline.embed import PROBE_TEXT
from fathomdb.testing import DeterministicEmbedder, ManualClock
from http_server import (
    MODEL,
    PATIENCE_SECONDS,
    Said,
    changed,
    cut_off,
    half_a_body,
    reset,
    serving,
)


@pytest.fixture
def server():
    with serving() as server:
        yield server


@pytest.fixture
def make(server):
    made = []

    def make(**options):
        options.setdefault("jitter", lambda low, high: 0.01)
        made.append(OpenAIEmbedder(MODEL, base_url=server.url, dimensions=16, **options))
        return made[-1]

    yield make
    for embedder in made:
        embedder.close()


class _Same:
    """The model of an embedder with the vectors of the server's, to check a file against."""

    def __init__(self, embedder):
        self.identity = embedder.identity

    def batch_embed(self, texts):
        return DeterministicEmbedder(16).batch_embed(texts)


def _nodes(count):
    return [Node("Document", f"n{n}", f"text number {n}") for n in range(count)]


FAULTS = [
    Said(429, headers={"Retry-After": "0.01"}),
    Said(429),
    Said(500),
    reset,
    cut_off,
    half_a_body,
    changed(lambda data: data[:-1]),
    changed(lambda data: [*data, data[0]]),
    changed(lambda data: data[::-1]),
    None,
    None,
    None,
]


@pytest.mark.parametrize("seed", range(3))
def test_whatever_goes_wrong_every_text_gets_its_own_vector(open_db, server, make, seed):
    rng = random.Random(seed)
    server.script.extend(rng.choice(FAULTS) for _ in range(60))
    embedder = make(batch_items=8)
    config = EngineConfig(
        outage_wait_seconds=0.001,
        retry_wait_seconds=0.001,
        max_attempts=100,
        idle_poll_seconds=0.01,
    )
    db = open_db(embedder=embedder, config=config, background=True)
    receipt = db.write(_nodes(300))

    while not (report := db.wait(receipt, timeout=PATIENCE_SECONDS)).complete:
        assert report.failed == 0

    assert not server.script, "every fault was met"
    assert len(inside.blobs(db)) == 300
    inside.check(db, _Same(embedder))


def test_the_text_that_a_provider_refuses_fails_alone(open_db, server, make):
    server.refuse = lambda texts: (
        Said(400, "this text is refused") if any("bad" in text for text in texts) else None
    )
    db = open_db(embedder=make(), config=EngineConfig(max_attempts=1))
    db.write([*_nodes(63), Node("Document", "bad", "a bad text")])

    report = db.admin.drain_vector_projection(timeout=PATIENCE_SECONDS)

    assert (report.processed, report.failed, report.stopped_by) == (63, 1, "idle")
    (row,) = db.admin.failed_work()
    assert row.chunk_id == "bad#0"
    assert "400 this text is refused" in row.message


def test_a_batch_limit_of_the_provider_costs_no_row_an_attempt(open_db, server, make):
    server.refuse = lambda texts: Said(413, "too large") if len(texts) > 10 else None
    db = open_db(embedder=(embedder := make(concurrency=1)))
    db.write(_nodes(256))

    report = db.admin.drain_vector_projection(timeout=PATIENCE_SECONDS)

    assert (report.processed, report.reverted, report.failed) == (256, 0, 0)
    assert server.statuses.count(413) == 3, "64, 32 and 16 are tried once"
    inside.check(db, _Same(embedder))


@pytest.mark.parametrize(
    "wrong", [Said(401, "no such key"), Said(404, "no such model"), Said(403, "no"), "dimension"]
)
def test_what_no_text_is_to_blame_for_pauses_the_model_and_charges_nobody(
    open_db, server, make, wrong
):
    if wrong == "dimension":
        server.embedder = DeterministicEmbedder(12)
        wrong = Said(200, "12 dimensions, not 16")
    else:
        server.refuse = lambda _: wrong
    db = open_db(embedder=make())
    db.write(_nodes(20))

    report = db.admin.drain_vector_projection(timeout=PATIENCE_SECONDS)

    assert (report.stopped_by, report.failed, report.remaining) == ("unavailable", 0, 20)
    assert wrong.message in db.admin.status().outage
    assert {row.attempts for row in inside.work(db).values()} == {0}


@pytest.mark.parametrize("status", [429, 503])
def test_the_wait_that_a_provider_asks_for_is_the_pause_of_the_model(open_db, server, make, status):
    clock = ManualClock()
    server.script.append(Said(status, "later", headers={"Retry-After": "123"}))
    db = open_db(embedder=make(clock=clock), config=EngineConfig(clock=clock))
    db.write(_nodes(5))

    assert db.admin.drain_vector_projection(timeout=1.0).stopped_by == "unavailable"
    assert db._runtime.model.pause_seconds() == 123.0
    assert db.search("text").degraded == "outage"
    assert len(server.asked) == 1, "a search does not ask while the pause lasts"

    clock.advance(123.0)
    assert db.admin.drain_vector_projection(timeout=1.0).processed == 5
    assert server.asked[1].texts == [PROBE_TEXT]


def test_as_many_requests_as_declared_are_on_their_way(open_db, server, make):
    server.hold()
    db = open_db(embedder=make(batch_items=4, concurrency=8), background=True)
    receipt = db.write(_nodes(64))
    server.wait_inside(8)
    server.release()
    assert db.wait(receipt, timeout=PATIENCE_SECONDS).complete
    assert server.most_at_once == 8


def test_too_many_requests_halve_what_is_on_its_way_and_nothing_is_lost(open_db, server, make):
    """A quota that nobody told us of: the server's clock stands until all have met it."""
    clock = server.clock = ManualClock()
    server.quota = 20
    embedder = make(batch_items=1, concurrency=8, clock=clock)
    config = EngineConfig(clock=clock, idle_poll_seconds=0.001)
    db = open_db(embedder=embedder, config=config, background=True)
    receipt = db.write(_nodes(100))
    while not db.wait(receipt, timeout=0.05).complete:
        assert server.most_at_once <= 8
        clock.advance(1.0)
    assert embedder._throttle.allowed <= 8
    assert server.statuses.count(200) >= 100
    assert db.admin.status().counters["failed"] == 0
    inside.check(db, _Same(embedder))


def test_a_quota_that_is_told_is_kept_without_being_met(open_db, server, make):
    clock = server.clock = ManualClock()
    server.quota = 15
    embedder = make(batch_items=1, concurrency=4, requests_per_minute=15, clock=clock)
    config = EngineConfig(clock=clock, idle_poll_seconds=0.001, embed_timeout_seconds=1e6)
    db = open_db(embedder=embedder, config=config, background=True)
    receipt = db.write(_nodes(20))
    while not db.wait(receipt, timeout=0.01).complete:
        clock.advance(0.25)
    assert server.statuses == [200] * 20
    inside.check(db, _Same(embedder))


def test_closing_the_engine_does_not_wait_for_the_quota(open_db, server, monkeypatch):
    """Of an embedder that a name built, which only its engine can close."""
    monkeypatch.setenv("OPENAI_BASE_URL", server.url)
    db = open_db(embedder=f"openai:{MODEL}", background=True)
    embedder = db._runtime.model.embedder
    began, embed = threading.Event(), embedder.batch_embed

    def batch_embed(texts):
        began.set()
        return embed(texts)

    monkeypatch.setattr(embedder, "batch_embed", batch_embed)
    embedder._throttle.pause(19.0)
    db.write(_nodes(3))
    assert began.wait(PATIENCE_SECONDS)

    db.close()

    assert embedder._throttle.closed
    assert server.asked == []


def test_a_file_never_contacts_a_remote_embedder_by_itself(open_db, server, monkeypatch):
    monkeypatch.setenv("OPENAI_BASE_URL", server.url)
    db = open_db(embedder=f"openai:{MODEL}")
    db.write(_nodes(3))
    db.admin.drain_vector_projection(timeout=PATIENCE_SECONDS)
    db.close()
    before = len(server.asked)

    db = open_db(embedder=None, background=True)
    db.write(Node("Document", "more", "more text"))

    result = db.search("text")
    assert (result.degraded, len(result)) == ("no_embedder", 4)
    assert MODEL in result.reason
    assert len(server.asked) == before
    assert resolve(f"openai:{MODEL}").local is False
