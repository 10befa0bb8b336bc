"""Reading beside the owner, after it, and where nothing can be written."""

from __future__ import annotations

import glob
import json
import os
import shutil
import tempfile
import threading

import pytest
import sqlite_vec

import fathomdb
from fathomdb import Node, ReadOnlyError
from fathomdb.store.lock import FileLock, is_held
from fathomdb.testing import DeterministicEmbedder

OWNER = """
db = fathomdb.open(path, embedder=DeterministicEmbedder())
receipt = db.write([Node("Doc", f"n{n}", f"text {n}", {"n": n}) for n in range(40)])
assert db.wait(receipt).complete
ready()
told()
db.write(Node("Doc", "later", "written while it is read"), retire="n0")
ready()
told()
db.close()
"""


def read_only(path, **options):
    return fathomdb.open(path, embedder=DeterministicEmbedder(), read_only=True, **options)


def test_a_reader_sees_what_the_owner_in_another_process_commits(start, path):
    owner = start(OWNER, path)
    owner.wait_ready()
    with read_only(path) as db, read_only(path) as second:
        assert db.count() == second.count() == 40
        assert db.semantic_search("text 7")[0].node_id == "n7"
        assert [hit.node_id for hit in db.text_search("text", ids=["n3"])] == ["n3"]
        assert db.search("text 7").degraded is None
        owner.go()
        owner.wait_ready()
        assert [hit.node_id for hit in db.text_search("written")] == ["later"]
        assert db.get("n0") is None
        owner.go()
        assert owner.end()[0] == 0
        assert db.count() == second.count() == 40
        assert db.get("later").text == "written while it is read"


def test_a_reader_shows_the_status_of_the_owner(start, path):
    owner = start(
        """
db = fathomdb.open(path, embedder=DeterministicEmbedder(), config=EngineConfig(idle_poll_seconds=0.02))
receipt = db.write([Node("Doc", f"n{n}", f"text {n}") for n in range(40)])
assert db.wait(receipt).complete
ready()
told()
""",
        path,
    )
    owner.wait_ready()
    with read_only(path) as db:
        status = db.admin.status()
        assert status.owner_pid == owner.pid
        assert status.heartbeat_age_seconds >= 0
        assert (status.pending, status.failed, status.outage) == (0, 0, None)
        assert status.active_profile == "fathomdb/deterministic-test@0 (32 dimensions)"
        (kind,) = status.kinds
        assert (kind.kind, kind.nodes, kind.chunks) == ("Doc", 40, 40)
        owner.go()
        assert owner.end()[0] == 0
        after = db.admin.status()
        assert after.owner_pid is None
        assert after.counters["applied"] == 40


def test_the_owner_and_a_reader_say_the_same(open_db, path):
    db = open_db(background=False)
    db.write(Node("Doc", f"n{n}", f"text {n}") for n in range(5))
    db.admin.drain_vector_projection()
    db.write(Node("Doc", "late", "waiting"))
    with read_only(path) as reader:
        own, other = db.admin.status(), reader.admin.status()
        for name in (
            "path",
            "cursor",
            "tokenizer",
            "active_profile",
            "pending",
            "failed",
            "owner_pid",
        ):
            assert getattr(own, name) == getattr(other, name), name
        assert [kind.kind for kind in own.kinds] == [kind.kind for kind in other.kinds]
        mine, theirs = (
            engine.admin.get_vec_index_status("Doc").pending_incremental for engine in (db, reader)
        )
        assert mine == theirs == 1


def test_wait_on_a_reader_returns_as_soon_as_the_owner_is_done(start, path):
    owner = start(
        """
db = fathomdb.open(path, embedder=DeterministicEmbedder(), background=False)
db.write(Node("Doc", "a", "text"))
ready()
told()
db.admin.drain_vector_projection()
told()
""",
        path,
    )
    owner.wait_ready()
    with read_only(path, config=fathomdb.EngineConfig(idle_poll_seconds=0.01)) as reader:
        receipt = fathomdb.WriteReceipt(1, 1, 0, 0, 1, 1, ("a#0",))
        reports = []
        waiting = threading.Thread(
            target=lambda: reports.append(reader.wait(receipt, timeout=3600)), daemon=True
        )
        waiting.start()
        owner.go()
        waiting.join(60)
        assert not waiting.is_alive()
        assert (reports[0].complete, reports[0].projected) == (True, 1)


