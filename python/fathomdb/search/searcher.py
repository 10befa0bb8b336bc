"""One search over one snapshot: arms, fusion, hits, and what could not be seen."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Literal, get_args

from fathomdb.config import MAX_QUERY_CHARS, MAX_SEARCH_LIMIT
from fathomdb.errors import (
    CorruptDatabaseError,
    InvalidInputError,
    KindNotVectorIndexedError,
)
from fathomdb.records import Freshness
from fathomdb.search import filters, hybrid, terms, text, vector
from fathomdb.search.hybrid import FUSIONS, Fused, Fusion
from fathomdb.search.result import Arm, Degraded, Hit, SearchResult
from fathomdb.store import chunks, indexes, kinds, profiles, queue, status

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fathomdb.search.filters import Filter
    from fathomdb.search.ranked import Ranked
    from fathomdb.store.codes import Codes
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


Queries = Mapping[int, "QueryVector"]
"""What a query is under each profile that answers for a kind of the search, by profile_id."""


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


def answering(db: Connection, request: SearchRequest) -> list[Profile]:
    """The profiles that answer for the kinds of a search, the active one first.

    More than one while a switch of models runs; the active one where no kind is indexed, and none
    where there is no model.
    """
    wanted = profiles.wanted(db)
    serving = {
        schema.profile_id
        for schema in indexes.every(db)
        if schema.enabled and (request.kinds is None or schema.kind in request.kinds)
    }
    return [item for item in wanted if item.profile_id in serving] or wanted[:1]


@dataclass(frozen=True, slots=True)
class VectorArm:
    """What one model finds: the nearest chunks of the kinds that answer under its profile."""

    query: QueryVector
    kinds: tuple[str, ...]
    codes: Codes | None = None
    looks: list[vector.Look] = field(default_factory=list)
    """How its searches went."""

    def search(self, db: Connection, where: Filter, *, limit: int, per_node: int) -> list[Ranked]:
        """The nearest chunks, closest first; none where the query has no vector."""
        if self.query.blob is None or self.query.profile is None:
            return []
        return vector.search(
            db,
            self.query.blob,
            self.query.profile,
            self.kinds,
            where,
            limit=limit,
            per_node=per_node,
            codes=self.codes,
            looks=self.looks,
        )


def vector_arms(
    db: Connection,
    kinds: Iterable[str] | None,
    queries: Queries,
    codes: Codes | None = None,
) -> list[VectorArm]:
    """An arm for each profile that answers for these kinds (None: for all), and was asked.

    Without codes every vector is compared.
    """
    named = None if kinds is None else {*kinds}
    of_profile: dict[int, list[str]] = {}
    for schema in indexes.every(db):
        if (
            schema.enabled
            and schema.profile_id is not None
            and schema.profile_id in queries
            and (named is None or schema.kind in named)
        ):
            of_profile.setdefault(schema.profile_id, []).append(schema.kind)
    return [VectorArm(queries[key], tuple(names), codes) for key, names in of_profile.items()]


def run(db: Connection, request: SearchRequest, queries: Queries, codes: Codes) -> SearchResult:
    """Searches one snapshot; ``queries`` has one for each profile that is ``answering``.

    Raises:
        InvalidInputError: A kind that the file does not know.
        KindNotVectorIndexedError: ``semantic`` over kinds of which none is indexed.
    """
    if request.kinds is not None:
        check_kinds(db, request.kinds)
    seen = _look(db, request, queries)
    per_arm = (
        request.limit
        if request.mode != "hybrid"
        else max(hybrid.CANDIDATES, request.limit * request.chunks_per_node)
    )
    found = (
        text.search(
            db,
            request.query,
            request.where,
            limit=per_arm,
            per_node=request.chunks_per_node,
            exact=request.exact,
        )
        if request.query is not None and request.mode != "semantic"
        else []
    )
    arms = (
        []
        if request.mode == "text"
        else vector_arms(db, request.kinds, queries, None if request.exact else codes)
    )
    near = [
        arm.search(db, request.where, limit=per_arm, per_node=request.chunks_per_node)
        for arm in arms
    ]
    asked = any(arm.query.blob is not None for arm in arms)
    if request.mode == "hybrid":
        fused = hybrid.fuse(
            found,
            *near,
            fusion=request.fusion,
            # Where there is no vector arm, the words alone decide.
            vector_weight=request.vector_weight if asked else 0.0,
            limit=request.limit,
            per_node=request.chunks_per_node,
        )
    elif request.mode == "text":
        fused = [Fused(row.chunk_key, row.node_key, row.score, row, None) for row in found]
    elif len(near) > 1:
        # By their ranks: how near they are to the query, two models cannot say to each other.
        fused = hybrid.fuse(
            [],
            *near,
            fusion="rrf",
            vector_weight=1.0,
            limit=request.limit,
            per_node=request.chunks_per_node,
        )
    else:
        rows = near[0] if near else []
        fused = [Fused(row.chunk_key, row.node_key, row.score, None, row) for row in rows]
    return SearchResult(
        hits=_hits(db, fused),
        freshness=seen.freshness,
        degraded=seen.degraded,
        reason=seen.reason,
        explanation=_explain(db, request, queries, arms, fused, len(found), [*map(len, near)])
        if request.explain
        else None,
    )


@dataclass(frozen=True, slots=True)
class _Seen:
    """What the vector indexes of a search do not hold yet, and why it sees less than it should."""

    freshness: Freshness
    degraded: Degraded | None
    reason: str | None


def _look(db: Connection, request: SearchRequest, queries: Queries) -> _Seen:
    schemas = [
        schema
        for schema in indexes.every(db)
        if request.kinds is None or schema.kind in request.kinds
    ]
    enabled = [schema for schema in schemas if schema.enabled]
    of_profile: dict[int, list[str]] = {}
    for schema in enabled:
        if schema.profile_id is not None:
            of_profile.setdefault(schema.profile_id, []).append(schema.kind)
    pending = failed = 0
    exact = True
    for profile_id, names in of_profile.items():
        waiting = queue.waiting_within(db, profile_id, names, request.where.condition)
        pending, failed, exact = pending + waiting[0], failed + waiting[1], exact and waiting[2]
    freshness = Freshness(status.cursor(db), pending, failed, exact)
    if request.mode == "text":
        return _Seen(freshness, None, None)
    for query in queries.values():
        if query.degraded is not None:
            return _Seen(freshness, query.degraded, query.reason)
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
        if request.mode == "semantic" and not enabled:
            raise KindNotVectorIndexedError(reason)
        return _Seen(freshness, "kind_not_indexed", reason)
    building = [schema.kind for schema in enabled if schema.state != "fresh"]
    if building:
        reason = f"the vector index of {', '.join(building)} is being built"
        return _Seen(freshness, "building", reason)
    return _Seen(freshness, None, None)


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
    queries: Queries,
    arms: Sequence[VectorArm],
    fused: Sequence[Fused],
    text_candidates: int,
    vector_candidates: Sequence[int],
) -> dict[str, Any]:
    chosen = None if request.query is None else terms.choose(db, request.query, exact=request.exact)
    return {
        "mode": request.mode,
        "fusion": request.fusion if request.mode == "hybrid" else None,
        "vector_weight": request.vector_weight if request.mode == "hybrid" else None,
        "text_expression": None if chosen is None else chosen.expression,
        # At scale common words only rank; these alone bring chunks (docs/decisions/0044).
        "text_selecting": None
        if chosen is None
        else [term.word for term in chosen.every[: chosen.selecting]],
        "profile": ", ".join(str(query.profile) for query in queries.values() if query.profile)
        or None,
        "vector_kinds": [kind for arm in arms for kind in arm.kinds],
        "vector_arms": [
            {
                "profile": str(arm.query.profile),
                "fingerprint": None if arm.query.profile is None else arm.query.profile.fingerprint,
                "kinds": list(arm.kinds),
                "candidates": count,
                "reason": arm.query.reason,
                "looks": [asdict(look) for look in arm.looks],
            }
            for arm, count in zip(arms, vector_candidates, strict=True)
        ],
        "exact": all(look.by == "exact" for arm in arms for look in arm.looks),
        "candidates": {"text": text_candidates, "vector": sum(vector_candidates)},
        "hits": [
            {
                "text_score": None if item.text is None else item.text.score,
                "vector_score": None if item.vector is None else item.vector.score,
            }
            for item in fused
        ],
    }
