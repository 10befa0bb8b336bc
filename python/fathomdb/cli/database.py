"""The database of a command: its options, and opening it to read or to write."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import click

from fathomdb import engine
from fathomdb.embedders import registry
from fathomdb.errors import (
    DatabaseLockedError,
    EmbeddingChangeRequiresAckError,
    InvalidInputError,
)

if TYPE_CHECKING:
    from fathomdb.engine import Engine

VARIABLE = "FATHOMDB_DB"
NO_EMBEDDER = "none"


def _required(_context: click.Context, _parameter: click.Parameter, path: str | None) -> str:
    if not path:
        raise click.UsageError(
            f"which database? Name its file with --db FILE, or set {VARIABLE} to it."
        )
    return path


db_option = click.option(
    "--db",
    "path",
    envvar=VARIABLE,
    metavar="FILE",
    callback=_required,
    help=f"The database file; default: the environment variable {VARIABLE}.",
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
embedder_option = click.option(
    "--embedder",
    "embedder",
    metavar="SPEC",
    help="A plugin's name, or name:model, such as static or hashing; none for no vectors. "
    "Default: what the file remembers.",
)


def must_exist(path: str) -> None:
    """Refuses a database that is not there, rather than making an empty one."""
    if not os.path.exists(path):
        raise InvalidInputError(
            f"there is no database {path}; check the name, or make it: "
            f"fathomdb ingest PATH --db {path} --kind KIND"
        )


def read(path: str, embedder: str | None = NO_EMBEDDER) -> Engine:
    """Opens a database to read, beside the process that owns it or without one."""
    must_exist(path)
    return engine.open(path, read_only=True, embedder=_given(embedder))


def own(path: str, embedder: str | None = NO_EMBEDDER, *, background: bool = False) -> Engine:
    """Opens a database to write, as the only process that does.

    Raises:
        DatabaseLockedError: Another process has it open.
        InvalidInputError: The file's vectors are those of another model than ``embedder``.
    """
    given = _given(embedder)
    try:
        # A given embedder is configured below: open would go on with another one, and only warn.
        db = engine.open(path, embedder=False if given is not None else None, background=background)
    except DatabaseLockedError as error:
        if error.pid is None:
            raise
        raise DatabaseLockedError(
            f"{path} is open in process {error.pid}, and only one process can write to it; try "
            "again when that one is done (search, inspect, status, check and export work beside it)",
            pid=error.pid,
        ) from error
    try:
        if given is not None and given is not False:
            _configure(db, given)
    except BaseException:
        db.close()
        raise
    return db


def _given(spec: str | None) -> Any:
    """What ``fathomdb.open`` takes; resolved first, so that a wrong name makes no file."""
    if spec is None:
        return None
    return False if spec == NO_EMBEDDER else registry.resolve(spec)


def _configure(db: Engine, embedder: Any) -> None:
    try:
        db.admin.configure_embedding(embedder)
    except EmbeddingChangeRequiresAckError as error:
        active = db.admin.status().active_profile
        raise InvalidInputError(
            f"the vectors in {db.path} are of {active}, and --embedder is {embedder.identity()}, "
            f"which would make those of {', '.join(error.affected_kinds)} anew; leave --embedder "
            "out, or change the model with admin.configure_embedding(..., "
            "acknowledge_rebuild_impact=True) in Python"
        ) from error
