"""Connections: each has sqlite-vec before use and extension loading off after; errors are ours."""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import quote as url_quote

import apsw

from fathomdb import errors

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

Connection = apsw.Connection
"""A connection, by the name that packages without SQL know it by."""
Durability = Literal["full", "normal"]
BUSY_MS = 5000
"""How long the writer waits for a lock: a reader in another process may be recovering the WAL."""


def open_writer(path: str, *, durability: Durability, cache_mib: int) -> apsw.Connection:
    """The one connection that writes; the file is made where there is none."""
    db = apsw.Connection(path, flags=apsw.SQLITE_OPEN_READWRITE | apsw.SQLITE_OPEN_CREATE)
    _load_vec(db)
    db.set_busy_timeout(BUSY_MS)
    db.execute("PRAGMA foreign_keys = ON")
    db.execute("PRAGMA trusted_schema = OFF")
    db.execute("PRAGMA temp_store = MEMORY")
    db.execute(f"PRAGMA synchronous = {'FULL' if durability == 'full' else 'NORMAL'}")
    # 16 MiB: with less, a bulk write copies its hot pages into the file more often.
    db.execute("PRAGMA wal_autocheckpoint = 2000")
    # Texts and vectors that were deleted must not stay readable in free pages.
    db.execute("PRAGMA secure_delete = ON")
    _cache(db, cache_mib)
    return db


def open_reader(path: str, *, cache_mib: int, immutable: bool = False) -> apsw.Connection:
    """A connection that cannot write; an immutable one makes no files beside the database either.

    Immutable is only right while the file alone is the whole database: ``stands_alone``.
    """
    flags = apsw.SQLITE_OPEN_READONLY | apsw.SQLITE_OPEN_URI
    uri = f"file:{url_quote(path)}?mode=ro{'&immutable=1' if immutable else ''}"
    db = apsw.Connection(uri, flags=flags)
    _load_vec(db)
    db.set_busy_timeout(5000)
    db.execute("PRAGMA query_only = ON")
    db.execute("PRAGMA trusted_schema = OFF")
    db.execute("PRAGMA temp_store = MEMORY")
    _cache(db, cache_mib)
    return db


def open_checker(path: str, *, cache_mib: int) -> apsw.Connection:
    """A connection that could write and does not, for SQLite's own check of a file that we own.

    SQLite leaves CHECK constraints out of the schema of a connection that is opened to read, so
    there its integrity_check is silent about them. All that it reads is of one commit, until it is
    closed.
    """
    db = apsw.Connection(path, flags=apsw.SQLITE_OPEN_READWRITE)
    _load_vec(db)
    db.set_busy_timeout(5000)
    db.execute("PRAGMA query_only = ON")
    db.execute("PRAGMA trusted_schema = OFF")
    _cache(db, cache_mib)
    db.execute("BEGIN")
    return db


def stands_alone(path: str) -> bool:
    """Whether no WAL is beside the file: nobody writes, and nothing waits to be brought into it."""
    try:
        return os.path.getsize(path + "-wal") == 0
    except FileNotFoundError:
        return True


def has_room_beside(path: str) -> bool:
    """Whether SQLite can make its shared memory beside the file, which reading a WAL needs."""
    return os.access(os.path.dirname(path), os.W_OK)


def _load_vec(db: apsw.Connection) -> None:
    import sqlite_vec  # brings NumPy: half of what importing the whole package would cost

    db.enable_load_extension(True)
    try:
        db.load_extension(sqlite_vec.loadable_path())
    finally:
        db.enable_load_extension(False)


def _cache(db: apsw.Connection, mib: int) -> None:
    db.execute(f"PRAGMA cache_size = {-1024 * mib}")


def only_row(rows: Iterable[Any]) -> Any:
    """The row of a statement that always has one."""
    (row,) = rows
    return row


def quote(identifier: str) -> str:
    """An SQL identifier in double quotes: the only way an identifier enters a statement."""
    if "\0" in identifier:
        raise errors.InvalidInputError(f"an SQL identifier cannot contain NUL, got {identifier!r}")
    return '"' + identifier.replace('"', '""') + '"'


def translate(error: Exception, path: str) -> Exception:
    """SQLite's error as one of ours, its words kept; any other error as it is."""
    if not isinstance(error, apsw.Error):
        return error
    said = str(error) or type(error).__name__
    # sqlite-vec passes a full disk on as an SQL error, in SQLite's words.
    if isinstance(error, apsw.FullError) or "database or disk is full" in said:
        return errors.DiskFullError(
            f"the disk is full or the file may not grow: {path} ({said}); the transaction was "
            "rolled back, free some space and try again"
        )
    if isinstance(error, apsw.NotADBError):
        return errors.NotAFathomFileError(
            f"{path} is not an SQLite database ({said}); it was not changed"
        )
    if isinstance(error, apsw.CorruptError):
        return errors.CorruptDatabaseError(
            f"{path} is damaged ({said}); restore a backup, or look at admin.check_integrity()"
        )
    if isinstance(error, apsw.ReadOnlyError):
        return errors.ReadOnlyError(f"{path} cannot be written ({said})")
    if isinstance(error, (apsw.BusyError, apsw.LockedError)):
        return errors.DatabaseLockedError(
            f"{path} is locked by another program ({said}); only FathomDB may write to its file"
        )
    if isinstance(error, apsw.CantOpenError):
        return errors.StorageError(f"{path} could not be opened ({said})")
    return errors.StorageError(f"SQLite failed on {path}: {type(error).__name__}: {said}")


@contextlib.contextmanager
def translating(path: str) -> Iterator[None]:
    """Raises what SQLite raises inside as one of our errors."""
    try:
        yield
    except apsw.Error as error:
        raise translate(error, path) from error
