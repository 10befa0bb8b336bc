"""What a write does to nodes, chunks and the queue, and what its receipt says."""

from __future__ import annotations

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

import inside
from fathomdb import Chunk, EngineConfig, Node, canonical_chunk_hash
from fathomdb.store import chunks, kinds, nodes, profiles, status, vectors
from fathomdb.testing import DeterministicEmbedder, RecordingEmbedder, temporary

SENTENCE = "A sentence about harbours that is repeated until the text is long. "


def numbers(receipt):
    return (
        receipt.written,
        receipt.unchanged,
        receipt.retired,
        receipt.chunks,
        receipt.enqueued,
    )


def pending(db, kind="Doc"):
    return db.admin.get_vec_index_status(kind).pending_incremental


# --- receipts and cursors -------------------------------------------------------------------------


def test_a_receipt_counts_what_the_write_did(db):
    first = db.write([Node("Doc", "a", "one"), Node("Doc", "b", SENTENCE * 40), Node("Doc", "c")])
    pieces = len(db.get("b").chunks)
    assert pieces > 1
    assert numbers(first) == (3, 0, 0, 1 + pieces, 1 + pieces)
    assert first.chunk_ids == ("a#0", *(f"b#{n}" for n in range(pieces)))

    second = db.write(
        [Node("Doc", "a", "two"), Node("Doc", "b", SENTENCE * 40), Node("Doc", "d", "new")],
        retire=["c", "never-written"],
    )
    assert numbers(second) == (2, 1, 1, 2, 2)
    assert second.chunk_ids == ("a#0", *(f"b#{n}" for n in range(pieces)), "d#0")


def test_the_cursor_is_that_of_the_commit_and_moves_only_when_something_changed(db):
    first = db.write(Node("Doc", "a", "one"))
    assert db.get("a").cursor == first.cursor
    assert db.write(Node("Doc", "a", "one")).cursor == first.cursor
    assert db.write([]).cursor == first.cursor
    assert db.write(retire="nobody").cursor == first.cursor
    assert db.patch("a", {}).cursor <= db.write(Node("Doc", "b", "two")).cursor
    before = db.search("one").freshness.cursor
    db.admin.drain_vector_projection()
    assert db.search("one").freshness.cursor == before, "claims and applies are not commits"
    assert db.write(retire="a").cursor == before + 1


def test_an_empty_write_is_allowed_and_says_so(db):
    assert numbers(db.write()) == (0, 0, 0, 0, 0)
    assert numbers(db.write(iter(()))) == (0, 0, 0, 0, 0)


def test_one_node_or_any_iterable_of_them_may_be_written(db):
    db.write(Node("Doc", "a", "text"))
    db.write({Node("Doc", f"set-{n}", "text") for n in range(2)})
    db.write(Node("Doc", f"generated-{n}", "text") for n in range(2))
    db.write(nodes=(Node("Doc", "tuple", "text"),), retire=(item for item in ["a"]))
    assert {node.node_id for node in db.nodes()} == {
        "set-0", "set-1", "generated-0", "generated-1", "tuple",
    }  # fmt: skip


# --- rewriting ------------------------------------------------------------------------------------


def test_a_rewrite_supersedes_and_the_old_version_keeps_its_properties_and_no_text(db):
    db.write(Node("Doc", "a", "the first text", {"v": 1}, source_ref="one"))
    db.write(Node("Doc", "a", "the second text", {"v": 2}, source_ref="two"))

    found = db.get("a")
    assert (found.text, found.properties, found.source_ref) == ("the second text", {"v": 2}, "two")
    assert db.count() == 1
    assert [hit.node_id for hit in db.text_search("second")] == ["a"]
    assert not db.text_search("first")
    with db._runtime.snapshot() as reader:
        assert nodes.superseded(reader, "a")[0] == 1
        (old,) = nodes.versions_of_source(reader, "one")
        assert (old.node_id, old.superseded_cursor) == ("a", found.cursor)
        assert chunks.count(reader) == 1
        stored = reader.execute(
            "SELECT properties FROM nodes WHERE superseded_cursor IS NOT NULL"
        ).get
        assert stored == '{"v":1}'


