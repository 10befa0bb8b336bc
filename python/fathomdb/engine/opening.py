"""``fathomdb.open``: its arguments checked, the runtime started, the model chosen."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Literal

from fathomdb.actors import runtime as runtimes
from fathomdb.admin import embedding, upgrade
from fathomdb.config import EngineConfig, check_seconds
from fathomdb.engine.engine import Engine
from fathomdb.errors import InvalidInputError
from fathomdb.pipeline import prepare

if TYPE_CHECKING:
    from fathomdb.actors.runtime import IndexPolicy
    from fathomdb.store.connection import Durability


def open(
    path: str | os.PathLike[str],
    *,
    embedder: Any = None,
    index_kinds: Literal["all"] | Iterable[str] = "all",
    read_only: bool = False,
    durability: Durability = "full",
    background: bool = True,
    lock_timeout_seconds: float = 0.0,
    config: EngineConfig | None = None,
) -> Engine:
    """Opens a database file, which is made where there is none.

    A file of an older schema is brought forward, after an export of it to
    ``<file>.v<version>-backup`` beside it.

    Args:
        path: The file. ``":memory:"`` is refused; see ``fathomdb.testing.temporary``.
        embedder: None (the one that the file remembers), a plugin's name such as ``"static"``, an
            Embedder, several of them (matched to the file's model), or False for none at all. The
            engine closes what it built from a name; an object is the caller's to close, after the
            last of the engines that share it.
        index_kinds: Which kinds get a vector index when they are first written: ``"all"``, a list,
            or ``()`` to leave it to ``admin.configure_vec``.
        read_only: Reads beside the process that owns the file, or without one.
        durability: ``"full"`` survives a power loss; ``"normal"`` may lose the last commits then,
            never the file's consistency.
        background: Whether vectors are made unasked; else ``admin.drain_vector_projection`` does.
        lock_timeout_seconds: How long to wait for another engine to close the file; as every
            time-out, it may be infinite.
        config: The engine's numbers.

    Raises:
        InvalidInputError: A path or an argument that cannot be used.
        DatabaseLockedError: Another engine has the file open; it names the process.
        NotAFathomFileError: The file is something else; it was not changed.
        SchemaVersionError: The file was made by a newer FathomDB, or by an older one and is opened
            to read.
        DiskFullError: There is no room for the export of a file of an older schema.
    """
    if durability not in ("full", "normal"):
        raise InvalidInputError(f"durability must be 'full' or 'normal', got {durability!r}")
    lock_timeout_seconds = check_seconds("lock_timeout_seconds", lock_timeout_seconds)
    if config is not None and not isinstance(config, EngineConfig):
        raise InvalidInputError(f"config must be an EngineConfig, got {config!r}")
    config = config if config is not None else EngineConfig()
    runtime = runtimes.start(
        _check_path(path),
        read_only=read_only,
        durability=durability,
        background=background,
        lock_timeout_seconds=lock_timeout_seconds,
        config=config,
        auto_enable=_index_policy(index_kinds),
        before_migration=upgrade.exporter(config),
    )
    try:
        embedding.choose_at_open(runtime, embedder)
    except BaseException:
        runtime.close()
        raise
    return Engine(runtime)


def _check_path(path: str | os.PathLike[str]) -> str:
    given = os.fspath(path) if isinstance(path, os.PathLike) else path
    if not isinstance(given, str):
        raise InvalidInputError(f"path must be a string or a path, got {given!r}")
    if given in ("", ":memory:") or given.startswith("file:"):
        raise InvalidInputError(
            f"path must name a file, got {given!r}; for a database that goes away use "
            "fathomdb.testing.temporary()"
        )
    if "\0" in given:
        raise InvalidInputError(f"path must not contain NUL, got {given!r}")
    try:
        given.encode()
    except UnicodeEncodeError:
        raise InvalidInputError(f"path must have a UTF-8 form, got {given!r}") from None
    resolved = os.path.realpath(given)
    if os.path.isdir(resolved):
        raise InvalidInputError(f"{given} is a folder; name a file in it, such as memory.db")
    if os.path.exists(resolved) and not os.path.isfile(resolved):
        raise InvalidInputError(f"{given} is a device, a pipe or a socket, not a file")
    if not os.path.isdir(os.path.dirname(resolved)):
        raise InvalidInputError(
            f"the folder {os.path.dirname(resolved)} does not exist; make it first"
        )
    return resolved


def _index_policy(index_kinds: Literal["all"] | Iterable[str]) -> IndexPolicy:
    if isinstance(index_kinds, str) and index_kinds == "all":
        return lambda _: True
    if isinstance(index_kinds, (str, bytes)) or not isinstance(index_kinds, Iterable):
        raise InvalidInputError(
            f"index_kinds must be 'all' or a list of kinds, got {index_kinds!r}"
        )
    named = frozenset(index_kinds)
    for kind in named:
        prepare.check_name("a kind in index_kinds", kind)
    return named.__contains__
