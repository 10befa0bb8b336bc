"""Waiting for a write, searching after it, and what a search says it could not see."""

from __future__ import annotations

import threading

import pytest

from fathomdb import EmbedderUnavailableError, Node
from fathomdb.testing import DeterministicEmbedder, Fault, FlakyEmbedder, RecordingEmbedder


@pytest.fixture
def held(open_db):
    """An engine that works in the background, with its embedder held in the middle of a call."""
    embedder = RecordingEmbedder(DeterministicEmbedder())
    embedder.hold()
    db = open_db(embedder=embedder, background=True)
    yield db, embedder
    embedder.release()


# --- found by its words at once -------------------------------------------------------------------


def test_a_text_is_found_by_its_words_in_the_next_line_while_the_embedder_is_stopped(open_db):
    for options in ({}, {"embedder": False}):
        with open_db(**options) as db:
            for n in range(5):
                db.write(Node("Doc", f"n{n}", f"harbour number word{n}"))
                assert [hit.node_id for hit in db.text_search(f"word{n}")] == [f"n{n}"]
                assert f"n{n}" in {hit.node_id for hit in db.search(f"word{n}")}
                db.write(Node("Doc", f"n{n}", f"rewritten thing{n}"))
                assert not db.text_search(f"word{n}")
                assert [hit.node_id for hit in db.text_search(f"thing{n}")] == [f"n{n}"]


def test_a_text_is_found_by_its_words_while_the_embedder_hangs_in_a_call(held):
    db, embedder = held
    db.write(Node("Doc", "a", "first text"))
    embedder.wait_held()
    db.write(Node("Doc", "b", "second text"))
    assert {hit.node_id for hit in db.text_search("text")} == {"a", "b"}
    result = db.search("text", timeout=0)
    assert {hit.node_id for hit in result} == {"a", "b"}
    assert result.degraded == "outage"
    assert result.freshness.pending == 2


# --- waiting --------------------------------------------------------------------------------------


def test_wait_returns_when_the_vectors_of_the_write_are_there(open_db):
    db = open_db(background=True)
    receipt = db.write(Node("Doc", f"n{n}", f"text {n}") for n in range(200))
    report = db.wait(receipt)
    assert (report.complete, report.projected, report.failed, report.pending) == (True, 200, 0, 0)
    assert report.reason is None
    assert db.semantic_search("text 7")[0].node_id == "n7"


def test_wait_past_its_time_says_how_far_it_is_and_raises_nothing(held):
    db, embedder = held
    receipt = db.write([Node("Doc", "a", "text"), Node("Doc", "b", "more")])
    embedder.wait_held()
    for timeout in (0, 0.01):
        report = db.wait(receipt, timeout)
        assert (report.complete, report.projected, report.pending) == (False, 0, 2)
        assert report.reason == "timeout"
    embedder.release()
    assert db.wait(receipt).complete


def test_wait_returns_at_once_with_the_reason_when_nothing_can_make_progress(open_db):
    with open_db() as db:
        report = db.wait(db.write(Node("Doc", "a", "text")), timeout=3600)
        assert (report.complete, report.pending) == (False, 1)
        assert "background=False" in report.reason
        assert "admin.drain_vector_projection" in report.reason
    with open_db(embedder=None, background=True) as db:
        report = db.wait(db.write(Node("Doc", "b", "text")), timeout=3600)
        assert "pass its embedder to fathomdb.open" in report.reason
    flaky = FlakyEmbedder(DeterministicEmbedder(), [Fault(EmbedderUnavailableError("said 503"))])
    with open_db(embedder=flaky, background=True) as db:
        report = db.wait(db.write(Node("Doc", "c", "text")), timeout=3600)
        assert "said 503" in report.reason


def test_wait_counts_chunks_that_failed_and_ends(open_db):
    flaky = FlakyEmbedder(DeterministicEmbedder(), [Fault("nan", texts="poison")])
    db = open_db(embedder=flaky, background=True)
    receipt = db.write([Node("Doc", "a", "good"), Node("Doc", "b", "poison")])
    report = db.wait(receipt)
    assert (report.complete, report.projected, report.failed, report.pending) == (False, 1, 1, 0)


def test_wait_for_a_write_without_text_is_complete_at_once(db):
    report = db.wait(db.write(Node("Doc", "a", properties={"n": 1})))
    assert (report.complete, report.projected, report.pending) == (True, 0, 0)
    assert db.wait(db.write(retire="a")).complete


