"""Residue: what SQLite leaves of deleted rows outside its rows, and how it goes.

With ``secure_delete`` a deleted row is overwritten where it is. Two things are left: pages from
before in the WAL, until it is emptied, and copies in the gaps of pages. When SQLite moves rows from
one page to the next to balance them, their old bytes stay between the cell pointers and the cells,
and deleting the row where it is now does not reach them (seen: a tenth of a percent of the words of
a churned file). VACUUM would drop them by writing the whole file anew; here only the gaps are.
"""

from __future__ import annotations

from typing import Any

import apsw

from fathomdb.store.connection import BUSY_MS, only_row

FIRST_WAIT_MS = 1000
"""How long the writer waits for readers that hold the WAL, once, right after an erasure."""
_INTERIOR = (2, 5)
_LEAF = (10, 13)


def is_pending(db: apsw.Connection) -> bool:
    """Whether residue of an erasure is still to go."""
    return bool(db.execute("SELECT wal_pending FROM engine_state").get)


def mark_pending(db: apsw.Connection) -> None:
    """Has the commit of this transaction, and where a reader is in the way each one after it, try."""
    db.execute("UPDATE engine_state SET wal_pending = 1")


def clear(db: apsw.Connection, wait_ms: int) -> bool:
    """Empties the WAL and the gaps of all pages; False where a reader holds the WAL.

    For the writer, outside a transaction. Killed at any point, it is still pending and starts anew.

    Args:
        db: The writer's connection.
        wait_ms: How long to wait for readers.
    """
    db.set_busy_timeout(wait_ms)
    try:
        busy, _, _ = only_row(db.execute("PRAGMA wal_checkpoint(TRUNCATE)"))
    finally:
        db.set_busy_timeout(BUSY_MS)
    if busy:
        return False
    # With the write lock and an empty WAL, the file alone is the whole database, and stays so.
    db.execute("BEGIN IMMEDIATE")
    try:
        _clear_gaps(db)
    finally:
        db.execute("ROLLBACK")
        # A page that was read before has its gap still: it must not be written from the cache.
        db.execute("PRAGMA shrink_memory")
    db.execute("UPDATE engine_state SET wal_pending = 0")
    return True


def _clear_gaps(db: apsw.Connection) -> None:
    """Overwrites the gaps in place: bytes that mean nothing, so that a torn write harms nothing."""
    # SQLite's own file layer: a plain handle would drop this process's locks when it is closed.
    flags = [apsw.SQLITE_OPEN_MAIN_DB | apsw.SQLITE_OPEN_READWRITE, 0]
    file = apsw.VFSFile(db.open_vfs, db.filename, flags)
    try:
        written = False
        for offset, size in _row_pages(db):
            page = file.xRead(size, offset)
            start, end = _gap(page, header=100 if offset == 0 else 0)
            if page.count(0, start, end) != end - start:
                file.xWrite(bytes(end - start), offset + start)
                written = True
        if written:
            file.xSync(apsw.SQLITE_SYNC_FULL)
    finally:
        file.xClose()


def _row_pages(db: apsw.Connection) -> list[Any]:
    """(offset, bytes) of each page that has cells: not overflow and free ones, which have no gap."""
    return db.execute("SELECT pgoffset, pgsize FROM dbstat WHERE pagetype <> 'overflow'").fetchall()


def _gap(page: bytes, header: int) -> tuple[int, int]:
    """Where the gap of a page is: behind its cell pointers, before its first cell.

    By SQLite's file format, section 1.6: one byte of type, the count of cells at 3, the start of
    their content at 5 (0 for 65,536), and pointers of 2 bytes from 8 or, on interior pages, 12.
    """
    kind = page[header]
    if kind not in _INTERIOR + _LEAF:
        raise apsw.CorruptError(f"a page of rows begins with {kind}")
    cells = int.from_bytes(page[header + 3 : header + 5], "big")
    end = int.from_bytes(page[header + 5 : header + 7], "big") or 65_536
    start = header + (12 if kind in _INTERIOR else 8) + 2 * cells
    if not start <= end <= len(page):
        raise apsw.CorruptError(f"a page of rows has its gap from {start} to {end}")
    return start, end
