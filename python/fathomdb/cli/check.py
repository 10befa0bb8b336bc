"""``fathomdb check``: is every row of the file what it must be, and can it be put right?"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import click

from fathomdb.admin.export import MANIFEST_SUFFIX, verify_export
from fathomdb.cli import database, exits, formats
from fathomdb.cli.messages import say
from fathomdb.errors import (
    CorruptDatabaseError,
    DatabaseLockedError,
    DiskFullError,
    InvalidInputError,
    ReadOnlyError,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console

    from fathomdb.admin.export import ExportReport
    from fathomdb.admin.integrity import IntegrityReport
    from fathomdb.admin.repair import RepairReport
    from fathomdb.engine import Engine
    from fathomdb.store.findings import Finding

SHOWN_FINDINGS = 20


@click.command("check", short_help="Look at every row, and say what is wrong.")
@database.db_option
@click.option(
    "--repair",
    is_flag=True,
    help="Put right what is wrong, and say what was done; records and texts are never changed.",
)
@database.json_option
def command(*, path: str, repair: bool, as_json: bool) -> int:
    """Look at every row of a database, and say what is wrong.

    Where TARGET.manifest.json of an export lies beside the file, its checksum is compared too, and
    the file is only read. Ends with 1 where something is wrong; with --repair, where something is
    still wrong at the end. Neither brings a file of an older version forward: drain does, or any
    other command that writes.
    """
    database.must_exist(path)
    has_manifest = os.path.exists(os.path.realpath(path) + MANIFEST_SUFFIX)
    if repair and has_manifest:
        raise InvalidInputError(
            f"{path} is an export, and repairing it would make it another file than its manifest "
            f"vouches for; copy it without {MANIFEST_SUFFIX}, and repair the copy"
        )
    if repair:
        return _repair(path, as_json=as_json)
    # First of all: opening the file for writing would change it.
    exported, not_as_exported = _verify(path) if has_manifest else (None, None)
    report = _check(path, only_read=has_manifest)
    if exported is not None:
        not_as_exported = _other_counts(exported, report)
    if as_json:
        _print_json(report, not_as_exported, has_manifest=has_manifest)
    else:
        _print(report, not_as_exported, has_manifest=has_manifest)
    return exits.DONE if report.ok and not_as_exported is None else exits.PROBLEM


def _repair(path: str, *, as_json: bool) -> int:
    from fathomdb.cli import bars, terminal
    from fathomdb.records import to_plain

    database.read(path).close()  # an empty file or an older one is refused, as by a check
    with database.own(path) as db:
        with bars.one("Repairing", "rows") as progress:
            report = db.admin.repair(progress)
        owed = sum(
            kind.vector_index.pending_incremental + kind.vector_index.pending_backfill
            for kind in db.admin.status().kinds
            if kind.vector_index is not None
        )
    if as_json:
        terminal.print_json({**to_plain(report), "owed": owed})
    else:
        _print_repair(report, owed)
    return exits.DONE if report.ok else exits.PROBLEM


def _print_repair(report: RepairReport, owed: int) -> None:
    from fathomdb.cli import terminal

    console = terminal.out()
    found, repaired = sum(report.found.values()), sum(report.repaired.values())
    left = sum(report.integrity.found.values())
    if not found:
        console.print("Nothing is wrong, and nothing was changed", style="green")
        return
    took = f"in {formats.duration(report.seconds)}"
    if report.ok:
        said = f"{formats.counted(repaired, 'problem')} put right {took}: nothing is wrong now"
        console.print(said, style="green")
    else:
        said = f"{formats.counted(repaired, 'problem')} put right {took}, {left:,} left"
        console.print(said, style="bold red")
    _print_rows(console, "done", [(item.finding, item.done) for item in report.done], repaired)
    _print_rows(
        console, "what to do", [(item.finding, item.advice) for item in report.remaining], left
    )
    if owed:
        say(f"{formats.counted(owed, 'vector')} owed: fathomdb drain makes them")


def _print_rows(
    console: Console, column: str, rows: Sequence[tuple[Finding, str]], total: int
) -> None:
    from fathomdb.cli import terminal

    if not rows:
        return
    table = terminal.table("problem", "what", column)
    for finding, said in rows[:SHOWN_FINDINGS]:
        table.add_row(finding.code, formats.printable(finding.message), formats.printable(said))
    console.print(table)
    if total > SHOWN_FINDINGS:
        console.print(f"{SHOWN_FINDINGS} of {total:,}; --json lists the first 100 of each problem")


def _verify(path: str) -> tuple[ExportReport, None] | tuple[None, str]:
    """An export that is what was exported, or what is wrong with it."""
    try:
        return verify_export(path), None
    except (CorruptDatabaseError, InvalidInputError) as error:
        return None, str(error)


def _other_counts(exported: ExportReport, report: IntegrityReport) -> str | None:
    """Where the manifest of a file that was not changed says another number of rows."""
    said = exported.counts
    wrong = [
        f"{said.get(name)} {name.replace('_', ' ')}, and there are {number}"
        for name, number in report.counts.items()
        if said.get(name) != number
    ]
    return f"the manifest says {'; '.join(wrong)}" if wrong else None


def _check(path: str, *, only_read: bool) -> IntegrityReport:
    from fathomdb.cli import bars

    with _opened(path, only_read=only_read) as db, bars.one("Checking", "rows") as progress:
        return db.admin.check_integrity(progress)


def _opened(path: str, *, only_read: bool) -> Engine:
    """To write where that can be, since some checks need it; the report says which were left out.

    To read first: of an empty file no database is made, and an older one is not brought forward.
    """
    reader = database.read(path)
    if only_read:
        return reader
    try:
        owner = database.own(path)
    except (DatabaseLockedError, ReadOnlyError):
        return reader
    except (CorruptDatabaseError, DiskFullError) as error:
        say(f"Only read: {formats.printable(str(error))}")
        return reader
    except BaseException:
        reader.close()
        raise
    reader.close()
    return owner


def _print_json(
    report: IntegrityReport, not_as_exported: str | None, *, has_manifest: bool
) -> None:
    from fathomdb.cli import terminal
    from fathomdb.records import to_plain

    plain = to_plain(report)
    plain["ok"] = report.ok and not_as_exported is None
    plain["manifest"] = {"there": has_manifest, "problem": not_as_exported}
    terminal.print_json(plain)


def _print(report: IntegrityReport, not_as_exported: str | None, *, has_manifest: bool) -> None:
    from fathomdb.cli import terminal

    console = terminal.out()
    rows = report.counts["chunks"] + report.counts["vectors"]
    problems = sum(report.found.values())
    looked = f"{formats.counted(rows, 'row')} looked at in {formats.duration(report.seconds)}"
    if report.ok:
        console.print(f"Nothing is wrong: {looked}", style="green")
    else:
        console.print(f"{formats.counted(problems, 'problem')} found: {looked}", style="bold red")
    if has_manifest and not_as_exported is None:
        console.print("The file is what was exported, byte by byte", style="green")
    elif not_as_exported is not None:
        said = formats.printable(not_as_exported)
        console.print(f"Not as it was exported: {said}", style="bold red")
    if report.findings:
        found = terminal.table("problem", "where", "what")
        for finding in report.findings[:SHOWN_FINDINGS]:
            found.add_row(finding.code, finding.table, formats.printable(finding.message))
        console.print(found)
        if problems > SHOWN_FINDINGS:
            by_code = ", ".join(f"{n:,} {code}" for code, n in sorted(report.found.items()))
            console.print(f"In all: {by_code}; --json lists the first 100 of each")
    if report.findings and not has_manifest:
        say("fathomdb check --repair puts right what the file itself has the means for")
    grid = terminal.facts()
    grid.columns[1].justify = "right"
    for name, number in report.counts.items():
        grid.add_row(name.replace("_", " "), f"{number:,}")
    console.print(grid)
    for reason in report.skipped:
        say(f"Not looked at: {formats.printable(reason)}")
