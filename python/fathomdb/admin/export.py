"""Export: an online backup that is an ordinary database, with a manifest that vouches for it."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from fathomdb import _native
from fathomdb.errors import (
    CorruptDatabaseError,
    DiskFullError,
    InvalidInputError,
    StorageError,
)
from fathomdb.store import audit, backup, profiles, schema, status
from fathomdb.store.connection import NO_ROOM, translating

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from contextlib import AbstractContextManager

    from fathomdb.actors.runtime import Runtime
    from fathomdb.store.connection import Connection

MANIFEST_SUFFIX = ".manifest.json"
MANIFEST_FORMAT = 1
# What SQLite would take for a part of a database of that name.
_COMPANIONS = ("", "-wal", "-shm", "-journal", MANIFEST_SUFFIX)


@dataclass(frozen=True, slots=True)
class ExportReport:
    """An export, as its manifest describes it.

    ``sha256`` is of the file's bytes, lowercase hex; ``cursor`` the last canonical commit in it;
    ``created`` is UTC in ISO 8601; ``counts`` has nodes, superseded, chunks, text_rows, vectors,
    work and failed_work; ``profile`` names the active embedding model, None without one.
    """

    path: str
    manifest_path: str
    bytes: int
    sha256: str
    schema_version: int
    cursor: int
    created: str
    counts: Mapping[str, int]
    profile: Mapping[str, Any] | None


def export(
    runtime: Runtime, path: str | os.PathLike[str], progress: Callable[[int, int], None] | None
) -> ExportReport:
    """Copies the file as it is now to a new one, while writes go on, and writes a manifest."""
    target = _check_target(path)
    return export_snapshot(
        runtime.snapshot(),
        target,
        now=runtime.config.clock.now(),
        progress=progress if progress is not None else _nobody,
    )


def export_snapshot(
    snapshot: AbstractContextManager[Connection],
    target: str,
    *,
    now: float,
    progress: Callable[[int, int], None],
    disowned: bool = True,
) -> ExportReport:
    """Copies a read snapshot to the new file ``target``, with a manifest.

    ``disowned`` False leaves the copy as it is: one of an older schema.
    """
    partial = f"{target}.{secrets.token_hex(4)}.partial"
    with _undone_on_error(partial), translating(target):
        with snapshot as db:
            # The first read fixes the snapshot; the copy and the counts are of the same commit.
            cursor = status.cursor(db)
            version = schema.version(db)
            counts = audit.count(db)
            profile = profiles.described(db)
            backup.copy(db, partial, progress, disowned=disowned)
        report = ExportReport(
            path=target,
            manifest_path=target + MANIFEST_SUFFIX,
            bytes=os.path.getsize(partial),
            sha256=backup.sha256(partial),
            schema_version=version,
            cursor=cursor,
            created=datetime.fromtimestamp(now, UTC).isoformat(),
            counts=counts,
            profile=profile,
        )
        # The copy's connection is closed and its name is ours alone: a plain handle is safe here.
        backup.sync(partial)
        _write_manifest(report, partial + MANIFEST_SUFFIX)
        _refuse_existing(target)
        os.rename(partial, target)
        # Last of all: an export without a manifest was cut off, and does not verify.
        os.rename(partial + MANIFEST_SUFFIX, report.manifest_path)
        if os.name == "posix":  # elsewhere a folder cannot be opened, nor needs it to be
            backup.sync(os.path.dirname(target))
    return report


def verify_export(path: str | os.PathLike[str]) -> ExportReport:
    """Compares an export with the manifest beside it, byte by byte, by its checksum.

    An export that was opened for writing since is an ordinary database that has moved on: look at
    it with ``admin.check_integrity()`` instead.

    Raises:
        InvalidInputError: There is no such file, no manifest, or not one of ours.
        CorruptDatabaseError: The file is not what was exported.
    """
    target = os.path.realpath(os.fspath(path))
    manifest_path = target + MANIFEST_SUFFIX
    for needed in (target, manifest_path):
        if not os.path.isfile(needed):
            raise InvalidInputError(
                f"{needed} is not there; an export is a file and its {MANIFEST_SUFFIX}, "
                "keep the two together"
            )
    report = _read_manifest(target, manifest_path)
    advice = "restore another copy; if it was opened for writing since, use check_integrity()"
    wal = target + "-wal"
    if os.path.exists(wal) and os.path.getsize(wal):
        raise CorruptDatabaseError(f"{wal} has writes that were not exported; {advice}")
    size = os.path.getsize(target)
    if size != report.bytes:
        raise CorruptDatabaseError(
            f"{target} has {size} bytes and {report.bytes} were exported; {advice}"
        )
    with translating(target):
        found = backup.sha256(target)
    if found != report.sha256:
        raise CorruptDatabaseError(
            f"{target} has the SHA-256 {found} and {report.sha256} was exported; {advice}"
        )
    return report


def _nobody(_done: int, _total: int) -> None:
    """Nobody asked for progress."""


def _check_target(path: str | os.PathLike[str]) -> str:
    given = os.fspath(path)
    if not isinstance(given, str) or not given or "\0" in given:
        raise InvalidInputError(f"path must name a file to make, got {given!r}")
    try:
        given.encode()
    except UnicodeEncodeError:
        raise InvalidInputError(f"path must have a UTF-8 form, got {given!r}") from None
    target = os.path.realpath(given)
    if not os.path.isdir(os.path.dirname(target)):
        raise InvalidInputError(
            f"the folder {os.path.dirname(target)} does not exist; make it first"
        )
    _refuse_existing(target)
    return target


def is_free(target: str) -> bool:
    """Whether nothing is there that an export of this name would overwrite or be taken for."""
    return not any(os.path.lexists(target + suffix) for suffix in _COMPANIONS)


def _refuse_existing(target: str) -> None:
    for suffix in _COMPANIONS:
        if os.path.lexists(target + suffix):
            raise InvalidInputError(
                f"{target + suffix} is there already and is never overwritten; export to another "
                "name, or remove it first"
            )


@contextlib.contextmanager
def _undone_on_error(partial: str) -> Iterator[None]:
    try:
        yield
    except BaseException as error:
        for suffix in _COMPANIONS:
            if os.path.lexists(partial + suffix):
                os.unlink(partial + suffix)
        if isinstance(error, OSError):
            if error.errno in NO_ROOM:
                raise DiskFullError(f"the export does not fit on the disk: {error}") from error
            raise StorageError(f"the export could not be written: {error}") from error
        raise


def _write_manifest(report: ExportReport, path: str) -> None:
    described = {
        "format": MANIFEST_FORMAT,
        "file": os.path.basename(report.path),
        "bytes": report.bytes,
        "sha256": report.sha256,
        "schema_version": report.schema_version,
        "cursor": report.cursor,
        "created": report.created,
        "made_by": f"fathomdb-py {_native.__version__}",
        "counts": dict(report.counts),
        "profile": report.profile,
    }
    with open(path, "x", encoding="utf-8") as file:
        json.dump(described, file, indent=2, ensure_ascii=False)
        file.write("\n")
        file.flush()
        os.fsync(file.fileno())


def _read_manifest(target: str, manifest_path: str) -> ExportReport:
    try:
        with open(manifest_path, encoding="utf-8") as file:
            said = json.load(file)
        if said["format"] != MANIFEST_FORMAT:
            raise InvalidInputError(
                f"{manifest_path} has the format {said['format']!r} and this FathomDB knows "
                f"{MANIFEST_FORMAT}; verify it with a newer fathomdb-py"
            )
        return ExportReport(
            path=target,
            manifest_path=manifest_path,
            bytes=int(said["bytes"]),
            sha256=str(said["sha256"]),
            schema_version=int(said["schema_version"]),
            cursor=int(said["cursor"]),
            created=str(said["created"]),
            counts=dict(said["counts"]),
            profile=said["profile"],
        )
    except (KeyError, TypeError, ValueError) as error:
        if isinstance(error, InvalidInputError):
            raise
        raise InvalidInputError(
            f"{manifest_path} is not the manifest of an export: {error!r}"
        ) from error
