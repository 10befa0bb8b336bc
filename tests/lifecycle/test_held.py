"""An engine lives as long as anything of it is in use, and no longer."""

from __future__ import annotations

import threading
import weakref

import fathomdb
from fathomdb import EngineConfig, Node


def test_the_admin_of_an_engine_that_nobody_else_holds_works(path):
    assert fathomdb.open(path, embedder=False).admin.status().pending == 0
    admin = fathomdb.open(path, embedder=False).admin
    assert admin.status().cursor == 0
    del admin
    fathomdb.open(path, embedder=False).close()


def test_a_stream_of_an_engine_that_nobody_else_holds_goes_to_its_end(open_db, path):
    with open_db(embedder=False) as db:
        db.write(Node("Doc", f"n{n}", properties={}) for n in range(1200))
    assert sum(1 for _ in fathomdb.open(path, embedder=False).nodes()) == 1200


def test_an_engine_that_nobody_holds_is_closed_at_once(path):
    db = fathomdb.open(path, embedder=False)
    db.admin.status()
    assert list(db.nodes()) == []
    del db
    fathomdb.open(path, embedder=False).close()


def test_an_engine_that_nobody_holds_after_its_last_write_is_closed_at_once(path):
    db = fathomdb.open(path, embedder=False)
    db.write(Node("Doc", "n1", "text"))
    db.patch("n1", {"a": 1})
    db.ingest([Node("Doc", "n2", "text")], prune_source="nobody")
    del db
    fathomdb.open(path, embedder=False).close()


def test_a_writer_that_has_answered_a_write_does_not_hold_its_engine(path):
    # Closing must not wait for the writer, which this test stops.
    config = EngineConfig(close_timeout_seconds=0.01)
    db = fathomdb.open(path, embedder=False, config=config)
    writer, held = db._runtime._owned.writer, weakref.ref(db)
    entered, gate, answering, go_on = (threading.Event() for _ in range(4))

    def first(_):
        entered.set()
        assert gate.wait(60)

    def stay(_):
        answering.set()
        assert go_on.wait(60)

    writer.submit(first, timeout_seconds=60)
    assert entered.wait(60)
    writing = threading.Thread(target=db.write, args=(Node("Doc", "n1", "text"),))
    writing.start()
    while writer._mailbox.empty():
        threading.Event().wait(0.001)
    # In one group with the write, and answered after it.
    writer.submit(lambda _: None, timeout_seconds=60).add_done_callback(stay)
    gate.set()
    assert answering.wait(60)
    writing.join(60)
    del db, writing
    try:
        assert held() is None
    finally:
        go_on.set()
    with fathomdb.open(path, embedder=False, lock_timeout_seconds=60) as again:
        assert again.count() == 1
