"""``fathomdb drain``: make the vectors that are still owed."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import click

from fathomdb.cli import database, exits, formats
from fathomdb.cli.messages import say

if TYPE_CHECKING:
    from fathomdb.admin.status import Status
    from fathomdb.records import DrainReport


@click.command("drain", short_help="Make the vectors that are still owed.")
@database.db_option
@database.embedder_option
@click.option(
    "--timeout",
    "timeout_seconds",
    type=click.FloatRange(min=0),
    metavar="SECONDS",
    help="Stop after so long; 0 is one round. Default: no limit.",
)
@click.option("--retry-failed", is_flag=True, help="First put failed vectors into the queue again.")
@database.json_option
def command(
    *,
    path: str,
    embedder: str | None,
    timeout_seconds: float | None,
    retry_failed: bool,
    as_json: bool,
) -> int:
    """Make the vectors that are still owed, and wait for them.

    Ends with 1 where some could not be made, or not in time.
    """
    from fathomdb.cli.bars import Bars
    from fathomdb.cli.projecting import Projecting, settle

    database.must_exist(path)
    try:
        with database.own(path, embedder) as db:
            requeued = db.admin.requeue_failed() if retry_failed else 0
            with Bars() as bars:
                projecting = Projecting(db, bars)
                report = settle(db, math.inf if timeout_seconds is None else timeout_seconds)
                projecting.end()
            status = db.admin.status()
    except KeyboardInterrupt:
        say("Stopped; what is made stays; run the same command again to go on.")
        return exits.INTERRUPTED
    if as_json:
        _print_json(report, requeued, status)
    else:
        _print(report, requeued, status)
    failed = bool(status.failed or report.remaining)
    return exits.PROBLEM if failed or report.stopped_by != "idle" else exits.DONE


def _print_json(report: DrainReport, requeued: int, status: Status) -> None:
    from fathomdb.cli import terminal
    from fathomdb.records import to_plain

    # Failed rows of the file: those of this drain, and those of before.
    plain = {**to_plain(report), "requeued": requeued, "failed_in_all": status.failed}
    terminal.print_json(plain)


def _print(report: DrainReport, requeued: int, status: Status) -> None:
    from fathomdb.cli import terminal

    console = terminal.out()
    if not (report.claimed or report.remaining or status.failed):
        switch = status.switch
        if switch is None or switch.waits_for is None:
            console.print("Nothing to do: no vector is owed")
        else:
            console.print(
                formats.printable(
                    f"Nothing to do now: the switch to {switch.to_profile} waits, "
                    f"{switch.waits_for}"
                )
            )
        return
    speed = formats.rate(report.processed, report.seconds)
    console.print(
        f"Made {formats.counted(report.processed, 'vector')} in "
        f"{formats.duration(report.seconds)}{f' ({speed})' if speed else ''}"
    )
    grid = terminal.facts()
    grid.columns[1].justify = "right"
    grid.add_column(style="dim")
    rows = (
        ("tried again", requeued, "had failed before"),
        ("of fresh writes", report.incremental_processed, ""),
        ("of older text", report.backfill_processed, ""),
        ("reused", report.reused, "an identical text has a vector, or had one"),
        ("discarded", report.discarded_stale, _reasons(report)),
        ("failed now", report.failed, ""),
        ("failed in all", status.failed, f"why: fathomdb status --db {status.path}"),
        ("still to be made", report.remaining, ""),
    )
    for name, number, note in rows:
        if number:
            grid.add_row(name, f"{number:,}", note)
    if grid.row_count:
        console.print(grid)
    if report.stopped_by == "timeout":
        say("Time is up; run the same command again to go on.")
    elif report.stopped_by == "unavailable":
        outage = f": {formats.printable(status.outage)}" if status.outage else ""
        say(f"The embedder is away{outage}. Run the same command again later.")
    elif status.failed:
        say(f"To try failed vectors again: fathomdb drain --retry-failed --db {status.path}")


def _reasons(report: DrainReport) -> str:
    return ", ".join(f"{number:,} {reason}" for reason, number in report.discard_reasons.items())
