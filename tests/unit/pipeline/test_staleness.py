"""What a rewrite, a new kind, the same text or another model do to the work that is owed."""

from __future__ import annotations

import pytest

import fathomdb
import inside
import oracle
from fathomdb import EmbedderIdentity, EngineConfig, InvalidInputError, Node
from fathomdb.errors import EmbeddingChangeRequiresAckError
from fathomdb.testing import (
    DeterministicEmbedder,
    Fault,
    FlakyEmbedder,
    ManualClock,
    RecordingEmbedder,
)


@pytest.fixture
def embedder():
    return RecordingEmbedder(DeterministicEmbedder())


@pytest.fixture
def db(open_db, embedder):
    return open_db(embedder=embedder)


def _drain(db):
    return db.admin.drain_vector_projection(timeout=30)


# --- a pending chunk is written again -------------------------------------------------------------


def test_rewriting_a_pending_chunk_updates_the_hash_of_its_one_work_row(db, embedder):
    db.write(Node("Document", "n", "the old text"))
    before = inside.work(db)["n#0"]

    db.write(Node("Document", "n", "the new text"))

    (after,) = inside.work(db).values()
    assert after.canonical_hash == oracle.canonical_hash("n#0", "the new text")
    assert after.fence > before.fence
    assert (_drain(db).discarded_stale, embedder.texts) == (0, ["the new text"])
    inside.check(db, DeterministicEmbedder())


def test_rewriting_a_failed_chunk_owes_it_anew_with_all_its_attempts(open_db):
    flaky = FlakyEmbedder(DeterministicEmbedder(), [Fault("nan", texts="poison")])
    db = open_db(embedder=flaky)
    db.write(Node("Document", "n", "poison"))
    assert _drain(db).failed == 1

    db.write(Node("Document", "n", "a healthy text"))

    (row,) = inside.work(db).values()
    assert (row.state, row.attempts, row.cause) == ("pending", 0, None)
    assert _drain(db).processed == 1
    assert db.admin.failed_work() == ()


def test_rewriting_a_projected_chunk_removes_its_old_vector_in_the_same_transaction(db):
    db.write(Node("Document", "n", "the old text"))
    _drain(db)

    db.write(Node("Document", "n", "the new text"))

    assert inside.vectors(db) == {}
    assert set(inside.work(db)) == {"n#0"}
    inside.check(db, DeterministicEmbedder())


def test_retiring_a_node_ends_its_work_and_its_vector(db):
    db.write([Node("Document", "a", "projected"), Node("Document", "b", "too")])
    _drain(db)
    db.write(Node("Document", "c", "pending"))

    db.write(retire=["a", "c"])

    assert set(inside.vectors(db)) == {"b#0"}
    assert inside.work(db) == {}


# --- the same text again --------------------------------------------------------------------------


def test_writing_the_same_text_again_owes_nothing_and_embeds_nothing(db, embedder):
    node = Node("Document", "n", "the same text", {"year": 2024})
    db.write(node)
    _drain(db)

    receipt = db.write(node)

    assert (receipt.unchanged, receipt.written, receipt.enqueued) == (1, 0, 0)
    assert inside.work(db) == {}
    assert _drain(db).claimed == 0
    assert embedder.texts == ["the same text"]


def test_other_properties_with_the_same_text_cost_no_embed_call(db, embedder):
    db.write(Node("Document", "n", "the same text", {"year": 2024}))
    _drain(db)

    assert db.write(Node("Document", "n", "the same text", {"year": 2025})).enqueued == 0
    db.patch("n", {"lang": "en"})

    assert _drain(db).claimed == 0
    assert embedder.texts == ["the same text"]
    assert set(inside.vectors(db)) == {"n#0"}


def test_only_the_chunks_of_a_node_that_changed_are_embedded_again(db, embedder):
    db.write(Node("Document", "n", chunks=["one", "two", "three"]))
    _drain(db)

    assert db.write(Node("Document", "n", chunks=["one", "TWO", "three", "four"])).enqueued == 2

    _drain(db)
    assert embedder.texts == ["one", "two", "three", "TWO", "four"]
    inside.check(db, DeterministicEmbedder())


