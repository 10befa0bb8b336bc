"""Which model serves: what the file remembers, what ``open`` was given, and what is said if none."""

from __future__ import annotations

import pytest

import fathomdb
from fathomdb import (
    EmbedderIdentity,
    EmbedderNotConfiguredError,
    EmbedderUnavailableError,
    EmbeddingChangeRequiresAckError,
    Node,
)
from fathomdb.embedders.hashing import HashingEmbedder
from fathomdb.testing import DeterministicEmbedder, Fault, FlakyEmbedder, RecordingEmbedder

OTHER = EmbedderIdentity("test/other", "2", 32)


def other():
    return DeterministicEmbedder(identity=OTHER, seed=2)


def fill(db):
    db.write(Node("Doc", f"n{n}", f"text number {n}") for n in range(5))
    return db.admin.drain_vector_projection()


def test_none_opens_the_plugin_that_the_file_remembers(open_db):
    with open_db(embedder="hashing") as db:
        fill(db)
        expected = [hit.node_id for hit in db.semantic_search("text number 3")]
    db = open_db(embedder=None)
    assert db.search("text number 3").degraded is None
    assert [hit.node_id for hit in db.semantic_search("text number 3")] == expected
    db.write(Node("Doc", "more", "more text"))
    assert db.admin.drain_vector_projection().processed == 1


def test_a_plugin_that_makes_other_vectors_than_it_did_is_not_used(open_db, monkeypatch):
    """A newer version of it may: the same name and dimension, another model."""
    with open_db(embedder="hashing") as db:
        fill(db)
    newer = EmbedderIdentity("fathomdb/hashing-lexical", "2", 256)
    monkeypatch.setattr(HashingEmbedder, "identity", lambda self: newer)

    db = open_db(embedder=None)
    db.write(Node("Doc", "more", "more text"))

    result = db.search("text number 3")
    assert result.degraded == "no_embedder"
    assert "'hashing' is now fathomdb/hashing-lexical@2" in result.reason
    with pytest.raises(EmbedderNotConfiguredError, match="vectors of the two cannot be compared"):
        db.semantic_search("text number 3")
    with pytest.raises(EmbedderNotConfiguredError, match="vectors of the two cannot be compared"):
        db.admin.drain_vector_projection()


def test_an_embedder_object_is_not_remembered_and_is_asked_for(open_db):
    with open_db() as db:
        fill(db)
    db = open_db(embedder=None)
    result = db.search("number")
    assert result.degraded == "no_embedder"
    assert "fathomdb/deterministic-test@0 (32 dimensions)" in result.reason
    assert "pass its embedder to fathomdb.open" in result.reason
    assert len(result) == 5
    for use in (
        lambda: db.semantic_search("number"),
        db.admin.drain_vector_projection,
        db.admin.run_tick,
    ):
        with pytest.raises(EmbedderNotConfiguredError, match="pass its embedder to"):
            use()
    assert len(db.raw_vector_search(DeterministicEmbedder().batch_embed(["text number 3"])[0])) == 5


def test_false_opens_without_any_model_and_keeps_the_queue(open_db):
    with open_db(embedder="hashing") as db:
        fill(db)
    db = open_db(embedder=False)
    assert db.search("number").degraded == "no_embedder"
    assert len(db.search("number")) == 5
    assert db.write(Node("Doc", "later", "a later text")).enqueued == 1
    db.close()
    db = open_db(embedder=None)
    assert db.admin.drain_vector_projection().processed == 1


def test_a_file_without_a_model_searches_by_words_and_says_how_to_get_one(open_db):
    db = open_db(embedder=None)
    db.write(Node("Doc", "a", "text"))
    result = db.search("text")
    assert [hit.node_id for hit in result] == ["a"]
    assert result.degraded == "no_embedder"
    assert "admin.configure_embedding" in result.reason
    for use in (lambda: db.semantic_search("text"), lambda: db.raw_vector_search([1.0])):
        with pytest.raises(EmbedderNotConfiguredError, match=r"admin\.configure_embedding"):
            use()


def test_opening_with_another_model_changes_nothing_and_says_so(open_db):
    with open_db() as db:
        fill(db)
        before = db.admin.status()
    db = open_db(embedder=other())
    result = db.search("number")
    assert result.degraded == "change_pending"
    assert "deterministic-test@0" in result.reason
    assert "test/other@2" in result.reason
    assert "acknowledge_rebuild_impact=True" in result.reason
    assert len(result) == 5
    with pytest.raises(EmbedderNotConfiguredError, match="test/other@2"):
        db.semantic_search("number")
    status = db.admin.status()
    assert status.active_profile == before.active_profile
    assert "test/other@2" in status.opened_with
    assert status.pending == 0
    db.close()
    db = open_db()
    assert db.search("number").degraded is None
    assert db.admin.status().opened_with is None


def test_the_remembered_model_goes_on_serving_when_another_is_given(open_db):
    with open_db(embedder="hashing") as db:
        fill(db)
    db = open_db(embedder=other())
    assert db.search("number").degraded is None
    assert len(db.semantic_search("number")) == 5
    status = db.admin.status()
    assert status.active_profile in status.opened_with
    assert "test/other@2" in status.opened_with
    db.admin.configure_embedding(other(), acknowledge_rebuild_impact=True)
    assert db.admin.status().opened_with is None


