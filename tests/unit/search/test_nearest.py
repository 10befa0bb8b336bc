"""The vector arm: k is never used up by what is not asked for, and distances are those of NumPy."""

from __future__ import annotations

import hashlib
import math

import numpy as np
import pytest

from fathomdb import Chunk, EmbedderIdentity, Node
from fathomdb.testing import DeterministicEmbedder, temporary

DIMENSION = 8


class Placed:
    """Puts a text ``<degrees> ...`` at that angle: a test says what is near what."""

    def identity(self):
        return EmbedderIdentity("test/placed", "1", DIMENSION)

    def batch_embed(self, texts):
        rows = np.zeros((len(texts), DIMENSION), dtype=np.float32)
        for row, text in zip(rows, texts, strict=True):
            angle = math.radians(float(text.split()[0]))
            row[0], row[1] = math.cos(angle), math.sin(angle)
        return rows


@pytest.fixture(scope="module")
def crowded():
    """One node of 5,000 chunks beside the query, more than one look can bring, and 12 others."""
    with temporary(embedder=Placed(), background=False) as engine:
        engine.write(
            Node("Doc", "crowd", chunks=[f"{n / 1000} common crowd {n}" for n in range(5_000)])
        )
        engine.write(
            Node("Doc", f"other-{n:02}", f"{20 + n} common other", {"n": n}) for n in range(12)
        )
        engine.admin.drain_vector_projection()
        yield engine


def test_a_node_with_thousands_of_chunks_hides_no_other_node_from_semantic_search(crowded):
    found = crowded.semantic_search("0", limit=10)
    assert [hit.node_id for hit in found] == ["crowd", *(f"other-{n:02}" for n in range(9))]
    assert found[0].chunk_id == "crowd#0"


def test_a_node_with_thousands_of_chunks_hides_no_other_node_from_text_search(crowded):
    found = crowded.text_search("common", limit=10)
    assert len({hit.node_id for hit in found}) == len(found) == 10


def test_a_node_with_thousands_of_chunks_hides_no_other_node_from_hybrid_search(crowded):
    for fusion in ("convex", "rrf"):
        found = crowded.search("0 common", limit=13, fusion=fusion)
        assert len({hit.node_id for hit in found}) == len(found) == 13


def test_all_nodes_are_found_when_more_are_asked_for_than_there_are(crowded):
    assert len(crowded.semantic_search("0", limit=4096)) == 13


@pytest.mark.parametrize("per_node", [2, 3, 4096])
def test_chunks_per_node_allows_that_many_hits_of_a_node_and_no_more(crowded, per_node):
    found = crowded.semantic_search("0", limit=10, chunks_per_node=per_node)
    of_crowd = [hit.chunk_id for hit in found if hit.node_id == "crowd"]
    assert of_crowd == [f"crowd#{n}" for n in range(min(per_node, 10))]
    assert len(found) == 10
    words = crowded.text_search("common", limit=50, chunks_per_node=per_node)
    assert sum(hit.node_id == "crowd" for hit in words) == min(per_node, 50 - 12) or per_node > 38


def test_the_greatest_limit_and_chunks_per_node_together_work(crowded):
    found = crowded.search("0 common", limit=4096, chunks_per_node=4096)
    assert len(found) == 4096
    assert len({hit.chunk_id for hit in found}) == 4096
    everything = crowded.semantic_search("0", limit=4096, chunks_per_node=4095)
    assert sum(hit.node_id == "crowd" for hit in everything) == 4095


def test_a_filter_that_leaves_out_the_crowd_still_finds_all_others(crowded):
    found = crowded.semantic_search("0", limit=10, where={"n": {"gte": 2}})
    assert [hit.node_id for hit in found] == [f"other-{n:02}" for n in range(2, 12)]