@pytest.mark.parametrize(
    "node",
    [
        Node("Doc", "a", "text"),
        Node("Doc", "a", SENTENCE * 50, {"n": [1, {"b": None}]}, source_ref="file"),
        Node("Doc", "a", chunks=[Chunk("x", "mine"), "y"], properties={"n": 1.5}),
        Node("Doc", "a", properties={"ключ": "🎉"}),
        Node("Doc", "a", chunks=[]),
        Node("Doc", "a"),
    ],
    ids=["text", "long", "chunks", "record", "no-chunks", "bare"],
)
def test_writing_the_same_again_changes_nothing_and_costs_no_embed_call(open_db, node):
    embedder = RecordingEmbedder(DeterministicEmbedder())
    db = open_db(embedder=embedder)
    first = db.write(node)
    db.admin.drain_vector_projection()
    calls = len(embedder.batches)
    again = db.write(node)
    assert numbers(again) == (0, 1, 0, 0, 0)
    assert again.cursor == first.cursor
    assert again.chunk_ids == first.chunk_ids
    assert db.admin.drain_vector_projection().claimed == 0
    assert len(embedder.batches) == calls
    with db._runtime.snapshot() as reader:
        assert nodes.superseded(reader, "a")[0] == 0


def test_the_order_of_keys_is_no_change_and_a_real_change_brings_the_given_order(db):
    db.write(Node("Doc", "a", "text", {"x": 1, "y": {"b": True, "c": None}}))
    again = Node("Doc", "a", "text", {"y": {"c": None, "b": True}, "x": 1})
    assert numbers(db.write(again)) == (0, 1, 0, 0, 0)
    assert list(db.get("a").properties) == ["x", "y"]
    assert numbers(db.write(Node("Doc", "a", "text", {"y": 2, "x": 1}))) == (1, 0, 0, 0, 0)
    assert list(db.get("a").properties) == ["y", "x"]
    assert numbers(db.write(Node("Doc", "a", "text", {"y": [2, 1], "x": 1}))) == (1, 0, 0, 0, 0)
    assert numbers(db.write(Node("Doc", "a", "text", {"y": [1, 2], "x": 1}))) == (1, 0, 0, 0, 0)


@pytest.mark.parametrize(
    "changed",
    [
        {"properties": {"n": 2}},
        {"properties": None},
        {"properties": {"n": True}},
        {"properties": {"n": 1.0}},
        {"source_ref": "other"},
        {"source_ref": None},
    ],
    ids=repr,
)
def test_changing_what_is_not_text_supersedes_and_owes_no_vector(db, changed):
    given = {"text": "text", "properties": {"n": 1}, "source_ref": "file"}
    db.write(Node("Doc", "a", **given))
    db.admin.drain_vector_projection()
    assert numbers(db.write(Node("Doc", "a", **(given | changed)))) == (1, 0, 0, 0, 0)
    found = db.get("a")
    assert (found.properties, found.source_ref) == (
        (given | changed)["properties"],
        (given | changed)["source_ref"],
    )
    assert len(db.semantic_search("text")) == 1


def test_only_the_chunks_that_changed_are_stored_and_owed_again(db):
    db.write(Node("Doc", "a", chunks=[Chunk(f"chunk {n}", f"c{n}") for n in range(10)]))
    db.admin.drain_vector_projection()
    edited = [Chunk(f"chunk {n}" if n != 4 else "edited", f"c{n}") for n in range(10)]
    assert numbers(db.write(Node("Doc", "a", chunks=edited))) == (1, 0, 0, 1, 1)
    assert db.admin.drain_vector_projection().processed == 1
    assert numbers(db.write(Node("Doc", "a", chunks=edited[::-1]))) == (1, 0, 0, 0, 0)
    assert [chunk.chunk_id for chunk in db.get("a").chunks] == [f"c{n}" for n in range(9, -1, -1)]
    assert numbers(db.write(Node("Doc", "a", chunks=edited[2:5]))) == (1, 0, 0, 0, 0)
    assert [chunk.text for chunk in db.get("a").chunks] == ["chunk 2", "chunk 3", "edited"]
    assert len(db.semantic_search("x", chunks_per_node=20)) == 3
    assert pending(db) == 0


