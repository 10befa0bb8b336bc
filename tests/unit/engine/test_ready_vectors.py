"""Vectors that the caller brings: checked as an embedder's are, stored with their texts."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

import fathomdb
import inside
from fathomdb import Chunk, Node
from fathomdb.testing import DeterministicEmbedder, RecordingEmbedder

DIMENSION = 8
READY = fathomdb.ready_vectors("acme/elsewhere", version="2", dimension=DIMENSION)


def vector(n):
    return np.eye(DIMENSION, dtype="<f4")[n]


@pytest.fixture
def ready(open_db):
    return open_db(embedder=READY)


def chunk_node(node_id, text, given, kind="Doc"):
    return Node(kind, node_id, chunks=[Chunk(text, vector=given)])


# --- written with their texts ---------------------------------------------------------------------


@pytest.mark.parametrize(
    "given",
    [
        [0, 3, 0, 4, 0, 0, 0, 0],
        np.array([0, 3, 0, 4, 0, 0, 0, 0], dtype=np.float16),
        np.array([[0, 9], [3, 9], [0, 9], [4, 9], [0, 9], [0, 9], [0, 9], [0, 9]], "<f4")[:, 0],
    ],
    ids=["list", "f16", "strided"],
)
def test_a_ready_vector_is_in_with_its_text_and_normalized(ready, given):
    receipt = ready.write(chunk_node("a", "some text", given))

    assert (receipt.chunks, receipt.enqueued) == (1, 0)
    assert inside.work(ready) == {}
    assert inside.vectors(ready)["a#0"].tolist() == pytest.approx([0, 0.6, 0, 0.8, 0, 0, 0, 0])
    assert ready.wait(receipt, 0).complete
    assert ready.raw_vector_search(given)[0].distance == pytest.approx(0, abs=1e-6)
    assert ready.admin.get_vec_index_status("Doc").state == "fresh"
    assert ready.admin.check_integrity().ok


def test_an_embedder_is_not_asked_for_a_text_that_came_with_its_vector(open_db):
    embedder = RecordingEmbedder(DeterministicEmbedder(DIMENSION))
    db = open_db(embedder=embedder)
    db.write(
        Node("Doc", "a", chunks=[Chunk("ready", vector=vector(0)), "to be made", Chunk("this too")])
    )
    report = db.admin.drain_vector_projection()
    assert report.processed == 2
    assert sorted(embedder.texts) == ["this too", "to be made"]
    assert inside.vectors(db)["a#0"].tolist() == vector(0).tolist()


def test_a_text_of_a_ready_vector_is_found_again_by_its_content(ready):
    ready.write(chunk_node("a", "the same text", vector(2)))
    ready.write(Node("Note", "b", "the same text"))
    assert ready.admin.drain_vector_projection().reused == 1
    blobs = inside.blobs(ready)
    assert blobs["a#0"][1] == blobs["b#0"][1]


def test_the_same_again_changes_nothing_and_another_vector_replaces_the_first(ready):
    ready.write(chunk_node("a", "some text", vector(0)))
    again = ready.write(chunk_node("a", "some text", vector(0)))
    assert (again.unchanged, again.chunks, again.cursor) == (1, 0, 1)
    ready.write(chunk_node("a", "some text", vector(1)))
    assert inside.vectors(ready)["a#0"].tolist() == vector(1).tolist()
    ready.write(chunk_node("a", "another text", vector(2)))
    assert inside.vectors(ready)["a#0"].tolist() == vector(2).tolist()
    ready.write(chunk_node("a", "another text", vector(2), kind="Note"))
    assert inside.work(ready) == {}
    assert ready.admin.check_integrity().ok


def test_a_vector_that_comes_later_ends_the_work_that_owed_it_claimed_or_failed(open_db):
    embedder = RecordingEmbedder(DeterministicEmbedder(DIMENSION))
    db = open_db(embedder=embedder, background=True)
    embedder.hold()
    receipt = db.write(Node("Doc", "a", chunks=["some text"]))
    embedder.wait_held()
    db.write(chunk_node("a", "some text", vector(0)))
    assert db.wait(receipt, 0).complete
    embedder.release()
    assert db.admin.drain_vector_projection().remaining == 0
    # The late result wrote nothing.
    assert inside.vectors(db)["a#0"].tolist() == vector(0).tolist()
    assert db.admin.check_integrity().ok


def test_who_waits_for_a_vector_hears_of_one_that_is_given(open_db):
    embedder = RecordingEmbedder(DeterministicEmbedder(DIMENSION))
    db = open_db(embedder=embedder, background=True)
    embedder.hold()
    receipt = db.write(Node("Doc", "a", chunks=["some text"]))
    embedder.wait_held()
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(db.wait, receipt, 60)
        while not db._runtime.progress._changed._waiters:
            db.count()
        db.write(chunk_node("a", "some text", vector(0)))
        try:
            assert waiting.result(20).complete
        finally:
            embedder.release()


def test_a_write_that_fails_keeps_no_vector(ready):
    ready.write(Node("Doc", "taken", "here"))
    with pytest.raises(fathomdb.InvalidInputError):
        ready.write([Node("Doc", "a", chunks=[Chunk("text", "taken#0", vector=vector(0))])])
    assert inside.blobs(ready) == {}


# --- what is refused ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "error", "says"),
    [
        ([1.0, 2.0], fathomdb.DimensionMismatchError, "2 columns, expected 8"),
        ([1.0] * 7 + [float("nan")], fathomdb.NonFiniteVectorError, "column 7"),
        ([1e300] * 8, fathomdb.NonFiniteVectorError, "column 0"),
        ([0.0] * 8, fathomdb.InvalidInputError, "cannot be compared"),
        ("abcdefgh", fathomdb.InvalidInputError, "cannot be compared"),
        (7, fathomdb.InvalidInputError, "is of type int; give a list"),
        (["1.0"] * 8, fathomdb.InvalidInputError, "cannot be compared"),
        (np.ones((2, 8)), fathomdb.InvalidInputError, "cannot be compared"),
        (np.ones(8, dtype=bool), fathomdb.InvalidInputError, "cannot be compared"),
        (
            np.ma.masked_array(np.ones(8), [True] * 8),
            fathomdb.InvalidInputError,
            "cannot be compared",
        ),
    ],
)
def test_a_bad_vector_is_refused_by_the_name_of_its_node_and_nothing_is_stored(
    ready, given, error, says
):
    bad = Node("Doc", "the-bad-one", chunks=["first", Chunk("second", vector=given)])
    with pytest.raises(error, match=f"'the-bad-one'.*{says}|{says}.*'the-bad-one'"):
        ready.write([chunk_node("good", "a good one", vector(0)), bad])
    assert ready.count() == 0
    assert inside.work(ready) == {}


def test_without_a_model_a_ready_vector_is_refused(open_db):
    db = open_db(embedder=False)
    with pytest.raises(fathomdb.EmbedderNotConfiguredError, match="node 'a' has a ready vector"):
        db.write(chunk_node("a", "text", vector(0)))
    assert db.count() == 0


def test_under_a_model_whose_dimension_is_not_known_a_ready_vector_is_refused(open_db):
    identity = fathomdb.EmbedderIdentity("learns", "1", None)
    db = open_db(embedder=DeterministicEmbedder(DIMENSION, identity=identity))
    with pytest.raises(fathomdb.InvalidInputError, match=r"dimension of learns@1 .* not known yet"):
        db.write(chunk_node("a", "text", vector(0)))
    db.write(Node("Doc", "b", "one text"))
    db.admin.drain_vector_projection()
    assert db.write(chunk_node("a", "text", vector(0))).enqueued == 0


def test_for_a_kind_that_is_not_indexed_a_ready_vector_is_refused(open_db):
    db = open_db(embedder=READY, index_kinds=())
    with pytest.raises(fathomdb.KindNotVectorIndexedError, match=r"configure_vec\(kind\)"):
        db.write(chunk_node("a", "text", vector(0)))
    assert db.count() == 0
    db.admin.configure_vec("Doc")
    assert db.write(chunk_node("a", "text", vector(0))).enqueued == 0


def test_vectors_that_were_given_for_a_model_that_was_replaced_are_refused(ready):
    prepared_for = ready._runtime.active_profile

    def replaced():
        before = prepared_for()
        other = fathomdb.ready_vectors("acme/other", dimension=DIMENSION)
        ready.admin.configure_embedding(other, acknowledge_rebuild_impact=True)
        return before

    ready._runtime.active_profile = replaced
    with pytest.raises(
        fathomdb.InvalidInputError, match=r"given for acme/elsewhere@2 .*acme/other"
    ):
        ready.write(chunk_node("a", "text", vector(0)))
    assert ready.count() == 0


# --- a model that takes only those ----------------------------------------------------------------


def test_a_text_without_a_vector_fails_at_once_and_says_why(ready):
    receipt = ready.write(Node("Doc", "a", "came alone"))
    report = ready.admin.drain_vector_projection()

    assert (report.failed, report.stopped_by) == (1, "idle")
    (failed,) = ready.admin.failed_work()
    assert failed.cause == "no_vector"
    assert "write the chunk again with its vector" in failed.message
    assert ready.wait(receipt, 0).failed == 1
    assert "no_vector" in ready.admin.inspect("a").verdict
    assert [hit.node_id for hit in ready.text_search("came alone")] == ["a"]
    status = ready.admin.status()
    assert (status.outage, status.counters["embed_calls"]) == (None, 0)

    ready.write(chunk_node("a", "came alone", vector(1)))
    assert ready.admin.failed_work() == ()
    assert ready.raw_vector_search(vector(1))[0].node_id == "a"


def test_a_search_by_meaning_raises_and_a_hybrid_one_goes_by_words_and_says_so(ready):
    ready.write(chunk_node("a", "a lighthouse", vector(0)))
    with pytest.raises(fathomdb.EmbedderNotConfiguredError, match="takes ready vectors only"):
        ready.semantic_search("lighthouse")
    result = ready.search("lighthouse")
    assert [hit.node_id for hit in result] == ["a"]
    assert result.degraded == "no_embedder"
    assert "raw_vector_search" in result.reason
    assert [hit.node_id for hit in ready.raw_vector_search(vector(0))] == ["a"]


def test_a_file_of_ready_vectors_opens_again_and_another_version_is_another_model(open_db):
    with open_db(embedder=READY) as db:
        db.write(chunk_node("a", "text", vector(0)))
    with open_db(embedder=None) as db:
        assert db.raw_vector_search(vector(0))[0].node_id == "a"
        assert db.write(chunk_node("b", "text b", vector(1))).enqueued == 0
    newer = fathomdb.ready_vectors("acme/elsewhere", version="3", dimension=DIMENSION)
    with open_db(embedder=newer) as db, pytest.raises(fathomdb.EmbeddingChangeRequiresAckError):
        db.admin.configure_embedding(newer)


def test_a_rebuild_keeps_ready_vectors(ready):
    ready.write([chunk_node("a", "text", vector(0)), chunk_node("b", "other", vector(1))])
    before = inside.blobs(ready)
    ready.admin.rebuild("Doc", target="vec")
    report = ready.admin.drain_vector_projection()
    assert (report.processed, report.failed) == (2, 0)
    assert inside.blobs(ready) == before


def test_an_embedder_of_the_same_identity_serves_a_file_of_ready_vectors(open_db):
    model = DeterministicEmbedder(DIMENSION)
    said = model.identity()
    with open_db(
        embedder=fathomdb.ready_vectors(said.model_identity, said.model_version, said.dimension)
    ) as db:
        db.write(chunk_node("a", "some text", model.batch_embed(["some text"])[0]))
        db.write(Node("Doc", "b", "another text"))
        db.admin.drain_vector_projection()
    db = open_db(embedder=model)
    assert db.semantic_search("some text")[0].node_id == "a"
    assert db.admin.requeue_failed() == 1
    assert db.admin.drain_vector_projection().processed == 1
    inside.check(db, model)


def test_ready_vectors_need_a_dimension():
    with pytest.raises(fathomdb.InvalidInputError, match="dimension="):
        fathomdb.ready_vectors("acme/elsewhere")


def test_an_embedder_of_ready_vectors_that_is_called_says_so():
    with pytest.raises(fathomdb.EmbedderUnavailableError, match="ready vectors only"):
        READY.batch_embed(["a text"])
    with pytest.raises(fathomdb.EmbedderUnavailableError, match="ready vectors only"):
        READY.embed_query("a text")


# --- ingest ---------------------------------------------------------------------------------------


def records():
    return [
        {"id": n, "text": f"record {n}", "lang": "en", "embedding": vector(n)} for n in range(4)
    ]


def test_ingest_takes_a_column_of_vectors_and_the_same_again_changes_nothing(ready):
    report = ready.ingest(records(), kind="Doc", vector="embedding")
    assert (report.written, report.chunks, report.enqueued) == (4, 4, 0)
    assert ready.get("2").properties == {"lang": "en"}
    assert ready.raw_vector_search(vector(2))[0].node_id == "2"
    again = ready.ingest(records(), kind="Doc", vector="embedding")
    assert (again.written, again.unchanged) == (0, 4)


def test_a_function_brings_vectors_and_none_leaves_a_record_to_the_model(open_db):
    embedder = RecordingEmbedder(DeterministicEmbedder(DIMENSION))
    db = open_db(embedder=embedder)
    report = db.ingest(
        [{"id": n, "text": f"record {n}"} for n in range(4)],
        kind="Doc",
        vector=lambda record: vector(record["id"]) if record["id"] else None,
    )
    assert report.enqueued == 1
    db.admin.drain_vector_projection()
    assert embedder.texts == ["record 0"]


def test_a_text_with_a_vector_is_one_chunk_however_long(ready):
    ready.ingest([{"id": 1, "text": "long " * 1000, "v": vector(0)}], kind="Doc", vector="v")
    assert len(ready.get("1").chunks) == 1


@pytest.mark.parametrize(
    ("record", "says"),
    [
        ({"id": 1, "text": "no vector"}, "no column 'embedding'"),
        ({"id": 1, "text": None, "embedding": [1.0] * 8}, "a vector and no text"),
        ({"id": 1, "text": "short", "embedding": [1.0]}, "node '1'.*1 columns, expected 8"),
    ],
)
def test_a_record_with_a_bad_vector_is_refused_alone(ready, record, says):
    report = ready.ingest(
        [*records()[2:], record], kind="Doc", vector="embedding", on_error="collect"
    )
    assert (report.written, report.error_count) == (2, 1)
    with pytest.raises(fathomdb.InvalidInputError, match=says):
        ready.ingest([record], kind="Doc", vector="embedding")


def test_vectors_come_from_arrow_tables_and_parquet_and_json_lines(ready, tmp_path):
    arrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    plain = [{**record, "embedding": record["embedding"].tolist()} for record in records()]
    table = arrow.Table.from_pylist(plain)
    fixed = arrow.FixedSizeListArray.from_arrays(
        arrow.array(np.concatenate([record["embedding"] for record in records()])), DIMENSION
    )
    sized = table.set_column(table.column_names.index("embedding"), "embedding", fixed)
    parquet.write_table(table, tmp_path / "records.parquet")
    (tmp_path / "records.jsonl").write_text("\n".join(json.dumps(record) for record in plain))
    for kind, given in (
        ("Table", table),
        ("Sized", sized),
        ("Parquet", tmp_path / "records.parquet"),
        ("Lines", tmp_path / "records.jsonl"),
    ):
        report = ready.ingest(
            given, kind=kind, id=lambda r, k=kind: f"{k}{r['id']}", vector="embedding"
        )
        assert (report.written, report.enqueued) == (4, 0)
        found = ready.raw_vector_search(vector(3), kind=kind)
        assert found[0].node_id == f"{kind}3"
        assert found[0].distance == pytest.approx(0, abs=1e-6)


def test_vector_must_be_a_column_or_a_function(ready):
    with pytest.raises(fathomdb.InvalidInputError, match="vector must be a column or a function"):
        ready.ingest([], kind="Doc", vector=["a", "b"])
