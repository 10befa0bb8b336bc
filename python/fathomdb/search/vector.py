"""The vector arm: the nearest chunks of each kind's own index, filters applied before the cut."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from typing import TYPE_CHECKING

from fathomdb.config import MAX_SEARCH_LIMIT
from fathomdb.errors import CorruptDatabaseError
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
    found.sort(key=_by_distance)
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
    look, so that asking for 10 gives 10 when 10 exist. Of equally near chunks a look brings any, so
    those at its far end are not settled before a chunk beyond them is seen.
    """
    within = where.chunk_keys()
    left_out: list[Ranked] = []
    settled: list[Ranked] = []
    k = min(limit + 1, MAX_SEARCH_LIMIT)
    while True:
        rows = _nearest(db, query, profile, kind, _further(within, left_out, settled, per_node), k)
        seen = sorted([*left_out, *rows], key=_by_distance)
        if len(rows) < k:
            return best_per_node(seen, limit=limit, per_node=per_node)
        end = bisect_left(seen, max(_distance(row) for row in rows), key=_distance)
        reached = best_per_node(seen[:end], limit=limit, per_node=per_node)
        if len(reached) == limit:
            return reached
        if k < MAX_SEARCH_LIMIT:
            k = min(MAX_SEARCH_LIMIT, 8 * k)
        else:
            left_out, settled = seen, seen[:end]


def _nearest(
    db: Connection, query: bytes, profile: Profile, kind: str, within: Condition | None, k: int
) -> list[Ranked]:
    nearest = vectors.nearest(db, kind, profile, query, k, within)
    node_of = chunks.node_keys(db, (key for key, _ in nearest))
    if len(node_of) < len(nearest):
        raise CorruptDatabaseError(
            f"{db.filename} is damaged: the vector index of kind {kind!r} has vectors of chunks that "
            "are not there; look at admin.check_integrity()"
        )
    return [Ranked(key, node_of[key], 1.0 - distance, distance) for key, distance in nearest]


def _distance(row: Ranked) -> float:
    assert row.distance is not None
    return row.distance


def _by_distance(row: Ranked) -> tuple[float, int]:
    return _distance(row), row.chunk_key


def _further(
    within: Condition | None,
    left_out: Sequence[Ranked],
    settled: Sequence[Ranked],
    per_node: int,
) -> Condition | None:
    """The filter without chunks that were seen and nodes that have all the hits they may have."""
    if not left_out:
        return within
    taken = Counter(row.node_key for row in settled)
    full = (node_key for node_key, count in taken.items() if count >= per_node)
    return conditions.further_chunks(within, (row.chunk_key for row in left_out), full)
