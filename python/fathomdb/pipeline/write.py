"""Stage 1, write: check and hash on the caller's thread, store on the writer's."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from fathomdb import _native
from fathomdb.config import INCREMENTAL_PRIORITY
from fathomdb.errors import InvalidInputError
from fathomdb.records import Chunk, Node, WriteReceipt
from fathomdb.store import chunks, indexes, kinds, nodes, profiles, vectors, work

if TYPE_CHECKING:
    from fathomdb.store.chunks import ChunkRow
    from fathomdb.store.nodes import NodeRow
    from fathomdb.store.transaction import Transaction

MAX_ID_BYTES = 1024
"""An id is a key of two indexes; longer ones are a mistake more often than a wish."""
MAX_PROPERTY_DEPTH = 200
"""Levels of nested properties; SQLite's JSON functions refuse more than 1,000."""


class PreparedChunk(NamedTuple):
    """A chunk that was checked and hashed."""

    chunk_id: str
    text: str
    byte_start: int | None
    byte_end: int | None
    canonical_hash: bytes


@dataclass(slots=True)
class PreparedNode:
    """A node that was checked; ``chunks`` None leaves the chunks as they are (a patch)."""

    kind: str
    node_id: str
    properties: str | None
    source_ref: str | None
    split: bool
    chunks: list[PreparedChunk] | None


# --- on the caller's thread -----------------------------------------------------------------------


def prepare(written: Iterable[Node], chunk_chars: Callable[[str], int]) -> list[PreparedNode]:
    """Checks, splits and hashes nodes; ``chunk_chars`` says how a kind's text is cut.

    Raises:
        InvalidInputError: Anything about any of the nodes is wrong; the message names it.
    """
    prepared: list[PreparedNode] = []
    pieces: list[tuple[PreparedNode, str, str, int | None, int | None]] = []
    seen: set[str] = set()
    for node in written:
        if not isinstance(node, Node):
            raise InvalidInputError(
                f"write takes Node objects, got {type(node).__name__}: {_short(node)}"
            )
        check_name("kind", node.kind)
        check_name("node_id", node.node_id)
        if node.node_id in seen:
            raise InvalidInputError(
                f"node_id {node.node_id!r} is in the request twice; keep one of them"
            )
        seen.add(node.node_id)
        if node.source_ref is not None:
            check_name("source_ref", node.source_ref)
        item = PreparedNode(
            node.kind,
            node.node_id,
            encode_properties(node.properties, node.node_id),
            node.source_ref,
            node.chunks is None and node.text is not None,
            [],
        )
        prepared.append(item)
        if node.chunks is not None:
            if node.text is not None:
                raise InvalidInputError(
                    f"node {node.node_id!r} has both text and chunks; give one of them"
                )
            pieces.extend((item, *given) for given in _given_chunks(node))
        elif node.text is not None:
            _check_text(node.text, node.node_id)
            pieces.extend(
                (item, f"{node.node_id}#{ordinal}", text, start, end)
                for ordinal, (start, end, text) in enumerate(
                    _split(node.text, chunk_chars(node.kind))
                )
            )
    hashes = _native.canonical_chunk_hashes(
        [piece[1] for piece in pieces], [piece[2] for piece in pieces]
    )
    taken: dict[str, str] = {}
    for (item, chunk_id, text, start, end), canonical_hash in zip(pieces, hashes, strict=True):
        owner = taken.setdefault(chunk_id, item.node_id)
        assert item.chunks is not None
        if owner != item.node_id:
            raise InvalidInputError(
                f"chunk_id {chunk_id!r} is used by the nodes {owner!r} and {item.node_id!r}; "
                "chunk ids are unique among live chunks"
            )
        item.chunks.append(PreparedChunk(chunk_id, text, start, end, canonical_hash))
    return prepared


def _split(text: str, chunk_chars: int) -> Sequence[tuple[int, int, str]]:
    if len(text) <= chunk_chars:  # the splitter would say the same
        return ((0, len(text) if text.isascii() else len(text.encode()), text),)
    return _native.split_text(text, chunk_chars)


def _given_chunks(node: Node) -> Iterable[tuple[str, str, int | None, int | None]]:
    seen: set[str] = set()
    if not isinstance(node.chunks, Iterable) or isinstance(node.chunks, (str, bytes)):
        raise InvalidInputError(
            f"chunks of node {node.node_id!r} must be an iterable of Chunk or str, "
            f"got {_short(node.chunks)}"
        )
    for ordinal, given in enumerate(node.chunks):
        chunk = Chunk(given) if isinstance(given, str) else given
        if not isinstance(chunk, Chunk):
            raise InvalidInputError(
                f"chunk {ordinal} of node {node.node_id!r} must be a Chunk or str, "
                f"got {type(given).__name__}: {_short(given)}"
            )
        chunk_id = f"{node.node_id}#{ordinal}" if chunk.chunk_id is None else chunk.chunk_id
        check_name("chunk_id", chunk_id, limit=MAX_ID_BYTES + 24)
        if chunk_id in seen:
            raise InvalidInputError(
                f"chunk_id {chunk_id!r} is twice among the chunks of node {node.node_id!r}"
            )
        seen.add(chunk_id)
        _check_text(chunk.text, f"{node.node_id}, chunk {ordinal}")
        yield chunk_id, chunk.text, None, None


