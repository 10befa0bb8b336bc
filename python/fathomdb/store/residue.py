"""Residue: what SQLite leaves of deleted rows outside its rows, and how it goes.

With ``secure_delete`` a deleted row is overwritten where it is. Three things are left: pages from
before in the WAL, until it is emptied, copies in the gaps of pages, and now and then a free page with
what it had (seen once in 3,000 kills). When SQLite moves rows from one page to the next to balance
them, their old bytes stay between the cell pointers and the cells, and deleting the row where it is
now does not reach them (seen: a tenth of a percent of the words of a churned file). VACUUM would drop
all that by writing the whole file anew; here only these places are.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

import apsw

from fathomdb.store.connection import BUSY_MS, only_row

if TYPE_CHECKING:
    from collections.abc import Iterator

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
    """Empties the WAL, the gaps of all pages and the free ones; False where a reader holds the WAL.

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
    """Overwrites what means nothing, in place, so that a torn write harms nothing."""
    # SQLite's own file layer: a plain handle would drop this process's locks when it is closed.
    flags = [apsw.SQLITE_OPEN_MAIN_DB | apsw.SQLITE_OPEN_READWRITE, 0]
    file = apsw.VFSFile(db.open_vfs, db.filename, flags)
    try:
        written = False
        for offset, start, page in itertools.chain(_gaps(db, file), _free_pages(db, file)):
            if page.count(0) != len(page):
                file.xWrite(bytes(len(page)), offset + start)
                written = True
        if written:
            file.xSync(apsw.SQLITE_SYNC_FULL)
    finally:
        file.xClose()


def _gaps(db: apsw.Connection, file: apsw.VFSFile) -> Iterator[tuple[int, int, bytes]]:
    """The gap of each page that has cells: where the page begins, where in it the gap, its bytes."""
    pages: Any = db.execute("SELECT pgoffset, pgsize FROM dbstat WHERE pagetype <> 'overflow'")
    for offset, size in pages.fetchall():
        page = file.xRead(size, offset)
        start, end = _gap(page, header=100 if offset == 0 else 0)
        yield offset, start, page[start:end]


def _free_pages(db: apsw.Connection, file: apsw.VFSFile) -> Iterator[tuple[int, int, bytes]]:
    """Each free page, and of those that list the others what is behind the list.

    By SQLite's file format, section 1.5: the first list is named at 32 in the file, each names the
    next one and how many pages it lists, and then those pages.
    """
    size = int(db.pragma("page_size"))
    trunk, left = _number(file.xRead(4, 32), 0), int(db.pragma("freelist_count"))
    while trunk and left > 0:
        at = (trunk - 1) * size
        page = file.xRead(size, at)
        listed = _number(page, 4)
        if listed > size // 4 - 2:
            raise apsw.CorruptError(f"page {trunk} lists {listed} free pages")
        left -= 1 + listed
        behind = 8 + 4 * listed
        yield at, behind, page[behind:]
        for n in range(listed):
            free = (_number(page, 8 + 4 * n) - 1) * size
            yield free, 0, file.xRead(size, free)
        trunk = _number(page, 0)


def _number(page: bytes, at: int) -> int:
    return int.from_bytes(page[at : at + 4], "big")


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
