"""Connections: each has sqlite-vec before use and extension loading off after; errors are ours."""

from __future__ import annotations

import contextlib
import errno
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

NO_ROOM = frozenset({errno.ENOSPC, errno.EFBIG, getattr(errno, "EDQUOT", errno.ENOSPC)})
"""A quota or a limit on a file's size, too: SQLite calls only the first a full disk."""
_OF_DAMAGE = (
    "restore a backup; if the file opens, with read_only=True at least, admin.check_integrity() says "
    "what is damaged"
)


def found_no_room_beside(error: apsw.Error) -> bool:
    """Whether SQLite could not make its shared memory beside the file, for want of room."""
    return getattr(error, "extendedresult", None) == apsw.SQLITE_IOERR_SHMSIZE


def open_writer(path: str, *, durability: Durability, cache_mib: int) -> apsw.Connection:
    """The one connection that writes; the file is made where there is none."""
    db = _connect(path, apsw.SQLITE_OPEN_READWRITE | apsw.SQLITE_OPEN_CREATE, cache_mib)
    # Its statements are ours alone, and some write shadow tables (``blocks.py``, ``shadow.py``).
    # For these only it could not be switched off: each switch has every statement compiled anew.
    db.config(apsw.SQLITE_DBCONFIG_DEFENSIVE, 0)
    db.execute("PRAGMA foreign_keys = ON")
    db.execute(f"PRAGMA synchronous = {'FULL' if durability == 'full' else 'NORMAL'}")
    # 16 MiB: with less, a bulk write copies its hot pages into the file more often.
    db.execute("PRAGMA wal_autocheckpoint = 2000")
    # Texts and vectors that were deleted must not stay readable in free pages.
    db.execute("PRAGMA secure_delete = ON")
    return db


def open_reader(path: str, *, cache_mib: int, immutable: bool = False) -> apsw.Connection:
    """A connection that cannot write; an immutable one makes no files beside the database either.

    Immutable is only right while the file alone is the whole database: ``stands_alone``.
    """
    uri = f"file:{url_quote(path)}?mode=ro{'&immutable=1' if immutable else ''}"
    db = _connect(uri, apsw.SQLITE_OPEN_READONLY | apsw.SQLITE_OPEN_URI, cache_mib)
    db.execute("PRAGMA query_only = ON")
    return db


def open_checker(path: str, *, cache_mib: int) -> apsw.Connection:
    """A connection that could write and does not, for SQLite's own check of a file that we own.

    SQLite leaves CHECK constraints out of the schema of a connection that is opened to read, so
    there its integrity_check is silent about them. All that it reads is of one commit, until it is
    closed.
    """
    db = _connect(path, apsw.SQLITE_OPEN_READWRITE, cache_mib)
    db.execute("PRAGMA query_only = ON")
    db.execute("BEGIN")
    return db


def open_memory() -> apsw.Connection:
    """An empty database that is in no file."""
    return _connect(":memory:", apsw.SQLITE_OPEN_READWRITE | apsw.SQLITE_OPEN_CREATE, 1)


def _connect(path: str, flags: int, cache_mib: int) -> apsw.Connection:
    """What every connection is before it reads its first page."""
    db = apsw.Connection(path, flags=flags)
    _load_vec(db)
    _harden(db)
    db.set_busy_timeout(BUSY_MS)
    db.execute("PRAGMA temp_store = MEMORY")
    db.execute(f"PRAGMA cache_size = {-1024 * cache_mib}")
    return db


def _harden(db: apsw.Connection) -> None:
    """What a file that somebody else made may not do, nor a statement that somebody else wrote.

    A file is trusted with its rows and with nothing else: its schema calls no function that acts,
    its triggers never fire (we have none), and no page passes unchecked.
    """
    db.config(apsw.SQLITE_DBCONFIG_DEFENSIVE, 1)
    db.config(apsw.SQLITE_DBCONFIG_TRUSTED_SCHEMA, 0)
    db.config(apsw.SQLITE_DBCONFIG_ENABLE_TRIGGER, 0)
    # A name in double quotes that does not exist is an error, not a string.
    db.config(apsw.SQLITE_DBCONFIG_DQS_DML, 0)
    db.config(apsw.SQLITE_DBCONFIG_DQS_DDL, 0)
    db.limit(apsw.SQLITE_LIMIT_ATTACHED, 0)
    db.execute("PRAGMA cell_size_check = ON")


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


BEYOND_ANY_COUNT = 1 << 53
"""What no file counts to: a number above it is no count, and there must be some left after it."""


def is_count(value: object) -> bool:
    """Whether a file can have come to that number; damage leaves anything in its place."""
    return isinstance(value, int) and 0 <= value < BEYOND_ANY_COUNT


def only_row(rows: Iterable[Any]) -> Any:
    """The row of a statement that always has one.

    Raises:
        CorruptDatabaseError: It has none, or several: a row that every file has is gone.
    """
    found = [*rows]
    if len(found) != 1:
        raise errors.CorruptDatabaseError(
            f"a row that every file has is there {len(found)} times; restore a backup, or look at "
            "admin.check_integrity() with read_only=True"
        )
    return found[0]


def quote(identifier: str) -> str:
    """An SQL identifier in double quotes: the only way an identifier enters a statement."""
    if "\0" in identifier:
        raise errors.InvalidInputError(f"an SQL identifier cannot contain NUL, got {identifier!r}")
    return '"' + identifier.replace('"', '""') + '"'


def literal(text: str) -> str:
    """A string as SQL has it, for where SQLite takes no parameter: what an index is made of."""
    return apsw.format_sql_value(text)


def is_of_the_disk(error: Exception) -> bool:
    """Whether a connection is better opened anew after an error.

    FTS5 keeps some of what it had read when a read fails half way: seen, for the rest of its life it
    called a sound index malformed.
    """
    return isinstance(error, (apsw.IOError, apsw.FullError, apsw.CorruptError))


def translate(error: Exception, path: str, db: apsw.Connection | None = None) -> Exception:
    """SQLite's error as one of ours, its words kept; any other error as it is.

    ``db``, where it is known, is the connection that has just raised it.
    """
    if isinstance(error, UnicodeDecodeError):
        return errors.CorruptDatabaseError(
            f"{path} is damaged (a text in it is not UTF-8: {error}); {_OF_DAMAGE}"
        )
    if not isinstance(error, apsw.Error):
        return error
    said = str(error) or type(error).__name__
    # sqlite-vec passes a full disk on as an SQL error, in SQLite's words.
    has_no_room = (
        isinstance(error, apsw.FullError)
        or "database or disk is full" in said
        or found_no_room_beside(error)
    )
    if isinstance(error, apsw.IOError) and db is not None and db.system_errno in NO_ROOM:
        has_no_room, said = True, f"{said}: {os.strerror(db.system_errno)}"
    if has_no_room:
        return errors.DiskFullError(
            f"the disk is full or the file may not grow: {path} ({said}); the transaction was "
            "rolled back, free some space and try again"
        )
    if isinstance(error, apsw.NotADBError):
        return errors.NotAFathomFileError(
            f"{path} is not an SQLite database ({said}); it was not changed"
        )
    if isinstance(error, apsw.CorruptError):
        return errors.CorruptDatabaseError(f"{path} is damaged ({said}); {_OF_DAMAGE}")
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
def translating(path: str, db: apsw.Connection | None = None) -> Iterator[None]:
    """Raises what SQLite raises inside, on ``db`` where it is known, as one of our errors."""
    try:
        yield
    except (apsw.Error, UnicodeDecodeError) as error:
        raise translate(error, path, db) from error
