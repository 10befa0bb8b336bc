"""What writes of one group ask the file once, and what has it asked again."""

from __future__ import annotations

import threading

import apsw
import pytest

import inside
from fathomdb import Node, _native
from fathomdb.pipeline import prepare, write
from fathomdb.store import indexes, profiles
from fathomdb.testing import DeterministicEmbedder


@pytest.fixture
def db(open_db):
    return open_db(embedder=DeterministicEmbedder(), index_kinds=(), background=False)


def writes(node, then=lambda tx: None):
    """A request that writes a node, as ``db.write`` has it, and does something more at its end."""

    def operation(tx):
        prepared = prepare.prepare([node], lambda kind: 1000)
        receipt = write.commit(tx, prepared, [], write.WriteContext(1000, lambda kind: False, 0))
        then(tx)
        return receipt

    return operation


def in_one_group(db, *operations):
    """Runs requests in one transaction, and returns what each was answered with, or its error."""
    writer = db._runtime._owned.writer
    begun, go = threading.Event(), threading.Event()

    def hold(_):
        begun.set()
        assert go.wait(30)

    writer.submit(hold, timeout_seconds=30)
    assert begun.wait(30)
    replies = [writer.submit(operation, timeout_seconds=30) for operation in operations]
    go.set()
    return [reply.exception(30) or reply.result(30) for reply in replies]


def test_the_second_write_of_a_group_asks_nothing_that_the_first_was_told(db):
    asked = []

    def listen(tx):
        tx.db.trace_v2(apsw.SQLITE_TRACE_STMT, lambda event: asked.append(event["sql"]))

    def of_one_write():
        heard = [*asked]
        asked.clear()
        return heard

    heard = []
    in_one_group(
        db,
        listen,
        *(
            writes(Node("Note", f"n{n}", "a text"), lambda tx: heard.append(of_one_write()))
            for n in range(3)
        ),
        lambda tx: tx.db.trace_v2(0, None),
    )

    of_tables = ("kinds", "vector_index_schemas", "wanted_vectors", "max(")
    assert [sum(any(t in sql for t in of_tables) for sql in one) for one in heard] == [5, 0, 0]


def test_a_write_that_is_undone_leaves_no_kind_to_the_next_of_its_group(db):
    def change_of_mind(tx):
        raise ValueError("changed my mind")

    undone, receipt = in_one_group(
        db,
        writes(Node("New", "a", "gooseberry"), change_of_mind),
        writes(Node("New", "b", "raspberry")),
    )

    assert isinstance(undone, ValueError)
    assert receipt.written == 1
    assert db.get("a") is None
    assert [hit.node_id for hit in db.text_search("raspberry gooseberry")] == ["b"]
    with inside.snapshot(db) as connection:
        kinds = connection.execute("SELECT kind, splitter FROM kinds").fetchall()
    assert kinds == [("New", _native.SPLITTER_VERSION)]
    assert db.admin.check_integrity().ok


def test_what_comes_between_two_writes_of_a_group_is_seen_by_the_second(db):
    def enable(tx):
        indexes.enable(tx.db, "Note", profiles.active(tx.db), fence=tx.fence(), now_ms=0)

    before, _, after = in_one_group(
        db, writes(Node("Note", "a", "a text")), enable, writes(Node("Note", "b", "another"))
    )

    assert (before.enqueued, after.enqueued) == (0, 1)
    assert db.admin.check_integrity().ok


def test_a_rewrite_between_two_writes_of_a_group_takes_no_key_of_the_second(db):
    answers = in_one_group(
        db,
        writes(Node("Note", "a", "a text")),
        writes(Node("Note", "a", "another text")),
        writes(Node("Note", "b", "a third text")),
    )

    assert [answer.written for answer in answers] == [1, 1, 1]
    assert [db.get(node_id).node_id for node_id in "ab"] == ["a", "b"]
    assert [hit.node_id for hit in db.text_search("another")] == ["a"]
    assert db.admin.check_integrity().ok
