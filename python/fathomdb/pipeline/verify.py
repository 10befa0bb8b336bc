"""Stage 3, verify: nothing stale is embedded. The text is hashed again as it is now."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from fathomdb import _native
from fathomdb.pipeline.outcome import Discarded

if TYPE_CHECKING:
    from collections.abc import Mapping
    from collections.abc import Set as AbstractSet

    from fathomdb.pipeline.claim import Claim
    from fathomdb.store.chunks import ChunkText
    from fathomdb.store.work import ClaimedRow


@dataclass(frozen=True, slots=True)
class Verified:
    """What is to be embedded, row by row, and what is not."""

    rows: tuple[ClaimedRow, ...]
    texts: tuple[str, ...]
    content_hashes: tuple[bytes, ...]
    discarded: tuple[Discarded, ...]


def verify(
    claim: Claim, current: Mapping[int, ChunkText], wanted_kinds: AbstractSet[str]
) -> Verified:
    """Splits a claim into what is still wanted and what is discarded, with the reason.

    Args:
        claim: The rows that are inflight.
        current: The chunks as a reader sees them now, by chunk key.
        wanted_kinds: The kinds that are enabled under the claim's profile.
    """
    discarded: list[Discarded] = []
    live: list[tuple[ClaimedRow, ChunkText]] = []
    for row in claim.rows:
        chunk = current.get(row.chunk_key)
        if chunk is None:
            discarded.append(Discarded(row, "no_live_chunk"))
        elif chunk.kind != row.kind or chunk.kind not in wanted_kinds:
            discarded.append(Discarded(row, "not_wanted"))
        else:
            live.append((row, chunk))
    ids = [chunk.chunk_id for _, chunk in live]
    texts = [chunk.text for _, chunk in live]
    differing, content_hashes = _native.verify_chunk_hashes(
        ids, texts, [row.canonical_hash for row, _ in live], content=True
    )
    stale = set(differing)
    for n in differing:
        now = bytes.fromhex(_native.canonical_chunk_hash(ids[n], texts[n]))
        discarded.append(Discarded(live[n][0], "hash_changed", current_hash=now))
    kept = [n for n in range(len(live)) if n not in stale]
    return Verified(
        rows=tuple(live[n][0] for n in kept),
        texts=tuple(texts[n] for n in kept),
        content_hashes=tuple(content_hashes[n] for n in kept),
        discarded=tuple(discarded),
    )


NOTHING = Verified((), (), (), ())
"""What a probe is about: no row at all."""