def test_rewriting_a_pending_chunk_leaves_one_row_and_the_new_text_is_embedded(open_db):
    embedder = RecordingEmbedder(DeterministicEmbedder())
    db = open_db(embedder=embedder)
    for text in ("first", "second", "third"):
        db.write(Node("Doc", "a", text))
    assert pending(db) == 1
    assert db.admin.drain_vector_projection().processed == 1
    assert embedder.texts == ["third"]
    assert db.semantic_search("third")[0].distance == pytest.approx(0, abs=1e-6)


def test_text_and_given_chunks_replace_each_other(db):
    db.write(Node("Doc", "a", "some text"))
    assert db.get("a").text == "some text"
    db.write(Node("Doc", "a", chunks=["some text"]))
    found = db.get("a")
    assert found.text is None
    assert [chunk.byte_start for chunk in found.chunks] == [None]
    db.write(Node("Doc", "a", "some text"))
    assert db.get("a").text == "some text"
    db.write(Node("Doc", "a"))
    assert (db.get("a").text, db.get("a").chunks) == (None, ())
    assert not db.text_search("some")
    assert pending(db) == 0


def test_a_node_that_changes_kind_leaves_the_old_index_and_enters_the_new_one(db):
    db.write([Node("Doc", "a", "text one"), Node("Doc", "b", "text two")])
    db.admin.drain_vector_projection()
    receipt = db.write(Node("Memo", "a", "text one"))
    assert numbers(receipt) == (1, 0, 0, 0, 1)
    assert [hit.node_id for hit in db.semantic_search("text one", kind="Doc")] == ["b"]
    assert [hit.node_id for hit in db.text_search("one", kind="Memo")] == ["a"]
    assert not db.text_search("one", kind="Doc")
    db.admin.drain_vector_projection()
    (hit,) = db.semantic_search("text one", kind="Memo")
    assert (hit.node_id, hit.kind) == ("a", "Memo")
    assert (db.count("Doc"), db.count("Memo")) == (1, 1)
    with db._runtime.snapshot() as reader:
        profile = profiles.active(reader)
        key = chunks.of_nodes(reader, [nodes.live(reader, ["a"])["a"].node_key])
        (chunk_key,) = [chunk.chunk_key for found in key.values() for chunk in found]
        assert vectors.read(reader, "Doc", profile.profile_id, [chunk_key]) == {}
        assert len(vectors.read(reader, "Memo", profile.profile_id, [chunk_key])) == 1


# --- retiring -------------------------------------------------------------------------------------


def test_retiring_is_idempotent_and_takes_text_vectors_and_work_with_it(db):
    db.write([Node("Doc", "a", "alpha"), Node("Doc", "b", "beta"), Node("Doc", "c", "gamma")])
    db.admin.drain_vector_projection()
    db.write(Node("Doc", "d", "delta"))
    assert numbers(db.write(retire=["a", "d"])) == (0, 0, 2, 0, 0)
    assert numbers(db.write(retire=["a", "d", "a"])) == (0, 0, 0, 0, 0)
    assert db.get("a") is None
    assert pending(db) == 0
    assert not db.text_search("alpha delta")
    assert {hit.node_id for hit in db.semantic_search("alpha")} == {"b", "c"}
    assert db.admin.drain_vector_projection().claimed == 0


def test_an_id_named_twice_in_retire_is_retired_once(db):
    db.write(Node("Doc", "a", "alpha"))
    assert db.write(retire=["a", "a"]).retired == 1


