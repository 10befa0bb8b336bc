"""Two ways of doing one thing, measured in turns, so that a busy machine is busy for both."""

from __future__ import annotations

import statistics
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from fathomdb import _native
from results import aim, keep

if TYPE_CHECKING:
    from collections.abc import Callable

sys.path.append(str(Path(__file__).resolve().parent.parent / "tests"))
import oracle

__all__ = ["Case", "aim", "compare", "header", "keep", "oracle", "rates"]

if _native.BUILD != "release":
    sys.exit(f"fathomdb._native is a {_native.BUILD} build; measure one made with --release")


@dataclass(frozen=True)
class Case:
    """A kernel and what it is measured against; both were asked for the same answer."""

    name: str
    against: str
    reference: Callable[[], object]
    kernel: Callable[[], object]
    target: float | None = None
    rounds: int = 15


def compare(case: Case) -> None:
    """Prints both medians in milliseconds, their ratio, and the target where there is one."""
    case.reference()
    case.kernel()
    taken: tuple[list[float], list[float]] = ([], [])
    for _ in range(case.rounds):
        for seconds, work in zip(taken, (case.reference, case.kernel), strict=True):
            start = time.perf_counter()
            work()
            seconds.append(time.perf_counter() - start)
    slow, fast = map(statistics.median, taken)
    wanted = keep(
        case.name,
        fast * 1e3,
        "ms",
        reference=slow * 1e3,
        against=case.against,
        ratio=slow / fast,
        rounds=case.rounds,
        **_wanted(case.target, slow / fast),
    )
    print(f"{case.name:38}{slow * 1e3:11.3f} ms{fast * 1e3:11.3f} ms{slow / fast:8.2f}x{wanted}")


def header(reference: str) -> None:
    print(f"{'':38}{reference:>14}{'kernel':>14}{'ratio':>9}")


def rates(
    name: str,
    reference: Callable[[], float],
    ours: Callable[[], float],
    *,
    against: str,
    count: int,
    unit: str,
    target: float | None = None,
    rounds: int = 5,
) -> float:
    """Prints both rates and ours over the reference's; each call times itself, in seconds.

    For work that needs a fresh database each time, which is made outside the time measured.
    """
    taken: tuple[list[float], list[float]] = ([], [])
    for turn in range(rounds + 1):
        for seconds, work in zip(taken, (reference, ours), strict=True):
            elapsed = work()
            if turn:  # the first round warms the caches
                seconds.append(elapsed)
    slow, fast = map(statistics.median, taken)
    wanted = keep(
        name,
        count / fast,
        unit,
        reference=count / slow,
        against=against,
        ratio=slow / fast,
        rounds=rounds,
        count=count,
        **_wanted(target, slow / fast),
    )
    print(
        f"{name:38}{count / slow:11,.0f} {unit:8}{count / fast:11,.0f} {unit:8}"
        f"{slow / fast:6.2f}x{wanted}"
    )
    return slow / fast


def _wanted(target: float | None, ratio: float) -> dict[str, object]:
    return {} if target is None else {"target": f"{target:g}x", "met": ratio >= target}
