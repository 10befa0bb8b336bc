"""The text arm: BM25 over the words of the query, ORed; a user's text is never syntax."""

from __future__ import annotations

from itertools import groupby, starmap
from typing import TYPE_CHECKING

from fathomdb.search import terms
from fathomdb.search.ranked import Ranked, best_per_node
from fathomdb.store import fts

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from fathomdb.search.filters import Filter
    from fathomdb.store.connection import Connection


def search(
    db: Connection,
    query: str,
    where: Filter,
    *,
    limit: int,
    per_node: int,
    exact: bool = False,
) -> list[Ranked]:
    """The best chunks by BM25 (higher is better), at most ``per_node`` of a node.

    Of all that have any of the words where it is to be ``exact``; else common words may only rank.
    """
    chosen = terms.choose(db, query, exact=exact)
    if chosen.expression is None:
        return []
    if chosen.exact:
        rows = _stable(starmap(Ranked, fts.matches(db, chosen.expression, where.condition)))
    else:
        from fathomdb.search import candidates  # brings NumPy, which only large files need here

        rows = iter(candidates.scored(db, chosen, where, limit=limit, per_node=per_node))
    return best_per_node(rows, limit=limit, per_node=per_node)


def _stable(rows: Iterable[Ranked]) -> Iterator[Ranked]:
    """Rows in order of score; equal scores in order of key, whatever order SQLite had."""
    for _, equal in groupby(rows, key=lambda row: row.score):
        yield from sorted(equal, key=lambda row: row.chunk_key)
