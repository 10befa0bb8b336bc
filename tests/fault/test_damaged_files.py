"""Files that others cut, overwrite, remove or exchange: a typed error, or an earlier commit."""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import sys

import apsw
import pytest

import fathomdb
import inside
from fathomdb import CorruptDatabaseError, Node, ReadOnlyError
from fathomdb.errors import StorageError
from fathomdb.testing import DeterministicEmbedder

BEFORE, COMMITS = 50, 30
"""Nodes that are in the file itself, and commits of one node each that are in its WAL alone."""


def opened(path, **options):
    return fathomdb.open(path, embedder=DeterministicEmbedder(), background=False, **options)


def nodes(kind, start, stop):
    return [Node(kind, f"n{n}", f"text {n} of {kind} " * 20) for n in range(start, stop)]


# Ends without a close, as a killed program does: what was committed last is in the WAL.
OWNER = """
import os, sys
from test_damaged_files import BEFORE, COMMITS, nodes, opened
path, kind = sys.argv[1:]
with opened(path) as db:
    db.write(nodes(kind, 0, BEFORE))
    db.admin.drain_vector_projection()
db = opened(path)
for n in range(BEFORE, BEFORE + COMMITS):
    db.write(nodes(kind, n, n + 1))
os._exit(0)
"""


@pytest.fixture(scope="module")
def shelf(tmp_path_factory) -> str:
    """Two databases whose last commits are in their WAL: doc.db and memo.db."""
    folder = str(tmp_path_factory.mktemp("shelf"))
    tests = os.path.dirname(os.path.dirname(__file__))
    for kind in ("doc", "memo"):
        subprocess.run(
            [sys.executable, "-c", OWNER, os.path.join(folder, f"{kind}.db"), kind],
            check=True,
            env={**os.environ, "PYTHONPATH": os.pathsep.join([*sys.path, f"{tests}/fault"])},
        )
    return folder


@pytest.fixture
def left(shelf, tmp_path) -> str:
    """A copy of doc.db as its killed owner left it, with its WAL."""
    path = str(tmp_path / "left.db")
    for suffix in ("", "-wal"):
        shutil.copy(os.path.join(shelf, "doc.db") + suffix, path + suffix)
    return path


def is_of_one_commit(path) -> int:
    """The commits of the WAL that are there: the first ones, without a gap, and sound."""
    with opened(path) as db:
        count = db.count()
        assert [*db.get_many(f"n{n}" for n in range(count))] == [f"n{n}" for n in range(count)]
        assert db.admin.check_integrity().ok
        inside.check(db, DeterministicEmbedder())
        db.write(Node("doc", "after", "it goes on"))
        db.admin.drain_vector_projection()
        assert inside.work(db) == {}
    return count - BEFORE


def test_a_whole_wal_loses_nothing(left):
    assert is_of_one_commit(left) == COMMITS


@pytest.mark.parametrize("kept", [0.0, 0.000005, 0.001, 0.3, 0.5, 0.99, 0.999999])
def test_a_truncated_wal_is_an_earlier_commit_and_never_half_of_one(left, kept):
    size = os.path.getsize(left + "-wal")
    os.truncate(left + "-wal", int(size * kept))
    assert 0 <= is_of_one_commit(left) < COMMITS


def overwrite(path, start, stop):
    """Noise from one part of the file to another, from a fixed seed."""
    size = os.path.getsize(path)
    first, last = int(size * start), int(size * stop)
    with open(path, "r+b") as file:
        file.seek(first)
        file.write(random.Random(7).randbytes(last - first))


@pytest.mark.parametrize(
    ("start", "stop"),
    [(0, 1), (0, 0.001), (0.0005, 1), (0.5, 0.5001), (0.9999, 1)],
    ids=["all", "its-header", "all-but-its-header", "a-frame-in-the-middle", "its-end"],
)
def test_noise_in_a_wal_is_an_earlier_commit_and_never_half_of_one(left, start, stop):
    overwrite(left + "-wal", start, stop)
    assert 0 <= is_of_one_commit(left) < COMMITS


def contents(path) -> bytes:
    with open(path, "rb") as file:
        return file.read()


@pytest.mark.parametrize("read_only", [False, True])
def test_the_wal_of_another_database_is_refused_and_nothing_is_changed(left, shelf, read_only):
    """SQLite cannot tell whose a WAL is, and takes it for the file's own."""
    shutil.copy(os.path.join(shelf, "memo.db-wal"), left + "-wal")
    whole = contents(left), contents(left + "-wal")
    with pytest.raises(CorruptDatabaseError, match=r"left\.db-wal is the log of another database"):
        opened(left, read_only=read_only)
    assert (contents(left), contents(left + "-wal")) == whole
    os.unlink(left + "-wal")
    assert is_of_one_commit(left) == 0


