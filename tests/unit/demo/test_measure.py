"""The demo's measures, against figures worked out by hand."""

from __future__ import annotations

import math

import pytest
from demo.corpus import Query
from demo.measure import Quality, quality, quantile


def test_a_perfect_ranking_has_quality_one():
    assert quality([Query("q", "?", ("a", "b"))], {"q": ["b", "a", "c"]}) == Quality(1.0, 1.0)


def test_a_later_place_counts_less():
    found = quality([Query("q", "?", ("a",))], {"q": ["x", "y", "a"]})

    assert found.ndcg_at_10 == pytest.approx(1 / math.log2(4))
    assert found.recall_at_100 == 1.0


def test_the_eleventh_place_counts_for_recall_alone():
    found = quality([Query("q", "?", ("a",))], {"q": [*map(str, range(10)), "a"]})

    assert found == Quality(0.0, 1.0)


def test_a_query_that_finds_nothing_counts_as_zero():
    queries = [Query("q", "?", ("a",)), Query("r", "?", ("b",))]

    assert quality(queries, {"q": ["a"], "r": []}) == Quality(0.5, 0.5)
    assert quality(queries, {"q": [], "r": []}) == Quality(0.0, 0.0)


def test_a_query_without_a_ranking_is_an_error():
    with pytest.raises(KeyError, match="q"):
        quality([Query("q", "?", ("a",))], {})


@pytest.mark.parametrize(
    ("values", "fraction", "expected"),
    [([3, 1, 2], 0.5, 2), ([1, 2, 3, 4], 0.5, 2), (range(1, 201), 0.99, 198), ([7], 0.99, 7)],
)
def test_a_quantile_is_one_of_the_values(values, fraction, expected):
    assert quantile(values, fraction) == expected


@pytest.mark.parametrize(("values", "fraction"), [([], 0.5), ([1], 0), ([1], 1.1)])
def test_a_quantile_of_nothing_is_an_error(values, fraction):
    with pytest.raises(ValueError, match=r"quantile|fraction"):
        quantile(values, fraction)
