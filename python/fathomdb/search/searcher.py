"""One search over one snapshot: arms, fusion, hits, and what could not be seen."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, get_args

from fathomdb.config import MAX_QUERY_CHARS, MAX_SEARCH_LIMIT
from fathomdb.errors import (
    CorruptDatabaseError,
    InvalidInputError,
    KindNotVectorIndexedError,
)
from fathomdb.records import Freshness
from fathomdb.search import filters, hybrid, text, vector
from fathomdb.search.hybrid import FUSIONS, Fused, Fusion
from fathomdb.search.result import Arm, Degraded, Hit, SearchResult
from fathomdb.store import chunks, indexes, kinds, queue, status

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from fathomdb.search.filters import Filter
    from fathomdb.store.connection import Connection
    from fathomdb.store.profiles import Profile

Mode = Literal["hybrid", "text", "semantic"]
MODES: tuple[Mode, ...] = get_args(Mode)


@dataclass(frozen=True, slots=True)
class SearchRequest:
    """The arguments of a search, checked."""

    query: str | None
    kinds: tuple[str, ...] | None
    limit: int
    mode: Mode
    where: Filter
    chunks_per_node: int
    fusion: Fusion
    vector_weight: float
    exact: bool
    explain: bool


@dataclass(frozen=True, slots=True)
class QueryVector:
    """The vector of a query under a profile, or why there is none.

    ``refused`` says that the model answered, but with no vector to compare with: asking it again
    would not help.
    """

    profile: Profile | None = None
    blob: bytes | None = None
    degraded: Degraded | None = None
    reason: str | None = None
    refused: bool = False


def check_request(
    query: str | None,
    *,
    kind: str | Iterable[str] | None = None,
    limit: int = 10,
    mode: Mode = "hybrid",
    where: Mapping[Any, Any] | None = None,
    ids: Iterable[str] | None = None,
    source_ref: str | None = None,
    chunks_per_node: int = 1,
    fusion: Fusion = "convex",
    vector_weight: float = hybrid.DEFAULT_VECTOR_WEIGHT,
    exact: bool = False,
    explain: bool = False,
    by_vector: bool = False,
) -> SearchRequest:
    """Checks the arguments of a search; ``by_vector`` is one without a query text.

    Raises:
        InvalidInputError: One of them is not valid; the message names it and its value.
    """
    if not by_vector:
        if not isinstance(query, str):
            raise InvalidInputError(
                f"query must be a string, got {type(query).__name__}: {query!r}"
            )
        if len(query) > MAX_QUERY_CHARS:
            raise InvalidInputError(
                f"query has {len(query):,} characters, at most {MAX_QUERY_CHARS:,} are looked for; "
                "ask with a part of it"
            )
        if not query.strip():
            raise InvalidInputError(f"query must have a word in it, got {query!r}")
        filters.check_utf8("query", query)
    if mode not in MODES:
        raise InvalidInputError(f"mode must be one of {MODES}, got {mode!r}")
    if fusion not in FUSIONS:
        raise InvalidInputError(f"fusion must be one of {FUSIONS}, got {fusion!r}")
    _check_whole("limit", limit, MAX_SEARCH_LIMIT)
    _check_whole("chunks_per_node", chunks_per_node, MAX_SEARCH_LIMIT)
    if (
        isinstance(vector_weight, bool)
        or not isinstance(vector_weight, (int, float))
        or not 0.0 <= vector_weight <= 1.0
    ):
        raise InvalidInputError(f"vector_weight must be from 0 to 1, got {vector_weight!r}")
    named = _named_kinds(kind)
    return SearchRequest(
        query=query,
        kinds=named,
        limit=limit,
        mode=mode,
        where=filters.build(kinds=named, where=where, ids=ids, source_ref=source_ref),
        chunks_per_node=chunks_per_node,
        fusion=fusion,
        vector_weight=vector_weight,
        exact=exact,
        explain=explain,
    )


def _named_kinds(kind: str | Iterable[str] | None) -> tuple[str, ...] | None:
    if kind is None:
        return None
    if isinstance(kind, str):
        return (kind,)
    named = tuple(kind) if isinstance(kind, Iterable) else ()
    if not named:
        raise InvalidInputError(f"kind must be a kind or a list of kinds, got {kind!r}")
    return named


def _check_whole(name: str, value: object, most: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= most:
        raise InvalidInputError(f"{name} must be a whole number from 1 to {most}, got {value!r}")


def check_kinds(db: Connection, named: Iterable[str]) -> None:
    """Refuses kinds that nothing was ever written or configured for."""
    for name in named:
        filters.check_name("kind", name)
        if not kinds.exists(db, name):
            there = ", ".join(kinds.every(db)) or "none yet"
            raise InvalidInputError(f"unknown kind {name!r}; kinds of this file: {there}")


def run(db: Connection, request: SearchRequest, query: QueryVector) -> SearchResult:
    """Searches one snapshot.

    Raises:
        InvalidInputError: A kind that the file does not know.
        KindNotVectorIndexedError: ``semantic`` over kinds of which none is indexed.
    """
    if request.kinds is not None:
        check_kinds(db, request.kinds)
    seen = _look(db, request, query)
    per_arm = (
        request.limit
        if request.mode != "hybrid"
        else max(hybrid.CANDIDATES, request.limit * request.chunks_per_node)
    )
    found = (
        text.search(
            db, request.query, request.where, limit=per_arm, per_node=request.chunks_per_node
        )
        if request.query is not None and request.mode != "semantic"
        else []
    )
    near = (
        vector.search(
            db,
            query.blob,
            query.profile,
            seen.kinds,
            request.where,
            limit=per_arm,
            per_node=request.chunks_per_node,
        )
        if query.blob is not None and query.profile is not None
        else []
    )
    if request.mode == "hybrid":
        fused = hybrid.fuse(
            found,
            near,
            fusion=request.fusion,
            # Where there is no vector arm, the words alone decide.
            vector_weight=request.vector_weight if query.blob is not None else 0.0,
            limit=request.limit,
            per_node=request.chunks_per_node,
        )
    elif request.mode == "text":
        fused = [Fused(row.chunk_key, row.node_key, row.score, row, None) for row in found]
    else:
        fused = [Fused(row.chunk_key, row.node_key, row.score, None, row) for row in near]
    return SearchResult(
        hits=_hits(db, fused),
        freshness=seen.freshness,
        degraded=seen.degraded,
        reason=seen.reason,
        explanation=_explain(db, request, query, seen, fused, len(found), len(near))
        if request.explain
        else None,
    )


@dataclass(frozen=True, slots=True)
class _Seen:
    """Which kinds have a vector index, and what it does not hold yet."""

    kinds: tuple[str, ...]
    freshness: Freshness
    degraded: Degraded | None
    reason: str | None


def _look(db: Connection, request: SearchRequest, query: QueryVector) -> _Seen:
    schemas = [
        schema
        for schema in indexes.every(db)
        if request.kinds is None or schema.kind in request.kinds
    ]
    enabled = [schema for schema in schemas if schema.enabled]
    profile_id = query.profile.profile_id if query.profile else None
    pending = failed = 0
    exact = True
    if profile_id is not None:
        pending, failed, exact = queue.waiting_within(db, profile_id, request.where.condition)
    freshness = Freshness(status.cursor(db), pending, failed, exact)
    searched = tuple(schema.kind for schema in enabled if schema.profile_id == profile_id)
    if request.mode == "text":
        return _Seen(searched, freshness, None, None)
    if query.degraded is not None:
        return _Seen(searched, freshness, query.degraded, query.reason)
    unindexed = (
        indexes.unindexed_kinds(db, request.where.condition)
        if request.kinds is None
        else sorted(set(request.kinds) - {schema.kind for schema in enabled})
    )
    if unindexed or not enabled:
        reason = (
            f"no vector index for {', '.join(unindexed) or 'any kind'}; "
            "enable it with admin.configure_vec(kind)"
        )
        if request.mode == "semantic" and not searched:
            raise KindNotVectorIndexedError(reason)
        return _Seen(searched, freshness, "kind_not_indexed", reason)
    building = [schema.kind for schema in enabled if schema.state != "fresh"]
    if building:
        reason = f"the vector index of {', '.join(building)} is being built"
        return _Seen(searched, freshness, "building", reason)
    return _Seen(searched, freshness, None, None)


def _hits(db: Connection, fused: Sequence[Fused]) -> tuple[Hit, ...]:
    rows = chunks.for_hits(db, (item.chunk_key for item in fused))
    return tuple(
        Hit(
            node_id=rows[item.chunk_key].node_id,
            chunk_id=rows[item.chunk_key].chunk_id,
            kind=rows[item.chunk_key].kind,
            text=rows[item.chunk_key].text,
            score=item.score,
            distance=item.vector.distance if item.vector is not None else None,
            properties=decode_properties(rows[item.chunk_key].properties),
            source_ref=rows[item.chunk_key].source_ref,
            arms=_arms(item),
        )
        for item in fused
    )


def _arms(item: Fused) -> tuple[Arm, ...]:
    arms: list[Arm] = []
    if item.text is not None:
        arms.append("text")
    if item.vector is not None:
        arms.append("vector")
    return tuple(arms)


def decode_properties(stored: str | None) -> dict[str, Any] | None:
    """Properties as they were given."""
    try:
        properties: dict[str, Any] | None = None if stored is None else json.loads(stored)
    except ValueError as error:
        raise CorruptDatabaseError(
            f"the properties of a node in the file are not JSON ({error}); restore a backup, or look "
            "at admin.check_integrity()"
        ) from error
    return properties


def _explain(
    db: Connection,
    request: SearchRequest,
    query: QueryVector,
    seen: _Seen,
    fused: Sequence[Fused],
    text_candidates: int,
    vector_candidates: int,
) -> dict[str, Any]:
    return {
        "mode": request.mode,
        "fusion": request.fusion if request.mode == "hybrid" else None,
        "vector_weight": request.vector_weight if request.mode == "hybrid" else None,
        "text_expression": None
        if request.query is None
        else text.match_expression(db, request.query),
        "profile": None if query.profile is None else str(query.profile),
        "vector_kinds": list(seen.kinds),
        # Every vector is compared today, asked for or not.
        "exact": request.exact or query.blob is not None,
        "candidates": {"text": text_candidates, "vector": vector_candidates},
        "hits": [
            {
                "text_score": None if item.text is None else item.text.score,
                "vector_score": None if item.vector is None else item.vector.score,
            }
            for item in fused
        ],
    }
