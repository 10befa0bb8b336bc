"""RebuildActor beside writes: what shares a commit with a page is indexed once, in both indexes."""

from __future__ import annotations

import sys
import threading

import pytest

import inside
from fathomdb import EngineClosedError, Node
from fathomdb.actors import rebuilder
from fathomdb.store import fts
from fathomdb.testing import DeterministicEmbedder, Fault, FlakyEmbedder


@pytest.fixture
def db(open_db):
    db = open_db(embedder=False)
    db.write(Node("Doc", f"n{n}", f"word{n} alpha") for n in range(10))
    return db


class OneGroup:
    """Holds the writer, so that what is submitted meanwhile is committed as one group, in order."""

    def __init__(self, db):
        self._db = db
        self._writer = db._runtime._owned.writer
        self._threads = []
        self._waiting = 0
        self._held, self._go = threading.Event(), threading.Event()
        self._writer.submit(self._hold, timeout_seconds=30)
        assert self._held.wait(30)

    def _hold(self, tx):
        self._held.set()
        assert self._go.wait(30)

    def add(self, call):
        """Runs ``call`` on a thread of its own, and returns once its request is in the mailbox."""
        thread = threading.Thread(target=call)
        thread.start()
        self._threads.append(thread)
        self._waiting += 1
        while self._writer._mailbox.qsize() < self._waiting:
            assert thread.is_alive()
            thread.join(0.001)

    def commit(self):
        self._go.set()
        for thread in self._threads:
            thread.join(30)
            assert not thread.is_alive()


def _found(db, word):
    return [hit.node_id for hit in db.text_search(word, limit=1000)]


def _begin(db):
    inside.in_writer(db, lambda tx: fts.rebuild_begin(tx.db, "porter unicode61"))


def _page_of(db):
    """One page of a rebuild, as a call that waits for its commit."""
    return lambda: db._runtime.rebuilder.rebuild_fts().result(30)


def test_a_chunk_that_is_written_in_the_group_of_a_page_is_indexed_once(db):
    _begin(db)
    group = OneGroup(db)
    group.add(lambda: db.write(Node("Doc", "late", "zebra alpha")))
    group.add(_page_of(db))
    group.commit()

    assert _found(db, "zebra") == ["late"]
    assert db.admin.check_integrity().ok
    db.write(retire="late")
    assert _found(db, "zebra") == []
    assert len(_found(db, "alpha")) == 10
    assert db.admin.check_integrity().ok


@pytest.mark.parametrize("name", ["n3", "late"], ids=["indexed-before", "written-in-the-group"])
@pytest.mark.parametrize("rewritten", [True, False], ids=["rewritten", "retired"])
def test_a_chunk_that_changes_after_the_page_in_its_group_leaves_no_old_word(db, name, rewritten):
    _begin(db)
    group = OneGroup(db)
    group.add(lambda: db.write(Node("Doc", name, "zebra alpha")))
    group.add(_page_of(db))
    if rewritten:
        group.add(lambda: db.write(Node("Doc", name, "quagga alpha")))
    else:
        group.add(lambda: db.write(retire=name))
    group.commit()

    assert _found(db, "zebra") == []
    assert _found(db, "quagga") == ([name] if rewritten else [])
    assert db.admin.check_integrity().ok
    db.write(retire=name)
    assert _found(db, "quagga") == []
    assert db.admin.check_integrity().ok


def test_a_request_that_fails_after_a_page_leaves_the_writes_of_its_group_indexed(db):
    def flushes_and_fails(tx):
        tx.fts.flush()
        raise RuntimeError("after the flush")

    def fails():
        with pytest.raises(RuntimeError, match="after the flush"):
            inside.in_writer(db, flushes_and_fails)

    group = OneGroup(db)
    group.add(lambda: db.write(Node("Doc", "late", "zebra alpha")))
    group.add(fails)
    group.commit()

    assert _found(db, "zebra") == ["late"]
    assert db.admin.check_integrity().ok


