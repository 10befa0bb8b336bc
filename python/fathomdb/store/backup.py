"""Backup: a consistent copy of an open file, and the checksum of a file, both through SQLite.

What belongs here: reading and writing whole database files. What does not: what an export is called
and what is said about it (``admin/export.py``).
"""

from __future__ import annotations

import hashlib
import os
from typing import TYPE_CHECKING

import apsw

from fathomdb.store import residue, schema, status, work
from fathomdb.store.connection import open_writer, translating
from fathomdb.store.transaction import Transaction

if TYPE_CHECKING:
    from collections.abc import Callable

STEP_PAGES = 1024
"""Pages copied before progress is told: 4 MiB."""
_READ_BYTES = 1 << 20


def copy(
    source: apsw.Connection,
    path: str,
    progress: Callable[[int, int], None],
    *,
    disowned: bool = True,
) -> None:
    """Copies the snapshot that ``source`` is in to a new file, which no process may own yet.

    The snapshot is held to the end, so the copy is of one commit and never starts anew, and the
    writer goes on. What the source's owner has inflight is pending in the copy, unless it is not to
    be ``disowned``: a file of an older schema is copied as it is.
    """
    target = open_writer(path, durability="full", cache_mib=16)
    try:
        with translating(path, target):
            with target.backup("main", source, "main") as backup:
                while not backup.done:
                    backup.step(STEP_PAGES)
                    progress(backup.page_count - backup.remaining, backup.page_count)
            if disowned:
                tx = Transaction(target)
                schema.renew_id(tx.db)
                work.revert_all(tx.db, tx.fence())
                status.write(tx.db, {"pid": None, "outage": None})
                tx.commit()
            # An erasure that a reader of the source delays is finished here: nobody reads this.
            if schema.version(target) >= schema.WITH_ERASURES and residue.is_pending(target):
                residue.clear(target, residue.FIRST_WAIT_MS)
            # All of it in the one file: what is left in the log would be lost with the next copy.
            target.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    finally:
        target.close()


def sha256(path: str) -> str:
    """SHA-256 of a file's bytes, lowercase hex.

    Read through SQLite's own file layer: a plain handle, when it is closed, would drop the locks
    that this process has on the file, were it open here as a database.
    """
    flags = [apsw.SQLITE_OPEN_MAIN_DB | apsw.SQLITE_OPEN_READONLY, 0]
    file = apsw.VFSFile("", path, flags)
    try:
        digest = hashlib.sha256()
        size = file.xFileSize()
        for offset in range(0, size, _READ_BYTES):
            digest.update(file.xRead(min(_READ_BYTES, size - offset), offset))
        return digest.hexdigest()
    finally:
        file.xClose()


def sync(path: str) -> None:
    """Makes a file or a folder durable; no connection may be open on it in this process."""
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