def test_configuring_the_same_at_every_start_owes_nothing_for_what_is_projected(open_db, embedder):
    for start in range(4):
        db = open_db(embedder=embedder)
        assert db.admin.configure_embedding(embedder).outcome == "unchanged"
        outcome = db.admin.configure_vec("Document")
        assert (outcome.enqueued_backfill_rows, outcome.was_already_enabled) == (0, start > 0)
        db.write([Node("Document", f"n{i}", f"text {i}") for i in range(10)])
        _drain(db)
        db.close()

    assert len(embedder.texts) == 10


def test_configuring_a_kind_with_pending_work_keeps_that_work_as_it_is(db):
    db.write([Node("Document", f"n{i}", f"text {i}") for i in range(10)])
    before = inside.work(db)

    assert db.admin.configure_vec("Document").enqueued_backfill_rows == 0

    assert inside.work(db) == before


# --- another kind ---------------------------------------------------------------------------------


def test_a_node_that_changes_kind_leaves_the_old_index_and_enters_the_new_one(db):
    db.write([Node("Document", "n", "a text"), Node("Document", "stays", "another")])
    _drain(db)

    db.write(Node("Note", "n", "a text"))
    assert set(inside.vectors(db)) == {"stays#0"}
    assert [row.kind for row in inside.work(db).values()] == ["Note"]
    _drain(db)

    inside.check(db, DeterministicEmbedder())
    assert [hit.node_id for hit in db.semantic_search("a text", kind="Note")] == ["n"]
    assert [hit.node_id for hit in db.semantic_search("a text", kind="Document")] == ["stays"]


@pytest.mark.parametrize("text", ["a text", "and another text"])
@pytest.mark.parametrize("state", ["pending", "failed", "projected"])
def test_a_node_that_moves_to_a_kind_without_an_index_owes_nothing_any_more(open_db, text, state):
    faults = [Fault("nan")] if state == "failed" else []
    db = open_db(embedder=FlakyEmbedder(DeterministicEmbedder(), faults))
    db.write(Node("Document", "n", "a text"))
    if state != "pending":
        _drain(db)
    db.admin.disable_vec("Note")

    db.write(Node("Note", "n", text))

    assert inside.work(db) == {}
    assert inside.vectors(db) == {}
    assert db.admin.failed_work() == ()
    assert db.admin.get_vec_index_status("Document").failed == 0


@pytest.mark.parametrize("state", ["pending", "projected"])
def test_a_node_that_changes_kind_and_text_together_owes_the_new_text_under_the_new_kind(db, state):
    db.write(Node("Document", "n", "a text"))
    if state == "projected":
        _drain(db)

    db.write(Node("Note", "n", "and another text"))

    (row,) = inside.work(db).values()
    assert (row.kind, row.canonical_hash) == (
        "Note",
        oracle.canonical_hash("n#0", "and another text"),
    )
    assert _drain(db).processed == 1
    inside.check(db, DeterministicEmbedder())


# --- identical texts ------------------------------------------------------------------------------


def test_identical_texts_in_one_batch_are_embedded_once(db, embedder):
    db.write([Node("Document", f"n{i}", f"text {i % 4}") for i in range(40)])

    report = _drain(db)

    assert (report.processed, report.reused) == (40, 36)
    assert sorted(embedder.texts) == [f"text {i}" for i in range(4)]
    assert db.admin.status().counters["reused"] == 36
    inside.check(db, DeterministicEmbedder())


def test_identical_texts_that_are_poison_are_each_charged_and_counted(open_db):
    flaky = FlakyEmbedder(DeterministicEmbedder(), [Fault(ValueError("no"), texts="poison")])
    db = open_db(embedder=flaky, config=EngineConfig(clock=ManualClock()))
    db.write([Node("Document", f"n{i}", "poison" if i % 2 else f"text {i}") for i in range(20)])

    report = _drain(db)

    assert (report.processed, report.reverted, report.reused) == (10, 10, 0)
    assert {row.attempts for row in inside.work(db).values()} == {1}


