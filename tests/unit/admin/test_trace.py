"""trace_source: what came from a source, what became of it, and how far its vectors are."""

from __future__ import annotations

import pytest

from fathomdb import InvalidInputError, Node
from fathomdb.testing import DeterministicEmbedder, Fault, FlakyEmbedder


def test_live_and_superseded_versions_are_told_apart(db):
    db.write([Node("Doc", "a", "one", source_ref="s"), Node("Doc", "b", "two", source_ref="s")])
    db.write(Node("Doc", "a", "one again", source_ref="s"))
    db.write(retire="b")
    db.write(Node("Doc", "c", "other", source_ref="t"))

    trace = db.admin.trace_source("s")

    assert [(row.node_id, row.written_cursor) for row in trace.live] == [("a", 2)]
    assert [(row.node_id, row.superseded_cursor) for row in trace.superseded] == [
        ("a", 2),
        ("b", 3),
    ]
    assert trace.chunks == 1


def test_a_version_that_moved_to_another_source_stays_with_the_first(db):
    db.write(Node("Doc", "a", "one", source_ref="s"))
    db.write(Node("Doc", "a", "one", source_ref="t"))

    assert [row.node_id for row in db.admin.trace_source("s").superseded] == ["a"]
    assert [row.node_id for row in db.admin.trace_source("t").live] == ["a"]


def test_vectors_waiting_and_failed_work_are_counted(open_db):
    db = open_db(embedder=FlakyEmbedder(DeterministicEmbedder(), [Fault("zero", texts="poison")]))
    db.write([Node("Doc", f"d{n}", f"text {n}", source_ref="s") for n in range(3)])
    db.write(Node("Doc", "bad", "poison", source_ref="s"))
    db.admin.drain_vector_projection()
    db.write(Node("Doc", "new", chunks=["one", "two"], source_ref="s"))

    trace = db.admin.trace_source("s")

    assert (trace.chunks, trace.vectors, trace.pending, trace.failed) == (6, 3, 2, 1)


def test_an_unknown_source_has_nothing(db):
    trace = db.admin.trace_source("nowhere")
    assert (trace.live, trace.superseded, trace.chunks) == ((), (), 0)


@pytest.mark.parametrize("source_ref", ["", "a\0b", None, 7])
def test_what_cannot_be_a_source_is_refused(db, source_ref):
    with pytest.raises(InvalidInputError, match="source_ref"):
        db.admin.trace_source(source_ref)
