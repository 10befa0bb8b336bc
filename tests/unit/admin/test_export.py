"""safe_export: an ordinary database in one file, and a manifest that notices any change of it."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import threading

import pytest

import fathomdb
from fathomdb import CorruptDatabaseError, InvalidInputError, Node, verify_export
from fathomdb.store import backup
from fathomdb.testing import DeterministicEmbedder, RecordingEmbedder


@pytest.fixture
def target(tmp_path):
    return str(tmp_path / "backup" / "export.db")


@pytest.fixture(autouse=True)
def _folder(tmp_path):
    (tmp_path / "backup").mkdir()


def fill(db, count=300):
    db.write([Node("Doc", f"d{n}", f"text number {n}", {"n": n}) for n in range(count)])
    db.admin.drain_vector_projection()


def test_a_restored_export_verifies_and_needs_no_embed_call(db, target):
    fill(db)
    digest = db.admin.projection_digest("Doc")
    hits = [hit.node_id for hit in db.search("text number 7")]

    report = db.admin.safe_export(target)

    assert verify_export(target) == report
    recording = RecordingEmbedder(DeterministicEmbedder())
    with fathomdb.open(target, embedder=recording, background=False) as restored:
        assert restored.admin.check_integrity().ok
        assert restored.admin.projection_digest("Doc") == digest
        assert restored.admin.drain_vector_projection().claimed == 0
        assert [hit.node_id for hit in restored.search("text number 7")] == hits
        assert restored.get("d7") == db.get("d7")
        assert restored.write(Node("Doc", "new", "a new text")).cursor == report.cursor + 1
    assert recording.texts == []


def test_an_export_is_one_file_and_a_manifest_with_its_checksum(db, target):
    fill(db)
    report = db.admin.safe_export(target)

    folder = os.path.dirname(target)
    assert sorted(os.listdir(folder)) == ["export.db", "export.db.manifest.json"]
    with open(target, "rb") as file:
        assert hashlib.sha256(file.read()).hexdigest() == report.sha256
    with open(report.manifest_path, encoding="utf-8") as file:
        manifest = json.load(file)
    assert manifest["bytes"] == os.path.getsize(target) == report.bytes
    assert manifest["cursor"] == db.admin.status().cursor
    assert manifest["counts"]["vectors"] == 300
    assert manifest["profile"]["fingerprint"] == DeterministicEmbedder().identity().fingerprint


def test_an_export_is_in_wal_mode_and_names_no_owner(db, target):
    fill(db, 5)
    db.admin.safe_export(target)

    with open(target, "rb") as file:
        assert file.read(20)[18:20] == b"\x02\x02"
    with fathomdb.open(target, read_only=True) as exported:
        assert exported.admin.status().owner_pid is None


def test_writes_go_on_during_an_export_and_are_not_in_it(db, target):
    fill(db, 3000)
    cursor = db.admin.status().cursor
    steps = []

    def write_more(done, total):
        steps.append((done, total))
        # Waits for the commit: an export that held the writer up would never go on.
        db.write(Node("Doc", f"later{len(steps)}", "written meanwhile"), timeout=30)

    report = db.admin.safe_export(target, progress=write_more)

    assert steps[-1][0] == steps[-1][1]
    assert report.cursor == cursor
    with fathomdb.open(target, embedder=False) as exported:
        assert exported.count() == 3000
        assert exported.admin.check_integrity().ok


def test_what_is_inflight_is_pending_in_the_export_with_its_attempt_given_back(open_db, target):
    recording = RecordingEmbedder(DeterministicEmbedder())
    db = open_db(embedder=recording)
    db.write(Node("Doc", "d1", "text"))
    recording.hold()
    drain = threading.Thread(target=db.admin.drain_vector_projection)
    drain.start()
    recording.wait_held()
    try:
        db.admin.safe_export(target)
    finally:
        recording.release()
        drain.join()

    with fathomdb.open(target, embedder=DeterministicEmbedder(), read_only=True) as exported:
        work = exported.admin.inspect("d1").chunks[0].work
        assert (work.state, work.attempts) == ("pending", 0)
        assert exported.admin.check_integrity().ok
    with fathomdb.open(target, embedder=DeterministicEmbedder(), background=False) as exported:
        assert exported.admin.drain_vector_projection().processed == 1


@pytest.mark.parametrize("suffix", ["", "-wal", "-journal", ".manifest.json"])
def test_something_of_that_name_is_never_overwritten(db, target, suffix):
    with open(target + suffix, "w") as file:
        file.write("mine")

    with pytest.raises(InvalidInputError, match="never overwritten"):
        db.admin.safe_export(target)

    assert os.listdir(os.path.dirname(target)) == [os.path.basename(target) + suffix]


def test_the_database_itself_and_a_folder_that_is_not_there_are_refused(db, path, target):
    with pytest.raises(InvalidInputError, match="never overwritten"):
        db.admin.safe_export(path)
    with pytest.raises(InvalidInputError, match="does not exist"):
        db.admin.safe_export(target + "/deeper/x.db")
    with pytest.raises(InvalidInputError, match="name a file"):
        db.admin.safe_export("")


def test_an_export_that_fails_leaves_nothing_behind(db, target):
    fill(db, 5)

    def fail(done, total):
        raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        db.admin.safe_export(target, progress=fail)

    assert os.listdir(os.path.dirname(target)) == []
    assert db.count() == 5


def test_a_read_only_engine_can_export(db, open_db, target):
    fill(db, 5)
    report = open_db(read_only=True).admin.safe_export(target)
    assert verify_export(target) == report


def test_a_changed_byte_a_lost_tail_and_a_write_since_are_noticed(db, target):
    fill(db)
    db.admin.safe_export(target)
    with open(target, "r+b") as file:
        file.seek(5000)
        byte = file.read(1)
        file.seek(5000)
        file.write(bytes([byte[0] ^ 1]))
    with pytest.raises(CorruptDatabaseError, match="SHA-256"):
        verify_export(target)
    with open(target, "r+b") as file:
        file.truncate(os.path.getsize(target) - 1)
    with pytest.raises(CorruptDatabaseError, match="bytes"):
        verify_export(target)


def test_an_export_that_lives_on_no_longer_matches_its_manifest(db, target):
    fill(db, 5)
    db.admin.safe_export(target)
    with (
        fathomdb.open(target, embedder=False),
        pytest.raises(CorruptDatabaseError, match="opened for writing since"),
    ):
        verify_export(target)


def test_a_manifest_that_is_missing_or_not_ours_is_said_so(db, target):
    fill(db, 5)
    report = db.admin.safe_export(target)
    with open(report.manifest_path, "w") as file:
        json.dump({"format": 99}, file)
    with pytest.raises(InvalidInputError, match="newer fathomdb-py"):
        verify_export(target)
    with open(report.manifest_path, "w") as file:
        file.write("[]")
    with pytest.raises(InvalidInputError, match="not the manifest"):
        verify_export(target)
    os.unlink(report.manifest_path)
    with pytest.raises(InvalidInputError, match="keep the two together"):
        verify_export(target)


HOLD_A_LOCK = """
import sys, apsw
db = apsw.Connection(sys.argv[1])
db.set_busy_timeout(0)
try:
    db.execute("BEGIN IMMEDIATE")
except apsw.BusyError:
    sys.exit(7)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX locks are what is lost")
def test_a_checksum_of_a_database_that_is_open_here_drops_none_of_its_locks(tmp_path):
    import apsw

    name = str(tmp_path / "locked.db")
    holder = apsw.Connection(name)
    holder.execute("CREATE TABLE t (x)")
    holder.execute("BEGIN IMMEDIATE")

    backup.sha256(name)

    assert subprocess.run([sys.executable, "-c", HOLD_A_LOCK, name], check=False).returncode == 7
    holder.close()