def test_full_text_is_whole_after_rebuilds_beside_many_writers(open_db, monkeypatch):
    monkeypatch.setattr(rebuilder, "PAGE_ROWS", 64)  # more pages among the writes
    db = open_db(embedder=False, durability="normal")
    db.write(Node("Doc", f"n{n}", f"word{n} alpha") for n in range(500))
    wrong = []

    def write(thread):
        try:
            for n in range(60):
                # New, rewritten and retired, while pages pass.
                new = [Node("Doc", f"w{thread}-{n}-{m}", f"zebra{n} beta{thread}") for m in "ab"]
                db.write(new)
                db.write(Node("Doc", new[0].node_id, f"quagga{n} beta{thread}"))
                db.write(retire=new[1].node_id)
        except BaseException as error:
            wrong.append(error)

    writers = [threading.Thread(target=write, args=(thread,)) for thread in range(4)]
    for thread in writers:
        thread.start()
    rebuilt = 0
    while rebuilt < 4 or any(thread.is_alive() for thread in writers):
        assert db.admin.configure_fts("trigram" if rebuilt % 2 else "unicode61") is not None
        # Each time: the next rebuild would bury what went wrong in this one.
        report = db.admin.check_integrity()
        assert report.ok, report.findings
        rebuilt += 1
    for thread in writers:
        thread.join(60)

    assert not wrong
    report = db.admin.check_integrity()
    assert report.ok, report.findings
    assert set(_found(db, "alpha")) == {f"n{n}" for n in range(500)}
    live = {node.node_id for node in db.nodes()}
    for thread in range(4):
        assert set(_found(db, f"beta{thread}")) == {n for n in live if n.startswith(f"w{thread}-")}


# --- vectors --------------------------------------------------------------------------------------


def test_a_rebuild_owes_failed_chunks_anew_and_leaves_what_waits_as_it_is(open_db):
    flaky = FlakyEmbedder(DeterministicEmbedder(), [Fault("nan", texts="poison")])
    db = open_db(embedder=flaky)
    db.write([Node("Doc", "good", "good"), Node("Doc", "bad", "poison")])
    db.admin.drain_vector_projection()
    db.write(Node("Doc", "waits", "waits"))
    before = inside.work(db)
    assert {name: row.state for name, row in before.items()} == {
        "bad#0": "failed", "waits#0": "pending",
    }  # fmt: skip

    db.admin.rebuild("Doc")

    after = inside.work(db)
    assert {row.state for row in after.values()} == {"pending"}
    assert after["waits#0"] == before["waits#0"]
    bad = after["bad#0"]
    assert bad.fence > before["bad#0"].fence
    assert (bad.attempts, bad.cause, bad.last_error) == (0, None, None)
    flaky.script = ()
    assert db.admin.drain_vector_projection().processed == 3
    inside.check(db, DeterministicEmbedder())


def test_what_failed_stays_failed_where_a_kind_is_only_configured_again(open_db):
    flaky = FlakyEmbedder(DeterministicEmbedder(), [Fault("nan", texts="poison")])
    db = open_db(embedder=flaky)
    db.write(Node("Doc", "bad", "poison"))
    db.admin.drain_vector_projection()

    assert db.admin.configure_vec("Doc").enqueued_backfill_rows == 0
    assert [row.node_id for row in db.admin.failed_work()] == ["bad"]


def test_a_rebuild_that_is_asked_for_while_the_engine_closes_is_answered(open_db):
    db = open_db()
    db.write(Node("Doc", "a", "text"))
    actor = db._runtime.rebuilder

    class Late:
        """The queue, which a job reaches only after the thread that reads it has ended."""

        def __init__(self, jobs):
            self._jobs = jobs

        def put(self, job):
            if job is not None:
                db.close()
                assert actor.join(30)
            self._jobs.put(job)

        def __getattr__(self, name):
            return getattr(self._jobs, name)

    actor._jobs = Late(actor._jobs)
    reply = actor.rebuild_fts()
    with pytest.raises(EngineClosedError):
        reply.result(30)


def test_a_progress_callback_that_exits_ends_its_caller_and_not_the_rebuilder(db):
    with pytest.raises(SystemExit, match="enough"):
        db.admin.rebuild("Doc", "fts", progress=lambda _: sys.exit("enough"))
    assert db.admin.rebuild("Doc", "fts").chunks == 10
    assert len(_found(db, "alpha")) == 10
