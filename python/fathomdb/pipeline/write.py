"""Stage 1, write: store a prepared request on the writer's thread, and enqueue what it owes."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fathomdb import _native
from fathomdb.errors import InvalidInputError
from fathomdb.pipeline import ready
from fathomdb.pipeline.prepare import PreparedChunk, PreparedNode, encode_properties
from fathomdb.pipeline.ready import Owed
from fathomdb.records import WriteReceipt
from fathomdb.store import chunks, indexes, kinds, nodes, profiles, vectors, work

if TYPE_CHECKING:
    from fathomdb.store.chunks import ChunkRow
    from fathomdb.store.nodes import NodeRow
    from fathomdb.store.reuse import Cache
    from fathomdb.store.transaction import Transaction


@dataclass(frozen=True, slots=True)
class WriteContext:
    """What a commit needs to know of the engine."""

    chunk_chars: int
    auto_enable: Callable[[str], bool]
    now_ms: int


class _Changes:
    """What one request changes, gathered over its nodes so that each table sees one batch."""

    def __init__(self) -> None:
        self.new_nodes: list[PreparedNode] = []
        self.rewritten: list[tuple[NodeRow, PreparedNode]] = []
        self.retired: list[NodeRow] = []
        self.added: list[tuple[PreparedNode, int | None, int, PreparedChunk]] = []
        self.changed: list[tuple[PreparedNode, ChunkRow, int, PreparedChunk]] = []
        self.moved: list[tuple[ChunkRow, int, PreparedChunk]] = []
        self.removed: list[ChunkRow] = []
        # Chunks whose vectors must go, by the kind whose tables they are in.
        self.unprojected: dict[str, list[int]] = {}
        # Chunks whose text stays but whose node changed kind.
        self.rekinded: list[tuple[PreparedNode, ChunkRow]] = []
        # Ready vectors of chunks whose text stays, by chunk key.
        self.ready: dict[int, Owed] = {}


def commit(
    tx: Transaction,
    prepared: list[PreparedNode],
    retire: list[str],
    context: WriteContext,
) -> WriteReceipt:
    """Stores a prepared request in the writer's transaction and enqueues the vectors it owes.

    Raises:
        InvalidInputError: A chunk id belongs to a node outside the request, or ready vectors are
            of a model that is not active any more.
        KindNotVectorIndexedError: A kind of ready vectors has no vector index.
    """
    db = tx.db
    live = nodes.live(db, [*(item.node_id for item in prepared), *retire])
    old_chunks = chunks.of_nodes(db, [row.node_key for row in live.values()]) if live else {}
    changes = _Changes()
    unchanged = 0
    for item in prepared:
        row = live.get(item.node_id)
        if row is None:
            changes.new_nodes.append(item)
            for ordinal, chunk in enumerate(item.chunks or ()):
                changes.added.append((item, None, ordinal, chunk))
        elif not _compare(changes, row, item, old_chunks.get(row.node_key, [])):
            unchanged += 1
    for node_id in retire:
        row = live.get(node_id)
        if row is not None:
            changes.retired.append(row)
            gone = old_chunks.get(row.node_key, [])
            changes.removed.extend(gone)
            _unproject(changes, row.kind, gone)
    enqueued = _store(tx, changes, context)
    return WriteReceipt(
        cursor=tx.latest_cursor(),
        written=len(changes.new_nodes) + len(changes.rewritten),
        unchanged=unchanged,
        retired=len(changes.retired),
        chunks=len(changes.added) + len(changes.changed),
        enqueued=enqueued,
        chunk_ids=tuple(
            chunk.chunk_id
            for item in prepared
            for chunk in (
                old_chunks.get(live[item.node_id].node_key, [])
                if item.chunks is None
                else item.chunks
            )
        ),
    )


def _compare(changes: _Changes, row: NodeRow, item: PreparedNode, old: list[ChunkRow]) -> bool:
    """Notes how a live node differs from what is written; False where it does not."""
    differs = (row.kind, row.source_ref) != (item.kind, item.source_ref) or not _same_properties(
        row.properties, item.properties
    )
    kept: list[ChunkRow] = []
    if item.chunks is None:
        kept = old
    else:
        differs = differs or row.split != item.split
        by_id = {chunk.chunk_id: chunk for chunk in old}
        for ordinal, chunk in enumerate(item.chunks):
            before = by_id.pop(chunk.chunk_id, None)
            if before is None:
                changes.added.append((item, row.node_key, ordinal, chunk))
                differs = True
            elif before.canonical_hash != chunk.canonical_hash:
                changes.changed.append((item, before, ordinal, chunk))
                _unproject(changes, row.kind, [before])
                differs = True
            else:
                kept.append(before)
                if ordinal in item.vectors:
                    changes.ready[before.chunk_key] = Owed(
                        item.kind, before.chunk_key, before.canonical_hash, item.vectors[ordinal]
                    )
                if (before.ordinal, before.byte_start, before.byte_end) != (
                    ordinal,
                    chunk.byte_start,
                    chunk.byte_end,
                ):
                    changes.moved.append((before, ordinal, chunk))
                    differs = True
        if by_id:
            changes.removed.extend(by_id.values())
            _unproject(changes, row.kind, list(by_id.values()))
            differs = True
    if row.kind != item.kind:
        _unproject(changes, row.kind, kept)
        changes.rekinded.extend((item, chunk) for chunk in kept)
    if differs:
        changes.rewritten.append((row, item))
    return differs


def _same_properties(before: str | None, after: str | None) -> bool:
    """Whether two JSON texts say the same, whatever the order of their keys."""
    if before is None or after is None or before == after:
        return before == after
    # As text again, since Python takes 1, 1.0 and True for equal.
    return _sorted_json(before) == _sorted_json(after)


def _sorted_json(text: str) -> str:
    return json.dumps(json.loads(text), sort_keys=True)


def _unproject(changes: _Changes, kind: str, gone: list[ChunkRow]) -> None:
    if gone:
        changes.unprojected.setdefault(kind, []).extend(chunk.chunk_key for chunk in gone)


def _store(tx: Transaction, changes: _Changes, context: WriteContext) -> int:
    db = tx.db
    if not (changes.new_nodes or changes.rewritten or changes.retired):
        if changes.ready:
            of_kinds = {item.kind for item in changes.ready.values()}
            wanted = _wanted_profiles(tx, of_kinds, context)
            ready.store(tx, [*changes.ready.values()], wanted, context.now_ms)
        return 0
    cursor = tx.cursor()
    _remove(tx, changes, cursor, tx.cache)

    written = {item.kind for item in changes.new_nodes}
    written.update(item.kind for _, item in changes.rewritten)
    written.update(item.kind for item in changes.ready.values())
    answers = tx.answers()
    if new_kinds := written - answers.owed.keys():
        kinds.ensure(db, new_kinds, context.chunk_chars, _native.SPLITTER_VERSION)
        owed_under = _wanted_profiles(tx, new_kinds, context)
        answers.owed.update((kind, owed_under.get(kind, [])) for kind in new_kinds)
    wanted = {kind: answers.owed[kind] for kind in written if answers.owed[kind]}
    if changes.rewritten:
        nodes.supersede(
            db,
            (
                (item.kind, item.properties, item.source_ref, item.split, cursor, row.node_key)
                for row, item in changes.rewritten
            ),
        )
        answers.node_key = None  # the versions that were superseded took keys
    key_of: dict[str, int] = {}
    if changes.new_nodes:
        first = answers.node_key or nodes.next_key(db)
        answers.node_key = first + len(changes.new_nodes)
        key_of = {item.node_id: first + n for n, item in enumerate(changes.new_nodes)}
        nodes.insert(
            db,
            [
                (key, item.node_id, item.kind, item.properties, item.source_ref, item.split, cursor)
                for key, item in enumerate(changes.new_nodes, first)
            ],
        )
    if changes.changed:
        chunks.update(
            db,
            (
                (
                    n,
                    chunk.byte_start,
                    chunk.byte_end,
                    chunk.canonical_hash,
                    chunk.text,
                    row.chunk_key,
                )
                for _, row, n, chunk in changes.changed
            ),
        )
    if changes.moved:
        chunks.move(
            db,
            (
                (n, chunk.byte_start, chunk.byte_end, row.chunk_key)
                for row, n, chunk in changes.moved
            ),
        )
    owed: dict[str, list[int]] = {}
    if changes.added:
        first = answers.chunk_key or chunks.next_key(db)
        answers.chunk_key = first + len(changes.added)
        rows = [
            (key, key_of[item.node_id] if node_key is None else node_key, ordinal, *chunk)
            for key, (item, node_key, ordinal, chunk) in enumerate(changes.added, first)
        ]
        if not chunks.insert(db, rows):
            raise _taken_id(tx, changes)
        tx.fts.insert(range(first, first + len(rows)))
        for key, (item, _, ordinal, chunk) in enumerate(changes.added, first):
            _owe(changes, owed, item, key, ordinal, chunk)
    for item, row, ordinal, chunk in changes.changed:
        tx.fts.insert((row.chunk_key,))
        _owe(changes, owed, item, row.chunk_key, ordinal, chunk)
    for item, row in changes.rekinded:
        if row.chunk_key not in changes.ready:
            owed.setdefault(item.kind, []).append(row.chunk_key)
    enqueued = _enqueue(tx, changes, owed, wanted, context.now_ms)
    if changes.ready:
        ready.store(tx, [*changes.ready.values()], wanted, context.now_ms)
    else:  # what ready vectors complete may be owed otherwise from now on
        tx.keep(answers)
    return enqueued


def _owe(
    changes: _Changes,
    owed: dict[str, list[int]],
    item: PreparedNode,
    chunk_key: int,
    ordinal: int,
    chunk: PreparedChunk,
) -> None:
    """Notes a vector that is ready, or one that is to be made."""
    vector = item.vectors.get(ordinal) if item.vectors else None
    if vector is None:
        owed.setdefault(item.kind, []).append(chunk_key)
    else:
        changes.ready[chunk_key] = Owed(item.kind, chunk_key, chunk.canonical_hash, vector)


def _remove(tx: Transaction, changes: _Changes, cursor: int, cache: Cache | None) -> None:
    """Takes away what no longer holds: full text first, while the old text can still be read."""
    db = tx.db
    gone = [chunk.chunk_key for chunk in changes.removed]
    stale_text = [*gone, *(row.chunk_key for _, row, _, _ in changes.changed)]
    if stale_text:
        tx.fts.delete(chunks.texts(db, stale_text))
    for kind, chunk_keys in changes.unprojected.items():
        vectors.delete(db, kind, chunk_keys, tx.vectors, cache=cache)
    if gone:
        work.delete_chunks(db, gone)
        chunks.delete(db, gone)
    if changes.retired:
        nodes.retire(db, [row.node_key for row in changes.retired], cursor)


def _taken_id(tx: Transaction, changes: _Changes) -> InvalidInputError:
    owners = chunks.owners(tx.db, [chunk.chunk_id for _, _, _, chunk in changes.added])
    item, chunk = next(
        (item, chunk)
        for item, _, _, chunk in changes.added
        if owners.get(chunk.chunk_id, item.node_id) != item.node_id
    )
    return InvalidInputError(
        f"chunk_id {chunk.chunk_id!r} of node {item.node_id!r} belongs to node "
        f"{owners[chunk.chunk_id]!r}; chunk ids are unique among live chunks"
    )


def _enqueue(
    tx: Transaction,
    changes: _Changes,
    owed: dict[str, list[int]],
    wanted: dict[str, list[indexes.Owed]],
    now_ms: int,
) -> int:
    # What was owed under a kind that is no longer theirs goes, wanted now or not.
    left = [row.chunk_key for _, row in changes.rekinded]
    left.extend(row.chunk_key for item, row, _, _ in changes.changed if item.kind not in wanted)
    if left:
        work.delete_chunks(tx.db, left)
    enqueued = 0
    for kind in owed.keys() & wanted.keys():
        for profile_id, priority in wanted[kind]:
            work.enqueue(
                tx.db,
                kind,
                profile_id,
                owed[kind],
                priority=priority,
                fence=tx.fence(),
                now_ms=now_ms,
            )
        enqueued += len(owed[kind])
    return enqueued


def _wanted_profiles(
    tx: Transaction, written_kinds: set[str], context: WriteContext
) -> dict[str, list[indexes.Owed]]:
    """What each kind wants vectors under; enables kinds that are new, where asked."""
    schemas = indexes.of_kinds(tx.db, written_kinds)
    fresh_kinds = [
        kind for kind in sorted(written_kinds - schemas.keys()) if context.auto_enable(kind)
    ]
    profile = profiles.active(tx.db) if fresh_kinds else None
    if profile is not None:
        for kind in fresh_kinds:
            # Before this request's chunks are stored: they are owed as fresh work, not as backfill.
            indexes.enable(tx.db, kind, profile, fence=tx.fence(), now_ms=context.now_ms)
    return indexes.owed_under(tx.db, written_kinds)


def merge_patch(target: Any, patch: Any) -> Any:
    """JSON merge patch (RFC 7396): null removes, objects merge, anything else replaces."""
    if not isinstance(patch, Mapping):
        return patch
    merged = dict(target) if isinstance(target, Mapping) else {}
    for key, value in patch.items():
        if value is None:
            merged.pop(key, None)
        else:
            merged[key] = merge_patch(merged.get(key), value)
    return merged


def commit_patch(
    tx: Transaction, node_id: str, patch: Mapping[str, Any], context: WriteContext
) -> WriteReceipt:
    """Merges a patch into the properties of a live node.

    Raises:
        InvalidInputError: There is no live node of this id.
    """
    row = nodes.live(tx.db, [node_id]).get(node_id)
    if row is None:
        raise InvalidInputError(f"there is no live node {node_id!r} to patch; write it first")
    merged = merge_patch(json.loads(row.properties) if row.properties else {}, patch)
    item = PreparedNode(
        row.kind,
        row.node_id,
        # A patch that says nothing leaves a node without properties without them.
        encode_properties(merged, node_id) if merged or row.properties is not None else None,
        row.source_ref,
        row.split,
        None,
    )
    return commit(tx, [item], [], context)
