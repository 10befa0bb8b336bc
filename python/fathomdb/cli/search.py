"""``fathomdb search``: hits, best first, and what could not be seen."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any, Literal, get_args

import click

from fathomdb.cli import database, exits, formats
from fathomdb.cli.messages import say
from fathomdb.config import MAX_SEARCH_LIMIT
from fathomdb.search.searcher import Mode

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rich.console import Console
    from rich.text import Text

    from fathomdb.search.result import Hit, SearchResult

SNIPPET_LINES = 2
_INDENT = 4
_WORD = re.compile(r"\w+")


def _where(
    _context: click.Context, _parameter: click.Parameter, given: str | None
) -> dict[str, Any] | None:
    if given is None:
        return None
    try:
        conditions = json.loads(given)
    except ValueError as error:
        raise click.BadParameter(f"{given!r} is not JSON: {error}") from error
    if not isinstance(conditions, dict):
        raise click.BadParameter(
            f"{given!r} must be a JSON object, such as "
            '\'{"lang": "en", "year": {"gte": 2020}}\''
        )
    return conditions


where_option = click.option(
    "--where",
    metavar="JSON",
    callback=_where,
    help='Conditions on properties, such as \'{"lang": "en", "year": {"gte": 2020}}\'.',
)


@click.command("search", short_help="Find records by words, by meaning, or both.")
@click.argument("words", metavar="QUERY", nargs=-1, required=True)
@database.db_option
@click.option("--kind", "kinds", multiple=True, help="Only this kind; several may be given.")
@click.option(
    "--limit",
    type=click.IntRange(1, MAX_SEARCH_LIMIT),
    default=10,
    show_default=True,
    help="Hits at most.",
)
@click.option(
    "--mode",
    type=click.Choice([*get_args(Mode)]),
    default="hybrid",
    show_default=True,
    help="By words, by meaning, or both.",
)
@where_option
@database.embedder_option
@click.option("--explain", is_flag=True, help="Say what was searched, and each arm's scores.")
@database.json_option
def command(
    *,
    words: tuple[str, ...],
    path: str,
    kinds: tuple[str, ...],
    limit: int,
    mode: Literal["hybrid", "text", "semantic"],
    where: dict[str, Any] | None,
    embedder: str | None,
    explain: bool,
    as_json: bool,
) -> int:
    """Find records by words, by meaning, or both.

    Works while another process has the database open. A query of several words needs no quotes.
    """
    query = " ".join(words)
    with database.read(path, embedder) as db:
        result = db.search(
            query, kind=kinds or None, limit=limit, mode=mode, where=where, explain=explain
        )
    from fathomdb.cli import terminal

    if as_json:
        terminal.print_json(_plain(query, result))
        return exits.DONE
    console = terminal.out()
    _print_hits(console, query, result)
    if result.explanation is not None:
        _print_explanation(console, result)
    _print_unseen(result)
    return exits.DONE


def _plain(query: str, result: SearchResult) -> dict[str, Any]:
    from fathomdb.records import to_plain

    plain: dict[str, Any] = {
        "query": query,
        "hits": result.to_dicts(),
        "freshness": to_plain(result.freshness),
        "degraded": result.degraded,
        "reason": result.reason,
    }
    if result.explanation is not None:
        plain["explanation"] = dict(result.explanation)
    return plain


# --- as a person reads it -------------------------------------------------------------------------


def _print_hits(console: Console, query: str, result: SearchResult) -> None:
    from rich.padding import Padding
    from rich.text import Text

    from fathomdb.cli import terminal

    if not result:
        say("Nothing was found.")
        return
    width = min(console.width, terminal.READABLE_WIDTH) - _INDENT
    stems = {_stem(word) for word in _WORD.findall(query)}
    several_kinds = len({hit.kind for hit in result}) > 1
    for rank, hit in enumerate(result, start=1):
        head = Text.assemble(
            (f"{rank:>2}  ", "dim"),
            (f"{hit.score:.3f}  ", "cyan"),
            (formats.printable(hit.node_id), "bold"),
            (f"  {hit.kind}" if several_kinds else "", "dim"),
            (f"  {'+'.join(hit.arms)}", "dim"),
        )
        # An id may be copied from here: it is never cut.
        console.print(head, overflow="fold")
        snippet = _snippet(hit, stems, width)
        if snippet.plain:
            console.print(Padding(snippet, (0, 0, 0, _INDENT)), width=width + _INDENT)


def _snippet(hit: Hit, stems: set[str], width: int) -> Text:
    """The part of a hit's text where most of the query's words are, and they stand out."""
    from rich.text import Text

    text = formats.printable(hit.text)
    found = [match.span() for match in _WORD.finditer(text) if _stem(match[0]) in stems]
    # Less than the lines hold: each ends before a word that does not fit.
    room = SNIPPET_LINES * (width - 8)
    start, end = _best_window(text, found, room)
    shown = Text("… " if start else "")
    shown.append(text[start:end].strip())
    offset = len(shown.plain) - len(text[start:end].strip()) - start
    for first, last in found:
        if start <= first and last <= end:
            shown.stylize("bold yellow", first + offset, last + offset)
    if end < len(text):
        shown.append(" …")
    return shown


def _best_window(text: str, found: list[tuple[int, int]], room: int) -> tuple[int, int]:
    """Where to cut a text that is longer than ``room``: whole words, the most that were asked."""
    if len(text) <= room:
        return 0, len(text)
    start = 0
    most = sum(last <= room for _, last in found)
    for first, _ in found:
        inside = sum(first <= other and last <= first + room * 3 // 4 for other, last in found)
        if inside > most:
            most, start = inside, max(0, first - room // 4)
    start = min(start, len(text) - room)
    if start:
        start = text.find(" ", start) + 1 or start
    end = min(len(text), start + room)
    if end < len(text):
        end = max(text.rfind(" ", start, end), start + room // 2)
    return start, end


def _stem(word: str) -> str:
    """A word without its commonest English endings: enough to point at it, not to search by."""
    word = word.casefold()
    for ending in ("ing", "ies", "ed", "es", "s"):
        if word.endswith(ending) and len(word) - len(ending) >= 3:
            word = word.removesuffix(ending)
            break
    return word.rstrip("ey") if len(word) > 3 else word


def _print_unseen(result: SearchResult) -> None:
    fresh = result.freshness
    if result.degraded is not None:
        reason = formats.printable(result.reason or "")
        say(f"Degraded ({result.degraded}): {reason}")
    if fresh.pending:
        least = "" if fresh.exact else "at least "
        waiting = formats.counted(fresh.pending, "chunk waits", "chunks wait")
        say(f"Not seen by meaning yet: {least}{waiting} for a vector")
    if fresh.failed:
        failed = formats.counted(fresh.failed, "chunk")
        say(f"Not seen by meaning: {failed} whose vector failed")


def _print_explanation(console: Console, result: SearchResult) -> None:
    from fathomdb.cli import terminal

    assert result.explanation is not None
    said: Mapping[str, Any] = result.explanation
    grid = terminal.facts()
    for name, value in said.items():
        if name == "vector_arms":
            looks = [_look(look) for arm in value for look in arm["looks"]]
            grid.add_row("vectors looked at", formats.printable(", ".join(looks) or "none"))
        elif name != "hits" and value is not None:
            grid.add_row(name.replace("_", " "), formats.printable(_in_words(value)))
    console.print()
    console.print(grid)
    scores = terminal.table(">rank", ">text score", ">vector score", "node")
    for rank, (hit, arms) in enumerate(zip(result, said["hits"], strict=True), start=1):
        scores.add_row(
            str(rank),
            _score(arms["text_score"]),
            _score(arms["vector_score"]),
            formats.printable(hit.node_id),
        )
    if result:
        console.print()
        console.print(scores)


def _look(look: Mapping[str, Any]) -> str:
    why = "" if look["why"] is None else f" ({look['why']})"
    compared = "" if look["compared"] is None else f", {look['compared']:,} compared"
    return f"{look['kind']} by {look['by']}{why}{compared}"


def _in_words(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {_in_words(item)}" for name, item in value.items())
    if isinstance(value, (list, tuple)):
        return ", ".join(map(_in_words, value)) or "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:,}" if isinstance(value, int) else str(value)


def _score(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"
