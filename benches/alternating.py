"""Two ways of doing one thing, measured in turns, so that a busy machine is busy for both."""

from __future__ import annotations

import statistics
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from fathomdb import _native

if TYPE_CHECKING:
    from collections.abc import Callable

sys.path.append(str(Path(__file__).resolve().parent.parent / "tests"))
import oracle

__all__ = ["aim", "compare", "header", "oracle", "rates"]

if _native.BUILD != "release":
    sys.exit(f"fathomdb._native is a {_native.BUILD} build; measure one made with --release")


def aim(target: str, met: bool) -> str:
    """The end of a line that has a target."""
    return f"  target {target} {'OK' if met else 'MISSED'}"


def compare(
    name: str,
    reference: Callable[[], object],
    kernel: Callable[[], object],
    *,
    target: float | None = None,
    rounds: int = 15,
) -> None:
    """Prints both medians in milliseconds, their ratio, and the target where there is one."""
    reference()
    kernel()
    taken: tuple[list[float], list[float]] = ([], [])
    for _ in range(rounds):
        for seconds, work in zip(taken, (reference, kernel), strict=True):
            start = time.perf_counter()
            work()
            seconds.append(time.perf_counter() - start)
    slow, fast = map(statistics.median, taken)
    wanted = "" if target is None else aim(f"{target:g}x", slow / fast >= target)
    print(f"{name:38}{slow * 1e3:11.3f} ms{fast * 1e3:11.3f} ms{slow / fast:8.2f}x{wanted}")


def header(reference: str) -> None:
    print(f"{'':38}{reference:>14}{'kernel':>14}{'ratio':>9}")


def rates(
    name: str,
    reference: Callable[[], float],
    ours: Callable[[], float],
    *,
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
    wanted = "" if target is None else aim(f"{target:g}x", slow / fast >= target)
    print(
        f"{name:38}{count / slow:11,.0f} {unit:8}{count / fast:11,.0f} {unit:8}"
        f"{slow / fast:6.2f}x{wanted}"
    )
    return slow / fast
