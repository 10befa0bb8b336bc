"""``fathomdb erase``: a source or nodes go without a trace, after a question."""

from __future__ import annotations

import click

from fathomdb.cli import database, exits, formats
from fathomdb.cli.messages import say


@click.command("erase", short_help="Erase a source or nodes, without a trace.")
@click.option("--source", "source_ref", metavar="REF", help="All that came from this source.")
@click.option("--node", "node_ids", metavar="ID", multiple=True, help="A node; may be repeated.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@database.db_option
@database.json_option
def command(
    *, source_ref: str | None, node_ids: tuple[str, ...], yes: bool, path: str, as_json: bool
) -> int:
    """Erase all that came from a source, or nodes, without a trace in the files of the database.

    Every version, text, word and vector goes. Exports and backups are out of its reach.
    """
    from fathomdb.cli import terminal

    if (source_ref is None) == (not node_ids):
        raise click.UsageError("what is to be erased? Give --source REF, or --node ID.")
    database.must_exist(path)
    of = f"source {source_ref!r}" if source_ref is not None else _named(node_ids)
    what, where = formats.printable(of), formats.printable(path)
    if not yes:
        try:
            click.confirm(f"Erase {what} from {where} for good?", abort=True, err=True)
        except click.Abort:
            say("\nNothing was erased; --yes erases without asking.")
            raise
    with database.own(path) as db:
        if source_ref is not None:
            receipt = db.admin.erase_source(source_ref)
        else:
            receipt = db.admin.erase(node_ids)
    if as_json:
        from fathomdb.records import to_plain

        terminal.print_json(to_plain(receipt))
        return exits.DONE
    console = terminal.out()
    if receipt.versions:
        there = what if len(node_ids) < 2 else f"what there was of {what}"
        console.print(f"Erased {there} from {where}")
    else:
        console.print(f"Nothing of {what} is in {where}")
    grid = terminal.facts()
    grid.add_row("nodes", f"{receipt.nodes:,}")
    grid.add_row("versions", f"{receipt.versions:,}")
    grid.add_row("chunks", f"{receipt.chunks:,}")
    grid.add_row("vectors", f"{receipt.vectors:,}")
    grid.add_row("cached", f"{receipt.cached:,}")
    grid.add_row("shared", f"{receipt.shared:,}")
    for digest in receipt.sha256:
        grid.add_row("SHA-256", digest)
    grid.add_row("out of reach", receipt.out_of_reach)
    console.print(grid)
    if receipt.wal_pending:
        say(
            "A reader needs pages from before: they go with the next commit, or open for writing, "
            "after it has finished. fathomdb status says whether that is still to come."
        )
    for export in receipt.upgrade_exports:
        say(
            f"{formats.printable(export)} was made before an upgrade, and what was erased may be in "
            "it: remove it, or erase it there too."
        )
    return exits.DONE


def _named(node_ids: tuple[str, ...]) -> str:
    return f"node {node_ids[0]!r}" if len(node_ids) == 1 else f"{len(node_ids)} nodes"
