"""Virtual tables whose shadow tables may be gone: dropping them all the same.

A virtual table drops its shadow tables by name and fails on the first that is missing, so a damaged
one could never be made again. Each that is gone gets an empty stand-in first.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fathomdb.store.connection import quote

if TYPE_CHECKING:
    from collections.abc import Mapping

    import apsw

VEC0: Mapping[str, str] = {
    "_info": "(key, value)",
    "_chunks": "(chunk_id)",
    "_rowids": "(rowid_)",
    "_vector_chunks00": "(vectors)",
}
FTS5: Mapping[str, str] = {
    "_data": "(id INTEGER PRIMARY KEY, block BLOB)",
    "_idx": "(segid, term, pgno, PRIMARY KEY (segid, term)) WITHOUT ROWID",
    "_docsize": "(id INTEGER PRIMARY KEY, sz BLOB)",
    "_config": "(k PRIMARY KEY, v) WITHOUT ROWID",
}
_FTS5_VERSION = 4


def drop(db: apsw.Connection, table: str, shadows: Mapping[str, str]) -> None:
    """Drops a virtual table with what is left of its shadow tables; nothing where none is there."""
    there = {row[0] for row in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    if table in there:
        for suffix, columns in shadows.items():
            if table + suffix not in there:
                db.execute(f"CREATE TABLE {quote(table + suffix)} {columns}")
                if suffix == "_config":
                    statement = f"INSERT INTO {quote(table + suffix)} VALUES ('version', ?)"
                    db.execute(statement, (_FTS5_VERSION,))
        db.execute(f"DROP TABLE {quote(table)}")
    else:
        for suffix in shadows:
            db.execute(f"DROP TABLE IF EXISTS {quote(table + suffix)}")
