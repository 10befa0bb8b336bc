"""Which kinds have a vector index: policies, enabling by itself, and what was disabled."""

from __future__ import annotations

import pytest

import fathomdb
from fathomdb import EmbedderNotConfiguredError, KindNotVectorIndexedError, Node
from fathomdb.testing import DeterministicEmbedder, RecordingEmbedder


def enabled(db):
    return {
        kind.kind
        for kind in db.admin.status().kinds
        if kind.vector_index is not None and kind.vector_index.enabled
    }


def write_three(db):
    return db.write(Node(kind, kind, f"text of {kind}") for kind in ("Doc", "Memo", "Tool"))


@pytest.mark.parametrize(
    ("policy", "indexed"),
    [
        ("all", {"Doc", "Memo", "Tool"}),
        ((), set()),
        ([], set()),
        (["Memo"], {"Memo"}),
        ({"Memo", "Tool", "Unwritten"}, {"Memo", "Tool"}),
        (["all"], set()),
    ],
    ids=repr,
)
def test_a_policy_says_which_kinds_are_enabled_when_first_written(open_db, policy, indexed):
    db = open_db(index_kinds=policy)
    assert write_three(db).enqueued == len(indexed)
    assert enabled(db) == indexed
    db.admin.drain_vector_projection()
    if indexed:
        found = {hit.kind for hit in db.semantic_search("text")}
        assert found == indexed


def test_kinds_left_out_are_enabled_by_configure_vec_and_owed_as_backfill(open_db):
    db = open_db(index_kinds=())
    write_three(db)
    with pytest.raises(KindNotVectorIndexedError, match="Doc"):
        db.semantic_search("text", kind="Doc")
    degraded = db.search("text", kind="Doc")
    assert degraded.degraded == "kind_not_indexed"
    assert "admin.configure_vec" in degraded.reason
    assert [hit.node_id for hit in degraded] == ["Doc"]

    first = db.admin.configure_vec("Doc")
    assert (first.enqueued_backfill_rows, first.was_already_enabled) == (1, False)
    assert db.admin.get_vec_index_status("Doc").pending_backfill == 1
    assert db.admin.get_vec_index_status("Doc").state == "building"
    again = db.admin.configure_vec("Doc")
    assert (again.enqueued_backfill_rows, again.was_already_enabled) == (0, True)
    assert db.admin.drain_vector_projection().backfill_processed == 1
    assert db.admin.get_vec_index_status("Doc").state == "fresh"
    assert [hit.node_id for hit in db.semantic_search("text", kind="Doc")] == ["Doc"]


@pytest.mark.parametrize("left_out", ["disabled", "by the policy"])
def test_a_search_over_all_kinds_says_which_of_them_have_no_index(open_db, left_out):
    db = open_db(index_kinds="all" if left_out == "disabled" else ["Doc", "Memo"])
    write_three(db)
    db.write(Node("Record", "r", properties={"n": 1}))  # no text: nothing of it is left unseen
    if left_out == "disabled":
        db.admin.disable_vec("Tool")
    db.admin.drain_vector_projection()

    for search in (db.search, db.semantic_search):
        result = search("text")
        assert result.degraded == "kind_not_indexed"
        assert "no vector index for Tool;" in result.reason
        assert {hit.kind for hit in result if "vector" in hit.arms} == {"Doc", "Memo"}
        for options in ({"kind": ["Doc", "Memo"]}, {"ids": ["Doc"]}, {"where": {"n": 1}}):
            assert search("text", **options).degraded is None
    assert db.text_search("text").degraded is None

    db.write(retire="Tool")
    assert db.search("text").degraded is None


def test_configuring_at_every_start_enqueues_nothing_for_what_is_projected(open_db):
    for _ in range(3):
        with open_db() as db:
            write_three(db)
            outcomes = db.admin.configure_vec_kinds(["Doc", "Memo", "Tool"])
            assert [outcome.enqueued_backfill_rows for outcome in outcomes] == [0, 0, 0]
            assert all(outcome.was_already_enabled for outcome in outcomes)
            db.admin.drain_vector_projection()