def test_of_several_embedders_the_one_of_the_file_serves(open_db):
    with open_db() as db:
        fill(db)
    for given in ([other(), DeterministicEmbedder()], (DeterministicEmbedder(), other())):
        with open_db(embedder=given) as db:
            assert db.search("number").degraded is None
            assert db.semantic_search("text number 2")[0].node_id == "n2"


def test_open_never_calls_an_embedder(open_db):
    embedder = RecordingEmbedder(DeterministicEmbedder())
    with open_db(embedder=embedder) as db:
        db.write(Node("Doc", "a", "text"))
    open_db(embedder=embedder)
    assert embedder.batches == embedder.queries == []


# --- configuring ----------------------------------------------------------------------------------


def test_configuring_the_same_model_again_is_unchanged_and_owes_nothing(db):
    fill(db)
    outcome = db.admin.configure_embedding(DeterministicEmbedder())
    assert (outcome.outcome, outcome.stale_kinds, outcome.enqueued_rows) == ("unchanged", (), 0)
    assert db.admin.status().pending == 0
    assert len(db.semantic_search("number")) == 5


def test_another_model_needs_acknowledgement_and_without_it_nothing_changes(db):
    fill(db)
    before = db.admin.status()
    with pytest.raises(EmbeddingChangeRequiresAckError) as caught:
        db.admin.configure_embedding(other())
    assert caught.value.affected_kinds == ("Doc",)
    assert "acknowledge_rebuild_impact=True" in str(caught.value)
    assert "test/other@2" in str(caught.value)
    after = db.admin.status()
    assert (after.active_profile, after.pending) == (before.active_profile, 0)
    assert db.semantic_search("text number 2")[0].node_id == "n2"


@pytest.mark.parametrize("dimension", [32, 48])
def test_a_replaced_model_answers_until_its_kinds_are_projected_anew(db, dimension):
    fill(db)
    new = DeterministicEmbedder(
        dimension, identity=EmbedderIdentity("test/other", "2", dimension), seed=2
    )
    outcome = db.admin.configure_embedding(new, acknowledge_rebuild_impact=True)
    assert (outcome.outcome, outcome.stale_kinds, outcome.enqueued_rows) == (
        "replaced",
        ("Doc",),
        5,
    )
    assert db.admin.get_vec_index_status("Doc").state == "fresh"
    assert db.admin.get_vec_index_status("Doc").switch.pending == 5
    result = db.search("text number 2")
    assert result.degraded is None
    assert result[0].node_id == "n2"
    assert result.freshness.pending == 0
    assert db.admin.drain_vector_projection().backfill_processed == 5
    assert db.admin.get_vec_index_status("Doc").state == "fresh"
    (hit, *_) = db.semantic_search("text number 2")
    assert (hit.node_id, hit.distance) == ("n2", pytest.approx(0, abs=1e-6))


def test_going_back_to_an_earlier_model_works(db):
    fill(db)
    for embedder in (other(), DeterministicEmbedder(), other()):
        outcome = db.admin.configure_embedding(
            embedder, acknowledge_rebuild_impact=True, keep_previous=False
        )
        assert outcome.outcome == "replaced"
        assert db.admin.drain_vector_projection().processed == 5
        assert db.semantic_search("text number 4")[0].distance == pytest.approx(0, abs=1e-6)


def test_a_model_without_enabled_kinds_is_replaced_without_acknowledgement(open_db):
    db = open_db(index_kinds=())
    db.write(Node("Doc", "a", "text"))
    assert db.admin.configure_embedding(other()).outcome == "replaced"


def test_an_embedder_of_another_model_is_never_drained_with(db):
    db.write(Node("Doc", "a", "text"))
    with pytest.raises(fathomdb.InvalidInputError, match=r"test/other@2.*never mixed"):
        db.admin.drain_vector_projection(embedder=other())
    assert db.admin.drain_vector_projection(embedder=DeterministicEmbedder()).processed == 1


# --- a model that is away -------------------------------------------------------------------------


def test_a_search_while_the_model_is_away_is_by_words_with_the_models_own_reason(open_db):
    flaky = FlakyEmbedder(DeterministicEmbedder())
    db = open_db(embedder=flaky)
    fill(db)
    flaky.script = (Fault(EmbedderUnavailableError("the provider said 503")),)
    result = db.search("number")
    assert result.degraded == "outage"
    assert "the provider said 503" in result.reason
    assert len(result) == 5
    assert all(hit.arms == ("text",) for hit in result)
    with pytest.raises(EmbedderUnavailableError, match="the provider said 503"):
        db.semantic_search("number")
    flaky.script = ()
    assert db.search("number").degraded is None


@pytest.mark.parametrize(
    "damage", ["nan", "infinity", "overflow", "zero", "wrong_dimension", "not_numbers"]
)
def test_a_query_vector_that_breaks_the_contract_degrades_and_is_never_searched_with(
    open_db, damage
):
    flaky = FlakyEmbedder(DeterministicEmbedder())
    db = open_db(embedder=flaky)
    fill(db)
    flaky.script = (Fault(damage),)
    result = db.search("number")
    assert result.degraded == "outage"
    assert result.reason
    assert len(result) == 5
    with pytest.raises(fathomdb.FathomError):
        db.semantic_search("number")


def test_queries_and_documents_are_embedded_by_their_own_methods(open_db):
    embedder = RecordingEmbedder(DeterministicEmbedder())
    db = open_db(embedder=embedder)
    fill(db)
    documents = list(embedder.texts)
    db.search("a query")
    db.semantic_search("another query")
    db.text_search("words alone")
    assert embedder.queries == ["a query", "another query"]
    assert embedder.texts == documents