def test_a_retired_node_may_be_written_again_and_is_new(db):
    first = db.write(Node("Doc", "a", "alpha", {"v": 1}))
    db.write(retire="a")
    again = db.write(Node("Doc", "a", "alpha"))
    assert numbers(again) == (1, 0, 0, 1, 1)
    assert again.cursor == first.cursor + 2
    assert db.get("a").properties is None
    db.admin.drain_vector_projection()
    assert [hit.node_id for hit in db.search("alpha")] == ["a"]


# --- chunks of the caller -------------------------------------------------------------------------


def test_chunk_ids_default_to_the_node_and_the_place(db):
    db.write(Node("Doc", "a", chunks=["zero", Chunk("one", "mine"), Chunk("two"), "three"]))
    found = db.get("a").chunks
    assert [chunk.chunk_id for chunk in found] == ["a#0", "mine", "a#2", "a#3"]
    assert [chunk.canonical_hash for chunk in found] == [
        canonical_chunk_hash(chunk.chunk_id, chunk.text) for chunk in found
    ]


def test_a_chunk_id_may_move_to_another_node_in_the_request_that_frees_it(db):
    db.write([Node("Doc", "a", chunks=[Chunk("x", "shared")]), Node("Doc", "b", "other")])
    db.write([Node("Doc", "b", chunks=[Chunk("x", "shared")]), Node("Doc", "a", "own text")])
    assert [chunk.chunk_id for chunk in db.get("b").chunks] == ["shared"]
    db.write(Node("Doc", "c", chunks=[Chunk("y", "shared")]), retire="b")
    assert [hit.node_id for hit in db.text_search("y")] == ["c"]
    db.admin.drain_vector_projection()
    assert {hit.node_id for hit in db.semantic_search("x")} == {"a", "c"}


# --- texts come back as they were -----------------------------------------------------------------


@pytest.fixture(scope="module")
def small_chunks():
    with temporary(
        embedder=False, background=False, durability="normal", config=EngineConfig(chunk_chars=20)
    ) as engine:
        yield engine


@settings(deadline=None, max_examples=200)
@given(
    st.text(
        st.sampled_from("ab. \n\t\r\0\u2003é数🎉\u0301\u200d\x1f\ufeff")
        | st.characters(exclude_categories=["Cs"]),
        min_size=1,
    ).filter(lambda text: not text.isspace())
)
@example("a" + " " * 100 + "b\r\n\r\n")
@example("\0" * 50)
@example("a\r\n" * 40)
@example("e" + "\u0301" * 60)
def test_a_text_comes_back_exactly_and_its_chunks_are_its_bytes(small_chunks, text):
    small_chunks.write(Node("Doc", "a", text))
    found = small_chunks.get("a")
    assert found.text == text
    assert all(chunk.text for chunk in found.chunks)
    encoded = text.encode()
    end = 0
    for ordinal, chunk in enumerate(found.chunks):
        assert chunk.chunk_id == f"a#{ordinal}"
        assert chunk.byte_start == end
        end = chunk.byte_end
        assert encoded[chunk.byte_start : end].decode() == chunk.text
        assert chunk.canonical_hash == canonical_chunk_hash(chunk.chunk_id, chunk.text)
    assert end == len(encoded)
    small_chunks._runtime.write(_fts_is_sound)


def _fts_is_sound(tx):
    from fathomdb.store import fts

    assert fts.integrity_check(tx.db) is None


@settings(deadline=None, max_examples=60)
@given(st.lists(st.text(st.characters(exclude_categories=["Cs"]), min_size=1), max_size=5))
def test_chunks_of_the_caller_come_back_exactly(small_chunks, texts):
    texts = [text for text in texts if not text.isspace()]
    small_chunks.write(Node("Doc", "b", chunks=texts))
    assert [chunk.text for chunk in small_chunks.get("b").chunks] == texts


@settings(deadline=None, max_examples=60)
@given(
    st.text(
        st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=200
    )
)
def test_any_name_may_be_an_id_a_kind_and_a_source(small_chunks, name):
    small_chunks.write(Node(name, name, "text", source_ref=name))
    found = small_chunks.get(name)
    assert (found.kind, found.node_id, found.source_ref) == (name, name, name)
    assert [hit.node_id for hit in small_chunks.text_search("text", source_ref=name)] == [name]


