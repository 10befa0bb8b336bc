"""The plots of ``docs/benchmarks.md``: colours that differ in lightness too, figures written beside the bars."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import matplotlib as mpl

mpl.use("svg")
import matplotlib.pyplot as plt

if TYPE_CHECKING:
    from pathlib import Path

    from matplotlib.axes import Axes

# Okabe and Ito's: told apart by whoever sees no red or no green.
OURS, THEIRS, MISSED, TARGET = "#0072B2", "#BBBBBB", "#E69F00", "#000000"

Bench = dict[str, Any]


def draw(benches: dict[str, Bench], folder: Path) -> None:
    mpl.rcParams.update(
        {
            "svg.hashsalt": "fathomdb",  # the same figures give the same file
            "svg.fonttype": "none",  # text stays text, and the file small
            "font.family": "sans-serif",
            "font.size": 9,
            "axes.spines.top": False,
            "axes.spines.right": False,
        }
    )
    for name, bench, plot in (
        ("ratios", None, ratios),
        ("peers", "side_by_side", peers),
        ("scale", "bench_scale", scale),
    ):
        if bench is not None and bench not in benches:
            continue
        figure = plot(benches)
        figure.savefig(folder / f"{name}.svg", metadata={"Date": None}, bbox_inches="tight")
        plt.close(figure)


def ratios(benches: dict[str, Bench]) -> plt.Figure:
    """Every ratio that has a target to reach, on one logarithmic axis."""
    rows = [
        (f"{figure['name']} ({bench})", figure["ratio"], float(aimed[1]), figure["met"])
        for bench, found in benches.items()
        for figure in found["figures"]
        if (aimed := re.fullmatch(r"([\d.]+)x", figure.get("target", "")))
    ]
    rows.reverse()
    figure, axes = plt.subplots(figsize=(9, 0.24 * len(rows) + 1))
    for y, (_, ratio, target, met) in enumerate(rows):
        axes.plot([target, ratio], [y, y], color=OURS if met else MISSED, linewidth=2)
        axes.plot(ratio, y, "o" if met else "s", color=OURS if met else MISSED, markersize=6)
        axes.plot(target, y, "|", color=TARGET, markersize=11, markeredgewidth=1.5)
        axes.annotate(
            f"{ratio:.2f}", (max(ratio, target), y), (8, -3), textcoords="offset points", fontsize=8
        )
    axes.set_yticks(range(len(rows)), [row[0] for row in rows])
    axes.set_ylim(-0.7, len(rows) - 0.3)
    logarithmic(axes, [value for row in rows for value in row[1:3]])
    axes.set_xlabel("ours over the reference; bar: the target; circle: met, square: missed")
    return figure


def peers(benches: dict[str, Bench]) -> plt.Figure:
    """Three panels: rows a second written, and the median search by words and by vectors."""
    figures = benches["side_by_side"]["figures"]
    panels = (
        ("write, vectors owed: ", "texts written, rows/s (more is better)"),
        ("write, ready vectors: ", "texts with vectors written, rows/s (more is better)"),
        ("search, text: ", "text search, p50 in ms (less is better)"),
        ("search, vectors: ", "vector search, p50 in ms (less is better)"),
    )
    figure, grid = plt.subplots(2, 2, figsize=(10, 4.6), layout="constrained")
    for axes, (prefix, title) in zip(grid.flat, panels, strict=True):
        some = [found for found in figures if found["name"].startswith(prefix)]
        bars = [(found["against"], found["reference"]) for found in some]
        bars = [("FathomDB for Python", some[0]["ours"]), *bars] if some else []
        bars.reverse()
        for y, (name, value) in enumerate(bars):
            axes.barh(y, value, color=OURS if name == "FathomDB for Python" else THEIRS)
            text = f"{value:,.0f}" if value >= 100 else f"{value:.2g}"
            axes.annotate(text, (value, y), (4, -3), textcoords="offset points", fontsize=8)
        axes.set_yticks(range(len(bars)), [name for name, _ in bars])
        axes.margins(x=0.15)
        axes.set_title(title, loc="left", fontsize=9)
        axes.locator_params(axis="x", nbins=4)
        axes.xaxis.set_major_formatter("{x:,g}")
    return figure


def scale(benches: dict[str, Bench]) -> plt.Figure:
    """Rows a second and peak memory by the length of the queue."""
    figures = benches["bench_scale"]["figures"]
    points = [(f["count"], f["ours"], f["peak_mb"]) for f in figures if "peak_mb" in f]
    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 2.8), layout="constrained")
    for axes, column, title in ((left, 1, "drained rows/s"), (right, 2, "peak memory, MB")):
        axes.plot([p[0] for p in points], [p[column] for p in points], "o-", color=OURS)
        for point in points:
            axes.annotate(
                f"{point[column]:,.0f}",
                (point[0], point[column]),
                (0, 8),
                textcoords="offset points",
                ha="center",
                fontsize=8,
            )
        axes.set_xscale("log")
        axes.set_xticks([p[0] for p in points], [f"{p[0]:,}" for p in points])
        axes.minorticks_off()
        axes.margins(x=0.15)
        axes.set_ylim(0, 1.25 * max(p[column] for p in points))
        axes.yaxis.set_major_formatter("{x:,.0f}")
        axes.set_title(title, loc="left", fontsize=9)
        axes.set_xlabel("chunks that wait")
    return figure


def logarithmic(axes: Axes, values: list[float]) -> None:
    axes.set_xscale("log")
    low, high = min(values), max(values)
    ticks = [t for t in (0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100) if low / 2 <= t <= high * 2]
    axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.minorticks_off()
    axes.grid(axis="x", color="#DDDDDD", linewidth=0.6)
    axes.set_axisbelow(True)