# --- another model --------------------------------------------------------------------------------

STRANGER = DeterministicEmbedder(identity=EmbedderIdentity("acme/stranger", "1", 32))


def test_a_model_of_the_same_dimension_but_another_identity_is_refused_for_indexing(db):
    db.write(Node("Document", "n", "a text"))

    for work_off in (
        lambda: db.admin.drain_vector_projection(timeout=30, embedder=STRANGER),
        lambda: db.admin.run_tick(embedder=STRANGER),
    ):
        with pytest.raises(InvalidInputError, match="acme/stranger"):
            work_off()
    with pytest.raises(EmbeddingChangeRequiresAckError) as caught:
        db.admin.configure_embedding(STRANGER)

    assert caught.value.affected_kinds == ("Document",)
    assert inside.vectors(db) == {}
    assert _drain(db).processed == 1
    inside.check(db, DeterministicEmbedder())


def test_a_model_of_the_same_dimension_but_another_identity_is_refused_for_queries(db, open_db):
    db.write(Node("Document", "n", "a text"))
    _drain(db)
    db.close()
    stranger = RecordingEmbedder(STRANGER)

    db = open_db(embedder=stranger)

    with pytest.raises(fathomdb.EmbedderNotConfiguredError, match="acme/stranger"):
        db.semantic_search("a text")
    result = db.search("text")
    assert (result.degraded, [hit.node_id for hit in result]) == ("change_pending", ["n"])
    with pytest.raises(fathomdb.EmbedderNotConfiguredError):
        _drain(db)
    assert (stranger.queries, stranger.batches) == ([], [])
    assert "acme/stranger" in db.admin.status().opened_with


@pytest.mark.parametrize(
    "identity",
    [
        EmbedderIdentity("fathomdb/deterministic-test", "1", 32),
        EmbedderIdentity("fathomdb/deterministic-test", "0", 32, "none"),
        EmbedderIdentity("fathomdb/deterministic-test", "0", 32, preparation={"prefix": "query: "}),
    ],
    ids=["version", "normalization", "preparation"],
)
def test_whatever_changes_the_vector_space_is_another_model(db, identity):
    db.write(Node("Document", "n", "a text"))

    with pytest.raises(InvalidInputError, match="never mixed"):
        db.admin.run_tick(embedder=DeterministicEmbedder(identity=identity))


# --- queries and documents ------------------------------------------------------------------------


class Asymmetric(DeterministicEmbedder):
    """A model that treats a query unlike a document: the two must never take each other's way."""

    def batch_embed(self, texts):
        assert not any(text.startswith("a query") for text in texts)
        return super().batch_embed([text.removeprefix("document: ") for text in texts])

    def embed_query(self, text):
        assert not text.startswith("document")
        return super().batch_embed([text.removeprefix("a query for ")])[0]


def test_queries_take_the_query_method_and_documents_the_document_method(open_db):
    embedder = RecordingEmbedder(Asymmetric())
    db = open_db(embedder=embedder)
    db.write([Node("Document", "n", "document: apples"), Node("Document", "m", "document: pears")])
    _drain(db)

    hit = db.semantic_search("a query for apples", limit=1)[0]
    db.search("a query for pears")

    assert (hit.node_id, hit.distance) == ("n", pytest.approx(0.0, abs=1e-6))
    assert embedder.queries == ["a query for apples", "a query for pears"]
    assert embedder.texts == ["document: apples", "document: pears"]


def test_an_embedder_without_a_query_method_embeds_a_query_as_a_batch_of_one(db, open_db, path):
    class Plain(DeterministicEmbedder):
        batches: list = []  # noqa: RUF012

        def batch_embed(self, texts):
            self.batches.append(list(texts))
            return super().batch_embed(texts)

    db.write(Node("Document", "n", "apples"))
    _drain(db)
    db.close()
    db = open_db(embedder=Plain())

    assert db.semantic_search("apples")[0].distance == pytest.approx(0.0, abs=1e-6)
    assert Plain.batches == [["apples"]]
