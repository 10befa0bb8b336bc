"""Inspect: why is a document found, or not? What the file has of a node, and where a query puts it.

What belongs here: gathering it from one snapshot. What does not: saying what it means
(``admin/verdict.py``).
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from fathomdb import _native
from fathomdb.actors import query as queries
from fathomdb.admin import ranks, verdict
from fathomdb.config import INCREMENTAL_PRIORITY
from fathomdb.pipeline.prepare import check_name
from fathomdb.search import searcher
from fathomdb.store import (
    chunks,
    erasure,
    indexes,
    inspection,
    nodes,
    profiles,
    queue,
    status,
    vectors,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from fathomdb.actors.runtime import Runtime
    from fathomdb.admin.ranks import Found, QueryReport
    from fathomdb.store.chunks import ChunkRow
    from fathomdb.store.connection import Connection
    from fathomdb.store.indexes import IndexSchema
    from fathomdb.store.nodes import NodeRow

VectorIndex = Literal["enabled", "disabled", "never_configured"]


@dataclass(frozen=True, slots=True)
class WorkReport:
    """The queue's row of a chunk; ``due_in_seconds`` is 0 where it is due."""

    state: str
    lane: Literal["incremental", "backfill"]
    attempts: int
    due_in_seconds: float
    cause: str | None
    last_error: str | None


@dataclass(frozen=True, slots=True)
class VectorReport:
    """A vector of a chunk: the ledger has it, ``stored`` where its table has it too.

    ``current`` says that it was made from the chunk's text as it is now, ``active`` that its
    profile is the one that serves.
    """

    profile: str
    active: bool
    stored: bool
    current: bool


@dataclass(frozen=True, slots=True)
class ChunkReport:
    """A chunk as each arm sees it; ``text_score`` and ``distance`` are for the query.

    ``hash_ok`` is False where the stored text is not the text that was written.
    """

    chunk_id: str
    text: str
    hash_ok: bool
    in_text_index: bool
    vectors: tuple[VectorReport, ...]
    work: WorkReport | None
    text_score: float | None = None
    distance: float | None = None

    @property
    def has_vector(self) -> bool:
        """Whether it can be found by meaning."""
        return any(item.active and item.stored and item.current for item in self.vectors)


@dataclass(frozen=True, slots=True)
class NodeReport:
    """All that decides whether a node is found, and in ``verdict`` the first cause, in words.

    ``written_cursor`` is the commit of its last version, ``retired_cursor`` the one that ended it;
    both are None for an id that was never written. ``erased_cursor`` is the commit that erased it,
    where nothing of it is there any more. ``superseded_versions`` counts older versions.
    ``vector_index`` and ``index_state`` are of its kind. ``engine`` has, in sentences, what keeps
    this engine from making or comparing vectors.
    """

    node_id: str
    live: bool
    kind: str | None
    source_ref: str | None
    written_cursor: int | None
    retired_cursor: int | None
    erased_cursor: int | None
    superseded_versions: int
    vector_index: VectorIndex
    index_state: str | None
    profile: str | None
    chunks: tuple[ChunkReport, ...]
    engine: tuple[str, ...]
    query: QueryReport | None
    verdict: str


def inspect(
    runtime: Runtime,
    node_id: str,
    query: str | None,
    *,
    kind: str | Iterable[str] | None,
    where: Mapping[Any, Any] | None,
    ids: Iterable[str] | None,
    source_ref: str | None,
) -> NodeReport:
    """Looks at a node from one snapshot."""
    check_name("node_id", node_id)
    wanted = None if ids is None or isinstance(ids, (str, bytes)) else [*ids]
    request = searcher.check_request(
        query,
        kind=kind,
        where=where,
        ids=ids if wanted is None else wanted,
        source_ref=source_ref,
        by_vector=query is None,
    )
    asked_in = _alone(runtime) if query is None else queries.asking(runtime, request, None)
    with asked_in as (db, vectors_of_query):
        if request.kinds is not None:
            searcher.check_kinds(db, request.kinds)
        row = nodes.live(db, [node_id]).get(node_id)
        if row is None:
            return _not_live(runtime, db, node_id)
        schema = indexes.get(db, row.kind)
        rows = chunks.of_nodes(db, [row.node_key]).get(row.node_key, [])
        asked = ranks.separate(request, where, wanted, source_ref)
        found = (
            None
            if vectors_of_query is None
            else ranks.place(db, request, vectors_of_query, row, len(rows), asked)
        )
        engine = _engine(runtime, db)
        reports = _chunks(runtime, db, row, rows, schema, found)
        versions, _ = nodes.superseded(db, node_id)
        active = profiles.active(db)
        filters_of = ranks.meets(db, row, asked)
    asked_for = None if found is None else found.report(query or "", filters_of)
    facts = verdict.Facts(
        node_id=node_id,
        kind=row.kind,
        chunks=reports,
        vector_index=_index_of(schema),
        has_profile=active is not None,
        engine=engine,
        no_queries=_no_queries(runtime),
        query=asked_for,
    )
    return NodeReport(
        node_id=node_id,
        live=True,
        kind=row.kind,
        source_ref=row.source_ref,
        written_cursor=row.cursor,
        retired_cursor=None,
        erased_cursor=None,
        superseded_versions=versions,
        vector_index=_index_of(schema),
        index_state=schema.state if schema is not None and schema.enabled else None,
        profile=None if active is None else str(active),
        chunks=reports,
        engine=engine,
        query=asked_for,
        verdict=verdict.of_live(facts),
    )


@contextmanager
def _alone(runtime: Runtime) -> Iterator[tuple[Connection, None]]:
    """A snapshot that no query is asked in."""
    with runtime.snapshot() as db:
        yield db, None


