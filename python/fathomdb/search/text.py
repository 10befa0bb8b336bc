"""The text arm: FTS5 with BM25, the words of the query ORed; a user's text is never syntax."""

from __future__ import annotations

from itertools import groupby, starmap
from typing import TYPE_CHECKING

from fathomdb.search.ranked import Ranked, best_per_node
from fathomdb.store import fts

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from fathomdb.search.filters import Filter
    from fathomdb.store.connection import Connection

MAX_WORDS = 256
"""Distinct words of a query that are looked up; what follows them in a longer text is ignored."""


def search(db: Connection, query: str, where: Filter, *, limit: int, per_node: int) -> list[Ranked]:
    """The best chunks by BM25 (higher is better), at most ``per_node`` of a node."""
    match = match_expression(db, query)
    if match is None:
        return []
    rows = starmap(Ranked, fts.matches(db, match, where.condition))
    return best_per_node(_stable(rows), limit=limit, per_node=per_node)


def match_expression(db: Connection, query: str) -> str | None:
    """The words of a text as an FTS5 expression, each a quoted string; None where it has none."""
    words = fts.words(db, query, MAX_WORDS)
    if not words:
        return None
    return " OR ".join('"' + word.replace('"', '""') + '"' for word in words)


def _stable(rows: Iterable[Ranked]) -> Iterator[Ranked]:
    """Rows in order of score; equal scores in order of key, whatever order SQLite had."""
    for _, equal in groupby(rows, key=lambda row: row.score):
        yield from sorted(equal, key=lambda row: row.chunk_key)