def check_name(what: str, value: object, limit: int = MAX_ID_BYTES) -> None:
    """Refuses what cannot be an id, a kind or a source_ref."""
    if not isinstance(value, str):
        raise InvalidInputError(f"{what} must be a string, got {type(value).__name__}: {value!r}")
    if not value:
        raise InvalidInputError(f"{what} must not be empty")
    if "\0" in value:
        raise InvalidInputError(f"{what} must not contain a NUL character, got {_short(value)}")
    size = len(value) if value.isascii() else len(_utf8(what, value))
    if size > limit:
        raise InvalidInputError(
            f"{what} must be at most {limit} bytes of UTF-8, got {size}: {_short(value)}"
        )


def _check_text(text: object, where: str) -> None:
    if not isinstance(text, str):
        raise InvalidInputError(
            f"text of node {where!r} must be a string, got {type(text).__name__}: {_short(text)}"
        )
    if not text or text.isspace():
        raise InvalidInputError(
            f"text of node {where!r} is empty or only white space; leave it None for a record "
            "without text"
        )
    if not text.isascii():
        _utf8(f"text of node {where!r}", text)


def _utf8(what: str, value: str) -> bytes:
    try:
        return value.encode()
    except UnicodeEncodeError as error:
        raise InvalidInputError(
            f"{what} has a lone surrogate at character {error.start} "
            f"({value[error.start]!r}), which has no UTF-8; decode the source with "
            "errors='replace' or drop it"
        ) from None


def encode_properties(properties: Mapping[str, Any] | None, node_id: str) -> str | None:
    """Properties as JSON text; refuses what JSON cannot say."""
    if properties is None:
        return None
    if not isinstance(properties, Mapping):
        raise InvalidInputError(
            f"properties of node {node_id!r} must be a mapping, got "
            f"{type(properties).__name__}: {_short(properties)}"
        )
    _check_nested(properties, node_id, 1)
    try:
        text = json.dumps(
            properties if isinstance(properties, dict) else dict(properties),
            ensure_ascii=False,
            allow_nan=False,
            separators=(",", ":"),
        )
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidInputError(
            f"properties of node {node_id!r} are not JSON: {error}; got {_short(properties)}"
        ) from None
    _utf8(f"properties of node {node_id!r}", text)
    return text


def _check_nested(value: Any, node_id: str, depth: int) -> None:
    # Bounded, so that a value that contains itself is found, and SQLite's own bound is never met.
    if depth > MAX_PROPERTY_DEPTH:
        raise InvalidInputError(
            f"properties of node {node_id!r} are nested more than {MAX_PROPERTY_DEPTH} levels "
            "deep, or contain themselves"
        )
    if isinstance(value, Mapping):
        for key, item in value.items():
            # json.dumps would turn the keys 1, True and None into strings without a word.
            if not isinstance(key, str):
                raise InvalidInputError(
                    f"properties of node {node_id!r} are not JSON: the key {key!r} is not a string"
                )
            if isinstance(item, (Mapping, list, tuple)):
                _check_nested(item, node_id, depth + 1)
    else:
        for item in value:
            if isinstance(item, (Mapping, list, tuple)):
                _check_nested(item, node_id, depth + 1)


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."


# --- on the writer's thread -----------------------------------------------------------------------


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


