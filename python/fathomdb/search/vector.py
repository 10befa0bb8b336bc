"""The vector arm: the nearest chunks of each kind's own index, filters applied before the cut."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from fathomdb.config import MAX_SEARCH_LIMIT
from fathomdb.search.ranked import Ranked, best_per_node
from fathomdb.store import chunks, conditions, vectors

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fathomdb.search.filters import Filter
    from fathomdb.store.conditions import Condition
    from fathomdb.store.connection import Connection
    from fathomdb.store.profiles import Profile


def search(
    db: Connection,
    query: bytes,
    profile: Profile,
    kinds: Sequence[str],
    where: Filter,
    *,
    limit: int,
    per_node: int,
) -> list[Ranked]:
    """The nearest chunks over all ``kinds``, closest first, at most ``per_node`` of a node.

    ``query`` is a checked blob of the profile's dimension; all kinds are of that one profile, so
    their distances compare. Ties break by chunk key.
    """
    found: list[Ranked] = []
    for kind in kinds:
        if vectors.exists(db, kind, profile.profile_id):
            found.extend(_of_kind(db, query, profile, kind, where, limit, per_node))
    found.sort(key=lambda row: (row.distance, row.chunk_key))
    return best_per_node(found, limit=limit, per_node=per_node)


def _of_kind(
    db: Connection,
    query: bytes,
    profile: Profile,
    kind: str,
    where: Filter,
    limit: int,
    per_node: int,
) -> list[Ranked]:
    """Looks further until there are ``limit`` rows or no more chunks.

    Nodes with many chunks fill the nearest k with themselves; they are then left out of the next
    look, so that asking for 10 gives 10 when 10 exist.
    """
    within = where.chunk_keys()
    left_out: list[Ranked] = []
    k = min(limit, MAX_SEARCH_LIMIT)
    while True:
        rows = _nearest(db, query, profile, kind, _further(within, left_out, per_node), k)
        seen = [*left_out, *rows]
        best = best_per_node(seen, limit=limit, per_node=per_node)
        if len(best) == limit or len(rows) < k:
            return best
        if k < MAX_SEARCH_LIMIT:
            k = min(MAX_SEARCH_LIMIT, 4 * k)
        else:
            left_out = seen


def _nearest(
    db: Connection, query: bytes, profile: Profile, kind: str, within: Condition | None, k: int
) -> list[Ranked]:
    nearest = vectors.nearest(db, kind, profile, query, k, within)
    node_of = chunks.node_keys(db, (key for key, _ in nearest))
    return [Ranked(key, node_of[key], 1.0 - distance, distance) for key, distance in nearest]


def _further(
    within: Condition | None, left_out: Sequence[Ranked], per_node: int
) -> Condition | None:
    """The filter without chunks that were seen and nodes that have all the hits they may have."""
    if not left_out:
        return within
    taken = Counter(row.node_key for row in left_out)
    full = (node_key for node_key, count in taken.items() if count >= per_node)
    return conditions.further_chunks(within, (row.chunk_key for row in left_out), full)
