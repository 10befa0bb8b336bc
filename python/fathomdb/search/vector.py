"""The vector arm: the nearest chunks of each kind's own index, filters applied before the cut."""

from __future__ import annotations

import logging
from bisect import bisect_left
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from fathomdb.config import MAX_SEARCH_LIMIT
from fathomdb.errors import CorruptDatabaseError
from fathomdb.search.ranked import Ranked, best_per_node
from fathomdb.store import chunks, conditions, vectors

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fathomdb.search.filters import Filter
    from fathomdb.store.codes import Codes, Reason
    from fathomdb.store.conditions import Condition
    from fathomdb.store.connection import Connection
    from fathomdb.store.profiles import Profile


logger = logging.getLogger("fathomdb")


@dataclass(frozen=True, slots=True)
class Look:
    """One look into the index of a kind: by ``codes``, or ``exact``, over all of it, and then why.

    ``compared`` is how many vectors a look by codes compared; ``error`` says what ``failed``.
    """

    kind: str
    by: Literal["codes", "exact"]
    why: Reason | None = None
    compared: int | None = None
    error: str | None = None


@dataclass(frozen=True, slots=True)
class _Comparing:
    """A query and the index that it is compared with."""

    db: Connection
    query: bytes
    profile: Profile
    kind: str
    where: Filter
    codes: Codes | None
    looks: list[Look]

    def nearest(
        self, within: Condition | None, k: int, *, is_further: bool
    ) -> list[tuple[int, float]]:
        """The nearest ``k`` of the allowed chunks, closest first, ties by key."""
        why: Reason = "further" if is_further else "asked"
        error = None
        if self.codes is not None and not is_further:
            try:
                found = self._by_codes(self.codes, k)
            except CorruptDatabaseError as failure:
                # Said, and every vector compared: that finds what can be read, or raises.
                logger.warning("the codes of kind %r cannot be used: %s", self.kind, failure)
                why, error = "failed", str(failure)
            else:
                if isinstance(found, list):
                    return found
                why = found
        self.looks.append(Look(self.kind, "exact", why, error=error))
        return vectors.nearest(self.db, self.kind, self.profile, self.query, k, within)

    def _by_codes(self, codes: Codes, k: int) -> list[tuple[int, float]] | Reason:
        table = vectors.table_name(self.kind, self.profile.profile_id)
        dimension = len(self.query) // 4
        where = self.where.narrowing
        found = codes.candidates(self.db, table, dimension, self.query, k, where)
        if isinstance(found, str):
            return found
        rows = vectors.distances(self.db, self.kind, self.profile, self.query, found.chunk_keys)
        if not found.must_be_there.issubset(key for key, _ in rows):
            codes.forget(table)
            raise CorruptDatabaseError(
                f"they named chunks of {table} that have no vector there, and are read again"
            )
        if len(rows) < k and not found.is_all:
            return "changing"
        self.looks.append(Look(self.kind, "codes", compared=len(rows)))
        return rows[:k]


def search(
    db: Connection,
    query: bytes,
    profile: Profile,
    kinds: Sequence[str],
    where: Filter,
    *,
    limit: int,
    per_node: int,
    codes: Codes | None,
    looks: list[Look],
) -> list[Ranked]:
    """The nearest chunks over all ``kinds``, closest first, at most ``per_node`` of a node.

    ``query`` is a checked blob of the profile's dimension; all kinds are of that one profile, so
    their distances compare. Ties break by chunk key. Without codes every vector is compared; how it
    went is added to ``looks``.
    """
    found: list[Ranked] = []
    for kind in kinds:
        if vectors.exists(db, kind, profile.profile_id):
            compare = _Comparing(db, query, profile, kind, where, codes, looks)
            found.extend(_of_kind(db, compare, limit, per_node))
    found.sort(key=_by_distance)
    return best_per_node(found, limit=limit, per_node=per_node)


def _of_kind(
    db: Connection,
    compare: _Comparing,
    limit: int,
    per_node: int,
) -> list[Ranked]:
    """Looks further until there are ``limit`` rows or no more chunks.

    Nodes with many chunks fill the nearest k with themselves; they are then left out of the next
    look, so that asking for 10 gives 10 when 10 exist. Of equally near chunks a look brings any, so
    those at its far end are not settled before a chunk beyond them is seen.
    """
    within = compare.where.chunk_keys()
    left_out: list[Ranked] = []
    settled: list[Ranked] = []
    k = min(limit + 1, MAX_SEARCH_LIMIT)
    while True:
        further = _further(within, left_out, settled, per_node)
        rows = _nearest(db, compare, further, k, is_further=bool(left_out))
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
    db: Connection, compare: _Comparing, within: Condition | None, k: int, *, is_further: bool
) -> list[Ranked]:
    nearest = compare.nearest(within, k, is_further=is_further)
    node_of = chunks.node_keys(db, (key for key, _ in nearest))
    if len(node_of) < len(nearest):
        raise CorruptDatabaseError(
            f"{db.filename} is damaged: the vector index of kind {compare.kind!r} has vectors of chunks that "
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