def _not_live(runtime: Runtime, db: Connection, node_id: str) -> NodeReport:
    last = inspection.last_version(db, node_id)
    versions, _ = nodes.superseded(db, node_id)
    active = profiles.active(db)
    schema = None if last is None else indexes.get(db, last.kind)
    erased = None if last is not None else erasure.erased_in(db, "node", node_id)
    if last is not None:
        said = verdict.of_retired(node_id, last.superseded_cursor)
    elif erased is not None:
        said = verdict.of_erased(node_id, erased)
    else:
        owner = chunks.owners(db, [node_id]).get(node_id)
        said = verdict.of_unknown(node_id, runtime.path, owner)
    return NodeReport(
        node_id=node_id,
        live=False,
        kind=None if last is None else last.kind,
        source_ref=None if last is None else last.source_ref,
        written_cursor=None if last is None else last.written_cursor,
        retired_cursor=None if last is None else last.superseded_cursor,
        erased_cursor=erased,
        superseded_versions=versions,
        vector_index=_index_of(schema),
        index_state=schema.state if schema is not None and schema.enabled else None,
        profile=None if active is None else str(active),
        chunks=(),
        engine=_engine(runtime, db),
        query=None,
        verdict=said,
    )


def _index_of(schema: IndexSchema | None) -> VectorIndex:
    if schema is None:
        return "never_configured"
    return "enabled" if schema.enabled else "disabled"


def _engine(runtime: Runtime, db: Connection) -> tuple[str, ...]:
    """What keeps vectors from being made or compared, in the order in which to cure it."""
    no_queries = _no_queries(runtime)
    reasons = [] if no_queries is None else [no_queries]
    if runtime.projector is None:
        said = status.read(db)
        if said.get("pid") is None:
            reasons.append(
                "this engine is read-only and no process has the file open for writing; open it "
                "for writing somewhere, with its embedder"
            )
        elif said.get("outage") is not None:
            reasons.append(f"the embedder of process {said['pid']} is away: {said['outage']}")
    elif runtime.projector.crash is not None:
        reasons.append(
            f"the vector projection stopped: {runtime.projector.crash!r}; open the engine again"
        )
    elif not runtime.projector.background:
        reasons.append(
            "this engine was opened with background=False; call admin.drain_vector_projection()"
        )
    return tuple(reasons)


def _no_queries(runtime: Runtime) -> str | None:
    if runtime.model is None:
        return runtime.no_model.reason
    if runtime.model.refusal is not None:
        return runtime.model.refusal
    if runtime.model.outage is not None:
        return f"the embedder is away: {runtime.model.outage}"
    return None


# --- chunks ---------------------------------------------------------------------------------------


def _chunks(
    runtime: Runtime,
    db: Connection,
    node: NodeRow,
    rows: Sequence[ChunkRow],
    schema: IndexSchema | None,
    found: Found | None,
) -> tuple[ChunkReport, ...]:
    chunk_keys = [row.chunk_key for row in rows]
    text_of = dict(chunks.texts(db, chunk_keys))
    wrong = set(
        _native.verify_chunk_hashes(
            [row.chunk_id for row in rows],
            [text_of[key] for key in chunk_keys],
            [row.canonical_hash for row in rows],
        )
    )
    indexed = inspection.in_text_index(db, chunk_keys)
    profile_id = schema.profile_id if schema is not None and schema.enabled else None
    owed = {
        item.chunk_key: item
        for item in queue.of_chunks(db, chunk_keys)
        if item.profile_id == profile_id
    }
    made_of = _vectors(db, node.kind, rows, profile_id)
    now_ms = runtime.now_ms()
    return tuple(
        ChunkReport(
            chunk_id=row.chunk_id,
            text=text_of[row.chunk_key],
            hash_ok=n not in wrong,
            in_text_index=row.chunk_key in indexed,
            vectors=made_of.get(row.chunk_key, ()),
            work=_work(owed.get(row.chunk_key), now_ms),
            text_score=None if found is None else found.text_scores.get(row.chunk_key),
            distance=None if found is None else found.distances.get(row.chunk_key),
        )
        for n, row in enumerate(rows)
    )


def _work(row: queue.ChunkWork | None, now_ms: int) -> WorkReport | None:
    if row is None:
        return None
    return WorkReport(
        state=row.state,
        lane="incremental" if row.priority >= INCREMENTAL_PRIORITY else "backfill",
        attempts=row.attempts,
        due_in_seconds=max(0.0, (row.due_at_ms - now_ms) / 1000),
        cause=row.cause,
        last_error=row.last_error,
    )


def _vectors(
    db: Connection, kind: str, rows: Sequence[ChunkRow], answers: int | None
) -> dict[int, tuple[VectorReport, ...]]:
    hash_of = {row.chunk_key: row.canonical_hash for row in rows}
    by_profile: dict[int, dict[int, bytes]] = {}
    for (chunk_key, profile_id), made_from in inspection.ledger(db, hash_of).items():
        by_profile.setdefault(profile_id, {})[chunk_key] = made_from
    found: dict[int, tuple[VectorReport, ...]] = {}
    for profile_id, made_of in sorted(by_profile.items()):
        profile = profiles.get(db, profile_id)
        stored = (
            vectors.read(db, kind, profile_id, made_of)
            if vectors.exists(db, kind, profile_id)
            else {}
        )
        for chunk_key, made_from in made_of.items():
            report = VectorReport(
                profile=str(profile),
                active=profile_id == answers,
                stored=chunk_key in stored,
                current=made_from == hash_of[chunk_key],
            )
            found[chunk_key] = (*found.get(chunk_key, ()), report)
    return found