def test_the_wal_of_what_was_there_before_a_backup_was_restored_is_refused(left, tmp_path):
    backup = str(tmp_path / "backup.db")
    shutil.copy(left, str(tmp_path / "source.db"))
    with opened(str(tmp_path / "source.db")) as db:
        db.admin.safe_export(backup)
    shutil.copy(backup, left)
    with pytest.raises(CorruptDatabaseError, match="before it was restored"):
        opened(left)
    os.unlink(left + "-wal")
    assert is_of_one_commit(left) == 0


# --- pages ----------------------------------------------------------------------------------------


def pages_of(path, like) -> list[int]:
    db = apsw.Connection(path)
    found = db.execute(
        "SELECT pageno FROM dbstat WHERE name LIKE ? AND pagetype <> 'internal'", (like,)
    ).fetchall()
    db.close()
    return [page for (page,) in found]


@pytest.mark.parametrize("table", ["nodes", "chunks", "chunks_fts_data", "vec_%_vector_chunks00"])
def test_a_damaged_page_is_found_by_the_check_and_never_a_raw_error(path, table):
    with opened(path) as db:
        db.write(nodes("doc", 0, 200))
        db.admin.drain_vector_projection()
    damaged = pages_of(path, table)
    with open(path, "r+b") as file:
        for page in damaged[len(damaged) // 2 :]:
            file.seek((page - 1) * 8192)
            file.write(random.Random(page).randbytes(8192))
    try:
        with opened(path) as db:
            assert not db.admin.check_integrity().ok
            met = 0
            for use in (
                lambda: [*db.nodes()],
                lambda: db.text_search("text", limit=200),
                lambda: db.semantic_search("text", limit=200),
                lambda: db.get_many(f"n{n}" for n in range(200)),
                lambda: db.write(nodes("doc", 0, 200)),
                lambda: db.write([Node("doc", f"n{n}", "another text") for n in range(200)]),
                db.admin.drain_vector_projection,
            ):
                try:
                    use()
                except (CorruptDatabaseError, StorageError):
                    met += 1
            assert met
    except CorruptDatabaseError:
        pass  # open itself met it


@pytest.mark.parametrize("read_only", [False, True])
def test_what_does_not_open_is_not_sent_to_a_check_that_needs_it_open(path, read_only):
    opened(path).close()
    with open(path, "r+b") as file:
        file.seek(100)
        file.write(b"\xff" * 3000)
    with pytest.raises(CorruptDatabaseError, match="restore a backup; if the file opens"):
        opened(path, read_only=read_only)


def test_a_text_that_is_no_utf_8_and_properties_that_are_no_json_are_damage(path):
    with opened(path) as db:
        db.write([Node("doc", "a", "a text", {"n": 1}), Node("doc", "b", "b text", {"n": 2})])
    raw = apsw.Connection(path)
    raw.pragma("ignore_check_constraints", 1)
    raw.execute("UPDATE nodes SET properties = '{' WHERE logical_id = 'a'")
    raw.execute("UPDATE chunks SET text = CAST(x'ff' AS TEXT) WHERE chunk_id = 'b#0'")
    raw.close()
    with opened(path) as db:
        for node_id in ("a", "b"):
            with pytest.raises(CorruptDatabaseError, match="check_integrity"):
                db.get(node_id)
        assert not db.admin.check_integrity().ok


# --- while it is open -----------------------------------------------------------------------------


def remove(path):
    for suffix in ("", "-wal", "-shm"):
        os.unlink(path + suffix)


def remove_its_wal(path):
    os.unlink(path + "-wal")


def replace(path):
    with opened(path + ".other") as other:
        other.write(nodes("memo", 0, 10))
    os.replace(path + ".other", path)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows keeps a file that is open")
@pytest.mark.parametrize("done", [remove, remove_its_wal, replace])
def test_nothing_is_acknowledged_that_would_be_gone_with_the_file(path, tmp_path, done):
    db = opened(path)
    db.write(nodes("doc", 0, 20))
    done(path)
    for write in (
        lambda: db.write(Node("doc", "late", "a text")),
        lambda: db.write(retire="n1"),
        db.admin.drain_vector_projection,
        lambda: db.admin.disable_vec("doc"),
    ):
        with pytest.raises(StorageError, match="removed or replaced while the database was open"):
            write()
    assert len(db.search("text", limit=30)) == 20, "what it has it still reads"
    db.admin.safe_export(tmp_path / "saved.db")
    db.close()
    with opened(tmp_path / "saved.db") as saved:
        assert [node.node_id for node in saved.nodes()] == [f"n{n}" for n in range(20)]
        assert saved.admin.check_integrity().ok


@pytest.mark.skipif(sys.platform == "win32", reason="Windows keeps a file that is open")
def test_after_an_error_of_the_disk_no_new_file_is_made_where_the_old_one_was(path):
    def fails(_):
        raise apsw.IOError("disk I/O error")

    with opened(path) as db:
        with pytest.raises(StorageError):
            inside.in_writer(db, fails)
        remove(path)
        with pytest.raises(StorageError, match="removed or replaced"):
            db.write(Node("doc", "late", "a text"))
        assert not os.path.exists(path)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows keeps a file that is open")
@pytest.mark.parametrize("read_only", [False, True])
def test_an_engine_never_reads_from_two_files_of_one_name(path, read_only):
    with opened(path) as first:
        first.write(nodes("doc", 0, 20))
    with opened(path, read_only=read_only) as db:
        replace(path)
        with db._runtime.snapshot() as one:
            assert one.execute("SELECT count(*) FROM nodes").get == 20
            with pytest.raises(StorageError, match="replaced"), db._runtime.snapshot():
                pass
    if not read_only:  # the first one's log is still there
        with pytest.raises(CorruptDatabaseError, match="log of another database"):
            opened(path)
        os.unlink(path + "-wal")
    with opened(path) as second:
        assert second.count() == 10


def test_a_file_that_is_cut_to_nothing_is_a_typed_error_and_closes(path):
    with opened(path) as first:
        first.write(nodes("doc", 0, 20))
    with opened(path) as db:
        os.truncate(path, 0)
        with pytest.raises(CorruptDatabaseError):
            db.count()
        with pytest.raises(CorruptDatabaseError):
            db.write(Node("doc", "late", "a text"))


COPY = """
import shutil, sys
path, copy, *suffixes = sys.argv[1:]
for suffix in suffixes:
    shutil.copy(path + suffix, copy + suffix)
"""


@pytest.mark.parametrize("suffixes", [[""], ["", "-wal"], ["-wal", ""]], ids=" ".join)
def test_a_plain_copy_of_an_open_file_opens_at_a_commit_or_is_refused(path, tmp_path, suffixes):
    """Nothing is promised of it but that; ``safe_export`` is the way."""
    copy = str(tmp_path / "copy.db")
    with opened(path) as db:
        db.write(nodes("doc", 0, BEFORE))
        db.admin.drain_vector_projection()
        # In a process of its own: closing a plain handle here would drop SQLite's locks.
        subprocess.run([sys.executable, "-c", COPY, path, copy, *suffixes], check=True)
        db.write(nodes("doc", BEFORE, BEFORE + 1))
    try:
        with opened(copy) as copied:
            assert copied.count() in {0, BEFORE}
            assert copied.admin.check_integrity().ok
    except (StorageError, fathomdb.NotAFathomFileError):
        assert suffixes == [""]


# --- what may not be written ----------------------------------------------------------------------


@pytest.fixture
def kept(path):
    """A file that even the administrator cannot write, however that can be had here."""
    with opened(path) as db:
        db.write(nodes("doc", 0, 20))
        db.admin.drain_vector_projection()
    if os.getuid() != 0:
        os.chmod(path, 0o444)
        yield path
        os.chmod(path, 0o644)
        return
    command = shutil.which("chattr")
    if command is None or subprocess.run([command, "+i", path], check=False).returncode != 0:
        pytest.skip(
            "an administrator writes anything, and this file system knows no immutable file"
        )
    yield path
    subprocess.run([command, "-i", path], check=True)


def test_a_file_that_cannot_be_written_is_said_so_and_can_be_read(kept):
    with pytest.raises(ReadOnlyError, match="cannot be written"):
        opened(kept)
    with opened(kept, read_only=True) as db:
        assert db.count() == 20
        assert len(db.search("text", limit=30)) == 20
        with pytest.raises(ReadOnlyError):
            db.write(Node("doc", "late", "a text"))


@pytest.fixture
def read_only_mount(tmp_path):
    """A folder on a file system that is mounted to be read."""
    behind, mounted = tmp_path / "behind", tmp_path / "mounted"
    behind.mkdir()
    mounted.mkdir()
    with opened(str(behind / "x.db")) as db:
        db.write(nodes("doc", 0, 20))
    if (
        shutil.which("mount") is None
        or subprocess.run(
            ["mount", "--bind", "-o", "ro", str(behind), str(mounted)],
            check=False,
            capture_output=True,
        ).returncode
        != 0
    ):
        pytest.skip("this user cannot mount a folder to be read")
    yield str(mounted / "x.db")
    subprocess.run(["umount", "-l", str(mounted)], check=True)


def test_a_file_system_mounted_to_be_read_is_said_so_and_can_be_read(read_only_mount):
    with pytest.raises(ReadOnlyError, match="cannot be written"):
        opened(read_only_mount)
    with opened(read_only_mount, read_only=True) as db:
        assert db.count() == 20
        assert len(db.text_search("text", limit=30)) == 20
