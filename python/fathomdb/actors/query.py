"""Searches as the engine runs them: the query's vector first, then one snapshot."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fathomdb.errors import (
    EmbedderContractError,
    EmbedderNotConfiguredError,
    EmbedderUnavailableError,
    EngineClosedError,
    InvalidInputError,
)
from fathomdb.pipeline import validate
from fathomdb.search import searcher
from fathomdb.search.searcher import QueryVector, SearchRequest
from fathomdb.store import profiles

if TYPE_CHECKING:
    from fathomdb.actors.runtime import Runtime
    from fathomdb.search.result import SearchResult


def search(runtime: Runtime, request: SearchRequest, timeout_seconds: float | None) -> SearchResult:
    """A search that degrades where there is no vector for the query."""
    query = (
        _active_profile(runtime)
        if request.mode == "text"
        else embed(runtime, request.query or "", timeout_seconds)
    )
    return _run(runtime, request, query)


def semantic_search(
    runtime: Runtime, request: SearchRequest, timeout_seconds: float | None
) -> SearchResult:
    """A search by meaning alone.

    Raises:
        EmbedderNotConfiguredError: No model serves the file.
        EmbedderUnavailableError: The model is away.
        EmbedderContractError: What the model said is no vector to compare with.
    """
    query = embed(runtime, request.query or "", timeout_seconds)
    if query.degraded in ("no_embedder", "change_pending"):
        raise EmbedderNotConfiguredError(query.reason)
    if query.refused:
        raise EmbedderContractError(query.reason)
    if query.degraded == "outage":
        raise EmbedderUnavailableError(query.reason)
    return _run(runtime, request, query)


def raw_vector_search(runtime: Runtime, request: SearchRequest, vector: Any) -> SearchResult:
    """A search by a vector that the caller brings.

    Raises:
        EmbedderNotConfiguredError: The file has no active profile.
        InvalidInputError: The vector does not fit it.
    """
    active = _active_profile(runtime).profile
    if active is None:
        raise EmbedderNotConfiguredError
    try:
        blob = validate.query_blob(vector, active)
    except EmbedderContractError as error:
        raise InvalidInputError(f"vector cannot be searched with: {error}") from None
    return _run(runtime, request, QueryVector(active, blob))


def _run(runtime: Runtime, request: SearchRequest, query: QueryVector) -> SearchResult:
    with runtime.snapshot() as db:
        return searcher.run(db, request, query)


def _active_profile(runtime: Runtime) -> QueryVector:
    with runtime.snapshot() as db:
        return QueryVector(profiles.active(db))


def embed(runtime: Runtime, text: str, timeout_seconds: float | None) -> QueryVector:
    """The query's vector by the model of the index that is searched, or why there is none."""
    model = runtime.model
    if model is None:
        active = _active_profile(runtime).profile
        return QueryVector(active, None, runtime.no_model.degraded, runtime.no_model.reason)
    if model.refusal is not None:
        return QueryVector(model.profile, None, "no_embedder", model.refusal)
    outage = model.outage
    if outage is not None and model.pause_seconds() > 0:
        reason = f"{model.profile} is away: {outage}"
        return QueryVector(model.profile, None, "outage", reason)
    if model.profile.dimension is None:
        # A drain with another object of the same model may have learned it.
        with runtime.snapshot() as db:
            model.profile = profiles.get(db, model.profile.profile_id)
    timeout = runtime.config.embed_timeout_seconds if timeout_seconds is None else timeout_seconds
    try:
        blob = model.embed_query(text, timeout)
    except EngineClosedError:
        runtime.check()
        if runtime.model is model:
            raise
        return embed(runtime, text, timeout_seconds)  # another model took its place meanwhile
    except EmbedderUnavailableError as error:
        return QueryVector(model.profile, None, "outage", str(error))
    except EmbedderContractError as error:
        return QueryVector(model.profile, None, "outage", str(error), refused=True)
    if blob is None:
        return QueryVector(model.profile, None, "building", f"{model.profile} has no vectors yet")
    return QueryVector(model.profile, blob)
