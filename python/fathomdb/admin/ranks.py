"""Ranks: where a query puts one node in each arm, and which condition of the filter drops it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from fathomdb.config import MAX_SEARCH_LIMIT
from fathomdb.search import filters, hybrid, searcher, terms, text
from fathomdb.store import conditions, nodes

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from fathomdb.search.filters import Filter
    from fathomdb.search.ranked import Ranked
    from fathomdb.search.searcher import Queries, SearchRequest
    from fathomdb.store.connection import Connection
    from fathomdb.store.nodes import NodeRow

FilterArgument = Literal["kind", "where", "ids", "source_ref"]


@dataclass(frozen=True, slots=True)
class FilterReport:
    """One condition of the filter, tested alone.

    ``on`` is the argument that it comes from, ``condition`` how it was asked, and ``actual`` what
    the node has there: of a property its value, None where it has none.
    """

    on: FilterArgument
    condition: str
    passes: bool
    actual: Any


@dataclass(frozen=True, slots=True)
class QueryReport:
    """Where a query puts the node: ranks count nodes from 1, each by its best chunk.

    Ranks are among the nodes that pass the filter, or among all where this one does not pass. None
    is: not found by that arm, or beyond the 4,096th, which no search shows. ``rank`` is that of
    ``search`` with its default settings. ``expression`` is what is asked of the full-text index,
    None where the query has no word; ``no_vector_reason`` says why nothing was looked for by
    meaning, where nothing was.
    """

    query: str
    expression: str | None
    rank: int | None
    text_rank: int | None
    text_score: float | None
    vector_rank: int | None
    distance: float | None
    no_vector_reason: str | None
    filters: tuple[FilterReport, ...]

    @property
    def dropped_by(self) -> tuple[FilterReport, ...]:
        """The conditions that the node does not meet."""
        return tuple(item for item in self.filters if not item.passes)


# --- filters --------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Asked:
    """A condition of the filter, in words, and what of the node it looks at."""

    on: FilterArgument
    words: str
    filter: Filter
    key: Any = None


def separate(
    request: SearchRequest,
    where: Mapping[Any, Any] | None,
    ids: Sequence[str] | None,
    source_ref: str | None,
) -> list[Asked]:
    """The conditions of a filter, each alone; ``ids`` as a list, since it is read again."""
    asked: list[Asked] = []
    if request.kinds is not None:
        names = request.kinds[0] if len(request.kinds) == 1 else [*request.kinds]
        asked.append(Asked("kind", f"kind={names!r}", filters.build(kinds=request.kinds)))
    for key, value in (where or {}).items():
        built = filters.build(where={key: value})
        asked.append(Asked("where", f"where={{{key!r}: {value!r}}}", built, key))
    if ids is not None:
        shown = repr(ids) if len(ids) <= 3 else f"[{len(ids)} ids]"
        asked.append(Asked("ids", f"ids={shown}", filters.build(ids=ids)))
    if source_ref is not None:
        built = filters.build(source_ref=source_ref)
        asked.append(Asked("source_ref", f"source_ref={source_ref!r}", built))
    return asked


def meets(db: Connection, node: NodeRow, asked: Sequence[Asked]) -> tuple[FilterReport, ...]:
    """Which of the conditions a node meets."""
    itself = conditions.of_ids([node.node_id])
    return tuple(
        FilterReport(
            on=item.on,
            condition=item.words,
            passes=nodes.count(db, conditions.all_of([itself, item.filter.condition])) == 1,
            actual=_actual(node, item),
        )
        for item in asked
    )


def _actual(node: NodeRow, asked: Asked) -> Any:
    if asked.on == "kind":
        return node.kind
    if asked.on == "ids":
        return node.node_id
    if asked.on == "source_ref":
        return node.source_ref
    value: Any = searcher.decode_properties(node.properties)
    if asked.key in ("any", "not"):
        return value
    for name in asked.key if isinstance(asked.key, tuple) else (asked.key,):
        value = value.get(name) if isinstance(value, dict) else None
    return value


# --- the query ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Found:
    """Where a query puts a node."""

    expression: str | None
    rank: int | None
    text_rank: int | None
    vector_rank: int | None
    text_scores: dict[int, float]
    distances: dict[int, float]
    no_vector_reason: str | None

    def report(self, query: str, tested: tuple[FilterReport, ...]) -> QueryReport:
        """The same as the user sees it."""
        return QueryReport(
            query=query,
            expression=self.expression,
            rank=self.rank,
            text_rank=self.text_rank,
            text_score=max(self.text_scores.values(), default=None),
            vector_rank=self.vector_rank,
            distance=min(self.distances.values(), default=None),
            no_vector_reason=self.no_vector_reason,
            filters=tested,
        )


def place(
    db: Connection,
    request: SearchRequest,
    queries: Queries,
    node: NodeRow,
    chunk_count: int,
    asked: Sequence[Asked],
) -> Found:
    """Runs both arms as a search does: for the ranks among all, and for the node alone."""
    assert request.query is not None
    passes = all(item.passes for item in meets(db, node, asked))
    among = request.where if passes else filters.build()
    itself = filters.build(ids=[node.node_id])
    arms = searcher.vector_arms(db, request.kinds if passes else None, queries)
    own_arms = [arm for arm in arms if node.kind in arm.kinds]
    asked_any = any(arm.query.blob is not None for arm in arms)

    def by_words(within: Filter, limit: int, per_node: int) -> list[Ranked]:
        assert request.query is not None
        return text.search(db, request.query, within, limit=limit, per_node=per_node)

    own = max(1, min(chunk_count, MAX_SEARCH_LIMIT))
    words = by_words(among, MAX_SEARCH_LIMIT, 1)
    near = [arm.search(db, among, limit=MAX_SEARCH_LIMIT, per_node=1) for arm in arms]
    fused = hybrid.fuse(
        # Asked for as a search asks: how many are read depends on how many are asked for.
        by_words(among, hybrid.CANDIDATES, 1),
        *(rows[: hybrid.CANDIDATES] for rows in near),
        fusion="convex",
        vector_weight=hybrid.DEFAULT_VECTOR_WEIGHT if asked_any else 0.0,
        limit=2 * hybrid.CANDIDATES,
        per_node=1,
    )
    return Found(
        expression=terms.choose(db, request.query).expression,
        rank=_rank((row.node_key for row in fused), node.node_key),
        text_rank=_rank((row.node_key for row in words), node.node_key),
        # Within its own arm: ranks of two models are not of one order.
        vector_rank=next(
            (
                rank
                for rows in near
                if (rank := _rank((row.node_key for row in rows), node.node_key)) is not None
            ),
            None,
        ),
        text_scores={row.chunk_key: row.score for row in by_words(itself, own, own)},
        distances={
            row.chunk_key: row.distance
            for arm in own_arms
            for row in arm.search(db, itself, limit=own, per_node=own)
            if row.distance is not None
        },
        no_vector_reason=next(
            (reason for query in queries.values() if (reason := query.reason) is not None), None
        ),
    )


def _rank(ranked_nodes: Iterable[int], node_key: int) -> int | None:
    return next((n for n, key in enumerate(ranked_nodes, start=1) if key == node_key), None)