def test_retired_nodes_never_use_up_k():
    with temporary(embedder=Placed(), background=False) as engine:
        engine.write(Node("Doc", f"gone-{n}", f"{n / 10} common gone {n}") for n in range(200))
        engine.write(Node("Doc", f"here-{n:02}", f"{40 + n} common here") for n in range(10))
        engine.admin.drain_vector_projection()
        engine.write(retire=[f"gone-{n}" for n in range(200)])

        expected = [f"here-{n:02}" for n in range(10)]
        assert [hit.node_id for hit in engine.semantic_search("0", limit=2)] == expected[:2]
        assert [hit.node_id for hit in engine.semantic_search("0", limit=10)] == expected
        assert sorted(hit.node_id for hit in engine.text_search("common", limit=10)) == expected
        assert sorted(hit.node_id for hit in engine.search("0 common", limit=10)) == expected


def test_a_rewritten_node_is_found_where_it_is_now_and_not_where_it_was():
    with temporary(embedder=Placed(), background=False) as engine:
        engine.write(Node("Doc", f"n{n}", f"{n} first") for n in range(20))
        engine.admin.drain_vector_projection()
        engine.write(Node("Doc", "n0", "90 second"))
        before_drain = engine.semantic_search("0", limit=20)
        assert "n0" not in {hit.node_id for hit in before_drain}
        assert before_drain.freshness.pending == 1
        engine.admin.drain_vector_projection()
        found = engine.semantic_search("0", limit=20)
        assert [hit.node_id for hit in found] == [*(f"n{n}" for n in range(1, 20)), "n0"]
        assert not engine.text_search("first", ids=["n0"])


# --- numbers --------------------------------------------------------------------------------------


class Unscaled(DeterministicEmbedder):
    """Vectors of every length, stored as they are."""

    def __init__(self, dimension):
        super().__init__(
            dimension, identity=EmbedderIdentity("test/unscaled", "1", dimension, "none")
        )

    def batch_embed(self, texts):
        lengths = [1 + hashlib.sha256(text.encode()).digest()[0] for text in texts]
        return super().batch_embed(texts) * np.array(lengths, dtype=np.float32)[:, None]


@pytest.mark.parametrize(
    "embedder", [DeterministicEmbedder(384), Unscaled(384)], ids=["l2", "none"]
)
def test_distance_is_cosine_distance_and_score_is_cosine_similarity(embedder):
    texts = [f"text {n}" for n in range(300)]
    vectors = np.asarray(embedder.batch_embed(texts), dtype=np.float64)
    queries = [*np.random.default_rng(7).standard_normal((3, 384)), vectors[5], -3 * vectors[6]]
    with temporary(embedder=embedder, background=False) as engine:
        engine.write(Node("Doc", text, text) for text in texts)
        engine.admin.drain_vector_projection()
        for query in queries:
            cosine = vectors @ query / np.linalg.norm(vectors, axis=1) / np.linalg.norm(query)
            expected = dict(zip(texts, 1 - cosine, strict=True))
            found = engine.raw_vector_search(query, limit=300)
            assert len(found) == 300
            for hit in found:
                assert hit.distance == pytest.approx(expected[hit.node_id], rel=2e-6, abs=1e-6)
                assert hit.score == pytest.approx(1 - expected[hit.node_id], abs=4e-6)
                assert hit.arms == ("vector",)
            distances = [hit.distance for hit in found]
            assert distances == sorted(distances)


@pytest.mark.parametrize("dtype", ["f2", "f4", "f8", list, "strided", "read-only", "buffer"])
def test_a_query_vector_may_be_any_array_of_numbers(dtype, db):
    db.write(Node("Doc", f"n{n}", f"text {n}") for n in range(30))
    db.admin.drain_vector_projection()
    vector = DeterministicEmbedder().batch_embed(["text 3"])[0]
    shaped = {
        list: vector.tolist,
        "strided": lambda: np.repeat(vector, 2)[::2],
        "read-only": lambda: _read_only(vector),
        "buffer": lambda: memoryview(vector.copy()),
    }
    given = shaped[dtype]() if dtype in shaped else vector.astype(dtype)
    found = db.raw_vector_search(given, limit=3)
    assert found[0].node_id == "n3"
    assert found[0].distance == pytest.approx(0, abs=1e-3 if dtype == "f2" else 1e-6)


