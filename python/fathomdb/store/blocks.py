"""Blocks: new rows of a vec0 table, written a block at a time into its shadow tables.

sqlite-vec keeps vectors in blocks of ``chunk_size`` rows (``_vector_chunks00``), with the keys of
each block and a bit for every row that is there (``_chunks``), and where each key's vector is
(``_rowids``). Its own INSERT does some six statements a row; this does a few a batch and leaves
the same bytes: the free rows of the newest block first, then blocks of their own. A test compares
the two, and ``pyproject.toml`` admits no version of sqlite-vec but those it was run with.
"""

from __future__ import annotations

from array import array
from typing import TYPE_CHECKING

import apsw

from fathomdb.errors import CorruptDatabaseError
from fathomdb.store import keys
from fathomdb.store.connection import quote

if TYPE_CHECKING:
    from collections.abc import Sequence

ROWS = 64
"""Rows in a block: with sqlite-vec's default of 1,024 a point read costs 200 us instead of 30."""

_KEY_BYTES = 8


def append(
    db: apsw.Connection, table: str, row_keys: Sequence[int], vectors: memoryview, row_bytes: int
) -> None:
    """Adds rows to a vec0 table of one vector column.

    Args:
        db: The writer's, in a transaction: no other connection may touch shadow tables.
        table: Its name, not quoted.
        row_keys: Of the new rows; none of them may be there.
        vectors: Theirs, ``row_bytes`` each, in the same order.
        row_bytes: Of one vector.

    Raises:
        apsw.ConstraintError: A row of one of these keys is there.
        CorruptDatabaseError: The newest block is not as sqlite-vec writes it.
    """
    filled = _fill_newest(db, table, row_keys, vectors, row_bytes)
    if filled < len(row_keys):
        _add_blocks(db, table, row_keys[filled:], vectors[filled * row_bytes :], row_bytes)


def _fill_newest(
    db: apsw.Connection, table: str, row_keys: Sequence[int], vectors: memoryview, row_bytes: int
) -> int:
    """Uses the rows that are free in the newest block; returns how many it took."""
    newest = db.execute(
        f"SELECT chunk_id, validity, rowids FROM {quote(table + '_chunks')} "
        "ORDER BY chunk_id DESC LIMIT 1"
    ).fetchone()
    if newest is None:
        return 0
    block, validity, keys_there = newest[0], bytearray(newest[1]), bytearray(newest[2])
    if (len(validity), len(keys_there)) != (ROWS // 8, ROWS * _KEY_BYTES):
        raise _damaged(db, table)
    free = [row for row in range(ROWS) if not validity[row >> 3] >> (row & 7) & 1]
    free = free[: len(row_keys)]
    if not free:
        return 0
    try:
        stored = db.blob_open("main", f"{table}_vector_chunks00", "vectors", block, True)
    except apsw.SQLError as error:  # there is no such row
        raise _damaged(db, table) from error
    with stored:
        if stored.length() != ROWS * row_bytes:
            raise _damaged(db, table)
        for place, row in enumerate(free):
            validity[row >> 3] |= 1 << (row & 7)
            at = _KEY_BYTES * row
            keys_there[at : at + _KEY_BYTES] = array("q", (row_keys[place],)).tobytes()
            stored.seek(row * row_bytes)
            stored.write(vectors[place * row_bytes : (place + 1) * row_bytes])
    db.execute(
        f"UPDATE {quote(table + '_chunks')} SET validity = ?, rowids = ? WHERE chunk_id = ?",
        (validity, keys_there, block),
    )
    # Key and row share a number, since two arrays joined by position are quadratic.
    db.execute(
        f"INSERT INTO {quote(table + '_rowids')} (rowid, chunk_id, chunk_offset) "
        f"SELECT value / {ROWS}, ?, value % {ROWS} FROM carray(?)",
        (
            block,
            keys.ints(ROWS * key + row for key, row in zip(row_keys, free, strict=False)),
        ),
    )
    return len(free)


def _add_blocks(
    db: apsw.Connection, table: str, row_keys: Sequence[int], vectors: memoryview, row_bytes: int
) -> None:
    """Adds rows in blocks of their own; what the last has no rows for is zeros."""
    first = None
    for start in range(0, len(row_keys), ROWS):
        of_block = array("q", row_keys[start : start + ROWS])
        count = len(of_block)
        validity = ((1 << count) - 1).to_bytes(ROWS // 8, "little")
        rest = bytes(_KEY_BYTES * (ROWS - count))
        db.execute(
            f"INSERT INTO {quote(table + '_chunks')} (size, validity, rowids) VALUES (?, ?, ?)",
            (ROWS, validity, of_block.tobytes() + rest),
        )
        block = db.last_insert_rowid()
        if first is None:
            first = block
        of_rows: memoryview | bytes = vectors[start * row_bytes : (start + count) * row_bytes]
        if count < ROWS:
            of_rows = bytes(of_rows) + bytes((ROWS - count) * row_bytes)
        # Its own statement for each, whose values are the bytes as they lie in the batch.
        db.execute(
            f"INSERT INTO {quote(table + '_vector_chunks00')} (_rowid_, rowid, vectors) "
            "VALUES (?1, ?1, ?2)",
            (block, of_rows),
        )
    db.execute(
        f"INSERT INTO {quote(table + '_rowids')} (rowid, chunk_id, chunk_offset) "
        f"SELECT value, ?1 + (rowid - 1) / {ROWS}, (rowid - 1) % {ROWS} FROM carray(?2)",
        (first, keys.ints(row_keys)),
    )


def _damaged(db: apsw.Connection, table: str) -> CorruptDatabaseError:
    return CorruptDatabaseError(
        f"{db.filename} is damaged: the newest block of {table} is not whole; look at "
        "admin.check_integrity(), and have admin.repair() make the index anew"
    )
