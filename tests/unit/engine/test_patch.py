"""Patches are JSON merge patches (RFC 7396), and cost no embed call."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fathomdb import Chunk, Node
from fathomdb.store import nodes
from fathomdb.testing import DeterministicEmbedder, RecordingEmbedder

from fathomdb.pipeline.write import merge_patch  # isort: skip

# The appendix of the RFC, those of its cases whose document is an object.
RFC_7396 = [
    ({"a": "b"}, {"a": "c"}, {"a": "c"}),
    ({"a": "b"}, {"b": "c"}, {"a": "b", "b": "c"}),
    ({"a": "b"}, {"a": None}, {}),
    ({"a": "b", "b": "c"}, {"a": None}, {"b": "c"}),
    ({"a": ["b"]}, {"a": "c"}, {"a": "c"}),
    ({"a": "c"}, {"a": ["b"]}, {"a": ["b"]}),
    ({"a": {"b": "c"}}, {"a": {"b": "d", "c": None}}, {"a": {"b": "d"}}),
    ({"a": [{"b": "c"}]}, {"a": [1]}, {"a": [1]}),
    ({"e": None}, {"a": 1}, {"e": None, "a": 1}),
    ({}, {"a": {"bb": {"ccc": None}}}, {"a": {"bb": {}}}),
]


@pytest.mark.parametrize(("before", "patch", "after"), RFC_7396, ids=repr)
def test_a_patch_merges_as_the_rfc_says(db, before, patch, after):
    db.write(Node("Doc", "a", "text", before))
    db.patch("a", patch)
    assert db.get("a").properties == after


json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from("abc"), inner),
    max_leaves=6,
)


def by_the_rfc(target, patch):
    """The pseudocode of RFC 7396, section 2."""
    if isinstance(patch, dict):
        if not isinstance(target, dict):
            target = {}
        target = dict(target)
        for name, value in patch.items():
            if value is None:
                target.pop(name, None)
            else:
                target[name] = by_the_rfc(target.get(name), value)
        return target
    return patch


@given(json, json)
def test_merging_is_the_pseudocode_of_the_rfc_and_changes_neither_side(target, patch):
    before = repr(target), repr(patch)
    assert merge_patch(target, patch) == by_the_rfc(target, patch)
    assert (repr(target), repr(patch)) == before


def test_a_patch_leaves_text_chunks_and_source_alone_and_embeds_nothing(open_db):
    embedder = RecordingEmbedder(DeterministicEmbedder())
    db = open_db(embedder=embedder)
    db.write(
        Node("Doc", "a", chunks=[Chunk("one", "c1"), "two"], properties={"n": 1}, source_ref="file")
    )
    db.admin.drain_vector_projection()
    before = db.get("a")
    calls = len(embedder.batches)

    receipt = db.patch("a", {"m": 2})

    assert (receipt.written, receipt.unchanged, receipt.chunks, receipt.enqueued) == (1, 0, 0, 0)
    assert receipt.chunk_ids == ("c1", "a#1")
    after = db.get("a")
    assert (after.chunks, after.source_ref, after.text) == (before.chunks, "file", None)
    assert after.properties == {"n": 1, "m": 2}
    assert after.cursor == receipt.cursor == before.cursor + 1
    assert db.admin.drain_vector_projection().claimed == 0
    assert len(embedder.batches) == calls
    assert db.semantic_search("one", where={"m": 2})[0].chunk_id == "c1"


def test_a_patch_supersedes_and_one_that_changes_nothing_does_not(db):
    db.write(Node("Doc", "a", "text", {"n": 1}))
    for patch in ({}, {"n": 1}, {"x": None}):
        receipt = db.patch("a", patch)
        assert (receipt.written, receipt.unchanged) == (0, 1)
    db.patch("a", {"n": 2})
    with db._runtime.snapshot() as reader:
        assert nodes.superseded(reader, "a")[0] == 1


def test_a_node_without_properties_gets_them_by_a_patch(db):
    db.write(Node("Doc", "a", "text"))
    db.patch("a", {"n": {"m": 1}})
    assert db.get("a").properties == {"n": {"m": 1}}


def test_the_patch_of_a_retired_node_is_refused_and_names_it(db):
    db.write(Node("Doc", "a", "text"))
    db.write(retire="a")
    with pytest.raises(ValueError, match="no live node 'a' to patch; write it first"):
        db.patch("a", {"n": 1})


@pytest.mark.parametrize("patch", [{}, {"missing": None}], ids=repr)
@pytest.mark.parametrize("before", [None, {}, {"a": 1}], ids=repr)
def test_a_patch_that_says_nothing_changes_nothing(db, before, patch):
    cursor = db.write(Node("Doc", "a", "text", before)).cursor
    receipt = db.patch("a", patch)
    assert (receipt.cursor, receipt.written, receipt.unchanged) == (cursor, 0, 1)
    assert db.get("a").properties == before
