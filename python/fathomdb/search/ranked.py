"""A chunk with its rank in one arm."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable


@dataclass(frozen=True, slots=True)
class Ranked:
    """``score`` is higher for better in every arm; ``distance`` is the vector arm's own."""

    chunk_key: int
    node_key: int
    score: float
    distance: float | None = None


def best_per_node(rows: Iterable[Ranked], *, limit: int, per_node: int) -> list[Ranked]:
    """The first ``limit`` of rows in order, at most ``per_node`` of a node; reads no further."""
    kept: list[Ranked] = []
    taken: Counter[int] = Counter()
    for row in rows:
        if taken[row.node_key] < per_node:
            taken[row.node_key] += 1
            kept.append(row)
            if len(kept) == limit:
                break
    return kept
