"""A process that is killed while it brings a file forward leaves one version or the other."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

import fathomdb
from data.upgrade.make import embedder
from fathomdb.store.schema import SCHEMA_VERSION
from upgrade.conftest import OLDER
from upgrade.test_upgrade import assert_upgraded, version_of

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="SIGKILL and fork are POSIX")

# For each n, by steps of argv[4]: a copy of the file, and a fork that opens it and kills itself just
# before the n-th write, sync or truncation of a file whose name ends as argv[3]; until one lives to
# the end. Then it says how many there are.
CHILD = """
import os, shutil, signal, sys, traceback
import apsw, sqlite_vec, numpy
import fathomdb
from fathomdb import EngineConfig

old, folder, watched, step, exports = sys.argv[1:]
config = EngineConfig(export_before_migration=exports == "True")
WATCHED = tuple(watched.split())

class File(apsw.VFSFile):
    count = limit = 0
    def __init__(self, vfs, name, flags):
        self.watched = str(name.filename() if hasattr(name, "filename") else name).endswith(WATCHED)
        super().__init__(vfs, name, flags)
    def step(self):
        if self.watched:
            File.count += 1
            if File.count == File.limit:
                os.kill(os.getpid(), signal.SIGKILL)
    def xWrite(self, data, offset):
        self.step()
        super().xWrite(data, offset)
    def xSync(self, flags):
        self.step()
        super().xSync(flags)
    def xTruncate(self, size):
        self.step()
        super().xTruncate(size)

class Watching(apsw.VFS):
    def __init__(self):
        self.base = apsw.vfs_names()[0]
        super().__init__("watching", self.base, makedefault=True)
    def xOpen(self, name, flags):
        return File(self.base, name, flags)

number = 0
while True:
    number += 1
    path = os.path.join(folder, f"{number:04}.db")
    shutil.copyfile(old, path)
    pid = os.fork()
    if pid == 0:
        try:
            vfs = Watching()
            File.limit = number * int(step)
            db = fathomdb.open(path, background=False, config=config)
            os._exit(0)
        except BaseException:
            traceback.print_exc()
            os._exit(1)
    status = os.waitpid(pid, 0)[1]
    if os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL:
        continue
    assert status == 0, status
    break
print(number)
"""


def killed_at_writes(old, folder, watched, *, step=1, exports=True):
    """The files of processes that were killed at every ``step``th write, the last of one that was not."""
    os.makedirs(folder)
    done = subprocess.run(
        [sys.executable, "-c", CHILD, old, str(folder), watched, str(step), str(exports)],
        check=False,
        capture_output=True,
        text=True,
        timeout=200,
    )
    assert done.returncode == 0, done.stderr
    return [str(folder / f"{n + 1:04}.db") for n in range(int(done.stdout))]


@pytest.mark.parametrize("version", OLDER)
def test_a_kill_at_any_write_of_a_migration_leaves_one_version_or_the_other(
    old_file, tmp_path, version
):
    files = killed_at_writes(old_file(version), tmp_path / "killed", ".db .db-wal", exports=False)

    found = []
    for path in files:
        at, tables = version_of(path)
        assert ("tombstones" in tables) == (at >= 2)
        found.append(at)
        with fathomdb.open(path, embedder=embedder(), background=False) as db:
            assert_upgraded(db, version)
    # Both sides of the commit were hit, each more than once, and no file went back.
    assert found == sorted(found)
    assert set(found) == {version, SCHEMA_VERSION}
    assert min(found.count(version), found.count(SCHEMA_VERSION)) > 2


def test_a_kill_during_the_export_leaves_no_piece_of_it_after_the_next_open(old_file, tmp_path):
    folder = tmp_path / "killed"
    files = killed_at_writes(old_file(1), folder, ".partial .partial-wal", step=7)

    for path in files:
        with fathomdb.open(path, embedder=False, background=False):
            pass
        beside = {name for name in os.listdir(folder) if name.startswith(os.path.basename(path))}
        assert beside == {
            os.path.basename(path) + suffix
            for suffix in ("", ".lock", ".v1-backup", ".v1-backup.manifest.json")
        }
        assert fathomdb.verify_export(f"{path}.v1-backup").schema_version == 1
