"""Verdict: one sentence on why a document is found or not: the first cause, and what to do."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from fathomdb.config import MAX_SEARCH_LIMIT
from fathomdb.search.hybrid import CANDIDATES

if TYPE_CHECKING:
    from fathomdb.admin.inspect import ChunkReport, VectorIndex
    from fathomdb.admin.ranks import FilterReport, QueryReport

DEFAULT_LIMIT = 10
_SAME_EVERY_TIME = frozenset({"dimension", "not_finite", "zero", "not_numeric"})
"""Causes that are the model's own answer to a text: asking again changes nothing."""


@dataclass(frozen=True, slots=True)
class Facts:
    """What a verdict on a live node is made of.

    ``engine`` has what keeps vectors from being made, ``no_queries`` what keeps a query from
    being embedded, both in sentences without a full stop.
    """

    node_id: str
    kind: str
    chunks: tuple[ChunkReport, ...]
    vector_index: VectorIndex
    has_profile: bool
    engine: tuple[str, ...]
    no_queries: str | None
    query: QueryReport | None


def of_unknown(node_id: str, path: str, owner_of_chunk: str | None) -> str:
    """An id that no version of any node has."""
    if owner_of_chunk is not None:
        return (
            f"{node_id!r} is a chunk of the node {owner_of_chunk!r}, not a node; inspect "
            f"{owner_of_chunk!r}."
        )
    return (
        f"{node_id!r} was never written to {path}, or it was erased with its source; ids are "
        "compared letter by letter, so check the spelling, and that the program writes to this file."
    )


def of_erased(node_id: str, cursor: int) -> str:
    """A node of which only the tombstone is left."""
    return (
        f"{node_id!r} was erased in commit {cursor}, and nothing of it is kept; written again it is "
        "a new node."
    )


def of_retired(node_id: str, cursor: int) -> str:
    """A node that ended."""
    return (
        f"{node_id!r} was retired in commit {cursor} and is not searched any more; write it again "
        "to bring it back."
    )


def of_live(facts: Facts) -> str:
    """A live node, with or without a query."""
    name = repr(facts.node_id)
    if not facts.chunks:
        return (
            f"{name} is live and has no text, so no search finds it; db.get and db.nodes do. Write "
            "it with text= to have it searched."
        )
    damage = _damage(facts)
    if damage is not None:
        return f"{name} is damaged: {damage}."
    if facts.query is None:
        return _without_query(facts, name)
    if facts.query.dropped_by:
        return _dropped(name, facts.query.dropped_by[0])
    return _with_query(facts, facts.query, name)


def _damage(facts: Facts) -> str | None:
    for chunk in facts.chunks:
        if not chunk.hash_ok:
            return (
                f"the text of chunk {chunk.chunk_id!r} is not what was written (its hash differs); "
                "run admin.check_integrity(), and write the node again or restore a backup"
            )
    for chunk in facts.chunks:
        if not chunk.in_text_index:
            return (
                f"chunk {chunk.chunk_id!r} is not in the full-text index, so its words do not find "
                f"it; make the index anew with admin.rebuild({facts.kind!r}, target='fts')"
            )
    return None


def _dropped(name: str, condition: FilterReport) -> str:
    actual = condition.actual
    if condition.on == "kind":
        because = f"it is of kind {actual!r}"
    elif condition.on == "ids":
        because = "its id is not among them"
    elif condition.on == "source_ref":
        because = "it has no source_ref" if actual is None else f"its source_ref is {actual!r}"
    else:
        because = "it has no such property" if actual is None else f"there it has {actual!r}"
    return (
        f"{name} is dropped by the filter {condition.condition}: {because}; search without that "
        "condition, or write the node so that it meets it."
    )


# --- without a query ------------------------------------------------------------------------------


def _without_query(facts: Facts, name: str) -> str:
    cause = _no_vectors(facts) or facts.no_queries
    if cause is None:
        return f"{name} is live and complete: {_all(facts)} found by words and by meaning."
    if facts.no_queries is None and any(chunk.has_vector for chunk in facts.chunks):
        return f"{name} is found by its words, and by meaning only in part: {cause}."
    return f"{name} is found by its words, but not by meaning: {cause}."


def _all(facts: Facts) -> str:
    return "its text is" if len(facts.chunks) == 1 else f"all its {len(facts.chunks)} chunks are"


