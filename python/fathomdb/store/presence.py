"""Presence: whether the files of an open database are still the ones that were opened.

A file that is removed while it is open goes on to exist for who has it open, and takes all that is
committed from then on with it at the end. SQLite says nothing of it.
"""

from __future__ import annotations

import os

from fathomdb.errors import StorageError


class Presence:
    """What the database and its WAL were when this process opened them."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._file = _identity(path)
        self._wal: tuple[int, int] | None = None

    def check_file(self) -> None:
        """Refuses to open what is at the path now, where that is another file.

        Raises:
            StorageError: The file was removed or replaced.
        """
        if _identity(self._path) != self._file:
            raise StorageError(_advice(self._path))

    def check_owned(self) -> None:
        """Refuses to commit to files that nobody will find again; for the owner of the file alone.

        The WAL appears with the owner's first commit and stays as long as the owner has it open.

        Raises:
            StorageError: The file or its WAL was removed or replaced.
        """
        self.check_file()
        wal = self._path + "-wal"
        found = _identity(wal)
        if self._wal is None:
            self._wal = found
        elif found != self._wal:
            raise StorageError(_advice(wal))


def _identity(path: str) -> tuple[int, int] | None:
    try:
        found = os.stat(path)
    except FileNotFoundError:
        return None
    return found.st_dev, found.st_ino


def _advice(gone: str) -> str:
    return (
        f"{gone} was removed or replaced while the database was open, so nothing more is written to "
        "it; save what this engine still has with admin.safe_export to another path, close it, and "
        "open the file again"
    )