def commit(
    tx: Transaction,
    prepared: list[PreparedNode],
    retire: list[str],
    context: WriteContext,
) -> WriteReceipt:
    """Stores a prepared request in the writer's transaction and enqueues the vectors it owes.

    Raises:
        InvalidInputError: A chunk id belongs to a node outside the request.
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
            changes.added.extend(
                (item, None, ordinal, chunk) for ordinal, chunk in enumerate(item.chunks or ())
            )
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
    differs = (row.kind, row.properties, row.source_ref) != (
        item.kind,
        item.properties,
        item.source_ref,
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


def _unproject(changes: _Changes, kind: str, gone: list[ChunkRow]) -> None:
    if gone:
        changes.unprojected.setdefault(kind, []).extend(chunk.chunk_key for chunk in gone)


def _store(tx: Transaction, changes: _Changes, context: WriteContext) -> int:
    db = tx.db
    if not (changes.new_nodes or changes.rewritten or changes.retired):
        return 0
    cursor = tx.cursor()
    _remove(tx, changes, cursor)

    written = {item.kind for item in changes.new_nodes}
    written.update(item.kind for _, item in changes.rewritten)
    kinds.ensure(db, written, context.chunk_chars, _native.SPLITTER_VERSION)
    wanted = _wanted_profiles(tx, written, context)
    if changes.rewritten:
        nodes.supersede(
            db,
            (
                (item.kind, item.properties, item.source_ref, item.split, cursor, row.node_key)
                for row, item in changes.rewritten
            ),
        )
    key_of: dict[str, int] = {}
    if changes.new_nodes:
        first = nodes.next_key(db)
        key_of = {item.node_id: first + n for n, item in enumerate(changes.new_nodes)}
        nodes.insert(
            db,
            (
                (
                    key_of[item.node_id],
                    item.node_id,
                    item.kind,
                    item.properties,
                    item.source_ref,
                    item.split,
                    cursor,
                )
                for item in changes.new_nodes
            ),
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
    added: list[tuple[PreparedNode, int, PreparedChunk]] = []
    if changes.added:
        _refuse_taken_ids(tx, changes)
        first = chunks.next_key(db)
        added = [(item, first + n, chunk) for n, (item, _, _, chunk) in enumerate(changes.added)]
        chunks.insert(
            db,
            (
                (
                    first + n,
                    chunk.chunk_id,
                    key_of[item.node_id] if node_key is None else node_key,
                    ordinal,
                    chunk.byte_start,
                    chunk.byte_end,
                    chunk.canonical_hash,
                    chunk.text,
                )
                for n, (item, node_key, ordinal, chunk) in enumerate(changes.added)
            ),
        )
    tx.fts.insert(key for _, key, _ in added)
    tx.fts.insert(row.chunk_key for _, row, _, _ in changes.changed)
    return _enqueue(tx, changes, added, wanted, context.now_ms)


def _remove(tx: Transaction, changes: _Changes, cursor: int) -> None:
    """Takes away what no longer holds: full text first, while the old text can still be read."""
    db = tx.db
    gone = [chunk.chunk_key for chunk in changes.removed]
    stale_text = [*gone, *(row.chunk_key for _, row, _, _ in changes.changed)]
    if stale_text:
        tx.fts.delete(chunks.texts(db, stale_text))
    for kind, chunk_keys in changes.unprojected.items():
        vectors.delete(db, kind, chunk_keys)
    if gone:
        work.delete_chunks(db, gone)
        chunks.delete(db, gone)
    if changes.retired:
        nodes.retire(db, [row.node_key for row in changes.retired], cursor)


def _refuse_taken_ids(tx: Transaction, changes: _Changes) -> None:
    owners = chunks.owners(tx.db, [chunk.chunk_id for _, _, _, chunk in changes.added])
    for item, _, _, chunk in changes.added:
        owner = owners.get(chunk.chunk_id)
        if owner is not None:
            raise InvalidInputError(
                f"chunk_id {chunk.chunk_id!r} of node {item.node_id!r} belongs to node {owner!r}; "
                "chunk ids are unique among live chunks"
            )


def _enqueue(
    tx: Transaction,
    changes: _Changes,
    added: list[tuple[PreparedNode, int, PreparedChunk]],
    wanted: dict[str, int],
    now_ms: int,
) -> int:
    owed = [(item.kind, key, chunk.canonical_hash) for item, key, chunk in added]
    owed.extend(
        (item.kind, row.chunk_key, chunk.canonical_hash) for item, row, _, chunk in changes.changed
    )
    owed.extend((item.kind, row.chunk_key, row.canonical_hash) for item, row in changes.rekinded)
    rows = [
        (key, wanted[kind], kind, canonical_hash)
        for kind, key, canonical_hash in owed
        if kind in wanted
    ]
    if changes.rekinded:
        # What was owed under the kind that is no longer theirs goes, wanted now or not.
        work.delete_chunks(tx.db, [row.chunk_key for _, row in changes.rekinded])
    if rows:
        work.enqueue(
            tx.db,
            rows,
            priority=INCREMENTAL_PRIORITY,
            fence=tx.fence(),
            now_ms=now_ms,
        )
    return len(rows)


def _wanted_profiles(
    tx: Transaction, written_kinds: set[str], context: WriteContext
) -> dict[str, int]:
    """The profile that each kind wants vectors under; enables kinds that are new, where asked."""
    schemas = indexes.of_kinds(tx.db, written_kinds)
    wanted = {
        kind: schema.profile_id
        for kind, schema in schemas.items()
        if schema.enabled and schema.profile_id is not None
    }
    fresh_kinds = [
        kind for kind in sorted(written_kinds - schemas.keys()) if context.auto_enable(kind)
    ]
    profile = profiles.active(tx.db) if fresh_kinds else None
    if profile is not None:
        for kind in fresh_kinds:
            # Before this request's chunks are stored: they are owed as fresh work, not as backfill.
            indexes.enable(tx.db, kind, profile, fence=tx.fence(), now_ms=context.now_ms)
            wanted[kind] = profile.profile_id
    return wanted


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
        encode_properties(merged, node_id),
        row.source_ref,
        row.split,
        None,
    )
    return commit(tx, [item], [], context)
