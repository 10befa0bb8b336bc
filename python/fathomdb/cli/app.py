"""The command ``fathomdb`` itself: its commands, and what becomes of an error.

Each command returns its exit code (``cli/exits.py``) and raises what a program would see raised.
"""

from __future__ import annotations

import logging
import os
import sys
from typing import TYPE_CHECKING, Any

import click

from fathomdb._native import __version__
from fathomdb.cli import (
    check,
    drain,
    erase,
    exits,
    export,
    formats,
    ingest,
    inspect,
    search,
    status,
)
from fathomdb.cli.messages import say
from fathomdb.errors import FathomError

if TYPE_CHECKING:
    from collections.abc import Sequence

DEBUG_VARIABLE = "FATHOMDB_DEBUG"


class _NobodyReadsError(Exception):
    """The reader of our output went away; not an OSError, which click ends with 1 by itself."""


class _Commands(click.Group):
    """Lists its commands as they were added: in the order of use."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except BrokenPipeError as error:
            raise _NobodyReadsError from error

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - as click calls it
        return [*self.commands]


@click.group(
    cls=_Commands,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="With FATHOMDB_DB set to a file, --db can be left out. FATHOMDB_DEBUG=1 shows the "
    "traceback of an error.",
)
@click.version_option(__version__, prog_name="fathomdb-py", message="%(prog)s %(version)s")
def commands() -> None:
    """An embedded datastore for AI agents: records, words and vectors in one SQLite file."""


for _command in (
    ingest.command,
    search.command,
    inspect.command,
    status.command,
    drain.command,
    check.command,
    export.command,
    erase.command,
):
    commands.add_command(_command)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command and returns its exit code; ``arguments`` None are those of the process."""
    for stream in (sys.stdout, sys.stderr):
        # A terminal that cannot show a letter gets its code, not a traceback.
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    handler = _Warnings(logging.WARNING)
    logger = logging.getLogger("fathomdb")
    logger.addHandler(handler)
    try:
        return _run(arguments)
    finally:
        logger.removeHandler(handler)


def _run(arguments: Sequence[str] | None) -> int:
    try:
        code = commands.main(arguments, prog_name="fathomdb", standalone_mode=False)
        sys.stdout.flush()
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except (click.Abort, KeyboardInterrupt):
        return exits.INTERRUPTED
    except (_NobodyReadsError, BrokenPipeError):
        _forget_output()
        return exits.NOBODY_READS
    except Exception as error:
        if os.environ.get(DEBUG_VARIABLE, "0") not in ("", "0"):
            raise
        say(f"Error: {_message(error)}")
        return exits.PROBLEM
    return code if isinstance(code, int) else exits.DONE


def _message(error: Exception) -> str:
    if isinstance(error, (FathomError, OSError)):
        return formats.printable(str(error))
    said = formats.printable(f"{type(error).__name__}: {error}")
    return f"{said} (unexpected; {DEBUG_VARIABLE}=1 shows where it comes from)"


def _forget_output() -> None:
    """Has what Python still flushes at its end go nowhere, instead of failing once more."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except BrokenPipeError:
            os.dup2(nowhere, stream.fileno())
    os.close(nowhere)


class _Warnings(logging.Handler):
    """What the engine logs while a command runs, one line each."""

    def emit(self, record: logging.LogRecord) -> None:
        said = record.getMessage()
        if record.exc_info and record.exc_info[1] is not None:
            said += f": {record.exc_info[1]}"
        word = "Error" if record.levelno >= logging.ERROR else "Warning"
        say(f"{word}: {formats.printable(said)}")
