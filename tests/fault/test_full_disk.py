"""A disk that is really full: by a limit on the size of files, and by a small file system."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys

import pytest

import fathomdb
import inside
from fathomdb import DiskFullError, Node
from fathomdb.testing import DeterministicEmbedder

TEXT = "words that take some room " * 40


def opened(path, **options):
    return fathomdb.open(path, embedder=DeterministicEmbedder(), background=False, **options)


def write_until_full(db) -> list[str]:
    """Writes nodes until one does not fit, and returns the ids of those that did."""
    for n in range(100_000):
        try:
            db.write(Node("Doc", f"n{n}", f"{n} {TEXT}"))
        except DiskFullError:
            return [f"n{i}" for i in range(n)]
    raise AssertionError("the disk never became full")


def still_reads(db, stored: list[str]) -> None:
    assert [*db.get_many(stored)] == stored
    assert len(db.search("words", limit=5)) == 5
    assert db.count() == len(stored)


def goes_on(db, stored: list[str]) -> None:
    db.write(Node("Doc", "after", "written after there was room again"))
    db.admin.drain_vector_projection()
    assert db.count() == len(stored) + 1
    inside.check(db, DeterministicEmbedder())
    assert inside.work(db) == {}
    assert db.admin.check_integrity().ok


def fill(ballast: str) -> None:
    """Takes what room there is, to the last page."""
    fd = os.open(ballast, os.O_WRONLY | os.O_CREAT)
    try:
        while os.write(fd, bytes(4096)):
            pass
    except OSError:
        pass  # this is when it is full
    finally:
        os.close(fd)


UNDER_A_LIMIT = """
import json, os, resource, sys
from test_full_disk import DiskFullError, goes_on, opened, still_reads, write_until_full

path = sys.argv[1]
db = opened(path)
unlimited = resource.getrlimit(resource.RLIMIT_FSIZE)
resource.setrlimit(resource.RLIMIT_FSIZE, (1_200_000, unlimited[1]))
stored = write_until_full(db)
still_reads(db, stored)
try:
    db.admin.drain_vector_projection()
except DiskFullError:
    still_reads(db, stored)
else:
    raise AssertionError("vectors were stored where nothing fits")
resource.setrlimit(resource.RLIMIT_FSIZE, unlimited)
goes_on(db, stored)
db.close()
print(json.dumps(stored))
"""


@pytest.mark.skipif(sys.platform == "win32", reason="Windows limits no file's size")
def test_a_file_that_may_not_grow_refuses_writes_serves_reads_and_goes_on_after(path):
    tests = os.path.dirname(os.path.dirname(__file__))
    child = subprocess.run(
        [sys.executable, "-c", UNDER_A_LIMIT, path],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([*sys.path, tests, f"{tests}/fault"])},
    )
    assert child.returncode == 0, child.stderr
    stored = json.loads(child.stdout)
    assert len(stored) > 5
    with opened(path) as db:
        assert {*db.get_many(stored)} == {*stored}


@pytest.fixture
def small_disk(tmp_path):
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(folder)]
    try:
        mounted = subprocess.run(mount, check=False, capture_output=True).returncode == 0
    except FileNotFoundError:
        mounted = False
    if not mounted:
        pytest.skip("this user cannot mount a small file system")
    yield str(folder)
    subprocess.run(["umount", "-l", str(folder)], check=True)


def test_a_full_disk_refuses_writes_serves_reads_and_goes_on_when_there_is_room(small_disk):
    path = os.path.join(small_disk, "x.db")
    ballast = os.path.join(small_disk, "ballast")
    with opened(path) as db:
        with open(ballast, "wb") as file:
            file.write(bytes(1 << 20))
        stored = write_until_full(db)
        assert len(stored) > 5
        still_reads(db, stored)
        before = sorted(os.listdir(small_disk))
        with pytest.raises(DiskFullError, match="free some space"):
            db.admin.safe_export(os.path.join(small_disk, "copy.db"))
        assert sorted(os.listdir(small_disk)) == before, "an export that did not fit left something"
        still_reads(db, stored)
        os.unlink(ballast)
        goes_on(db, stored)


def test_a_file_on_a_full_disk_opens_to_be_read_and_loses_nothing(small_disk):
    path = os.path.join(small_disk, "x.db")
    ballast, more = (os.path.join(small_disk, name) for name in ("ballast", "more"))
    with open(ballast, "wb") as file:
        file.write(bytes(2 << 20))
    with opened(path) as db:
        stored = write_until_full(db)
    fill(more)
    for read_only in (True, False):
        try:
            with opened(path, read_only=read_only) as db:
                still_reads(db, stored)
        except DiskFullError:  # the process that owns a file writes that it does
            if read_only:
                raise
    os.unlink(ballast)
    os.unlink(more)
    with opened(path) as db:
        still_reads(db, stored)
        goes_on(db, stored)


def test_a_closed_file_on_a_disk_without_a_free_page_opens_to_be_read(small_disk):
    path, ballast = (os.path.join(small_disk, name) for name in ("x.db", "ballast"))
    with opened(path) as db:
        db.write(Node("Doc", f"n{n}", TEXT) for n in range(5))
        db.admin.drain_vector_projection()
    fill(ballast)
    with opened(path, read_only=True) as db:
        for _ in range(2):
            still_reads(db, [f"n{n}" for n in range(5)])
        with pytest.raises(DiskFullError, match="free some space"):
            opened(path)
        os.unlink(ballast)
        with opened(path) as owner:
            owner.write(Node("Doc", "n5", TEXT))
            still_reads(db, [f"n{n}" for n in range(6)])


def test_a_log_on_a_disk_without_a_free_page_needs_room_to_be_read(small_disk):
    path, ballast = (os.path.join(small_disk, name) for name in ("x.db", "ballast"))
    with opened(path) as db:
        db.write(Node("Doc", "n0", TEXT))
        for suffix in ("", "-wal"):  # as a process that was killed leaves them
            shutil.copy(path + suffix, os.path.join(small_disk, f"killed.db{suffix}"))
    fill(ballast)
    for read_only in (True, False):
        with pytest.raises(DiskFullError, match="free some space"):
            opened(os.path.join(small_disk, "killed.db"), read_only=read_only)
    os.unlink(ballast)
    with opened(os.path.join(small_disk, "killed.db"), read_only=True) as db:
        assert db.count() == 1
