"""Readers: a pool of read-only connections, each handed out for one snapshot at a time."""

from __future__ import annotations

import contextlib
import threading
from typing import TYPE_CHECKING

import apsw

from fathomdb.errors import EngineClosedError
from fathomdb.store.connection import (
    found_no_room_beside,
    has_room_beside,
    is_of_the_disk,
    open_reader,
    stands_alone,
    translating,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fathomdb.store.presence import Presence


class ReaderPool:
    """At most ``size`` connections, opened as they are needed.

    In a folder that cannot be written, and on a full disk, there is no room for SQLite's shared
    memory; while no WAL is there, the file alone is the whole database and is read as immutable.
    Such a connection serves one snapshot, since an owner may come and change the file.
    """

    def __init__(self, path: str, presence: Presence, *, size: int, cache_mib: int) -> None:
        self._path = path
        self._presence = presence
        self._cache_mib = cache_mib
        self._room = threading.Condition()
        self._free: list[apsw.Connection] = []
        self._size = size
        self._in_use = 0
        self._closed = False
        self._has_room = has_room_beside(path)

    @contextlib.contextmanager
    def snapshot(self) -> Iterator[apsw.Connection]:
        """One read snapshot: all that is read inside is of one commit."""
        db = self._take()
        in_doubt = False
        try:
            with translating(self._path):
                try:
                    db.execute("BEGIN")
                    yield db
                except apsw.Error as error:
                    in_doubt = is_of_the_disk(error)
                    raise
                finally:
                    if db.in_transaction:
                        db.execute("ROLLBACK")
        finally:
            self._give_back(db, in_doubt=in_doubt)

    def close(self, timeout_seconds: float) -> bool:
        """Closes what is free, and what is in use as it comes back; False where some still is."""
        with self._room:
            self._closed = True
            for db in self._free:
                db.close()
            self._free.clear()
            self._room.notify_all()
            return self._room.wait_for(lambda: self._in_use == 0, timeout_seconds)

    def _take(self) -> apsw.Connection:
        with self._room:
            self._room.wait_for(
                lambda: self._closed or bool(self._free) or self._in_use < self._size
            )
            if self._closed:
                raise EngineClosedError
            self._in_use += 1
            if self._free:
                return self._free.pop()
        try:
            with translating(self._path):
                db = self._open()
            with contextlib.ExitStack() as undo:
                undo.callback(db.close)
                self._presence.check_file()  # or two snapshots could be of two databases
                undo.pop_all()
        except BaseException:
            with self._room:
                self._in_use -= 1
                self._room.notify()
            raise
        return db

    def _open(self) -> apsw.Connection:
        immutable = not self._has_room and stands_alone(self._path)
        try:
            return open_reader(self._path, cache_mib=self._cache_mib, immutable=immutable)
        except apsw.IOError as error:
            if not found_no_room_beside(error) or not stands_alone(self._path):
                raise
            self._has_room = False
            return open_reader(self._path, cache_mib=self._cache_mib, immutable=True)

    def _give_back(self, db: apsw.Connection, *, in_doubt: bool) -> None:
        with self._room:
            self._in_use -= 1
            if self._closed or not self._has_room or in_doubt:
                db.close()
            else:
                self._free.append(db)
            self._room.notify_all()