def _read_only(vector):
    copy = vector.copy()
    copy.flags.writeable = False
    return copy


def test_scores_and_distances_of_each_mode_reach_python(db):
    db.write([Node("Doc", "a", "blue harbour"), Node("Doc", "b", "red harbour")])
    db.admin.drain_vector_projection()

    words = db.text_search("blue harbour")
    assert [hit.node_id for hit in words] == ["a", "b"]
    assert words[0].score > words[1].score > 0
    assert all(hit.distance is None and hit.arms == ("text",) for hit in words)

    both = db.search("blue harbour", explain=True)
    assert both[0].node_id == "a"
    assert both[0].score == pytest.approx(1.0)
    assert all(hit.arms == ("text", "vector") for hit in both)
    assert both[0].distance == pytest.approx(0, abs=1e-6)
    assert both.explanation is not None
    assert both.explanation["hits"][0]["text_score"] == words[0].score
    assert both.to_dicts()[0]["distance"] == both[0].distance


# --- ties -----------------------------------------------------------------------------------------


def _ids(engine):
    return [
        [hit.chunk_id for hit in search]
        for search in (
            engine.semantic_search("10 same", limit=40),
            engine.semantic_search("10 same", limit=7),
            engine.text_search("same", limit=40),
            engine.text_search("same", limit=7),
            engine.search("10 same", limit=40),
            engine.search("10 same", limit=7, fusion="rrf"),
            engine.semantic_search("10 same", limit=40, chunks_per_node=3),
        )
    ]


def test_ties_break_the_same_way_in_every_repeat_and_after_reopening(open_db):
    db = open_db(embedder=Placed())
    db.write(Node("Doc", f"one-{n}", "10 same") for n in range(60))
    db.write(Node("Memo", f"two-{n}", chunks=["10 same"] * 3) for n in range(60))
    db.admin.drain_vector_projection()
    db.write(Node("Doc", f"one-{n}", "11 same") for n in range(0, 60, 2))
    db.admin.drain_vector_projection()
    db.write(Node("Doc", f"one-{n}", "10 same") for n in range(0, 60, 2))
    db.admin.drain_vector_projection()

    first = _ids(db)
    assert all(_ids(db) == first for _ in range(3))
    db.close()
    reopened = open_db(embedder=Placed())
    assert _ids(reopened) == first
    assert first[1] == first[0][:7]
    assert first[3] == first[2][:7]


def test_equal_chunks_come_in_the_order_in_which_they_were_first_written(open_db):
    """Not in the order of their vectors' places in the file, which a rewrite changes."""
    db = open_db(embedder=Placed())
    db.write(Node("Doc", f"n{n:03}", "10 same") for n in range(150))
    db.admin.drain_vector_projection()
    for text in ("11 other", "10 same"):
        db.write(Node("Doc", f"n{n:03}", text) for n in (0, 1, 70, 149))
        db.admin.drain_vector_projection()
    expected = [f"n{n:03}" for n in range(150)]
    for limit in (1, 3, 64, 100, 150):
        found = [hit.node_id for hit in db.semantic_search("10 same", limit=limit)]
        assert found == expected[:limit], limit
        words = [hit.node_id for hit in db.text_search("same", limit=limit)]
        assert words == expected[:limit], limit


def test_a_chunk_given_by_the_caller_is_the_one_that_the_hit_names(db):
    db.write(Node("Doc", "a", chunks=[Chunk("red boat", "front"), Chunk("blue harbour", "back")]))
    db.admin.drain_vector_projection()
    (hit,) = db.search("blue harbour")
    assert (hit.node_id, hit.chunk_id, hit.text) == ("a", "back", "blue harbour")
