"""Stage 0, prepare: check, split and hash nodes on the caller's thread, before anything is stored."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from fathomdb import _native
from fathomdb.config import MAX_PROPERTIES_CHARS, MAX_REQUEST_NODES, MAX_TEXT_CHARS
from fathomdb.errors import InvalidInputError
from fathomdb.pipeline import ready
from fathomdb.pipeline.ready import GivenVector, ReadyVector
from fathomdb.records import Chunk, Node

if TYPE_CHECKING:
    from fathomdb.store.profiles import Profile

MAX_ID_BYTES = 1024
"""An id is a key of two indexes; longer ones are a mistake more often than a wish."""
MAX_PROPERTY_DEPTH = 200
"""Levels of nested properties; SQLite's JSON functions refuse more than 1,000."""

# Made once: json.dumps would make one for every record. What contains itself is found beforehand.
_JSON = json.JSONEncoder(
    ensure_ascii=False, allow_nan=False, check_circular=False, separators=(",", ":")
).encode


class PreparedChunk(NamedTuple):
    """A chunk that was checked and hashed."""

    chunk_id: str
    text: str
    byte_start: int | None
    byte_end: int | None
    canonical_hash: bytes


@dataclass(slots=True)
class PreparedNode:
    """A node that was checked; ``chunks`` None leaves the chunks as they are (a patch).

    ``vectors`` are those that came with it, by the ordinal of their chunk.
    """

    kind: str
    node_id: str
    properties: str | None
    source_ref: str | None
    split: bool
    chunks: list[PreparedChunk] | None
    vectors: dict[int, ReadyVector] = field(default_factory=dict)


def not_a_node(value: object) -> InvalidInputError:
    """What to say of something that was given in place of a Node."""
    advice = "; ingest takes dicts" if isinstance(value, Mapping) else ""
    return InvalidInputError(
        f"write takes Node objects, got {type(value).__name__}: {_short(value)}{advice}"
    )


def prepare(
    written: Iterable[Node],
    chunk_chars: Callable[[str], int],
    active_profile: Callable[[], Profile | None] = lambda: None,
) -> list[PreparedNode]:
    """Checks, splits and hashes nodes.

    Args:
        written: The nodes.
        chunk_chars: How a kind's text is cut.
        active_profile: Which model ready vectors must fit; asked where there are any.

    Raises:
        InvalidInputError: Anything about any of the nodes is wrong; the message names it.
        EmbedderNotConfiguredError: There are ready vectors and no model is active.
    """
    prepared: list[PreparedNode] = []
    pieces = _Pieces()
    given_vectors: list[GivenVector] = []
    vector_of: list[tuple[PreparedNode, int]] = []
    seen: set[str] = set()
    # Most requests have one of each: checked once.
    kind: str | None = None
    source_ref: str | None = None
    limit = 0
    for node in written:
        if not isinstance(node, Node):
            raise not_a_node(node)
        check_request_size(len(prepared) + 1)
        node_id, text, given = node.node_id, node.text, node.chunks
        if node.kind != kind or kind is None:
            check_name("kind", node.kind)
            kind = node.kind
            limit = chunk_chars(kind)
        check_name("node_id", node_id)
        if node_id in seen:
            raise InvalidInputError(
                f"node_id {node_id!r} is in the request twice; keep one of them"
            )
        seen.add(node_id)
        if node.source_ref is not None and node.source_ref != source_ref:
            check_name("source_ref", node.source_ref)
            source_ref = node.source_ref
        properties = None
        if node.properties is not None:
            properties = encode_properties(node.properties, node_id)
        item = PreparedNode(
            kind, node_id, properties, node.source_ref, given is None and text is not None, []
        )
        prepared.append(item)
        if given is not None:
            if text is not None:
                raise InvalidInputError(
                    f"node {node_id!r} has both text and chunks; give one of them"
                )
            for ordinal, chunk in enumerate(_given_chunks(node, given)):
                chunk_id = f"{node_id}#{ordinal}" if chunk.chunk_id is None else chunk.chunk_id
                pieces.add(item, chunk_id, chunk.text, None, None)
                if chunk.vector is not None:
                    where = f"chunk {ordinal} of node {node_id!r}"
                    given_vectors.append(GivenVector(where, chunk.text, chunk.vector))
                    vector_of.append((item, ordinal))
        elif text is not None:
            size = _check_text(text, node_id)
            if len(text) <= limit:  # the splitter would say the same
                pieces.add(item, f"{node_id}#0", text, 0, size)
                continue
            for ordinal, (start, end, piece) in enumerate(_native.split_text(text, limit)):
                pieces.add(item, f"{node_id}#{ordinal}", piece, start, end)
    pieces.hand_out()
    if given_vectors:
        checked = ready.check(given_vectors, active_profile())
        for (item, ordinal), vector in zip(vector_of, checked, strict=True):
            item.vectors[ordinal] = vector
    return prepared


