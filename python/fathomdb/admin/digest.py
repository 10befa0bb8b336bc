"""Digest: one hash over all vectors of a kind, equal where the same texts have the same vectors."""

from __future__ import annotations

import hashlib
import struct
from typing import TYPE_CHECKING

from fathomdb.errors import CorruptDatabaseError, KindNotVectorIndexedError
from fathomdb.search.searcher import check_kinds
from fathomdb.store import indexes, inspection, profiles, vectors

if TYPE_CHECKING:
    from fathomdb.actors.runtime import Runtime

PAGE_ROWS = 1024
_LENGTH = struct.Struct("<Q")


def projection_digest(runtime: Runtime, kind: str) -> str:
    """SHA-256, lowercase hex, of what is projected of a kind under the profile that answers.

    Rows are in the order of their chunk_id's UTF-8 bytes. Of each come four fields, each with its
    length in bytes before it as an unsigned 64-bit little-endian number, so that no two sets of
    rows share a stream: chunk_id (UTF-8), the canonical hash that the vector was made from (32
    bytes), the profile's fingerprint (64 lowercase hex characters), the vector (little-endian f32).
    """
    digest = hashlib.sha256()
    with runtime.snapshot() as db:
        check_kinds(db, [kind])
        index = indexes.get(db, kind)
        if index is None or not index.enabled or index.profile_id is None:
            raise KindNotVectorIndexedError(
                f"kind {kind!r} has no vector index to digest; enable it with configure_vec"
            )
        profile_id = index.profile_id
        fingerprint = profiles.get(db, profile_id).fingerprint.encode()
        after = ""
        while page := inspection.projected_page(db, kind, profile_id, after, PAGE_ROWS):
            blobs = vectors.read(db, kind, profile_id, (key for _, key, _ in page))
            for chunk_id, key, canonical_hash in page:
                blob = blobs.get(key)
                if blob is None:
                    raise CorruptDatabaseError(
                        f"chunk {chunk_id!r} has a ledger row and its vector is gone; look at "
                        "admin.check_integrity()"
                    )
                for field in (chunk_id.encode(), canonical_hash, fingerprint, blob):
                    digest.update(_LENGTH.pack(len(field)))
                    digest.update(field)
            after = page[-1][0]
    return digest.hexdigest()
