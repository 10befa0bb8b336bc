"""What a file must hold after given operations, in plain Python: slow, obvious, shared by proofs.

``Model`` does to dictionaries what the engine does to a file. ``Content`` is what both come to:
``invariants.content`` reads one from a file, and the two must be equal.
"""

from __future__ import annotations

import copy
import functools
import hashlib
import json
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

import oracle
from fathomdb import _native

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable

    from fathomdb import Node
    from fathomdb.embedders.protocol import Embedder

Piece = tuple[str, str, int | None, int | None]
"""A chunk: its id, its text, the bytes of the node's text that it is (None where the caller cut)."""
Version = tuple[str, str | None, str | None, bool]
"""A superseded version: kind, properties, source_ref, split. It has no text."""


@dataclass(frozen=True, slots=True)
class Record:
    """A live node. ``properties`` is JSON with sorted keys, so that equal ones are equal."""

    kind: str
    properties: str | None
    source_ref: str | None
    split: bool
    pieces: tuple[Piece, ...]

    @property
    def version(self) -> Version:
        return self.kind, self.properties, self.source_ref, self.split


@dataclass(slots=True)
class Content:
    """The canonical state of a file: no keys, no times, no commit numbers."""

    live: dict[str, Record] = field(default_factory=dict)
    superseded: dict[str, list[Version]] = field(default_factory=dict)
    """By node id, sorted."""
    indexed: dict[str, bool] = field(default_factory=dict)
    """Kinds that were ever enabled or disabled, and which of the two they are."""
    fingerprint: str | None = None
    """Of the active model, or the one that a switch builds."""


@dataclass(frozen=True, slots=True)
class Expected:
    """What a receipt must say."""

    written: int
    unchanged: int
    retired: int
    chunks: int
    enqueued: int
    chunk_ids: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Erased:
    """What the receipt of an erasure must say."""

    nodes: int
    versions: int
    chunks: int


class RefusedError(Exception):
    """The operation must raise InvalidInputError and change nothing."""


