"""How well a ranking finds the right tools, by the measures of the retrieval field.

What belongs here: quality of rankings and quantiles of times. What does not: making rankings.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import ir_measures
from ir_measures import R, nDCG

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from demo.corpus import Query

DEPTH = 100
"""How many hits a query is asked for: what recall@100 looks at."""


@dataclass(frozen=True, slots=True)
class Quality:
    """Means over all queries, from 0 to 1."""

    ndcg_at_10: float
    recall_at_100: float


def quality(queries: Iterable[Query], rankings: Mapping[str, Sequence[str]]) -> Quality:
    """Measure ``rankings``: for each query id, the keys of the documents found, best first.

    Raises:
        KeyError: A query has no ranking; one that found nothing has an empty one.
    """
    asked = list(queries)
    relevant = [ir_measures.Qrel(q.query_id, key, 1) for q in asked for key in q.relevant]
    # The order is what is judged, so the score is the rank: equal scores would be reordered.
    found = [
        ir_measures.ScoredDoc(q.query_id, key, -rank)
        for q in asked
        for rank, key in enumerate(rankings[q.query_id])
    ]
    if not found:
        return Quality(0.0, 0.0)
    means = ir_measures.calc_aggregate([nDCG @ 10, R @ DEPTH], relevant, found)
    return Quality(means[nDCG @ 10], means[R @ DEPTH])


def quantile(values: Sequence[float], fraction: float) -> float:
    """The smallest of ``values`` that at least ``fraction`` of them do not exceed."""
    if not values:
        raise ValueError("no values to take a quantile of")
    if not 0 < fraction <= 1:
        raise ValueError(f"fraction must be above 0 and at most 1, got {fraction!r}")
    return sorted(values)[math.ceil(fraction * len(values)) - 1]
