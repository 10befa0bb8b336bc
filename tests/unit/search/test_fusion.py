"""Fusion against a plain oracle, and what a result is."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fathomdb import Hit, Node
from fathomdb.search.hybrid import RRF_K, fuse
from fathomdb.search.ranked import Ranked


def ranked(rows):
    """(chunk, node, score) rows in the order in which an arm gives them."""
    return [
        Ranked(chunk, node, score, 1 - score)
        for chunk, node, score in sorted(rows, key=lambda row: (-row[2], row[0]))
    ]


def best(rows):
    scores: dict[int, float] = {}
    for row in rows:
        scores[row.node_key] = max(row.score, scores.get(row.node_key, row.score))
    return scores


def convex(text, vector, weight):
    def scaled(scores):
        low, high = min(scores.values(), default=0), max(scores.values(), default=0)
        return {
            node: 1.0 if high == low else (score - low) / (high - low)
            for node, score in scores.items()
        }

    a, b = scaled(best(text)), scaled(best(vector))
    return {node: (1 - weight) * a.get(node, 0) + weight * b.get(node, 0) for node in {**a, **b}}


def reciprocal(text, vector, weight):
    def ranks(rows):
        order = dict.fromkeys(row.node_key for row in rows)
        return {node: 1 / (RRF_K + rank) for rank, node in enumerate(order, start=1)}

    a, b = ranks(text), ranks(vector)
    return {node: (1 - weight) * a.get(node, 0) + weight * b.get(node, 0) for node in {**a, **b}}


# A chunk belongs to one node: every third one to the same.
arms = st.lists(
    st.tuples(st.integers(0, 30), st.sampled_from([-1.0, 0.0, 0.25, 0.5, 1.0, 7.5])),
    unique_by=lambda row: row[0],
    max_size=15,
).map(lambda rows: ranked([(chunk, chunk // 3, score) for chunk, score in rows]))


@given(arms, arms, st.sampled_from([0.0, 0.4, 1.0]), st.integers(1, 12), st.integers(1, 3))
@pytest.mark.parametrize(("fusion", "oracle"), [("convex", convex), ("rrf", reciprocal)])
def test_fusion_is_that_of_the_oracle(fusion, oracle, text, vector, weight, limit, per_node):
    fused = fuse(text, vector, fusion=fusion, vector_weight=weight, limit=limit, per_node=per_node)
    scores = oracle(text, vector, weight)
    order = list(dict.fromkeys(item.node_key for item in fused))
    expected = sorted(scores, key=lambda node: (-scores[node], node))
    assert order == expected[: len(order)]
    assert len(fused) == len({item.chunk_key for item in fused}) <= limit
    assert all(item.score == pytest.approx(scores[item.node_key]) for item in fused)
    for node in order:
        of_node = [item for item in fused if item.node_key == node]
        found = {row.chunk_key for row in (*text, *vector) if row.node_key == node}
        if node != order[-1]:
            assert len(of_node) == min(per_node, len(found))
        for item in of_node:
            assert (item.text in text) or item.text is None
            assert (item.vector in vector) or item.vector is None
            assert item.text is not None or item.vector is not None


def test_without_a_vector_arm_the_order_is_that_of_the_words(open_db):
    db = open_db(embedder=False)
    db.write(Node("Doc", f"n{n}", "harbour " * (n + 1) + "sea " * (9 - n)) for n in range(9))
    words = [hit.node_id for hit in db.text_search("harbour")]
    for fusion in ("convex", "rrf"):
        assert [hit.node_id for hit in db.search("harbour", fusion=fusion)] == words
    assert [hit.node_id for hit in db.search("harbour", vector_weight=1.0)] == words


def test_weight_0_ranks_by_words_and_weight_1_by_vectors(db):
    db.write(Node("Doc", f"n{n}", "harbour " * (n + 1) + "sea " * (9 - n)) for n in range(9))
    db.admin.drain_vector_projection()
    words = [hit.node_id for hit in db.text_search("harbour sea")]
    vectors = [hit.node_id for hit in db.semantic_search("harbour sea")]
    assert words != vectors
    assert [hit.node_id for hit in db.search("harbour sea", vector_weight=0)] == words
    assert [hit.node_id for hit in db.search("harbour sea", vector_weight=1)] == vectors


# --- results --------------------------------------------------------------------------------------


def test_a_result_is_a_sequence_of_hits_and_plain_json(db):
    db.write(Node("Doc", f"n{n}", f"text {n}", {"n": [n]}, source_ref="file") for n in range(5))
    db.admin.drain_vector_projection()
    result = db.search("text 3")
    assert len(result) == 5
    assert isinstance(result[0], Hit)
    assert result[-1] == result.hits[-1]
    assert list(result[1:3]) == list(result)[1:3]
    assert result[0] in result
    assert bool(result)
    assert not db.text_search("nowhere")
    assert next(reversed(result)) == result[-1]
    plain = json.loads(json.dumps(result.to_dicts(), allow_nan=False))
    assert plain[0] == {
        "node_id": "n3",
        "chunk_id": "n3#0",
        "kind": "Doc",
        "text": "text 3",
        "score": result[0].score,
        "distance": result[0].distance,
        "properties": {"n": [3]},
        "source_ref": "file",
        "arms": ["text", "vector"],
    }
    with pytest.raises(AttributeError):
        result.hits = ()


def test_an_explanation_says_what_was_searched_and_is_plain_json(db):
    db.write(Node("Doc", f"n{n}", f"text {n}") for n in range(5))
    db.admin.drain_vector_projection()
    assert db.search("text").explanation is None
    found = db.search("the text 3", explain=True, limit=2).explanation
    json.dumps(found, allow_nan=False)
    assert found["mode"] == "hybrid"
    assert found["fusion"] == "convex"
    assert found["vector_kinds"] == ["Doc"]
    assert '"text"' in found["text_expression"]
    assert len(found["hits"]) == 2
    assert found["candidates"]["vector"] == 5
    words = db.text_search("text", explain=True).explanation
    assert (words["mode"], words["fusion"], words["vector_weight"]) == ("text", None, None)