def test_wait_on_a_reader_looks_once_more_when_its_time_is_up(open_db, path):
    db = open_db()
    receipt = db.write(Node("Doc", "a", "text"))
    with read_only(path, config=fathomdb.EngineConfig(idle_poll_seconds=3600)) as reader:
        progress = reader._runtime.progress
        wait = progress.wait

        def drained_meanwhile(generation, timeout_seconds):
            db.admin.drain_vector_projection()
            return wait(generation, timeout_seconds)

        progress.wait = drained_meanwhile
        assert reader.wait(receipt, timeout=0.01).complete


def test_an_owner_that_was_killed_is_no_owner(start, path):
    owner = start(OWNER, path)
    owner.wait_ready()
    with read_only(path) as reader:
        assert reader.admin.status().owner_pid == owner.pid
        owner.kill()
        assert reader.admin.status().owner_pid is None
    os.remove(path + ".lock")
    with read_only(path) as reader:
        assert reader.admin.status().owner_pid is None


def test_readers_that_look_for_the_owner_are_never_taken_for_one(open_db, path):
    open_db().close()
    stop = threading.Event()

    def look():
        while not stop.is_set():
            is_held(path)

    looking = [threading.Thread(target=look) for _ in range(4)]
    for thread in looking:
        thread.start()
    try:
        for _ in range(200):
            lock = FileLock(path)
            lock.acquire(0)
            assert is_held(path)
            lock.release()
    finally:
        stop.set()
        for thread in looking:
            thread.join(60)


WRITES = {
    "write": lambda db: db.write(Node("Doc", "b", "text")),
    "write-nothing": lambda db: db.write(),
    "retire": lambda db: db.write(retire="a"),
    "patch": lambda db: db.patch("a", {"n": 1}),
    "drain": lambda db: db.admin.drain_vector_projection(),
    "run_tick": lambda db: db.admin.run_tick(),
    "configure_vec": lambda db: db.admin.configure_vec("Doc"),
    "configure_vec_kinds": lambda db: db.admin.configure_vec_kinds(["Doc"]),
    "disable_vec": lambda db: db.admin.disable_vec("Doc"),
    "configure_fts": lambda db: db.admin.configure_fts("trigram"),
    "configure_embedding": lambda db: db.admin.configure_embedding(DeterministicEmbedder()),
    "rebuild-vec": lambda db: db.admin.rebuild("Doc", "vec"),
    "rebuild-fts": lambda db: db.admin.rebuild("Doc", "fts"),
    "requeue_failed": lambda db: db.admin.requeue_failed(),
}


@pytest.mark.parametrize("write", WRITES.values(), ids=WRITES)
def test_every_write_through_a_reader_is_refused(open_db, path, write):
    with open_db() as db:
        db.write(Node("Doc", "a", "text"))
    with read_only(path) as db:
        with pytest.raises(ReadOnlyError) as caught:
            write(db)
        assert "read_only=True" in str(caught.value)
        assert db.count() == 1
        assert db.admin.status().pending == 1


def test_a_reader_in_the_process_of_the_owner_takes_no_lock(open_db, path):
    db = open_db()
    db.write(Node("Doc", "a", "text"))
    with read_only(path) as reader:
        db.write(Node("Doc", "b", "text"))
        assert reader.count() == 2
    db.close()
    with read_only(path), open_db() as again:
        again.write(Node("Doc", "c", "text"))
        assert again.count() == 3


def test_wait_on_a_reader_sees_the_vectors_come(open_db, path):
    db = open_db()
    receipt = db.write(Node("Doc", "a", "text"))
    with read_only(path) as reader:
        report = reader.wait(receipt, timeout=0)
        assert (report.complete, report.pending, report.reason) == (False, 1, "timeout")
        db.admin.drain_vector_projection()
        assert reader.wait(receipt, timeout=0).complete


# --- where nothing can be written -----------------------------------------------------------------