def _no_vectors(facts: Facts) -> str | None:
    """The first reason why a chunk has no vector, and what to do; None where each has one."""
    kind = repr(facts.kind)
    if facts.vector_index != "enabled":
        if not facts.has_profile:
            return facts.no_queries or "no embedding model is active in this file"
        if facts.vector_index == "disabled":
            return f"the vector index of kind {kind} was disabled; admin.configure_vec({kind}) enables it"
        return f"kind {kind} has no vector index; admin.configure_vec({kind}) makes one"
    missing = [chunk for chunk in facts.chunks if not chunk.has_vector]
    if not missing:
        return None
    for chunk in missing:
        if chunk.work is not None and chunk.work.state == "failed":
            return _failed(facts, chunk)
    for chunk in missing:
        if chunk.work is None:
            return (
                f"chunk {chunk.chunk_id!r} has neither a vector nor a place in the queue, which "
                "must not be; run admin.check_integrity(), and make its vectors anew with "
                f"admin.rebuild({kind})"
            )
    return _waiting(facts, missing)


def _failed(facts: Facts, chunk: ChunkReport) -> str:
    assert chunk.work is not None
    tries = "1 attempt" if chunk.work.attempts == 1 else f"{chunk.work.attempts} attempts"
    cure = (
        "which no wait changes"
        if chunk.work.cause == "no_vector"
        else "the model would say the same again, so change the text or the model"
        if chunk.work.cause in _SAME_EVERY_TIME
        else f"see to the cause, then call admin.requeue_failed({facts.kind!r})"
    )
    return (
        f"the vector of chunk {chunk.chunk_id!r} failed after {tries} ({chunk.work.cause}: "
        f"{chunk.work.last_error}); {cure}"
    )


def _waiting(facts: Facts, missing: list[ChunkReport]) -> str:
    count, of = len(missing), len(facts.chunks)
    what = "its vector is" if of == 1 else f"the vectors of {count} of its {of} chunks are"
    if facts.engine:
        return f"{what} still to be made, and {facts.engine[0]}"
    work = missing[0].work
    assert work is not None
    if work.due_in_seconds > 0 and work.last_error is not None:
        return (
            f"{what} still to be made; attempt {work.attempts} failed ({work.last_error}), and the "
            f"next comes by itself in {work.due_in_seconds:.0f} s"
        )
    if work.state == "inflight":
        return f"{what} being made at this moment; look again"
    return (
        f"{what} in the queue and will come; db.wait(receipt) or search(after=receipt) wait for it"
    )


# --- with a query ---------------------------------------------------------------------------------


def _with_query(facts: Facts, query: QueryReport, name: str) -> str:
    cause = _no_vectors(facts) or query.no_vector_reason
    if query.rank is None:
        return _not_found(query, name, cause)
    ranks = f"by words {_place(query.text_rank)}, by meaning {_place(query.vector_rank)}"
    lacking = (
        f"; it is not found by meaning: {cause}" if cause and query.vector_rank is None else ""
    )
    if query.rank <= DEFAULT_LIMIT:
        return f"{name} is found at rank {query.rank} ({ranks}){lacking}."
    return (
        f"{name} is found, but at rank {query.rank} ({ranks}), which the default limit of "
        f"{DEFAULT_LIMIT} does not show: ask for limit={query.rank}, {_better(query)}{lacking}."
    )


def _better(query: QueryReport) -> str:
    """What brings it up, after a larger limit."""
    if query.text_rank is not None and query.text_rank <= DEFAULT_LIMIT:
        return "or rely more on its words with a lower vector_weight"
    return "narrow the search with a filter, or use words that it has"


def _place(rank: int | None) -> str:
    return "not at all" if rank is None else f"rank {rank}"


def _not_found(query: QueryReport, name: str, cause: str | None) -> str:
    words = _why_not_by_words(query)
    if query.vector_rank is not None:
        meaning = f"by meaning it comes {_beyond(query.vector_rank)}"
    elif query.distance is not None:
        meaning = f"by meaning more than {MAX_SEARCH_LIMIT:,} documents are nearer"
    else:
        meaning = f"it cannot be found by meaning: {cause}"
    ranks = [rank for rank in (query.text_rank, query.vector_rank) if rank is not None]
    cure = ""
    if ranks:
        cure = f"; ask for limit={min(ranks)} or more, {_better(query)}"
    elif query.text_score is not None or query.distance is not None:
        cure = f"; {_better(query)}"
    return f"{name} is not found: {words}, and {meaning}{cure}."


def _why_not_by_words(query: QueryReport) -> str:
    if query.expression is None:
        return "the query has no word that the full-text index could look up"
    if query.text_score is None:
        return "it has none of the query's words"
    if query.text_rank is None:
        return f"more than {MAX_SEARCH_LIMIT:,} documents match the query's words better"
    return f"by its words it comes {_beyond(query.text_rank)}"


def _beyond(rank: int) -> str:
    return f"at rank {rank}, behind the {CANDIDATES} candidates that a search takes"