def cut(node_id: str, text: str, chunk_chars: int) -> list[PreparedChunk]:
    """The chunks of a text that is longer than one, hashed."""
    pieces = _native.split_text(text, chunk_chars)
    ids = [f"{node_id}#{ordinal}" for ordinal in range(len(pieces))]
    hashes = _native.canonical_chunk_hashes(ids, [piece for _, _, piece in pieces])
    return [
        PreparedChunk(chunk_id, piece, start, end, canonical_hash)
        for chunk_id, (start, end, piece), canonical_hash in zip(ids, pieces, hashes, strict=True)
    ]


class _Pieces:
    """The chunks of a request by column, so that they are hashed in one call."""

    def __init__(self) -> None:
        self._owners: list[PreparedNode] = []
        self._ids: list[str] = []
        self._texts: list[str] = []
        self._starts: list[int | None] = []
        self._ends: list[int | None] = []

    def add(
        self, owner: PreparedNode, chunk_id: str, text: str, start: int | None, end: int | None
    ) -> None:
        self._owners.append(owner)
        self._ids.append(chunk_id)
        self._texts.append(text)
        self._starts.append(start)
        self._ends.append(end)

    def hand_out(self) -> None:
        """Gives each node its chunks, hashed."""
        if len(set(self._ids)) != len(self._ids):
            raise self._taken_twice()
        hashes = _native.canonical_chunk_hashes(self._ids, self._texts)
        rows = zip(self._ids, self._texts, self._starts, self._ends, hashes, strict=True)
        for owner, row in zip(self._owners, rows, strict=True):
            assert owner.chunks is not None
            owner.chunks.append(PreparedChunk(*row))

    def _taken_twice(self) -> InvalidInputError:
        owners: dict[str, str] = {}
        chunk_id, first, second = next(
            (chunk_id, owners[chunk_id], owner.node_id)
            for chunk_id, owner in zip(self._ids, self._owners, strict=True)
            if owners.setdefault(chunk_id, owner.node_id) != owner.node_id
        )
        return InvalidInputError(
            f"chunk_id {chunk_id!r} is used by the nodes {first!r} and {second!r}; "
            "chunk ids are unique among live chunks"
        )


def _given_chunks(node: Node, given: object) -> Iterable[Chunk]:
    """The chunks that the caller cut, checked."""
    seen: set[str] = set()
    if not isinstance(given, Iterable) or isinstance(given, (str, bytes)):
        raise InvalidInputError(
            f"chunks of node {node.node_id!r} must be an iterable of Chunk or str, "
            f"got {_short(given)}"
        )
    for ordinal, one in enumerate(given):
        chunk = Chunk(one) if isinstance(one, str) else one
        if not isinstance(chunk, Chunk):
            raise InvalidInputError(
                f"chunk {ordinal} of node {node.node_id!r} must be a Chunk or str, "
                f"got {type(one).__name__}: {_short(one)}"
            )
        chunk_id = f"{node.node_id}#{ordinal}" if chunk.chunk_id is None else chunk.chunk_id
        check_name("chunk_id", chunk_id, limit=MAX_ID_BYTES + 24)
        if chunk_id in seen:
            raise InvalidInputError(
                f"chunk_id {chunk_id!r} is twice among the chunks of node {node.node_id!r}"
            )
        seen.add(chunk_id)
        _check_text(chunk.text, f"{node.node_id}, chunk {ordinal}")
        yield chunk


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


