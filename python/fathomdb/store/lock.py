"""The lock beside the file: one engine at a time owns a database, and the second learns who does."""

from __future__ import annotations

import contextlib
import errno
import os
import sys
import time

from fathomdb import cancellation
from fathomdb.errors import (
    DatabaseLockedError,
    DiskFullError,
    FathomError,
    InvalidInputError,
    ReadOnlyError,
)

_POLL_SECONDS = 0.02


class FileLock:
    """An exclusive lock on ``<database>.lock``; held by an open file, so a dead process holds none.

    The file is never deleted: a lock file that vanishes lets two processes lock two different
    files under one name. It holds the process id of the owner for the message of the second open.
    """

    def __init__(self, database_path: str) -> None:
        self._database_path = database_path
        self._path = database_path + ".lock"
        self._fd: int | None = None

    def acquire(self, timeout_seconds: float) -> None:
        """Takes the lock or raises DatabaseLockedError, at once or after ``timeout_seconds``."""
        try:
            fd = os.open(self._path, os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0), 0o644)
        except OSError as error:
            raise _cannot_lock(self._path, error) from error
        deadline = time.monotonic() + timeout_seconds
        while not _try_lock(fd):
            if time.monotonic() >= deadline and not _is_free(fd):
                pid = _read_pid(fd)
                os.close(fd)
                holder = f"process {pid}" if pid else "another process"
                if pid == os.getpid():
                    holder = f"this process ({pid})"
                raise DatabaseLockedError(
                    f"{self._database_path} is open in {holder}; close it there, open it with "
                    "read_only=True, or wait with lock_timeout_seconds=",
                    pid=pid,
                )
            try:
                cancellation.check()
            except cancellation.CallCancelledError:
                os.close(fd)
                raise
            time.sleep(_POLL_SECONDS)
        # The lock is ours without it: a full disk must not keep a file closed that is there.
        with contextlib.suppress(OSError):
            _write_pid(fd)
        self._fd = fd
        _held.add(self)

    def release(self) -> None:
        """Gives the lock back; idempotent."""
        fd, self._fd = self._fd, None
        _held.discard(self)
        if fd is not None:
            with contextlib.suppress(OSError):
                os.ftruncate(fd, 0)
            os.close(fd)

    def _abandon(self) -> None:
        fd, self._fd = self._fd, None
        if fd is not None:
            os.close(fd)


def is_held(database_path: str) -> bool:
    """Whether a process has the database open for writing; True where that cannot be looked up."""
    try:
        fd = os.open(database_path + ".lock", os.O_RDONLY | getattr(os, "O_CLOEXEC", 0))
    except FileNotFoundError:
        return False
    except OSError:
        return True
    try:
        return not _is_free(fd)
    except OSError:
        return True
    finally:
        os.close(fd)


def _cannot_lock(path: str, error: OSError) -> FathomError:
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return ReadOnlyError(
            f"{path} cannot be written ({error.strerror}), so the database cannot be opened for "
            "writing; open it with read_only=True, or give this user the right to write there"
        )
    if error.errno == errno.ENOSPC:
        return DiskFullError(f"the disk is full: {path} cannot be made; free some space")
    return InvalidInputError(f"{path}, the lock of the database, cannot be opened: {error}")


_held: set[FileLock] = set()


def _after_fork_in_child() -> None:
    # The child shares the parent's open file, and with it the lock: kept open, it would hold the
    # database long after the parent is gone.
    for lock in list(_held):
        lock._abandon()
    _held.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)


if sys.platform == "win32":  # pragma: no cover - the tests run on POSIX systems
    import msvcrt

    # Beyond the process id, which must stay readable: Windows locks are mandatory.
    _LOCK_BYTE = 1 << 20

    def _try_lock(fd: int) -> bool:
        os.lseek(fd, _LOCK_BYTE, os.SEEK_SET)
        try:
            msvcrt.locking(fd, msvcrt.LK_NBLCK, 1)
        except OSError:
            return False
        return True

    def _is_free(fd: int) -> bool:
        if not _try_lock(fd):
            return False
        os.lseek(fd, _LOCK_BYTE, os.SEEK_SET)
        msvcrt.locking(fd, msvcrt.LK_UNLCK, 1)
        return True

else:
    import fcntl

    def _try_lock(fd: int) -> bool:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def _is_free(fd: int) -> bool:
        """Whether nobody owns the lock; who only looks shares it, and is no owner to others."""
        try:
            fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        fcntl.flock(fd, fcntl.LOCK_UN)
        return True


def _write_pid(fd: int) -> None:
    os.ftruncate(fd, 0)
    os.lseek(fd, 0, os.SEEK_SET)
    os.write(fd, b"%d\n" % os.getpid())


def _read_pid(fd: int) -> int | None:
    os.lseek(fd, 0, os.SEEK_SET)
    said = os.read(fd, 32).strip()
    return int(said) if said.isdigit() else None
