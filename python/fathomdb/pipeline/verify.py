"""Stage 3, verify: nothing stale is embedded. The text is hashed again as it is now."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from fathomdb import _native
from fathomdb.pipeline.outcome import Discarded

if TYPE_CHECKING:
    from collections.abc import Sequence
    from collections.abc import Set as AbstractSet

    from fathomdb.store.work import ClaimedRow


@dataclass(frozen=True, slots=True)
class Verified:
    """What is to be embedded, row by row, and what is not."""

    rows: Sequence[ClaimedRow]
    texts: Sequence[str]
    content_hashes: Sequence[bytes]
    discarded: Sequence[Discarded]


NOTHING = Verified((), (), (), ())
"""What a probe is about: no row at all."""


def verify(claimed: Sequence[ClaimedRow], wanted_kinds: AbstractSet[str]) -> Verified:
    """Splits claimed rows into what is still wanted and what is discarded, with the reason.

    Args:
        claimed: The rows with their chunks as a reader sees them now.
        wanted_kinds: The kinds that are enabled under the claim's profile.
    """
    discarded: list[Discarded] = []
    rows: list[ClaimedRow] = []
    ids: list[str] = []
    texts: list[str] = []
    for row in claimed:
        if row.chunk_id is None or row.text is None:
            discarded.append(Discarded(row, "no_live_chunk"))
        elif row.node_kind != row.kind or row.kind not in wanted_kinds:
            discarded.append(Discarded(row, "not_wanted"))
        else:
            rows.append(row)
            ids.append(row.chunk_id)
            texts.append(row.text)
    differing, content_hashes = _native.verify_chunk_hashes(
        ids, texts, [row.canonical_hash for row in rows], content=True
    )
    for n in reversed(differing):
        now = bytes.fromhex(_native.canonical_chunk_hash(ids[n], texts[n]))
        discarded.append(Discarded(rows[n], "hash_changed", current_hash=now))
        del rows[n], texts[n], content_hashes[n]
    return Verified(rows, texts, content_hashes, discarded)
