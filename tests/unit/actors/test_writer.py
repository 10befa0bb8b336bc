"""WriterActor on a real file: group commit, savepoints, a bounded mailbox, and its end."""

from __future__ import annotations

import threading

import apsw
import pytest

import fathomdb
import inside
from fathomdb import (
    EngineClosedError,
    EngineConfig,
    InvalidInputError,
    MailboxFullError,
    Node,
    WriterTimeoutError,
)
from fathomdb.actors import writer
from fathomdb.errors import StorageError
from fathomdb.store.transaction import Transaction


@pytest.fixture
def open_small(open_db):
    """Opens a database without an embedder, with a small mailbox where asked."""

    def opened(**numbers):
        return open_db(embedder=False, config=EngineConfig(**numbers))

    return opened


class Held:
    """A request that holds the writer until it is let go, so that others gather behind it."""

    def __init__(self, db):
        self._writer = db._runtime._owned.writer
        self._begun, self._go = threading.Event(), threading.Event()
        self.reply = self.submit(self._hold)
        assert self._begun.wait(30)

    def _hold(self, tx):
        self._begun.set()
        assert self._go.wait(30)

    def submit(self, operation, **options):
        return self._writer.submit(operation, **{"timeout_seconds": 30.0, **options})

    def let_go(self):
        self._go.set()


def _insert(name):
    def operation(tx):
        tx.db.execute("INSERT INTO engine_status (name, value) VALUES (?, 1)", (name,))
        return tx.cursor()

    return operation


def _status_names(db):
    with inside.snapshot(db) as connection:
        return {row[0] for row in connection.execute("SELECT name FROM engine_status")}


def test_requests_that_wait_are_committed_as_one_group_and_share_its_cursor(open_small):
    db = open_small()
    held = Held(db)
    replies = [held.submit(_insert(f"r{i}")) for i in range(20)]
    held.let_go()

    assert len({reply.result(30) for reply in replies}) == 1
    assert {f"r{i}" for i in range(20)} <= _status_names(db)


