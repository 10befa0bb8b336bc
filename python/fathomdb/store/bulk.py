"""Rows of a table, many a statement.

APSW runs ``executemany`` as one statement a row: each gives the interpreter away and takes it back,
and each goes back into the statement cache, where 256 of them drive out every other statement.
"""

from __future__ import annotations

from itertools import chain
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    import apsw

_SIZES = (32, 8, 1)
"""Rows in a statement; measured: more than 32 gain nothing. Few sizes, so that all stay prepared."""


def insert(
    db: apsw.Connection, table: str, columns: str, rows: Sequence[tuple[object, ...]]
) -> None:
    """Adds rows of the named columns; all rows have as many values as there are columns.

    Args:
        db: In a transaction, which must be undone where this raises: some rows may be in.
        table: As it stands in the statement.
        columns: Their names, separated by commas, as they stand in the statement.
        rows: What is bound.
    """
    one = f"({', '.join('?' * (columns.count(',') + 1))})"
    first = 0
    for size in _SIZES:
        statement = f"INSERT INTO {table} ({columns}) VALUES {', '.join([one] * size)}"
        while len(rows) - first >= size:
            db.execute(statement, tuple(chain.from_iterable(rows[first : first + size])))
            first += size
