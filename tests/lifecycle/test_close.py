"""Close: in order, once or twice, during anything, and what comes after it."""

from __future__ import annotations

import threading
from contextlib import suppress

import pytest

import fathomdb
import inside
from fathomdb import DatabaseLockedError, EngineClosedError, EngineConfig, Node, StorageError
from fathomdb.store.lock import is_held
from fathomdb.testing import DeterministicEmbedder, RecordingEmbedder

USES = {
    "write": lambda db: db.write(Node("Doc", "b", "text")),
    "write-nothing": lambda db: db.write(),
    "patch": lambda db: db.patch("a", {"n": 1}),
    "get": lambda db: db.get("a"),
    "get_many": lambda db: db.get_many([]),
    "nodes": lambda db: db.nodes(),
    "count": lambda db: db.count(),
    "search": lambda db: db.search("text"),
    "semantic_search": lambda db: db.semantic_search("text"),
    "text_search": lambda db: db.text_search("text"),
    "raw_vector_search": lambda db: db.raw_vector_search([1.0] * 32),
    "status": lambda db: db.admin.status(),
    "index_status": lambda db: db.admin.get_vec_index_status("Doc"),
    "drain": lambda db: db.admin.drain_vector_projection(),
    "run_tick": lambda db: db.admin.run_tick(),
    "configure_vec": lambda db: db.admin.configure_vec("Doc"),
    "disable_vec": lambda db: db.admin.disable_vec("Doc"),
    "configure_fts": lambda db: db.admin.configure_fts("trigram"),
    "configure_embedding": lambda db: db.admin.configure_embedding(DeterministicEmbedder()),
    "rebuild": lambda db: db.admin.rebuild("Doc"),
    "failed_work": lambda db: db.admin.failed_work(),
    "requeue_failed": lambda db: db.admin.requeue_failed(),
}


@pytest.mark.parametrize("use", USES.values(), ids=USES)
@pytest.mark.parametrize("background", [True, False], ids=["background", "by-hand"])
def test_every_use_after_close_says_that_the_engine_is_closed(open_db, path, use, background):
    db = open_db(background=background)
    db.write(Node("Doc", "a", "text"))
    db.close()
    with pytest.raises(EngineClosedError) as caught:
        use(db)
    assert "closed" in str(caught.value)
    assert "open the file again" in str(caught.value)


def test_a_stream_or_a_wait_that_began_before_close_ends_with_the_same_error(open_db):
    db = open_db()
    receipt = db.write(Node("Doc", f"n{n}", properties={}) for n in range(600))
    stream = db.nodes()
    next(stream)
    db.close()
    with pytest.raises(EngineClosedError):
        list(stream)
    with pytest.raises(EngineClosedError):
        db.wait(receipt)