class Model:
    """A database as it must be.

    Args:
        embedder: The active model's; None where there is none yet.
        chunk_chars: Characters of a chunk.
        auto_enable: Which kinds are enabled when they are first written.
    """

    def __init__(
        self,
        embedder: Embedder | None,
        *,
        chunk_chars: int = 1000,
        auto_enable: Callable[[str], bool] = lambda _: True,
    ) -> None:
        self.chunk_chars = chunk_chars
        self.auto_enable = auto_enable
        self.embedder: Embedder | None = None
        self.kinds: set[str] = set()
        self.content = Content()
        if embedder is not None:
            self.configure_embedding(embedder)

    def copy(self) -> Model:
        twin = copy.copy(self)
        twin.kinds = set(self.kinds)
        twin.content = Content(
            dict(self.content.live),
            {node_id: list(versions) for node_id, versions in self.content.superseded.items()},
            dict(self.content.indexed),
            self.content.fingerprint,
        )
        return twin

    # --- writing ----------------------------------------------------------------------------------

    def write(self, nodes: Iterable[Node] = (), retire: Collection[str] = ()) -> Expected:
        records = {node.node_id: self._record(node) for node in nodes}
        before = dict(self.content.live)
        self._refuse_taken_ids(records, retire)
        written = [key for key, record in records.items() if before.get(key) != record]
        for key in written:
            self._supersede(key)
            self.content.live[key] = records[key]
        retired = [key for key in dict.fromkeys(retire) if key in before]
        for key in retired:
            self._supersede(key)
            del self.content.live[key]
        self._note_kinds(records[key].kind for key in written)
        new, owed = 0, 0
        for key in written:
            record, old = records[key], before.get(key)
            known = {piece[0]: piece[1] for piece in old.pieces} if old else {}
            fresh = sum(known.get(piece[0]) != piece[1] for piece in record.pieces)
            new += fresh
            if self.content.indexed.get(record.kind):
                moved = old is not None and old.kind != record.kind
                owed += len(record.pieces) if moved else fresh
        return Expected(
            written=len(written),
            unchanged=len(records) - len(written),
            retired=len(retired),
            chunks=new,
            enqueued=owed,
            chunk_ids=tuple(piece[0] for record in records.values() for piece in record.pieces),
        )

    def patch(self, node_id: str, properties: Mapping[str, object]) -> None:
        record = self.content.live.get(node_id)
        if record is None:
            raise RefusedError(f"there is no live node {node_id!r}")
        merged = _merged(json.loads(record.properties or "{}"), properties)
        encoded = sorted_json(merged) if merged or record.properties is not None else None
        if encoded != record.properties:
            self._supersede(node_id)
            self.content.live[node_id] = Record(
                record.kind, encoded, record.source_ref, record.split, record.pieces
            )
            self._note_kinds([record.kind])

    def erase(self, node_ids: Iterable[str]) -> Erased:
        """All versions of these nodes."""
        wanted = set(node_ids)
        return self._erase(lambda node_id, _: node_id in wanted)

    def erase_source(self, source_ref: str) -> Erased:
        """Every version from a source; one that another source has written since stays."""
        return self._erase(lambda _, source: source == source_ref)

    def _erase(self, goes: Callable[[str, str | None], bool]) -> Erased:
        live, superseded = self.content.live, self.content.superseded
        gone = [key for key, record in live.items() if goes(key, record.source_ref)]
        chunks = sum(len(live[key].pieces) for key in gone)
        for key in gone:
            del live[key]
        versions = len(gone)
        for key, old in list(superseded.items()):
            kept = [version for version in old if not goes(key, version[2])]
            versions += len(old) - len(kept)
            superseded[key] = kept
            if not kept:
                del superseded[key]
        return Erased(len(gone), versions, chunks)

    # --- configuring ------------------------------------------------------------------------------

    def configure_vec(self, kind: str) -> None:
        self.kinds.add(kind)
        self.content.indexed[kind] = True

    def disable_vec(self, kind: str) -> None:
        self.kinds.add(kind)
        self.content.indexed[kind] = False

    def configure_embedding(self, embedder: Embedder) -> None:
        self.embedder = embedder
        self.content.fingerprint = embedder.identity().fingerprint
        self._note_kinds(self.kinds)

    # --- what projection must come to -------------------------------------------------------------

    def projected(self, kind: str) -> dict[str, tuple[bytes, bytes]]:
        """(canonical hash, f32 blob) by chunk id, once nothing is owed any more."""
        if not self.content.indexed.get(kind) or self.embedder is None:
            return {}
        return {
            chunk_id: (oracle.canonical_hash(chunk_id, text), vector_blob(self.embedder, text))
            for record in self.content.live.values()
            if record.kind == kind
            for chunk_id, text, *_ in record.pieces
        }

    def digest(self, kind: str) -> str:
        """What ``admin.projection_digest`` must say then."""
        found = hashlib.sha256()
        fingerprint = (self.content.fingerprint or "").encode()
        rows = {key.encode(): row for key, row in self.projected(kind).items()}
        for chunk_id, (canonical_hash, blob) in sorted(rows.items()):
            for part in (chunk_id, canonical_hash, fingerprint, blob):
                found.update(struct.pack("<Q", len(part)) + part)
        return found.hexdigest()

    def indexed_kinds(self) -> list[str]:
        return sorted(kind for kind, enabled in self.content.indexed.items() if enabled)

    def texts(self) -> set[str]:
        """The text of every live chunk."""
        return {piece[1] for record in self.content.live.values() for piece in record.pieces}

    # --- inside -----------------------------------------------------------------------------------

    def _record(self, node: Node) -> Record:
        pieces: list[Piece]
        if node.chunks is not None:
            pieces = [
                (f"{node.node_id}#{n}", given, None, None)
                if isinstance(given, str)
                else (given.chunk_id or f"{node.node_id}#{n}", given.text, None, None)
                for n, given in enumerate(node.chunks)
            ]
        else:
            cut = [] if node.text is None else _native.split_text(node.text, self.chunk_chars)
            pieces = [
                (f"{node.node_id}#{n}", text, start, end)
                for n, (start, end, text) in enumerate(cut)
            ]
        properties = None if node.properties is None else sorted_json(node.properties)
        split = node.chunks is None and node.text is not None
        return Record(node.kind, properties, node.source_ref, split, tuple(pieces))

    def _refuse_taken_ids(self, records: Mapping[str, Record], retire: Collection[str]) -> None:
        """Chunk ids are unique among what is live afterwards."""
        after = {key: record for key, record in self.content.live.items() if key not in retire}
        taken: set[str] = set()
        for record in (after | records).values():
            for chunk_id, *_ in record.pieces:
                if chunk_id in taken:
                    raise RefusedError(f"chunk_id {chunk_id!r} is taken")
                taken.add(chunk_id)

    def _supersede(self, node_id: str) -> None:
        old = self.content.live.get(node_id)
        if old is not None:
            versions = self.content.superseded.setdefault(node_id, [])
            versions.append(old.version)
            versions.sort(key=repr)

    def _note_kinds(self, written: Iterable[str]) -> None:
        for kind in written:
            self.kinds.add(kind)
            if self.embedder is not None and self.auto_enable(kind):
                self.content.indexed.setdefault(kind, True)


def vector_blob(embedder: Embedder, text: str) -> bytes:
    """The vector of a text as it is stored: f32, of unit length where the model's are."""
    identity = embedder.identity()
    return _blob(embedder, identity.normalization_policy == "l2", text)


@functools.lru_cache(maxsize=65536)
def _blob(embedder: Embedder, normalizes: bool, text: str) -> bytes:
    row = [float(number) for number in np.asarray(embedder.batch_embed([text]))[0]]
    return np.asarray(oracle.unit(row) if normalizes else row, dtype="<f4").tobytes()


def sorted_json(value: object) -> str:
    return json.dumps(value, sort_keys=True, ensure_ascii=False)


def _merged(target: object, patch: object) -> object:
    """JSON merge patch (RFC 7396)."""
    if not isinstance(patch, Mapping):
        return patch
    merged = dict(target) if isinstance(target, Mapping) else {}
    for key, value in patch.items():
        if value is None:
            merged.pop(key, None)
        else:
            merged[key] = _merged(merged.get(key), value)
    return merged
