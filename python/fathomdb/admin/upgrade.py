"""Upgrade: a file of an older schema is exported before ``open`` brings it forward."""

from __future__ import annotations

import contextlib
import glob
import os
import re
from typing import TYPE_CHECKING

from fathomdb.actors.actor import logger
from fathomdb.admin import export
from fathomdb.errors import (
    CorruptDatabaseError,
    DiskFullError,
    InvalidInputError,
    StorageError,
)
from fathomdb.store import audit, status
from fathomdb.store.presence import Presence
from fathomdb.store.readers import ReaderPool

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from fathomdb.config import EngineConfig
    from fathomdb.store.connection import Connection


def exporter(config: EngineConfig) -> Callable[[str, int], None]:
    """What ``open`` calls with the path and the version of a file that it is to bring forward."""

    def before_migration(path: str, version: int) -> None:
        if not config.export_before_migration:
            logger.warning("%s is brought forward from schema version %d", path, version)
            return
        made = _export(path, version, config)
        logger.warning(
            "%s is brought forward from schema version %d; as it was, it is kept in %s",
            path,
            version,
            made,
        )

    return before_migration


def exports_of(path: str) -> tuple[str, ...]:
    """The exports that upgrades of a file have left beside it."""
    named = re.compile(re.escape(path) + r"\.v\d+-backup(-\d+)?")
    beside = glob.glob(f"{glob.escape(path)}.v*-backup*")
    return tuple(sorted(name for name in beside if named.fullmatch(name)))


def _export(path: str, version: int, config: EngineConfig) -> str:
    """The export of the file as it is: a new one, or one that an open made which was cut off."""
    with _snapshot(path, config) as db:
        now_in_file = (status.cursor(db), audit.count(db))
    number = 1
    target = f"{path}.v{version}-backup"
    while not export.is_free(target):
        if _holds(target, now_in_file):
            return target
        number += 1
        target = f"{path}.v{version}-backup-{number}"
    # Only the owner of the file makes these, so what is there is of one that died.
    for partial in glob.glob(f"{glob.escape(target)}.*.partial*"):
        os.unlink(partial)
    try:
        export.export_snapshot(
            _snapshot(path, config),
            target,
            now=config.clock.now(),
            progress=lambda _done, _total: None,
            disowned=False,
        )
    except (DiskFullError, StorageError) as error:
        raise type(error)(
            f"{path} has schema version {version} and was not changed: its export to {target} "
            f"before the upgrade failed ({error}); put that right, or open it with "
            "EngineConfig(export_before_migration=False)"
        ) from error
    return target


def _holds(target: str, in_file: tuple[int, object]) -> bool:
    """Whether an export is whole and of the same commit and rows."""
    try:
        report = export.verify_export(target)
    except (CorruptDatabaseError, InvalidInputError):
        return False
    return (report.cursor, report.counts) == in_file


@contextlib.contextmanager
def _snapshot(path: str, config: EngineConfig) -> Iterator[Connection]:
    readers = ReaderPool(path, Presence(path), size=1, cache_mib=config.cache_mib)
    try:
        with readers.snapshot() as db:
            yield db
    finally:
        readers.close(config.close_timeout_seconds)
