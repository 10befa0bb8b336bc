"""Readers: snapshots that hold still, a pool with an end, and no lock that a check lets go."""

from __future__ import annotations

import subprocess
import sys
import threading

import fathomdb
from fathomdb import EngineConfig, Node

WRITE_ELSEWHERE = """
import sys, apsw
db = apsw.Connection(sys.argv[1])
db.set_busy_timeout(0)
try:
    db.execute("BEGIN EXCLUSIVE; ROLLBACK; PRAGMA locking_mode = EXCLUSIVE; BEGIN EXCLUSIVE; COMMIT")
    db.pragma("journal_mode", "delete")
except apsw.BusyError:
    print("locked")
else:
    print("free")
"""


def test_opening_a_file_again_to_read_does_not_drop_the_locks_of_the_first(open_db, path):
    """A plain handle on the file, opened and closed, would: then another process may take it over."""
    db = open_db()
    db.write(Node("Doc", "a", "text"))
    assert _elsewhere(path) == "locked"
    with fathomdb.open(path, read_only=True) as second:
        assert second.count() == 1
    assert _elsewhere(path) == "locked"
    for _ in range(2):
        try:
            fathomdb.open(path)
        except fathomdb.DatabaseLockedError:
            assert _elsewhere(path) == "locked"
    db.write(Node("Doc", "b", "text"))
    assert db.count() == 2


def _elsewhere(path):
    command = [sys.executable, "-c", WRITE_ELSEWHERE, path]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def test_a_snapshot_does_not_see_what_is_committed_after_it_began(open_db):
    db = open_db()
    db.write(Node("Doc", "a", "first"))
    with db._runtime.snapshot() as reader:
        assert reader.execute("SELECT count(*) FROM nodes").get == 1
        db.write(Node("Doc", "b", "second"))
        assert reader.execute("SELECT count(*) FROM nodes").get == 1
    assert db.count() == 2


def test_more_threads_than_readers_wait_for_their_turn(open_db):
    db = open_db(config=EngineConfig(readers=2))
    db.write(Node("Doc", f"n{n}", f"text {n}") for n in range(50))
    failed = []

    def search():
        try:
            for _ in range(20):
                assert len(db.text_search("text", limit=50)) == 50
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=search) for _ in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert failed == []
    assert len(db._runtime._readers._free) <= 2


def test_a_reader_that_failed_goes_back_to_the_pool(open_db):
    db = open_db(config=EngineConfig(readers=1))
    db.write(Node("Doc", "a", "text"))
    for _ in range(3):
        try:
            db.search("text", kind="Unknown")
        except fathomdb.InvalidInputError:
            pass
        else:
            raise AssertionError
    assert db.count() == 1
