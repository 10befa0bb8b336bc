"""Stage 0, prepare, by column: records of a table checked and hashed without an object a cell."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fathomdb import _native
from fathomdb.config import MAX_PROPERTIES_CHARS, MAX_TEXT_CHARS
from fathomdb.errors import EmbedderContractError, InvalidInputError
from fathomdb.pipeline.prepare import (
    MAX_ID_BYTES,
    PreparedChunk,
    PreparedNode,
    check_name,
    cut,
)
from fathomdb.pipeline.ready import ReadyVector

if TYPE_CHECKING:
    from collections.abc import Callable

    from fathomdb.records import Columns
    from fathomdb.store.profiles import Profile


def prepare(
    columns: Columns,
    chunk_chars: Callable[[str], int],
    active_profile: Callable[[], Profile | None],
) -> list[PreparedNode] | None:
    """Checks, splits and hashes the records of a table, as ``prepare.prepare`` does with nodes.

    None where one of them cannot be stored as it is, or has the id of another. Why, and which one,
    is found by making nodes of the rows.
    """
    try:
        check_name("kind", columns.kind)
        if columns.source_ref is not None:
            check_name("source_ref", columns.source_ref)
    except InvalidInputError:
        return None
    limit = chunk_chars(columns.kind)
    try:
        read = _native.read_records(
            columns.rows,
            kind=columns.kind,
            ids=columns.ids,
            id_is_optional=columns.id_is_optional,
            texts=columns.texts,
            keys=columns.keys,
            properties=columns.properties,
            are_json=columns.are_json,
            id_bytes=MAX_ID_BYTES,
            # In bytes, where the limits are in characters: close to them each record is looked at.
            text_bytes=min(MAX_TEXT_CHARS, MAX_PROPERTIES_CHARS),
            chunk_chars=limit,
        )
    except InvalidInputError:
        return None  # a column that lies in memory as Arrow allows and we do not read
    if read is None:
        return None
    kind, source_ref = columns.kind, columns.source_ref
    prepared = []
    for node_id, text, properties, chunk_id, size, canonical_hash in zip(*read, strict=True):
        if text is None:
            chunks = []
        elif chunk_id is None or canonical_hash is None:
            chunks = cut(node_id, text, limit)
        else:
            chunks = [PreparedChunk(chunk_id, text, 0, size, canonical_hash)]
        prepared.append(
            PreparedNode(kind, node_id, properties, source_ref, text is not None, chunks)
        )
    if columns.vectors is not None and not _add_vectors(prepared, read[1], columns, active_profile):
        return None
    return prepared


def _add_vectors(
    prepared: list[PreparedNode],
    texts: list[str | None],
    columns: Columns,
    active_profile: Callable[[], Profile | None],
) -> bool:
    """Gives records their ready vectors, as one chunk each; False where one of them has a fault."""
    rows = columns.vector_rows
    if not rows:
        return True
    profile = active_profile()
    if profile is None or profile.dimension is None:
        return False
    try:
        packed = _native.pack_vectors(
            columns.vectors, profile.dimension, normalize=profile.normalizes
        )
    except EmbedderContractError:
        return False
    if packed.bad:
        return False
    of_vectors = [text for row in rows if (text := texts[row]) is not None]
    if len(of_vectors) != len(rows):
        return False
    chunk_ids = [f"{prepared[row].node_id}#0" for row in rows]
    hashes = _native.canonical_chunk_hashes(chunk_ids, of_vectors, content=True)
    made = zip(rows, chunk_ids, of_vectors, packed.rows(), *hashes, strict=True)
    for row, chunk_id, text, blob, canonical_hash, content_hash in made:
        node = prepared[row]
        # What a vector is of is one chunk, however long, that we did not cut.
        node.split = False
        node.chunks = [PreparedChunk(chunk_id, text, None, None, canonical_hash)]
        node.vectors[0] = ReadyVector(blob, profile, content_hash)
    return True
