"""Byte scan: is anything of a text, an id or a vector left in the files of a database?

A child process reads them. In a process that has the database open nothing but APSW may open its
files, not even to read: closing such a handle drops SQLite's locks.
"""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

WINDOW = 16
"""Bytes of a piece of a text or a vector: more than chance repeats, less than a page can tear."""
_SUFFIXES = ("", "-wal", "-shm", "-journal", ".lock")
_CHILD = """
import json, os, sys
path, suffixes = sys.argv[1], json.loads(sys.argv[2])
needles = [bytes.fromhex(line) for line in sys.stdin.read().split()]
found = []
for suffix in suffixes:
    if os.path.exists(path + suffix):
        with open(path + suffix, "rb") as file:
            data = file.read()
        found += [(needle.hex(), suffix, data.find(needle)) for needle in needles if needle in data]
print(json.dumps(found))
"""


def pieces(content: str | bytes, *, step: int = WINDOW) -> list[bytes]:
    """Windows of a text (as UTF-8) or a blob that together see any piece of ``WINDOW + step``."""
    data = content.encode() if isinstance(content, str) else content
    if len(data) <= WINDOW:
        return [data]
    starts = [*range(0, len(data) - WINDOW, step), len(data) - WINDOW]
    return [data[start : start + WINDOW] for start in starts]


def left_in_files(path: str, needles: Iterable[str | bytes]) -> list[str]:
    """Where any of these bytes are in the database's files: ``needle: file at offset``."""
    wanted = {n.encode() if isinstance(n, str) else n for n in needles}
    assert all(len(needle) >= 4 for needle in wanted), "too short: chance finds it anywhere"
    done = subprocess.run(
        [sys.executable, "-c", _CHILD, path, json.dumps(_SUFFIXES)],
        input="\n".join(needle.hex() for needle in wanted),
        capture_output=True,
        text=True,
        check=True,
    )
    return [
        f"{bytes.fromhex(needle)!r}: {suffix or 'file'} at {offset}"
        for needle, suffix, offset in json.loads(done.stdout)
    ]
