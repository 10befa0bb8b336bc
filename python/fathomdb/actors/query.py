"""Searches as the engine runs them: the query's vector first, then one snapshot."""

from __future__ import annotations

from contextlib import contextmanager
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
    from collections.abc import Iterator

    from fathomdb.actors.runtime import Runtime
    from fathomdb.search.result import SearchResult
    from fathomdb.search.searcher import Queries
    from fathomdb.store.connection import Connection
    from fathomdb.store.profiles import Profile


def search(runtime: Runtime, request: SearchRequest, timeout_seconds: float | None) -> SearchResult:
    """A search that degrades where there is no vector for the query."""
    with asking(runtime, request, timeout_seconds) as (db, queries):
        return searcher.run(db, request, queries, runtime.codes)


def semantic_search(
    runtime: Runtime, request: SearchRequest, timeout_seconds: float | None
) -> SearchResult:
    """A search by meaning alone.

    Raises:
        EmbedderNotConfiguredError: No model serves the file.
        EmbedderUnavailableError: The model is away.
        EmbedderContractError: What the model said is no vector to compare with.
    """
    with asking(runtime, request, timeout_seconds) as (db, queries):
        if not queries:
            raise EmbedderNotConfiguredError(runtime.no_model.reason)
        for query in queries.values():
            if query.degraded in ("no_embedder", "change_pending"):
                raise EmbedderNotConfiguredError(query.reason)
            if query.refused:
                raise EmbedderContractError(query.reason)
            if query.degraded == "outage":
                raise EmbedderUnavailableError(query.reason)
        return searcher.run(db, request, queries, runtime.codes)


def raw_vector_search(runtime: Runtime, request: SearchRequest, vector: Any) -> SearchResult:
    """A search by a vector that the caller brings.

    It is one of the active model: kinds that answer under the model of a switch are left out, and
    the result says so.

    Raises:
        EmbedderNotConfiguredError: The file has no active profile.
        InvalidInputError: The vector does not fit it.
    """
    with runtime.reading() as db:
        active, *_ = [*profiles.wanted(db), None]
        if active is None:
            raise EmbedderNotConfiguredError
        try:
            queries = {active.profile_id: QueryVector(active, validate.query_blob(vector, active))}
        except EmbedderContractError as error:
            raise InvalidInputError(f"vector cannot be searched with: {error}") from None
        for profile in searcher.answering(db, request):
            if profile.profile_id != active.profile_id:
                queries[profile.profile_id] = QueryVector(
                    profile,
                    None,
                    "building",
                    f"kinds that answer under {profile} already were not compared with a vector of "
                    f"{active}",
                )
        return searcher.run(db, request, queries, runtime.codes)


@contextmanager
def asking(
    runtime: Runtime, request: SearchRequest, timeout_seconds: float | None
) -> Iterator[tuple[Connection, Queries]]:
    """A snapshot, with the query's vector under each profile that answers in it.

    The query is embedded before: no embedder is called while a snapshot is held. So it begins with
    what most likely answers, and where a snapshot says otherwise (a kind may flip at any time) it
    embeds what is missing and looks again.
    """
    queries: dict[int, QueryVector] = {}
    model = runtime.model
    if model is not None and request.mode != "text":
        profile = model.profile
        queries[profile.profile_id] = embed(runtime, profile, request.query or "", timeout_seconds)
    while True:
        with runtime.reading() as db:
            answering = searcher.answering(db, request)
            missing = [item for item in answering if item.profile_id not in queries]
            if request.mode == "text" or not missing:
                yield (
                    db,
                    {
                        item.profile_id: queries.get(item.profile_id, QueryVector(item))
                        for item in answering
                    }
                    or _nobody(runtime),
                )
                return
        for item in missing:
            queries[item.profile_id] = embed(runtime, item, request.query or "", timeout_seconds)


def _nobody(runtime: Runtime) -> dict[int, QueryVector]:
    """What a file without any profile is asked with: nothing, and why."""
    why = runtime.no_model
    return {0: QueryVector(None, None, why.degraded, why.reason)}


def embed(
    runtime: Runtime, profile: Profile, text: str, timeout_seconds: float | None
) -> QueryVector:
    """The query's vector by the model of a profile, or why there is none."""
    model = runtime.models.get(profile.profile_id)
    if model is None:
        # Another process may have begun a switch, or ended one, since this engine looked.
        runtime.models.refresh()
        model = runtime.models.get(profile.profile_id)
    if model is None:
        why = runtime.models.why_not(profile)
        return QueryVector(profile, None, why.degraded, why.reason)
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
        if runtime.models.get(profile.profile_id) is model:
            raise
        return embed(runtime, profile, text, timeout_seconds)  # another took its place meanwhile
    except EmbedderUnavailableError as error:
        return QueryVector(model.profile, None, "outage", str(error))
    except EmbedderContractError as error:
        return QueryVector(model.profile, None, "outage", str(error), refused=True)
    if blob is None:
        return QueryVector(model.profile, None, "building", f"{model.profile} has no vectors yet")
    return QueryVector(model.profile, blob)