def test_writes_of_many_threads_need_fewer_commits_than_writes(open_small):
    db = open_small()
    receipts = []
    start = threading.Barrier(8)

    def write(thread):
        start.wait(30)
        receipts.extend(
            db.write(Node("Note", f"{thread}-{i}", f"note {i} of {thread}")) for i in range(50)
        )

    threads = [threading.Thread(target=write, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)

    assert len(receipts) == 400
    assert db.count() == 400
    # Every request is canonical, so the cursor counts the commits.
    assert max(receipt.cursor for receipt in receipts) < 400
    assert db.admin.status().cursor == max(receipt.cursor for receipt in receipts)


def test_a_commit_waits_for_callers_that_were_just_answered(open_small, monkeypatch):
    # Else one writes while the other waits, and each commit has one write.
    monkeypatch.setattr(writer, "GATHER_SECONDS", 5.0)
    db = open_small()
    cursors, begin = set(), threading.Barrier(2)

    def write(name):
        begin.wait(30)
        for n in range(20):
            cursors.add(db.write(Node("Doc", f"{name}-{n}")).cursor)

    threads = [threading.Thread(target=write, args=(name,)) for name in "ab"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert db.count("Doc") == 40
    assert len(cursors) <= 25


def test_a_commit_that_waited_in_vain_has_others_go_by_without_a_wait():
    gathering = writer._Gathering()
    gathering.expect(2)
    passed = []
    for _ in range(8):
        while not gathering.wanted():
            passed[-1] += 1
        passed.append(0)
        gathering.came(all_did=False)
    assert passed == [1, 3, 7, 15, 31, 63, 64, 0]

    gathering.came(all_did=True)
    assert gathering.wanted() == 2


def test_one_caller_alone_is_never_waited_for(open_small, monkeypatch):
    monkeypatch.setattr(writer, "GATHER_SECONDS", 60.0)
    db = open_small()
    receipts = [db.write(Node("Doc", f"{n}"), timeout=30.0) for n in range(3)]
    assert [receipt.written for receipt in receipts] == [1, 1, 1]


def test_requests_run_in_the_order_in_which_they_came(open_small):
    db = open_small(group_size=7)
    held = Held(db)
    ran = []
    replies = [held.submit(lambda tx, n=n: ran.append(n)) for n in range(40)]
    held.let_go()
    for reply in replies:
        reply.result(30)

    assert ran == list(range(40))


def test_a_group_has_at_most_group_size_requests_and_about_group_rows_rows(open_small):
    db = open_small(group_size=4, group_rows=10)
    held = Held(db)
    light = [held.submit(_insert(f"light{i}")) for i in range(8)]
    heavy = [held.submit(_insert(f"heavy{i}"), weight=6) for i in range(4)]
    held.let_go()

    assert len({reply.result(30) for reply in light}) == 2
    assert len({reply.result(30) for reply in heavy}) == 2


def test_one_bad_request_in_a_group_fails_alone_and_leaves_nothing(open_small):
    db = open_small()
    held = Held(db)

    def bad(tx):
        _insert("bad")(tx)
        raise ValueError("changed my mind")

    before = held.submit(_insert("before"))
    failing = held.submit(bad)
    after = held.submit(_insert("after"))
    held.let_go()

    assert before.result(30) == after.result(30)
    with pytest.raises(ValueError, match="changed my mind"):
        failing.result(30)
    assert {"before", "after"} <= _status_names(db)
    assert "bad" not in _status_names(db)


def test_a_bad_request_leaves_no_words_behind_for_the_others_of_its_group(open_small):
    db = open_small()
    db.write(Node("Note", "owner", chunks=[fathomdb.Chunk("mine", "taken")]))
    held = Held(db)
    errors = []

    def bad():
        try:
            db.write(
                [
                    Node("Note", "a", "gooseberry"),
                    Node("Note", "thief", chunks=[fathomdb.Chunk("stolen", "taken")]),
                ]
            )
        except InvalidInputError as error:
            errors.append(error)

    thread = threading.Thread(target=bad)
    thread.start()
    good = held.submit(_insert("good"))
    held.let_go()
    thread.join(30)
    good.result(30)

    assert len(errors) == 1
    assert db.get("a") is None
    assert len(db.text_search("gooseberry")) == 0
    db.write(Node("Note", "b", "gooseberry"))
    assert [hit.node_id for hit in db.text_search("gooseberry")] == ["b"]


def test_a_bad_request_takes_no_words_away_from_the_one_before_it_in_its_group(open_small):
    db = open_small()
    db.write(Node("Note", "owner", chunks=[fathomdb.Chunk("mine", "taken")]))
    held = Held(db)
    errors = []

    def bad():
        thief = Node("Note", "thief", chunks=[fathomdb.Chunk("stolen", "taken")])
        try:
            db.write([Node("Note", "n", "something else"), thief])
        except InvalidInputError as error:
            errors.append(error)

    mailbox = db._runtime._owned.writer._mailbox
    threads = [
        threading.Thread(target=db.write, args=(Node("Note", "n", "gooseberry"),)),
        threading.Thread(target=bad),
    ]
    for waiting, thread in enumerate(threads, start=1):
        thread.start()
        while mailbox.qsize() < waiting:
            thread.join(0.001)
    held.let_go()
    for thread in threads:
        thread.join(30)

    assert len(errors) == 1
    assert [hit.node_id for hit in db.text_search("gooseberry")] == ["n"]


def test_a_constraint_that_sqlite_refuses_is_a_typed_error_and_fails_alone(open_small):
    db = open_small()
    held = Held(db)
    replies = [held.submit(_insert("same")), held.submit(_insert("same"))]
    held.let_go()

    replies[0].result(30)
    with pytest.raises(StorageError, match="UNIQUE"):
        replies[1].result(30)


@pytest.mark.parametrize("ends", ["ROLLBACK", "COMMIT"])
def test_a_request_that_ends_the_transaction_itself_does_not_take_the_others_with_it(
    open_small, ends
):
    db = open_small()
    held = Held(db)

    def bad(tx):
        tx.db.execute(ends)
        raise ValueError("ended it")

    before = held.submit(_insert("before")) if ends == "ROLLBACK" else None
    failing = held.submit(bad)
    after = held.submit(_insert("after"))
    held.let_go()

    with pytest.raises(ValueError, match="ended it"):
        failing.result(30)
    after.result(30)
    if before is not None:
        before.result(30)
        assert "before" in _status_names(db)
    assert "after" in _status_names(db)


def test_full_text_that_fails_at_commit_is_answered_to_its_request_alone(open_small):
    db = open_small()
    held = Held(db)

    def bad(tx):
        _insert("bad")(tx)
        tx.fts.insert([10**30])  # no key of SQLite's: known only when FTS5 is given the rows

    before, failing, after = map(held.submit, (_insert("before"), bad, _insert("after")))
    held.let_go()

    with pytest.raises(OverflowError):
        failing.result(30)
    before.result(30)
    after.result(30)
    assert {"before", "after"} <= _status_names(db)
    assert "bad" not in _status_names(db)
    db.write(Node("Note", "n", "raspberry"))
    assert len(db.text_search("raspberry")) == 1


def test_a_full_disk_is_answered_to_every_request_and_the_writer_goes_on(open_small):
    db = open_small()
    full = pytest.raises(fathomdb.DiskFullError, match="disk is full")
    with inside.full_disk(db), full:
        db.write([Node("Note", f"n{i}", "word " * 150) for i in range(200)])
    assert db.count() == 0

    assert db.write(Node("Note", "n", "a text")).written == 1


def test_a_writer_that_dies_answers_the_group_that_it_dies_of(open_small, caplog):
    db = open_small()
    held = Held(db)

    def dies(tx):
        raise SystemExit("of this")

    replies = [*map(held.submit, (_insert("before"), dies, _insert("after")))]
    held.let_go()

    for reply in replies:
        with pytest.raises(fathomdb.FathomError, match=r"stopped: SystemExit.+open it again"):
            reply.result(30)
    held.reply.result(30)
    assert caplog.text.count("stopped after an unexpected error") == 1
    with pytest.raises(fathomdb.FathomError):
        db.write(Node("Note", "n", "a text"))


def test_a_rollback_that_fails_is_answered_and_the_file_is_as_before(open_small, monkeypatch):
    db = open_small()
    db.write(Node("Note", "n", "a text"))

    def fails(tx):
        raise apsw.IOError("disk I/O error")

    def broken(tx):
        _insert("half")(tx)
        raise ValueError("bad")

    with monkeypatch.context() as patch:
        patch.setattr(Transaction, "rollback", fails)
        with pytest.raises(fathomdb.FathomError, match="the writer stopped"):
            inside.in_writer(db, broken)
        db.close()

    db = open_small()
    assert db.count() == 1
    assert "half" not in _status_names(db)


def test_nothing_is_called_or_answered_before_the_commit_has_returned(open_small):
    db = open_small()
    seen = []

    def operation(tx):
        _insert("committed")(tx)
        tx.on_commit(lambda: seen.append("committed" in _status_names(db)))

    inside.in_writer(db, operation)

    assert seen == [True]


def test_what_a_failed_request_wanted_called_is_not_called(open_small):
    db = open_small()
    called = []

    def bad(tx):
        tx.on_commit(lambda: called.append("bad"))
        raise ValueError("no")

    def good(tx):
        tx.on_commit(lambda: called.append("good"))

    held = Held(db)
    replies = [held.submit(good), held.submit(bad), held.submit(good)]
    held.let_go()
    replies[2].result(30)

    assert called == ["good", "good"]


def test_a_call_after_commit_that_raises_changes_nothing_for_anyone(open_small, caplog):
    db = open_small()

    def operation(tx):
        _insert("kept")(tx)
        tx.on_commit(lambda: 1 // 0)
        return "answer"

    assert inside.in_writer(db, operation) == "answer"
    assert "kept" in _status_names(db)
    assert "a call after a commit failed" in caplog.text
    assert db.write(Node("Note", "n", "a text")).written == 1


def test_a_mailbox_that_stays_full_raises_and_nothing_of_the_request_is_stored(open_small):
    db = open_small(mailbox_size=2)
    held = Held(db)
    waiting = [held.submit(_insert(f"r{i}")) for i in range(2)]

    with pytest.raises(MailboxFullError, match="2 requests were still waiting"):
        db.write(Node("Note", "late", "too late"), timeout=0.01)

    held.let_go()
    for reply in waiting:
        reply.result(30)
    db.write(Node("Note", "later", "in time"))
    assert db.get("late") is None


def test_a_write_that_times_out_says_that_it_may_still_commit_and_it_does(open_small):
    db = open_small()
    held = Held(db)

    with pytest.raises(WriterTimeoutError, match="may still commit"):
        db.write(Node("Note", "n", "a text"), timeout=0.01)

    held.let_go()
    db.write(Node("Note", "after", "a text"))
    assert db.get("n") is not None


def test_a_timeout_that_a_request_itself_raises_is_not_the_writers(open_small):
    db = open_small()

    def operation(tx):
        raise TimeoutError("mine")

    with pytest.raises(TimeoutError, match="mine") as caught:
        db._runtime.write(operation)
    assert not isinstance(caught.value, WriterTimeoutError)


def test_close_answers_every_request_that_waits_and_commits_what_came_before(open_small, path):
    db = open_small()
    held = Held(db)
    replies = [held.submit(_insert(f"r{i}")) for i in range(30)]
    closing = threading.Thread(target=db.close)
    closing.start()
    held.let_go()
    closing.join(30)

    assert not closing.is_alive()
    for reply in replies:
        reply.result(0)  # answered already
    with fathomdb.open(path, embedder=False) as again:
        assert {f"r{i}" for i in range(30)} <= _status_names(again)
    with pytest.raises(EngineClosedError):
        db.write(Node("Note", "n", "a text"))


def test_whoever_writes_while_the_engine_closes_is_answered(open_small):
    db = open_small()
    answers = []
    start = threading.Barrier(9)

    def write(thread):
        start.wait(30)
        for i in range(1000):
            try:
                db.write(Node("Note", f"{thread}-{i}", "a text"), timeout=30)
            except EngineClosedError as error:
                answers.append(error)
                return

    threads = [threading.Thread(target=write, args=(n,), daemon=True) for n in range(8)]
    for thread in threads:
        thread.start()
    start.wait(30)
    db.close()
    for thread in threads:
        thread.join(30)

    assert len(answers) == 8