def test_wait_ends_when_the_engine_is_closed(held):
    db, embedder = held
    receipt = db.write(Node("Doc", "a", "text"))
    embedder.wait_held()
    said = []

    def wait():
        try:
            said.append(db.wait(receipt, timeout=3600))
        except Exception as error:
            said.append(error)

    waiting = threading.Thread(target=wait)
    waiting.start()
    embedder.release()
    db.close()
    waiting.join(60)
    assert not waiting.is_alive()
    assert len(said) == 1


# --- after= ---------------------------------------------------------------------------------------


def test_a_search_after_a_write_sees_its_vectors(open_db):
    db = open_db(background=True)
    for n in range(20):
        receipt = db.write(Node("Doc", f"n{n}", f"text {n}"))
        result = db.semantic_search(f"text {n}", after=receipt, limit=1)
        assert result[0].node_id == f"n{n}"
        assert result.degraded is None
        assert result.freshness.cursor >= receipt.cursor
        assert db.search(f"text {n}", after=receipt)[0].arms == ("text", "vector")


def test_a_search_after_a_write_that_is_late_answers_degraded(held):
    db, embedder = held
    receipt = db.write(Node("Doc", "a", "text"))
    embedder.wait_held()
    vector = DeterministicEmbedder().batch_embed(["text"])[0]
    late = db.raw_vector_search(vector, after=receipt, timeout=0.01)
    assert len(late) == 0
    assert late.degraded == "building"
    assert "1 vectors of the awaited write are still owed: timeout" in late.reason
    assert late.freshness.pending == 1


def test_a_search_after_a_write_that_nobody_projects_says_why(db):
    receipt = db.write(Node("Doc", "a", "text"))
    for search in (db.search, db.semantic_search):
        result = search("text", after=receipt, timeout=3600)
        assert result.degraded == "building"
        assert "background=False" in result.reason


def test_text_mode_waits_for_nothing(held):
    db, embedder = held
    receipt = db.write(Node("Doc", "a", "text"))
    embedder.wait_held()
    result = db.search("text", mode="text", after=receipt)
    assert [hit.node_id for hit in result] == ["a"]
    assert result.degraded is None


# --- freshness ------------------------------------------------------------------------------------


def test_freshness_counts_what_is_owed_inside_the_filter_alone(open_db):
    flaky = FlakyEmbedder(DeterministicEmbedder(), [Fault("nan", texts="poison")])
    db = open_db(embedder=flaky)
    db.write([Node("Doc", "bad-en", "poison", {"lang": "en"}), Node("Memo", "bad", "poison two")])
    db.admin.drain_vector_projection()
    db.write(
        Node("Doc" if n % 2 else "Memo", f"n{n}", f"text {n}", {"lang": "en" if n < 3 else "de"},
             source_ref=f"file-{n % 5}")
        for n in range(10)
    )  # fmt: skip

    def seen(**narrowed):
        freshness = db.search("text", **narrowed).freshness
        return (freshness.pending, freshness.failed)

    assert seen() == (10, 2)
    assert seen(mode="text") == (10, 2)
    assert seen(kind="Doc") == (5, 1)
    assert seen(kind=["Doc", "Memo"]) == (10, 2)
    assert seen(where={"lang": "en"}) == (3, 1)
    assert seen(where={"lang": "en"}, kind="Memo") == (2, 0)
    assert seen(ids=["n1", "n2", "bad"]) == (2, 1)
    assert seen(source_ref="file-0") == (2, 0)
    assert seen(where={"lang": "fr"}) == (0, 0)
    assert db.search("text").freshness.exact
    db.admin.drain_vector_projection()
    assert seen() == (0, 2)


def test_an_index_that_is_being_built_degrades_the_searches_of_its_kind_alone(open_db):
    db = open_db(index_kinds=["Memo"])
    db.write([Node("Doc", "a", "text one"), Node("Memo", "b", "text two")])
    db.admin.drain_vector_projection()
    db.admin.configure_vec("Doc")
    result = db.search("text")
    assert result.degraded == "building"
    assert "Doc" in result.reason
    assert {hit.node_id for hit in result} == {"a", "b"}
    assert db.search("text", kind="Memo").degraded is None
    db.admin.drain_vector_projection()
    assert db.search("text").degraded is None
