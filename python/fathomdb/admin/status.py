"""Status: what the file holds, what waits, and what the process that owns it says of itself."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fathomdb.admin import switch
from fathomdb.admin.indexes import VecIndexStatus, status_of
from fathomdb.store import (
    chunks,
    conditions,
    fts,
    indexes,
    kinds,
    lock,
    nodes,
    profiles,
    properties,
    queue,
    residue,
    status,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from fathomdb.actors.runtime import Runtime
    from fathomdb.admin.switch import SwitchStatus


@dataclass(frozen=True, slots=True)
class KindStatus:
    """One kind: live nodes and chunks, and its vector index, None where it never had one.

    ``property_indexes`` are what ``index_property`` made, each by the names on the way to it.
    """

    kind: str
    nodes: int
    chunks: int
    vector_index: VecIndexStatus | None
    property_indexes: tuple[tuple[str, ...], ...] = ()


@dataclass(frozen=True, slots=True)
class Status:
    """The state of a file, from one snapshot; sizes in bytes, ages in seconds.

    ``counters`` are those of the process that owns the file, at most a second old: claimed,
    applied, discarded, failed, reverted, reused, truncated, embed_calls, embed_seconds, outages,
    outage_seconds. ``owner_pid`` is None where no process has the file open for writing.
    ``opened_with`` names the model that this engine was opened with and the active one, where they
    are not the same. ``switch`` is the switch to another model that is under way, ``previous_profile``
    the model that is kept for a rollback. ``batch_items`` is how many texts the next claim of fresh
    work has, which goes by what the embedder's calls take, and ``chunks_per_second`` how fast the
    active model's vectors were stored of late; None where this process has no model, or has not
    measured it yet. ``erasure_pending`` is True while a reader keeps pages from
    before an erasure in the write-ahead log: the next commit, or open for writing, after it has
    finished removes them.
    """

    path: str
    file_bytes: int
    cursor: int
    tokenizer: str
    active_profile: str | None
    opened_with: str | None
    kinds: tuple[KindStatus, ...]
    queue_age_seconds: float | None
    counters: Mapping[str, int | float]
    outage: str | None
    owner_pid: int | None
    heartbeat_age_seconds: float | None
    erasure_pending: bool
    switch: SwitchStatus | None = None
    previous_profile: str | None = None
    batch_items: int | None = None
    chunks_per_second: float | None = None

    @property
    def pending(self) -> int:
        """Chunks that wait for their vector, over all kinds."""
        return sum(
            index.pending_incremental + index.pending_backfill + index.inflight
            for index in self._indexes()
        )

    @property
    def failed(self) -> int:
        """Chunks whose vector failed, over all kinds."""
        return sum(index.failed for index in self._indexes())

    def _indexes(self) -> list[VecIndexStatus]:
        return [kind.vector_index for kind in self.kinds if kind.vector_index is not None]


_NOT_COUNTERS = {"pid", "started_ms", "heartbeat_ms", "outage"}


def read(runtime: Runtime) -> Status:
    """The state of the file now."""
    with runtime.snapshot() as db:
        said = status.read(db)
        active = profiles.active(db)
        backlogs = queue.backlogs(db)
        running, kept = switch.status(runtime, db, backlogs), profiles.previous(db)
        indexed = properties.every(db)
        schemas = {schema.kind: schema for schema in indexes.every(db)}
        found = []
        for kind in kinds.every(db):
            schema = schemas.get(kind)
            index = None
            if schema is not None:
                profile = profiles.get(db, schema.profile_id) if schema.profile_id else None
                index = status_of(
                    runtime,
                    schema,
                    None if profile is None else str(profile),
                    backlogs.get((kind, schema.profile_id or 0), queue.Backlog()),
                    running,
                )
            found.append(
                KindStatus(
                    kind,
                    nodes.count(db, conditions.of_kinds([kind])),
                    chunks.count(db, kind),
                    index,
                    tuple(item.names for item in indexed if item.kind == kind),
                )
            )
        cursor, tokenizer = status.cursor(db), fts.tokenizer(db)
        erasure_pending = residue.is_pending(db)
    ages = [
        item.vector_index.oldest_pending_age_seconds
        for item in found
        if item.vector_index is not None
        and item.vector_index.oldest_pending_age_seconds is not None
    ]
    model = runtime.model
    if runtime.read_only:
        counters = {
            name: value
            for name, value in said.items()
            if name not in _NOT_COUNTERS and isinstance(value, (int, float))
        }
        outage = said.get("outage")
    else:
        counters = runtime.counters.values()
        outage = None if model is None else model.outage
    pid, heartbeat = said.get("pid"), said.get("heartbeat_ms")
    return Status(
        path=runtime.path,
        file_bytes=sum(
            os.path.getsize(name)
            for name in (runtime.path, runtime.path + "-wal")
            if os.path.exists(name)
        ),
        cursor=cursor,
        tokenizer=tokenizer,
        active_profile=None if active is None else str(active),
        opened_with=runtime.opened_with,
        kinds=tuple(found),
        queue_age_seconds=max(ages, default=None),
        counters=counters,
        outage=None if outage is None else str(outage),
        # A process that was killed could not take its number back; its lock went with it.
        owner_pid=pid if isinstance(pid, int) and lock.is_held(runtime.path) else None,
        heartbeat_age_seconds=max(0.0, (runtime.now_ms() - heartbeat) / 1000)
        if isinstance(heartbeat, int)
        else None,
        erasure_pending=erasure_pending,
        switch=running,
        previous_profile=None if kept is None else str(kept),
        batch_items=None if model is None else model.pace.sizes.incremental,
        chunks_per_second=None if model is None else model.chunks_per_second,
    )
