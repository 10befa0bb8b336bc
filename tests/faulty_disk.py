"""A disk that fails when it is told to: between SQLite and the engine's real files.

SQLite reaches a file by a table of functions. Inside ``with FaultyDisk()`` every file that SQLite
opens in this process gets a copy of its table whose opening, writing, syncing, truncating and
reading ask first whether to fail, and then do what SQLite's own do (but for a sync, which costs
time and leaves no trace). It is a shim in SQLite's sense
and not a subclass of ``apsw.VFS``: an error there is a Python exception, which APSW raises also
where SQLite itself goes on (a checkpoint that fails after a commit, or at close), so that a healthy
engine would be blamed for the shim. What SQLite maps into memory (the WAL's index) does not pass
here.
"""

from __future__ import annotations

import collections
import contextlib
import ctypes
import os
import threading
from typing import TYPE_CHECKING, Literal, NamedTuple

import apsw

if TYPE_CHECKING:
    from collections.abc import Iterator

Operation = Literal["open", "read", "write", "sync", "truncate"]


class Fault(NamedTuple):
    """What can happen to an operation; a ``torn`` write leaves half of its bytes in the file."""

    operation: Operation
    code: int
    torn: bool = False


FAULTS = {
    "open-fails": Fault("open", apsw.SQLITE_CANTOPEN),
    "read-error": Fault("read", apsw.SQLITE_IOERR_READ),
    "write-error": Fault("write", apsw.SQLITE_IOERR_WRITE, torn=True),
    "disk-full": Fault("write", apsw.SQLITE_FULL),
    "sync-error": Fault("sync", apsw.SQLITE_IOERR_FSYNC),
    "truncate-error": Fault("truncate", apsw.SQLITE_IOERR_TRUNCATE),
}

_POINTER, _INT, _LONG = ctypes.c_void_p, ctypes.c_int, ctypes.c_int64
_OPEN = ctypes.CFUNCTYPE(_INT, _POINTER, _POINTER, _POINTER, _INT, _POINTER)
_READ = ctypes.CFUNCTYPE(_INT, _POINTER, _POINTER, _INT, _LONG)
_WRITE = _READ
_TRUNCATE = ctypes.CFUNCTYPE(_INT, _POINTER, _LONG)
_SYNC = ctypes.CFUNCTYPE(_INT, _POINTER, _INT)


class _Methods(ctypes.Structure):
    """``sqlite3_io_methods``, whose layout SQLite promises."""

    _fields_ = (
        ("version", _INT),
        ("close", _POINTER),
        ("read", _POINTER),
        ("write", _POINTER),
        ("truncate", _POINTER),
        ("sync", _POINTER),
        ("others", _POINTER * 13),
    )


class _File(ctypes.Structure):
    """``sqlite3_file``."""

    _fields_ = (("methods", ctypes.POINTER(_Methods)),)


class _Vfs(ctypes.Structure):
    """The beginning of ``sqlite3_vfs``."""

    _fields_ = (
        ("version", _INT),
        ("file_size", _INT),
        ("longest_path", _INT),
        ("next", _POINTER),
        ("name", ctypes.c_char_p),
        ("data", _POINTER),
        ("open", _POINTER),
    )


class FaultyDisk:
    """Counts what SQLite does to files that are opened inside ``failing``, and fails as told."""

    def __init__(self) -> None:
        self.counts: collections.Counter[str] = collections.Counter()
        self.fired: list[str] = []
        """What failed, in order: the operation, its number and the file."""
        self._lock = threading.Lock()
        self._planned: tuple[Fault, int, bool] | None = None

    def fail(self, fault: Fault, nth: int, *, lasting: bool) -> None:
        """Has the n-th such operation from now on fail (from 1), and all after it if ``lasting``."""
        with self._lock:
            self.counts.clear()
            self.fired.clear()
            self._planned = (fault, nth, lasting)

    def heal(self) -> None:
        """Nothing fails any more."""
        with self._lock:
            self._planned = None

    def meet(self, operation: Operation, name: str) -> Fault | None:
        """Counts an operation, and says what is to happen to it."""
        with self._lock:
            self.counts[operation] += 1
            if self._planned is None:
                return None
            fault, nth, lasting = self._planned
            count = self.counts[operation]
            if operation != fault.operation or (count < nth if lasting else count != nth):
                return None
            self.fired.append(f"{operation} {count} of {name}")
            return fault


# Files may outlive the disk that they were opened on, and SQLite has only the address of what is
# here: nothing of it is ever freed.
_kept: list[object] = []


@contextlib.contextmanager
def faulty_disk() -> Iterator[FaultyDisk]:
    """Inside, what SQLite opens in this process is on the disk that this yields."""
    disk = FaultyDisk()
    vfs = _default_vfs()
    opens = vfs.open
    shim = _open_on(disk, opens)
    _kept.append(shim)
    vfs.open = ctypes.cast(shim, _POINTER).value
    try:
        yield disk
    finally:
        vfs.open = opens
        disk.heal()


def _default_vfs() -> _Vfs:
    db = apsw.Connection("")
    address = _POINTER()
    assert db.file_control("main", apsw.SQLITE_FCNTL_VFS_POINTER, ctypes.addressof(address))
    db.close()
    assert address.value
    return _Vfs.from_address(address.value)


def _open_on(disk: FaultyDisk, opens: int):
    original = _OPEN(opens)

    def shim(vfs, name, file, flags, out_flags):
        shown = os.path.basename(ctypes.string_at(name).decode()) if name else "a temporary file"
        fault = disk.meet("open", shown)
        if fault is not None:
            _File.from_address(file).methods = None  # so that SQLite does not close it
            return fault.code
        code = original(vfs, name, file, flags, out_flags)
        if code == apsw.SQLITE_OK:
            opened = _File.from_address(file)
            opened.methods = ctypes.pointer(_methods_on(disk, shown, opened.methods.contents))
        return code

    return _OPEN(shim)


def _methods_on(disk: FaultyDisk, name: str, original: _Methods) -> _Methods:
    read, write = _READ(original.read), _WRITE(original.write)
    truncate = _TRUNCATE(original.truncate)

    def shim_read(file, data, amount, offset):
        fault = disk.meet("read", name)
        return read(file, data, amount, offset) if fault is None else fault.code

    def shim_write(file, data, amount, offset):
        fault = disk.meet("write", name)
        if fault is None:
            return write(file, data, amount, offset)
        if fault.torn:
            write(file, data, amount // 2, offset)
        return fault.code

    def shim_truncate(file, size):
        fault = disk.meet("truncate", name)
        return truncate(file, size) if fault is None else fault.code

    def shim_sync(file, flags):
        # Nothing loses its power here: that a sync is asked for is all there is to see of it.
        fault = disk.meet("sync", name)
        return apsw.SQLITE_OK if fault is None else fault.code

    copy = _Methods.from_buffer_copy(original)
    shims = {
        "read": _READ(shim_read),
        "write": _WRITE(shim_write),
        "truncate": _TRUNCATE(shim_truncate),
        "sync": _SYNC(shim_sync),
    }
    for method, function in shims.items():
        setattr(copy, method, ctypes.cast(function, _POINTER).value)
    _kept.append((copy, shims))
    return copy
