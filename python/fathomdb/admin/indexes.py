"""Vector and full-text indexes: enabling and disabling kinds, tokenizers, rebuilding."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from fathomdb import _native
from fathomdb.actors import calls
from fathomdb.admin import switch
from fathomdb.errors import (
    EmbedderNotConfiguredError,
    InvalidInputError,
    KindNotVectorIndexedError,
    ReadOnlyError,
)
from fathomdb.pipeline.prepare import check_name
from fathomdb.search.searcher import check_kinds
from fathomdb.store import fts, indexes, kinds, profiles, queue, switching, vectors

if TYPE_CHECKING:
    from collections.abc import Callable

    from fathomdb.actors.rebuilder import RebuildActor
    from fathomdb.actors.runtime import Runtime
    from fathomdb.admin.switch import KindSwitch, SwitchStatus
    from fathomdb.store.transaction import Transaction


@dataclass(frozen=True, slots=True)
class ConfigureVecOutcome:
    """What enabling a kind did; chunks that have a current vector are not enqueued again."""

    kind: str
    enqueued_backfill_rows: int
    was_already_enabled: bool


@dataclass(frozen=True, slots=True)
class VecIndexStatus:
    """How far the vector index of a kind is, in chunks; ages in seconds, times since the epoch.

    All is said of the index that answers; ``switch`` of the one that is being built beside it, while
    a switch to another model runs. ``codes_rows`` and ``codes_bytes`` are what this engine holds in
    memory to search it by, nothing before a search was large enough.
    """

    kind: str
    enabled: bool
    state: str
    pending_incremental: int
    pending_backfill: int
    inflight: int
    failed: int
    oldest_pending_age_seconds: float | None
    last_error: str | None
    last_completed_at: float | None
    embedding_identity: str | None
    switch: KindSwitch | None = None
    codes_rows: int = 0
    codes_bytes: int = 0


@dataclass(frozen=True, slots=True)
class RebuildReport:
    """What a rebuild covered: chunks whose vectors are owed again, or that were indexed.

    ``kind`` is None where no kind was asked for: one full-text index holds them all.
    """

    target: Literal["vec", "fts"]
    kind: str | None
    chunks: int


def configure_vec(runtime: Runtime, kind: str, source: str = "chunks") -> ConfigureVecOutcome:
    """Enables a kind's vector index and owes it what is not projected yet."""
    check_name("kind", kind)
    if source != "chunks":
        raise InvalidInputError(f"source must be 'chunks', got {source!r}")

    def operation(tx: Transaction) -> ConfigureVecOutcome:
        profile = profiles.active(tx.db)
        if profile is None:
            raise EmbedderNotConfiguredError(
                f"kind {kind!r} cannot be indexed without an embedding profile; call "
                "admin.configure_embedding first"
            )
        kinds.ensure(tx.db, [kind], runtime.config.chunk_chars, _native.SPLITTER_VERSION)
        before = indexes.get(tx.db, kind)
        enqueued = indexes.enable(tx.db, kind, profile, fence=tx.fence(), now_ms=runtime.now_ms())
        _wake_on_commit(tx, runtime)
        return ConfigureVecOutcome(kind, enqueued, before is not None and before.enabled)

    outcome = runtime.write(operation)
    runtime.note_kinds({kind})
    return outcome


def configure_vec_kinds(runtime: Runtime, kinds: Iterable[str]) -> list[ConfigureVecOutcome]:
    """Enables several kinds; where one of the names cannot be a kind, none."""
    if isinstance(kinds, (str, bytes)) or not isinstance(kinds, Iterable):
        raise InvalidInputError(f"kinds must be an iterable of kinds, got {kinds!r}")
    named = [*kinds]
    for kind in named:
        check_name("kind", kind)
    return [configure_vec(runtime, kind) for kind in named]


def disable_vec(runtime: Runtime, kind: str) -> None:
    """Disables a kind's vector index; its work and its vectors are dropped, and it is remembered."""
    check_name("kind", kind)

    def operation(tx: Transaction) -> None:
        kinds.ensure(tx.db, [kind], runtime.config.chunk_chars, _native.SPLITTER_VERSION)
        indexes.disable(tx.db, kind, tx.vectors, cache=tx.cache)
        switching.flip(tx)  # it may have been the last that a switch waited for
        tx.on_commit(runtime.progress.bump)

    runtime.write(operation)
    runtime.models.refresh()
    runtime.note_kinds({kind})