def test_a_disabled_kind_drops_work_and_vectors_and_stays_disabled(open_db):
    db = open_db()
    write_three(db)
    db.admin.drain_vector_projection()
    db.write(Node("Doc", "second", "another text"))
    db.admin.disable_vec("Doc")
    assert enabled(db) == {"Memo", "Tool"}
    assert db.admin.status().pending == 0
    assert {hit.kind for hit in db.semantic_search("text")} == {"Memo", "Tool"}
    assert db.search("text").degraded == "kind_not_indexed"
    with pytest.raises(KindNotVectorIndexedError):
        db.semantic_search("text", kind="Doc")

    assert db.write(Node("Doc", "third", "a third text")).enqueued == 0
    assert enabled(db) == {"Memo", "Tool"}, "remembered, it wins over enabling by itself"
    db.admin.configure_embedding(DeterministicEmbedder())
    db.close()
    db = open_db()
    db.write(Node("Doc", "fourth", "a fourth text"))
    assert enabled(db) == {"Memo", "Tool"}

    outcome = db.admin.configure_vec("Doc")
    assert (outcome.enqueued_backfill_rows, outcome.was_already_enabled) == (4, False)
    db.admin.drain_vector_projection()
    assert len(db.semantic_search("text", kind="Doc")) == 4


def test_disabling_before_anything_is_written_wins_too(open_db):
    db = open_db()
    db.admin.disable_vec("Doc")
    assert write_three(db).enqueued == 2
    assert enabled(db) == {"Memo", "Tool"}
    db.admin.disable_vec("Doc")
    assert enabled(db) == {"Memo", "Tool"}


def test_a_kind_written_while_no_model_was_active_is_enabled_by_the_first_one(open_db):
    db = open_db(embedder=False)
    assert write_three(db).enqueued == 0
    assert enabled(db) == set()
    with pytest.raises(EmbedderNotConfiguredError, match=r"admin\.configure_embedding first"):
        db.admin.configure_vec("Doc")
    outcome = db.admin.configure_embedding(DeterministicEmbedder())
    assert (outcome.outcome, outcome.enqueued_rows) == ("activated", 3)
    assert enabled(db) == {"Doc", "Memo", "Tool"}
    assert db.admin.drain_vector_projection().backfill_processed == 3


def test_the_policy_of_the_engine_that_activates_a_model_decides(open_db):
    with open_db(embedder=False) as db:
        write_three(db)
    db = open_db(index_kinds=["Tool"])
    assert enabled(db) == {"Tool"}
    assert db.admin.status().pending == 1


def test_a_source_other_than_chunks_is_refused(db):
    with pytest.raises(fathomdb.InvalidInputError, match="'nodes'"):
        db.admin.configure_vec("Doc", source="nodes")


def test_status_of_a_kind_that_was_never_seen_names_those_that_were(db):
    write_three(db)
    with pytest.raises(fathomdb.InvalidInputError, match=r"'Dok'.*Doc, Memo, Tool"):
        db.admin.get_vec_index_status("Dok")


def test_status_follows_a_chunk_from_written_to_projected(open_db):
    embedder = RecordingEmbedder(DeterministicEmbedder())
    db = open_db(embedder=embedder)
    write_three(db)
    waiting = db.admin.get_vec_index_status("Doc")
    assert (waiting.pending_incremental, waiting.inflight, waiting.failed) == (1, 0, 0)
    assert waiting.oldest_pending_age_seconds >= 0
    assert waiting.last_completed_at is None
    assert waiting.embedding_identity == "fathomdb/deterministic-test@0 (32 dimensions)"
    db.admin.drain_vector_projection()
    done = db.admin.get_vec_index_status("Doc")
    assert (done.pending_incremental, done.state, done.oldest_pending_age_seconds) == (
        0,
        "fresh",
        None,
    )
    assert done.last_completed_at > 0
    assert done.last_error is None
