"""The queue by hand: ticks and drains, failed work, waiting for a write."""

from __future__ import annotations

import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from fathomdb import cancellation
from fathomdb.actors.models import Given
from fathomdb.config import LONGEST_SECONDS, check_seconds
from fathomdb.errors import EmbedderNotConfiguredError, InvalidInputError, ReadOnlyError
from fathomdb.records import DrainProgress, DrainReport, TickReport, WaitReport
from fathomdb.search.filters import check_name
from fathomdb.search.searcher import check_kinds
from fathomdb.store import profiles, queue, work

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from fathomdb.actors.model import Model
    from fathomdb.actors.projector import VectorProjectionActor
    from fathomdb.actors.runtime import Runtime
    from fathomdb.store.profiles import Profile
    from fathomdb.store.queue import FailedRow
    from fathomdb.store.transaction import Transaction


def drain(
    runtime: Runtime, timeout: float, embedder: Any, progress: DrainProgress | None
) -> DrainReport:
    """Ticks until nothing is due, time is up or the embedder is away."""
    timeout = check_seconds("timeout", timeout)
    projector = _projector(runtime)
    with _models(runtime, embedder) as models:
        return projector.drain(models, timeout, progress)


def run_tick(runtime: Runtime, embedder: Any) -> TickReport:
    """One claim-to-apply round."""
    projector = _projector(runtime)
    with _models(runtime, embedder) as models:
        return projector.tick(models)


@contextmanager
def _models(runtime: Runtime, embedder: Any) -> Iterator[tuple[Model, ...]]:
    """The models that work, in order, or a given embedder for as long as it is used."""
    if embedder is None:
        working = _projector(runtime).models
        if not working:
            raise EmbedderNotConfiguredError(runtime.no_model.reason)
        yield working
        return
    given = Given.of(embedder)
    for serving in runtime.models.every():
        if serving.embedder is given.embedder:
            yield (serving,)
            return
    try:
        profile = _wanted_profile_of(runtime, given)
        model = given.model(runtime.models.parts, profile)
        try:
            yield (model,)
        finally:
            model.close()
    finally:
        given.close_unused()


def _wanted_profile_of(runtime: Runtime, given: Given) -> Profile:
    """The profile of the embedder, which must be one whose vectors the file wants."""
    with runtime.snapshot() as db:
        wanted = profiles.wanted(db)
    if not wanted:
        raise EmbedderNotConfiguredError(
            "no embedding profile is active; call admin.configure_embedding first"
        )
    found = given.embedder.identity()
    for profile in wanted:
        if profile.fingerprint == found.fingerprint:
            return profile
    raise InvalidInputError(
        f"the embedder is {found} and the file's active model is {wanted[0]}; vectors of two "
        "models are never mixed, switch with admin.configure_embedding"
    )


def failed_work(runtime: Runtime, kind: str | None) -> tuple[FailedRow, ...]:
    """Failed chunks with their cause, oldest first."""
    with runtime.snapshot() as db:
        if kind is not None:
            check_kinds(db, [kind])
        return tuple(queue.failed(db, kind))


def requeue_failed(runtime: Runtime, kind: str | None, cause: str | None) -> int:
    """Sends failed chunks back to the queue, attempts anew; returns how many."""
    if cause is not None:
        check_name("cause", cause)

    def operation(tx: Transaction) -> int:
        if kind is not None:
            check_kinds(tx.db, [kind])
        rows = work.requeue_failed(tx.db, kind, cause, fence=tx.fence(), now_ms=runtime.now_ms())
        if rows and runtime.projector is not None:
            tx.on_commit(runtime.projector.wake)
        return rows

    return runtime.write(operation)


def wait(runtime: Runtime, chunk_ids: Sequence[str], timeout: float) -> WaitReport:
    """Waits until these chunks have their vectors, or until nothing can make progress."""
    for chunk_id in chunk_ids:
        check_name("a chunk_id of the receipt", chunk_id)
    # Nobody signals what another process does: a reader looks again and again.
    pause = runtime.config.idle_poll_seconds if runtime.read_only else LONGEST_SECONDS
    deadline = time.monotonic() + timeout
    with cancellation.on_cancel(runtime.progress.bump):
        while True:
            generation = runtime.progress.generation
            cancellation.check()
            left = deadline - time.monotonic()
            with runtime.snapshot() as db:
                active = profiles.active(db)
                projected, pending, failed = (
                    queue.progress(db, chunk_ids) if active is not None else (0, len(chunk_ids), 0)
                )
            reason = _why_stuck(runtime) if pending else None
            if pending and reason is None and left <= 0:
                reason = "timeout"
            if not pending or reason is not None:
                return WaitReport(not pending and not failed, projected, failed, pending, reason)
            runtime.progress.wait(generation, min(left, pause))


def _why_stuck(runtime: Runtime) -> str | None:
    """Why no vector will come by itself, or None where it will."""
    if runtime.model is None:
        return runtime.no_model.reason
    if runtime.projector is None:
        return None  # another process works; nobody here knows when
    if runtime.projector.crash is not None:
        return f"the vector projection stopped: {runtime.projector.crash!r}"
    if not runtime.projector.background:
        return "the engine was opened with background=False; call admin.drain_vector_projection"
    if runtime.model.outage is not None:
        return f"the embedder is away: {runtime.model.outage}"
    if runtime.model.pool.runs_here():
        return "the embedder itself waits, and embeds nothing meanwhile; wait outside batch_embed"
    return None


def _projector(runtime: Runtime) -> VectorProjectionActor:
    runtime.check()
    if runtime.projector is None:
        raise ReadOnlyError(f"{runtime.path} was opened with read_only=True")
    return runtime.projector