def status(runtime: Runtime, kind: str) -> VecIndexStatus:
    """How far the vector index of a kind is."""
    with runtime.snapshot() as db:
        check_kinds(db, [kind])
        schema = indexes.get(db, kind)
        if schema is None or schema.profile_id is None:
            enabled = schema is not None and schema.enabled
            return VecIndexStatus(kind, enabled, "stale", 0, 0, 0, 0, None, None, None, None)
        profile = profiles.get(db, schema.profile_id)
        backlogs = queue.backlogs(db)
        running = switch.status(runtime, db, backlogs)
        backlog = backlogs.get((kind, schema.profile_id), queue.Backlog())
    return status_of(runtime, schema, str(profile), backlog, running)


def status_of(
    runtime: Runtime,
    schema: indexes.IndexSchema,
    profile: str | None,
    backlog: queue.Backlog,
    running: SwitchStatus | None,
) -> VecIndexStatus:
    """A schema and its backlog as a status."""
    oldest, done = backlog.oldest_pending_at_ms, schema.last_completed_at_ms
    codes_rows, codes_bytes = runtime.codes.size(
        vectors.table_name(schema.kind, schema.profile_id or 0)
    )
    return VecIndexStatus(
        kind=schema.kind,
        enabled=schema.enabled,
        state=schema.state,
        pending_incremental=backlog.pending_incremental,
        pending_backfill=backlog.pending_backfill,
        inflight=backlog.inflight,
        failed=backlog.failed,
        oldest_pending_age_seconds=None
        if oldest is None
        else max(0.0, (runtime.now_ms() - oldest) / 1000),
        last_error=schema.last_error,
        last_completed_at=None if done is None else done / 1000,
        embedding_identity=profile,
        switch=None
        if running is None
        else next((item for item in running.kinds if item.kind == schema.kind), None),
        codes_rows=codes_rows,
        codes_bytes=codes_bytes,
    )


def configure_fts(
    runtime: Runtime, tokenizer: str, progress: Callable[[int], None] | None = None
) -> RebuildReport | None:
    """Has full text cut by another tokenizer; None where it is that one already.

    The old index answers until the new one is complete.
    """
    wanted = fts.check_tokenizer(tokenizer)
    runtime.check()

    def begin(tx: Transaction) -> bool:
        if fts.tokenizer(tx.db) == wanted and fts.rebuild_target(tx.db) is None:
            return False
        fts.rebuild_begin(tx.db, wanted)
        return True

    rows = calls.result(_rebuilder(runtime).rebuild_fts(begin, progress))
    return None if rows is None else RebuildReport("fts", None, rows)


def rebuild(
    runtime: Runtime,
    kind: str,
    target: str,
    progress: Callable[[int], None] | None = None,
) -> RebuildReport:
    """Makes a projection of a kind anew from its canonical rows."""
    with runtime.snapshot() as db:
        check_kinds(db, [kind])
    if target not in ("vec", "fts"):
        raise InvalidInputError(f"target must be 'vec' or 'fts', got {target!r}")

    def begin(tx: Transaction) -> bool:
        if target == "fts":
            fts.rebuild_begin(tx.db, fts.tokenizer(tx.db))
            return True
        schema = indexes.get(tx.db, kind)
        if schema is None or not schema.enabled:
            raise KindNotVectorIndexedError(
                f"kind {kind!r} has no vector index to rebuild; enable it with configure_vec"
            )
        indexes.begin_rebuild(tx.db, kind)
        return True

    rebuilder = _rebuilder(runtime)
    reply = (
        rebuilder.rebuild_fts(begin, progress)
        if target == "fts"
        else rebuilder.rebuild_vectors(kind, begin, progress)
    )
    return RebuildReport("fts" if target == "fts" else "vec", kind, calls.result(reply) or 0)


def _rebuilder(runtime: Runtime) -> RebuildActor:
    if runtime.rebuilder is None:
        raise ReadOnlyError(f"{runtime.path} was opened with read_only=True")
    return runtime.rebuilder


def _wake_on_commit(tx: Transaction, runtime: Runtime) -> None:
    if runtime.projector is not None:
        tx.on_commit(runtime.projector.wake)