READ_AS_NOBODY = """
import json
import sqlite_vec
# A checkout may lie where only its owner may look: the extension is loaded from beside the shelf.
library = os.path.join(os.path.dirname(os.path.dirname(path)), "library", "vec0")
sqlite_vec.loadable_path = lambda: library
# What is imported later must be loaded before the rights to read it are gone.
with fathomdb.testing.temporary() as warm:
    warm.write(Node("Doc", "a", "text"))
    warm.search("text")
if os.getuid() == 0:
    os.setgid(65534)
    os.setuid(65534)
assert not os.access(os.path.dirname(path), os.W_OK)

def look():
    status = db.admin.status()
    print(json.dumps({
        "count": db.count(),
        "words": [hit.node_id for hit in db.text_search("written")],
        "meaning": db.semantic_search("text 7")[0].node_id,
        "owner": status.owner_pid,
        "cursor": status.cursor,
    }), flush=True)

db = fathomdb.open(path, embedder=DeterministicEmbedder(), read_only=True)
for _ in range(int(sys.argv[2])):
    look()
    told()
try:
    fathomdb.open(path)
except fathomdb.ReadOnlyError as error:
    print(error, flush=True)
"""


@pytest.fixture
def shelf():
    """A folder that others may look into, sqlite-vec beside it; pytest's own are private."""
    room = tempfile.mkdtemp(prefix="fathomdb-room-")
    folder, library = os.path.join(room, "shelf"), os.path.join(room, "library")
    for made in (folder, library):
        os.mkdir(made)
    for extension in glob.glob(sqlite_vec.loadable_path() + ".*"):
        shutil.copy(extension, library)
    for made in (room, folder, library):
        os.chmod(made, 0o755)
    yield folder
    os.chmod(folder, 0o755)
    shutil.rmtree(room)


def close_off(folder):
    for name in os.listdir(folder):
        os.chmod(os.path.join(folder, name), 0o444)
    os.chmod(folder, 0o555)


def looked(program):
    line = program.process.stdout.readline()
    assert line, program.process.communicate(timeout=60)
    return json.loads(line)


def test_a_folder_that_cannot_be_written_can_be_read_and_sees_a_later_owner(start, shelf):
    path = os.path.join(shelf, "shared.db")
    with fathomdb.open(path, embedder=DeterministicEmbedder(), background=False) as db:
        db.write(Node("Doc", f"n{n}", f"text {n}") for n in range(40))
        db.admin.drain_vector_projection()
    close_off(shelf)
    before = sorted(os.listdir(shelf))

    reader = start(READ_AS_NOBODY, path, 2)
    first = looked(reader)
    assert (first["count"], first["meaning"], first["owner"]) == (40, "n7", None)
    assert sorted(os.listdir(shelf)) == before

    os.chmod(shelf, 0o755)
    os.chmod(path, 0o644)
    os.chmod(path + ".lock", 0o644)
    with fathomdb.open(path, embedder=DeterministicEmbedder(), background=False) as db:
        db.write([Node("Doc", f"n{n}", f"rewritten and written {n}") for n in range(20)])
        db.admin.drain_vector_projection()
    close_off(shelf)

    reader.go()
    second = looked(reader)
    assert second["count"] == 40
    assert len(second["words"]) == 10
    assert second["cursor"] > first["cursor"]
    reader.go()
    code, out, err = reader.end()
    assert code == 0, err
    assert "cannot be written" in out
    assert "read_only=True" in out


def test_a_folder_that_cannot_be_written_can_be_read_while_the_owner_works(start, shelf):
    if os.getuid() != 0:
        pytest.skip("needs two users: the owner can write where the reader cannot")
    path = os.path.join(shelf, "shared.db")
    owner = start(OWNER, path)
    owner.wait_ready()
    reader = start(READ_AS_NOBODY, path, 2)
    first = looked(reader)
    assert (first["count"], first["words"], first["owner"]) == (40, [], owner.pid)
    owner.go()
    owner.wait_ready()
    reader.go()
    second = looked(reader)
    assert (second["count"], second["words"]) == (40, ["later"])
    reader.go()
    assert reader.end()[0] == 0
    owner.go()
    assert owner.end()[0] == 0


def test_a_wal_left_by_a_killed_owner_is_read_where_nothing_can_be_written(start, shelf):
    path = os.path.join(shelf, "shared.db")
    owner = start(OWNER, path)
    owner.wait_ready()
    owner.kill()
    assert os.path.getsize(path + "-wal") > 0
    close_off(shelf)
    reader = start(READ_AS_NOBODY, path, 1)
    assert looked(reader)["count"] == 40
    reader.go()
    assert reader.end()[0] == 0
