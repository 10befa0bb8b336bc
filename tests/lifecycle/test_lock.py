"""One engine owns a file; the second learns who does, or waits."""

from __future__ import annotations

import os
import threading

import pytest

import fathomdb
from fathomdb import DatabaseLockedError, Node

OWN = """
db = fathomdb.open(path, background=False)
db.write(Node("Doc", "a", "text"))
ready()
told()
"""


def test_a_second_open_in_one_process_is_refused_and_says_so(open_db, path):
    db = open_db()
    with pytest.raises(DatabaseLockedError) as caught:
        fathomdb.open(path)
    assert caught.value.pid == os.getpid()
    assert caught.value.retryable
    assert f"open in this process ({os.getpid()})" in str(caught.value)
    assert "read_only=True" in str(caught.value)
    assert "lock_timeout_seconds" in str(caught.value)
    db.write(Node("Doc", "a", "text"))
    assert db.count() == 1


def test_a_second_open_in_another_process_names_the_first(start, path):
    owner = start(OWN, path)
    owner.wait_ready()
    with pytest.raises(DatabaseLockedError) as caught:
        fathomdb.open(path)
    assert caught.value.pid == owner.pid
    assert f"open in process {owner.pid}" in str(caught.value)
    owner.go()
    assert owner.end()[0] == 0
    fathomdb.open(path, background=False).close()


def test_a_lock_timeout_in_vain_ends_with_the_same_error(open_db, path):
    open_db()
    with pytest.raises(DatabaseLockedError) as caught:
        fathomdb.open(path, lock_timeout_seconds=0.1)
    assert caught.value.pid == os.getpid()


def test_a_lock_timeout_waits_for_the_first_engine_to_close(open_db, path):
    first = open_db()
    first.write(Node("Doc", "a", "text"))
    opened = []
    waiting = threading.Thread(
        target=lambda: opened.append(
            fathomdb.open(path, embedder=False, background=False, lock_timeout_seconds=60)
        )
    )
    waiting.start()
    with pytest.raises(DatabaseLockedError):
        fathomdb.open(path)
    assert not opened
    first.close()
    waiting.join(60)
    (second,) = opened
    assert second.get("a").text == "text"
    second.close()


def test_a_lock_timeout_waits_for_another_process(start, path):
    owner = start(OWN, path)
    owner.wait_ready()
    opened = []
    waiting = threading.Thread(
        target=lambda: opened.append(fathomdb.open(path, background=False, lock_timeout_seconds=60))
    )
    waiting.start()
    owner.go()
    assert owner.end()[0] == 0
    waiting.join(60)
    with opened[0] as db:
        assert db.count() == 1


def test_the_lock_of_a_process_that_was_killed_is_free_at_once(start, path):
    for _ in range(2):
        owner = start(OWN, path)
        owner.wait_ready()
        with pytest.raises(DatabaseLockedError):
            fathomdb.open(path)
        owner.kill()
        with fathomdb.open(path, background=False) as db:
            assert db.get("a").text == "text"


def test_many_processes_that_open_at_once_leave_one_owner_at_a_time(start, path):
    """Each adds one to what it read: were two owners at once, one would be lost."""
    add = """
with fathomdb.open(path, embedder=False, background=False, lock_timeout_seconds=120) as db:
    found = db.get("counter")
    db.write(Node("Doc", "counter", properties={"n": found.properties["n"] + 1 if found else 1}))
"""
    programs = [start(add, path) for _ in range(6)]
    for program in programs:
        code, _, err = program.end(timeout=120)
        assert code == 0, err
    with fathomdb.open(path, background=False) as db:
        assert db.get("counter").properties == {"n": 6}


def test_the_lock_file_stays_and_is_empty_after_close(open_db, path):
    open_db().close()
    assert os.path.exists(path + ".lock")
    assert os.path.getsize(path + ".lock") == 0
