"""Real SIGKILLs at each write that a piece of work makes, through SQLite's own file layer."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

# For each n, by steps of argv[4]: a copy of the file, and a fork that runs the work on it and kills
# itself just before the n-th write, sync or truncation of a file whose name ends as argv[3]; until
# one lives to the end. Then it says how many there are.
_CHILD = """
import os, shutil, signal, sys, traceback
import apsw, sqlite_vec, numpy

source, folder, watched, step, work = sys.argv[1:]
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

exec(work)
number = 0
while True:
    number += 1
    path = os.path.join(folder, f"{number:04}.db")
    shutil.copyfile(source, path)
    pid = os.fork()
    if pid == 0:
        try:
            vfs = Watching()
            File.limit = number * int(step)
            run(path)
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


def killed_at_writes(
    source: str, folder: Path, work: str, *, watched: str, step: int = 1
) -> list[str]:
    """Runs ``work`` on copies of a database, each killed at another write; the last one was not.

    Args:
        source: The database; no process has it open.
        folder: Where the copies come to be; it is made.
        work: Python source that defines ``run(path)``.
        watched: Endings of the names of the files whose writes count, between blanks.
        step: Every how manyth write is one to be killed at.
    """
    folder.mkdir()
    done = subprocess.run(
        [sys.executable, "-c", _CHILD, source, str(folder), watched, str(step), work],
        check=False,
        capture_output=True,
        text=True,
        timeout=200,
    )
    assert done.returncode == 0, done.stderr
    return [str(folder / f"{n + 1:04}.db") for n in range(int(done.stdout))]
