"""``fathomdb export``: a copy that is a database of its own, with a manifest."""

from __future__ import annotations

import click

from fathomdb.cli import database, exits, formats


@click.command("export", short_help="Copy a database to a new file.")
@click.argument("target", type=click.Path())
@database.db_option
@database.json_option
def command(*, target: str, path: str, as_json: bool) -> int:
    """Copy a database, as it is now, to the new file TARGET, while writes go on.

    TARGET.manifest.json has its checksum; fathomdb check --db TARGET compares it.
    """
    from fathomdb.cli import bars, terminal

    with database.read(path) as db, bars.one("Copying", "pages") as progress:
        report = db.admin.safe_export(target, progress)
    if as_json:
        from fathomdb.records import to_plain

        terminal.print_json(to_plain(report))
        return exits.DONE
    console = terminal.out()
    console.print(f"Exported {formats.printable(path)} to {formats.printable(report.path)}")
    grid = terminal.facts()
    grid.add_row("size", formats.size(report.bytes))
    grid.add_row("nodes", f"{report.counts['nodes']:,}")
    grid.add_row("chunks", f"{report.counts['chunks']:,}")
    grid.add_row("vectors", f"{report.counts['vectors']:,}")
    grid.add_row("SHA-256", report.sha256)
    grid.add_row("manifest", formats.printable(report.manifest_path))
    console.print(grid)
    return exits.DONE
