"""``fathomdb status``: what a file holds, what waits, and how its owner is doing."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Any

import click

from fathomdb.cli import database, exits, formats

if TYPE_CHECKING:
    from rich.console import RenderableType

    from fathomdb.admin.status import KindStatus, Status
    from fathomdb.admin.switch import SwitchStatus

WATCH_SECONDS = 1.0
WATCH_SHARE = 5
"""A watched file is read for a fifth of the time at most: counting all its rows takes some."""


@click.command("status", short_help="Show what there is, what waits, what failed.")
@database.db_option
@click.option("--watch", is_flag=True, help="Look again every second, until Ctrl-C.")
@database.json_option
def command(*, path: str, watch: bool, as_json: bool) -> int:
    """Show what a database holds, what waits for vectors, and what failed.

    Works while another process has the database open.
    """
    from fathomdb.cli import terminal

    if watch and (as_json or not sys.stdout.isatty()):
        raise click.UsageError("--watch needs a terminal, and goes with no --json.")
    with database.read(path) as db:
        if watch:
            _watch(db.admin.status)
        status = db.admin.status()
    if as_json:
        terminal.print_json(_plain(status))
    else:
        terminal.out().print(_shown(status))
    return exits.DONE


def _watch(read: Any) -> None:
    """Shows the status until Ctrl-C, which is click's to hear."""
    from rich.live import Live

    from fathomdb.cli import terminal

    with Live(console=terminal.out(), auto_refresh=False) as live:
        while True:
            began = time.monotonic()
            live.update(_shown(read()), refresh=True)
            took = time.monotonic() - began
            time.sleep(max(WATCH_SECONDS, (WATCH_SHARE - 1) * took))


def _plain(status: Status) -> dict[str, Any]:
    from fathomdb.records import to_plain

    return {**to_plain(status), "pending": status.pending, "failed": status.failed}


# --- as a person reads it -------------------------------------------------------------------------


def _shown(status: Status) -> RenderableType:
    from rich.console import Group
    from rich.text import Text

    parts: list[RenderableType] = [
        Text(formats.printable(status.path), style="bold", overflow="fold"),
        _about(status),
    ]
    if status.kinds:
        parts += [Text(), _kinds(status)]
    if status.switch is not None:
        parts += [Text(), *_switch(status.switch)]
    problems = _problems(status)
    if problems:
        parts += [Text(), *(Text(line, style=style) for line, style in problems)]
    return Group(*parts)


def _about(status: Status) -> RenderableType:
    from fathomdb.cli import terminal

    grid = terminal.facts()
    grid.add_row("size", formats.size(status.file_bytes))
    grid.add_row("model", formats.printable(status.active_profile or "none: found by words only"))
    if status.previous_profile is not None:
        grid.add_row("kept", f"{formats.printable(status.previous_profile)}, for a rollback")
    grid.add_row("tokenizer", status.tokenizer)
    grid.add_row("commits", f"{status.cursor:,}")
    grid.add_row("owner", _owner(status))
    counters = status.counters
    if counters.get("embed_calls"):
        applied, seconds = int(counters["applied"]), float(counters["embed_seconds"])
        calls = formats.counted(int(counters["embed_calls"]), "call")
        speed = formats.rate(applied, seconds)
        grid.add_row(
            "embedded",
            f"{applied:,} chunks in {calls} and {formats.duration(seconds)}"
            + (f" ({speed})" if speed else ""),
        )
    if counters.get("truncated"):
        cut = formats.counted(int(counters["truncated"]), "text")
        grid.add_row("truncated", f"{cut} longer than the model reads")
    return grid


def _owner(status: Status) -> str:
    if status.owner_pid is None:
        return "no process has it open for writing"
    age = status.heartbeat_age_seconds
    worked = "" if age is None else f", which last worked {formats.duration(age)} ago"
    return f"process {status.owner_pid}{worked}"


def _kinds(status: Status) -> RenderableType:
    from fathomdb.cli import terminal

    shown = terminal.table("kind", ">nodes", ">chunks", ">vectors", ">waiting", ">failed", "index")
    for kind in status.kinds:
        index = kind.vector_index
        waiting, failed = _waiting(kind), 0 if index is None else index.failed
        shown.add_row(
            formats.printable(kind.kind),
            f"{kind.nodes:,}",
            f"{kind.chunks:,}",
            formats.share(kind.chunks - waiting - failed, kind.chunks) if _indexed(kind) else "",
            f"{waiting:,}" if waiting else "",
            f"{failed:,}" if failed else "",
            _state(kind),
        )
    return shown


def _switch(switch: SwitchStatus) -> list[RenderableType]:
    """How far the switch to another model is, kind by kind."""
    from rich.text import Text

    from fathomdb.cli import terminal

    shown = terminal.table("kind", ">built", ">waiting", ">failed", ">left", "answers")
    for kind in switch.kinds:
        left = kind.seconds_left if kind.pending else None
        shown.add_row(
            formats.printable(kind.kind),
            formats.share(kind.done, kind.chunks),
            f"{kind.pending:,}" if kind.pending else "",
            f"{kind.failed:,}" if kind.failed else "",
            "" if left is None else formats.duration(left),
            "new model" if kind.answers else "old model",
        )
    title = f"Switching to {formats.printable(switch.to_profile)}"
    lines: list[RenderableType] = [Text(title, style="bold"), shown]
    said = [switch.waits_for, *(kind.blocked for kind in switch.kinds)]
    lines += [Text(formats.printable(line), style="yellow") for line in said if line is not None]
    return lines


def _indexed(kind: KindStatus) -> bool:
    return kind.vector_index is not None and kind.vector_index.enabled


def _waiting(kind: KindStatus) -> int:
    index = kind.vector_index
    if index is None:
        return 0
    return index.pending_incremental + index.pending_backfill + index.inflight


def _state(kind: KindStatus) -> str:
    if kind.vector_index is None:
        return "none"
    return kind.vector_index.state if kind.vector_index.enabled else "disabled"


def _problems(status: Status) -> list[tuple[str, str]]:
    """What needs a person, and its style; empty where nothing does."""
    lines = []
    if status.outage:
        lines.append((f"The embedder is away: {formats.printable(status.outage)}", "bold red"))
    if status.erasure_pending:
        said = (
            "An erasure is not complete: a reader needs pages from before it; they go with the "
            "next commit, or open for writing, after that one has finished"
        )
        lines.append((said, "yellow"))
    if status.pending and status.queue_age_seconds is not None:
        age = formats.duration(status.queue_age_seconds)
        waiting = formats.counted(status.pending, "chunk waits", "chunks wait")
        lines.append((f"{waiting} for a vector, the oldest for {age}", "yellow"))
        if status.owner_pid is None:
            lines.append((f"Nobody works on them: fathomdb drain --db {status.path}", "yellow"))
    for kind in status.kinds:
        index = kind.vector_index
        if index is not None and index.failed:
            failed = formats.counted(index.failed, "vector")
            why = formats.printable(index.last_error or "no reason is known")
            lines.append((f"{failed} of kind {kind.kind} failed, last: {why}", "red"))
    return lines