def test_closing_twice_or_from_many_threads_is_closing_once(open_db):
    db = open_db(background=True)
    db.write(Node("Doc", "a", "text"))
    threads = [threading.Thread(target=db.close) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not any(thread.is_alive() for thread in threads)
    db.close()
    with db:
        pass
    again = open_db()
    assert again.count() == 1


def test_a_close_beside_another_returns_when_the_file_is_free(open_db, path):
    db = open_db(config=EngineConfig(close_timeout_seconds=1))
    with suppress(EngineClosedError), inside.snapshot(db):  # which the first close waits for
        first = threading.Thread(target=db.close)
        first.start()
        while not db._runtime._closed:
            first.join(0.001)
        db.close()
        assert not is_held(path)
    first.join(60)
    open_db().close()


def test_the_file_stays_locked_while_a_transaction_outlasts_close(open_db):
    db = open_db(config=EngineConfig(close_timeout_seconds=0.1))
    begun, go = threading.Event(), threading.Event()

    def outlasts(_):
        begun.set()
        assert go.wait(60)

    writer = db._runtime._owned.writer
    reply = writer.submit(outlasts, timeout_seconds=60)
    assert begun.wait(60)
    db.close()
    with pytest.raises(DatabaseLockedError, match="this process"):
        open_db()
    go.set()
    assert reply.result(60) is None
    open_db(lock_timeout_seconds=60).close()


def test_a_block_that_raises_closes_and_the_error_is_its_own(path, open_db):
    def work():
        with open_db() as db:
            db.write(Node("Doc", "a", "text"))
            raise KeyError

    with pytest.raises(KeyError):
        work()
    assert open_db().count() == 1


def test_no_thread_of_the_engine_outlives_it(open_db):
    before = set(threading.enumerate())
    db = open_db(background=True)
    db.write(Node("Doc", "a", "text"))
    db.search("text")
    db.close()
    left = {thread for thread in set(threading.enumerate()) - before if thread.is_alive()}
    for thread in left:
        thread.join(10)  # an embed thread sees the end of its pool by itself
    assert not any(thread.is_alive() for thread in left)


def test_closing_during_a_drain_ends_the_drain_with_its_report(open_db, path):
    embedder = RecordingEmbedder(DeterministicEmbedder())
    db = open_db(embedder=embedder, config=EngineConfig(close_timeout_seconds=2))
    db.write(Node("Doc", f"n{n}", f"text {n}") for n in range(500))
    embedder.hold()
    reports = []

    def drain():
        try:
            reports.append(db.admin.drain_vector_projection(timeout=3600))
        except Exception as error:
            reports.append(error)

    draining = threading.Thread(target=drain)
    draining.start()
    embedder.wait_held()
    closing = threading.Thread(target=db.close)
    closing.start()
    draining.join(60)
    closing.join(60)
    embedder.release()
    assert not draining.is_alive()
    assert not closing.is_alive()
    (report,) = reports
    assert not isinstance(report, Exception), report
    assert report.stopped_by == "cancelled"
    assert report.claimed == (
        report.processed + report.failed + report.discarded_stale + report.reverted
    )

    with fathomdb.open(path, read_only=True) as reader:
        closed = reader.admin.get_vec_index_status("Doc")
        assert (closed.inflight, closed.pending_incremental) == (0, 500 - report.processed)
    again = open_db()
    assert again.count() == 500
    status = again.admin.get_vec_index_status("Doc")
    assert (status.inflight, status.failed) == (0, 0)
    rest = again.admin.drain_vector_projection()
    assert rest.processed == 500 - report.processed
    assert not again.admin.failed_work()
    assert len(again.semantic_search("text", limit=500)) == 500


def test_writes_that_are_under_way_at_close_are_stored_or_refused_never_half(open_db):
    db = open_db(background=True)
    begun = threading.Barrier(5)
    acknowledged: list[str] = []
    written = threading.Semaphore(0)

    def write(thread):
        begun.wait()
        for n in range(10_000):
            name = f"{thread}-{n}"
            try:
                db.write([Node("Doc", name, f"text {name}"), Node("Doc", f"{name}-twin", "text")])
            except EngineClosedError:
                return
            acknowledged.append(name)
            written.release()

    threads = [threading.Thread(target=write, args=(thread,)) for thread in range(4)]
    for thread in threads:
        thread.start()
    begun.wait()
    for _ in range(20):
        assert written.acquire(timeout=60)
    db.close()
    for thread in threads:
        thread.join(60)
    assert not any(thread.is_alive() for thread in threads)

    stored = {node.node_id for node in open_db().nodes()}
    assert set(acknowledged) <= stored
    assert all(f"{name}-twin" in stored for name in stored if not name.endswith("-twin"))


def test_searches_that_are_under_way_at_close_answer_or_say_closed(open_db):
    db = open_db(background=True)
    db.write(Node("Doc", f"n{n}", f"text {n}") for n in range(300))
    begun = threading.Barrier(5)
    failed = []

    def search():
        begun.wait()
        while True:
            try:
                assert len(db.search("text", limit=5)) == 5
                next(db.nodes())
            except EngineClosedError:
                return
            except BaseException as error:
                failed.append(error)
                return

    threads = [threading.Thread(target=search) for _ in range(4)]
    for thread in threads:
        thread.start()
    begun.wait()
    db.close()
    for thread in threads:
        thread.join(60)
    assert not any(thread.is_alive() for thread in threads)
    assert failed == []


def test_a_step_of_close_that_fails_leaves_no_thread_and_no_lock(open_db, monkeypatch):
    before = set(threading.enumerate())
    db = open_db()
    db.write(Node("Doc", "a", "text"))

    def fails(timeout_seconds):
        raise StorageError("a reader cannot be closed")

    monkeypatch.setattr(db._runtime._readers, "close", fails)
    with pytest.raises(StorageError, match="cannot be closed"):
        db.close()
    assert set(threading.enumerate()) <= before
    assert open_db().count() == 1


def test_an_engine_that_fails_to_open_leaves_nothing_open(path):
    before = set(threading.enumerate())
    for _ in range(3):
        with pytest.raises(fathomdb.InvalidInputError):
            fathomdb.open(path, embedder="no-such-plugin")
    assert set(threading.enumerate()) <= before
    fathomdb.open(path, background=False).close()


def test_an_erasure_that_is_committed_is_not_refused_by_a_close_that_comes_right_after(
    open_db, monkeypatch
):
    db = open_db()
    db.write(Node("Document", "n", "a text"))
    snapshot = db._runtime.snapshot

    def closed_before_it_is_read():
        db.close()
        return snapshot()

    monkeypatch.setattr(db._runtime, "snapshot", closed_before_it_is_read)
    receipt = db.admin.erase(["n"])

    assert (receipt.nodes, receipt.wal_pending) == (1, True)
    assert open_db().get("n") is None