def check_request_size(nodes: int) -> None:
    """Refuses a request that would keep everybody else waiting for one transaction."""
    if nodes > MAX_REQUEST_NODES:
        raise InvalidInputError(
            f"a request has at most {MAX_REQUEST_NODES:,} nodes, this one has {nodes:,} or more; "
            "write them in several requests, or use ingest"
        )


def _check_text(text: object, where: str) -> int:
    """Refuses what cannot be a chunk's text; returns its bytes of UTF-8."""
    if not isinstance(text, str):
        raise InvalidInputError(
            f"text of node {where!r} must be a string, got {type(text).__name__}: {_short(text)}"
        )
    if len(text) > MAX_TEXT_CHARS:
        raise InvalidInputError(
            f"text of node {where!r} has {len(text):,} characters, at most {MAX_TEXT_CHARS:,} are "
            "stored; write it as several nodes"
        )
    if not text or text.isspace():
        raise InvalidInputError(
            f"text of node {where!r} is empty or only white space; leave it None for a record "
            "without text"
        )
    return len(text) if text.isascii() else len(_utf8(f"text of node {where!r}", text))


def _utf8(what: str, value: str) -> bytes:
    try:
        return value.encode()
    except UnicodeEncodeError as error:
        raise InvalidInputError(
            f"{what} has a lone surrogate at character {error.start} "
            f"({value[error.start]!r}), which has no UTF-8; decode the source with "
            "errors='replace' or drop it"
        ) from None


def encode_properties(properties: Mapping[str, Any], node_id: str) -> str:
    """Properties as JSON text; refuses what JSON cannot say."""
    if not isinstance(properties, Mapping):
        raise InvalidInputError(
            f"properties of node {node_id!r} must be a mapping, got "
            f"{type(properties).__name__}: {_short(properties)}"
        )
    _check_nested(properties, node_id, 1)
    try:
        text = _JSON(properties if isinstance(properties, dict) else dict(properties))
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidInputError(
            f"properties of node {node_id!r} are not JSON: {error}; {_culprit(properties)}"
        ) from None
    if len(text) > MAX_PROPERTIES_CHARS:
        raise InvalidInputError(
            f"properties of node {node_id!r} have {len(text):,} characters as JSON, at most "
            f"{MAX_PROPERTIES_CHARS:,} are stored; keep long values as text"
        )
    _utf8(f"properties of node {node_id!r}", text)
    return text


def _culprit(properties: Mapping[str, Any]) -> str:
    """The first of the properties that JSON cannot say."""
    for key, value in properties.items():
        try:
            _JSON(value)
        except (TypeError, ValueError, RecursionError):
            return f"{key!r} has the {type(value).__name__} {_short(value)}"
    return f"got {_short(properties)}"


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
            if "\0" in key:
                # SQLite's JSON takes it for the end of the name: "a\0b" would be found as "a".
                raise InvalidInputError(
                    f"properties of node {node_id!r} have the name {key!r}, and a name must not "
                    "contain a NUL character"
                )
            if isinstance(item, (Mapping, list, tuple)):
                _check_nested(item, node_id, depth + 1)
    else:
        for item in value:
            if isinstance(item, (Mapping, list, tuple)):
                _check_nested(item, node_id, depth + 1)


def _short(value: object) -> str:
    try:
        text = repr(value)
    except ValueError:  # a whole number of more digits than Python prints
        return f"a value of type {type(value).__name__}"
    return text if len(text) <= 80 else text[:77] + "..."