def test_how_a_kind_is_cut_is_fixed_when_it_is_first_written(path, open_db):
    text = SENTENCE * 20
    with open_db(config=EngineConfig(chunk_chars=100)) as db:
        db.write(Node("Doc", "a", text))
        few = len(db.get("a").chunks)
    db = open_db(config=EngineConfig(chunk_chars=500))
    assert numbers(db.write(Node("Doc", "a", text))) == (0, 1, 0, 0, 0)
    db.write([Node("Doc", "b", text), Node("Memo", "c", text)])
    assert len(db.get("b").chunks) == few > len(db.get("c").chunks)
    with db._runtime.snapshot() as reader:
        assert kinds.chunk_chars(reader) == {"Doc": 100, "Memo": 500}


def test_an_open_says_once_which_kinds_another_splitter_cut(db, open_db, caplog):
    db.write([Node("Doc", "a", "text"), Node("Memo", "b", "text"), Node("Tool", "c", "text")])
    inside.in_writer(
        db,
        lambda tx: tx.db.execute("UPDATE kinds SET splitter = 'older/1' WHERE kind <> 'Tool'"),
    )
    db.close()
    open_db()
    assert [record.levelname for record in caplog.records if record.name == "fathomdb"] == [
        "WARNING"
    ]
    assert "Doc, Memo was cut by another splitter" in caplog.text


# --- reading --------------------------------------------------------------------------------------


def test_get_many_keeps_the_order_asked_for_and_leaves_out_what_is_not_live(db):
    db.write(Node("Doc", name, name) for name in "abcd")
    db.write(retire="c")
    found = db.get_many(["d", "x", "a", "c", "d", "b"])
    assert [*found] == ["d", "a", "b"]
    assert all(found[name].node_id == name for name in found)
    assert db.get_many([]) == {}
    assert [*db.get_many(name for name in "ba")] == ["b", "a"]


def test_many_thousands_of_ids_are_one_read(db):
    db.write(Node("Doc", f"n{n}", properties={"n": n}) for n in range(3_000))
    wanted = [f"n{n}" for n in range(50_000)]
    assert [*db.get_many(wanted)] == wanted[:3_000]


def test_nodes_streams_over_pages_in_the_order_of_first_writing(db):
    db.write(
        Node("Doc" if n % 2 else "Memo", f"n{n:04}", properties={"n": n}) for n in range(1_300)
    )
    db.write(Node("Memo", "n0000", properties={"n": 0, "again": True}))
    assert [node.node_id for node in db.nodes()] == [f"n{n:04}" for n in range(1_300)]
    odd = [*db.nodes("Doc", {"n": {"lt": 1_100}})]
    assert [node.properties["n"] for node in odd] == [*range(1, 1_100, 2)]
    assert db.count("Doc", {"n": {"lt": 1_100}}) == len(odd)


def test_a_stream_of_nodes_may_be_written_to_while_it_is_read(db):
    db.write(Node("Doc", f"n{n:04}", properties={"n": n}) for n in range(1_300))
    seen = []
    for node in db.nodes():
        seen.append(node.node_id)
        if len(seen) == 10:
            db.write(Node("Doc", "n0001", properties={"n": -1}), retire=["n1299"])
            db.write(Node("Doc", "later", properties={}))
    assert seen == [*(f"n{n:04}" for n in range(1_299)), "later"]


def test_a_stream_holds_no_reader_while_nobody_reads_it(open_db):
    db = open_db(config=EngineConfig(readers=1))
    db.write(Node("Doc", f"n{n}", properties={}) for n in range(600))
    stream = db.nodes()
    next(stream)
    assert db.count() == 600
    assert sum(1 for _ in stream) == 599


def test_the_status_cursor_is_that_of_the_last_commit(db):
    receipt = db.write(Node("Doc", "a", "text"))
    assert db.admin.status().cursor == receipt.cursor
    with db._runtime.snapshot() as reader:
        assert status.cursor(reader) == receipt.cursor
