"""The kernels' cases under pytest-benchmark, each beside what it is measured against.

``pytest benches/`` has pytest-benchmark's tables, histograms and comparisons with saved runs. It runs
one side after the other, so on a busy machine the scripts' ratios, taken in turns, are the ones to
believe.
"""

from __future__ import annotations

from itertools import chain
from typing import TYPE_CHECKING

import pytest

import bench_blob
import bench_hash
import bench_vector

if TYPE_CHECKING:
    from alternating import Case

SIZES = (64, 1024)
CASES = list(
    chain.from_iterable(b.cases(n) for b in (bench_hash, bench_vector, bench_blob) for n in SIZES)
)


@pytest.mark.parametrize("side", ["reference", "kernel"])
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_kernel(benchmark, case: Case, side: str) -> None:
    benchmark.group = f"{case.name}, against {case.against}"
    benchmark(getattr(case, side))
