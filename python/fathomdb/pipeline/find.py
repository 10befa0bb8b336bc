"""Between verify and embed, find: a text that has a vector already, or had one, needs no call."""

from __future__ import annotations

import math
from array import array
from typing import TYPE_CHECKING

from fathomdb import _native
from fathomdb.store import reuse, vectors
from fathomdb.store.audit_vectors import NORM_TOLERANCE

if TYPE_CHECKING:
    from collections.abc import Mapping

    from fathomdb._native import PackedVectors
    from fathomdb.pipeline.verify import Verified
    from fathomdb.store.connection import Connection
    from fathomdb.store.profiles import Profile

Found = dict[int, tuple["PackedVectors", int]]
"""The packed batch and row of each place of a claim whose vector was found."""


def find(
    db: Connection,
    contents: reuse.Contents,
    profile: Profile,
    verified: Verified,
    *,
    can_embed: bool = True,
) -> Found:
    """Vectors of the same texts under the same profile, as the snapshot of the claim has them.

    A chunk that has a current vector and is owed one all the same is being rebuilt: for that one
    nothing is found, or a rebuild would copy what it is to replace; unless nothing ``can_embed`` it.
    """
    if profile.dimension is None or not verified.rows:
        return {}
    wanted = set(verified.content_hashes)
    live = reuse.live(db, contents, profile.profile_id, wanted)
    known = reuse.cached(db, profile.profile_id, wanted - live.keys())
    of_kind: dict[str, dict[int, bytes]] = {}
    for content_hash, (chunk_key, kind) in live.items():
        of_kind.setdefault(kind, {})[chunk_key] = content_hash
    for kind, content_of in of_kind.items():
        blobs = vectors.read(db, kind, profile.profile_id, content_of)
        known |= {content_of[key]: blob for key, blob in blobs.items()}
    # What is damaged in the file is embedded anew: copied, it would be damage twice.
    known = {key: blob for key, blob in known.items() if len(blob) == 4 * profile.dimension}
    if not known:
        return {}
    packed, row_of = _sound(known, profile.dimension, normalized=profile.normalizes)
    rebuilt: Mapping[int, bytes] = {}
    if can_embed:
        rebuilt = vectors.ledger(db, profile.profile_id, (row.chunk_key for row in verified.rows))
    return {
        place: (packed, row_of[content_hash])
        for place, content_hash in enumerate(verified.content_hashes)
        if content_hash in row_of and verified.rows[place].chunk_key not in rebuilt
    }


def _sound(
    known: Mapping[bytes, bytes], dimension: int, *, normalized: bool
) -> tuple[PackedVectors, dict[bytes, int]]:
    """Stored vectors as one batch, bit for bit, and the rows of those that are worth copying."""
    joined = memoryview(b"".join(known.values())).cast("f", (len(known), dimension))
    packed = _native.pack_vectors(joined, dimension)
    bad = {n for n, _, _, _ in packed.bad}
    if normalized:
        for n, blob in enumerate(known.values()):
            if abs(math.hypot(*array("f", blob)) - 1.0) > NORM_TOLERANCE:
                bad.add(n)
    return packed, {key: n for n, key in enumerate(known) if n not in bad}
