"""``fathomdb inspect``: why is a record found, or not?"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from fathomdb.cli import database, exits, formats
from fathomdb.cli.search import where_option
from fathomdb.config import MAX_SEARCH_LIMIT

if TYPE_CHECKING:
    from rich.console import RenderableType

    from fathomdb.admin.inspect import ChunkReport, NodeReport
    from fathomdb.admin.ranks import QueryReport

SHOWN_CHUNKS = 20
SHOWN_CHARACTERS = 32
"""Of a chunk's text; half of it where scores stand beside it."""


@click.command("inspect", short_help="Say why a record is found, or not.")
@click.argument("node_id", metavar="ID")
@database.db_option
@click.option("--query", help="Say where this query puts the record, and why.")
@click.option("--kind", "kinds", multiple=True, help="As the search that missed it had.")
@where_option
@database.embedder_option
@database.json_option
def command(
    *,
    node_id: str,
    path: str,
    query: str | None,
    kinds: tuple[str, ...],
    where: dict[str, Any] | None,
    embedder: str | None,
    as_json: bool,
) -> int:
    """Say why the record ID is found, or not.

    Works while another process has the database open. Ends with 1 where there is no such record.
    """
    from fathomdb.cli import terminal

    with database.read(path, embedder) as db:
        report = db.admin.inspect(node_id, query, kind=kinds or None, where=where)
    if as_json:
        from fathomdb.records import to_plain

        terminal.print_json(to_plain(report))
    else:
        console = terminal.out()
        console.print(formats.printable(report.verdict), style="bold")
        console.print()
        for part in _parts(report):
            console.print(part)
    return exits.DONE if report.live else exits.PROBLEM


def _parts(report: NodeReport) -> list[RenderableType]:
    from rich.text import Text

    parts: list[RenderableType] = [_facts(report)]
    if report.query is not None:
        parts += [Text(), _of_query(report.query)]
    if report.chunks:
        parts += [Text(), _chunks(report)]
        if len(report.chunks) > SHOWN_CHUNKS:
            hidden = len(report.chunks) - SHOWN_CHUNKS
            parts.append(Text(f"and {formats.counted(hidden, 'chunk')} more (--json has all)"))
    return parts


def _facts(report: NodeReport) -> RenderableType:
    from fathomdb.cli import terminal

    grid = terminal.facts()
    rows: list[tuple[str, str | None]] = [
        ("node", report.node_id),
        ("state", _state(report)),
        ("kind", report.kind),
        ("source", report.source_ref),
        ("vector index", _index(report)),
        ("model", report.profile),
        # What keeps vectors from being made is of no interest where all of them are there.
        *(("engine", reason) for reason in report.engine if not _complete(report)),
    ]
    for name, said in rows:
        if said is not None:
            grid.add_row(name, formats.printable(said))
    return grid


def _complete(report: NodeReport) -> bool:
    return all(chunk.has_vector for chunk in report.chunks)


def _state(report: NodeReport) -> str:
    if report.live:
        older = report.superseded_versions
        versions = f", {formats.counted(older, 'older version')}" if older else ""
        return f"live, written in commit {report.written_cursor:,}{versions}"
    if report.retired_cursor is not None:
        return f"retired in commit {report.retired_cursor:,}"
    if report.erased_cursor is not None:
        return f"erased in commit {report.erased_cursor:,}"
    return "never written"


def _index(report: NodeReport) -> str | None:
    if report.kind is None:
        return None
    if report.vector_index == "enabled":
        return report.index_state
    return report.vector_index.replace("_", " ")


def _of_query(query: QueryReport) -> RenderableType:
    from fathomdb.cli import terminal

    grid = terminal.facts()
    grid.add_row("query", formats.printable(query.query))
    grid.add_row("rank", _rank(query.rank, None))
    grid.add_row("by words", _rank(query.text_rank, ("score", query.text_score)))
    meaning = _rank(query.vector_rank, ("distance", query.distance))
    if query.no_vector_reason is not None:
        meaning = f"not looked for: {query.no_vector_reason}"
    grid.add_row("by meaning", formats.printable(meaning))
    for condition in query.filters:
        verdict = "meets" if condition.passes else f"does not meet, it has {condition.actual!r}:"
        grid.add_row("filter", formats.printable(f"{verdict} {condition.condition}"))
    return grid


def _rank(rank: int | None, measured: tuple[str, float | None] | None) -> str:
    if measured is None or measured[1] is None:
        return "not found" if rank is None else f"{rank:,}"
    said = f"beyond {MAX_SEARCH_LIMIT:,}" if rank is None else f"{rank:,}"
    return f"{said} ({measured[0]} {measured[1]:.3f})"


def _chunks(report: NodeReport) -> RenderableType:
    from fathomdb.cli import terminal

    with_query = report.query is not None
    measures = (">score", ">distance") if with_query else ()
    characters = SHOWN_CHARACTERS // 2 if with_query else SHOWN_CHARACTERS
    shown = terminal.table("chunk", "words", "vector", *measures, "text")
    for column in shown.columns[1:]:
        column.no_wrap = True  # it is the id that folds where room is short
    for chunk in report.chunks[:SHOWN_CHUNKS]:
        scores = (_number(chunk.text_score), _number(chunk.distance)) if with_query else ()
        shown.add_row(
            formats.printable(chunk.chunk_id),
            "indexed" if chunk.in_text_index else "missing",
            formats.printable(_vector(chunk)),
            *scores,
            formats.printable(chunk.text)[:characters],
        )
    return shown


def _vector(chunk: ChunkReport) -> str:
    if chunk.has_vector:
        return "current"
    work = chunk.work
    if work is None:
        return "none"
    if work.state == "failed":
        return f"failed: {work.cause}"
    if work.due_in_seconds > 0 and work.attempts:
        return f"again in {formats.duration(work.due_in_seconds)}"
    return work.state


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"
