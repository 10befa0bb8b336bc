"""Readers: snapshots that hold still, a pool with an end, and no lock that a check lets go."""

from __future__ import annotations

import subprocess
import sys
import threading

import apsw
import pytest

import fathomdb
from fathomdb import EngineConfig, Node
from fathomdb.errors import StorageError

# The bytes that every connection of a database holds a shared lock on (SQLite's os.h).
TAKE_OVER = """
import fcntl, sys
PENDING_BYTE = 0x40000000
with open(sys.argv[1], "r+b") as file:
    try:
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB, 510, PENDING_BYTE + 2)
    except OSError:
        print("locked")
    else:
        print("free")
"""


def test_opening_a_file_again_does_not_drop_the_locks_of_the_first(open_db, path):
    """A plain handle on the file would, when it is closed, and another process take it over."""
    db = open_db()
    db.write(Node("Doc", "a", "text"))
    assert _elsewhere(path) == "locked"
    with fathomdb.open(path, read_only=True) as second:
        assert second.count() == 1
    with pytest.raises(fathomdb.DatabaseLockedError):
        fathomdb.open(path)
    assert _elsewhere(path) == "locked"
    db.close()
    assert _elsewhere(path) == "free"


def _elsewhere(path):
    command = [sys.executable, "-c", TAKE_OVER, path]
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


@pytest.mark.parametrize("error", [apsw.IOError, apsw.CorruptError])
def test_a_connection_that_met_an_error_of_the_disk_reads_nothing_any_more(open_db, error):
    db = open_db(config=EngineConfig(readers=1))
    db.write(Node("Doc", "a", "text"))
    with pytest.raises(StorageError), db._runtime.snapshot() as spoiled:
        raise error("as the disk said")
    with db._runtime.snapshot() as fresh:
        assert fresh is not spoiled
    assert db.count() == 1
