"""Writes ``docs/benchmarks.md`` and its plots, from nothing but the figures that the benches kept.

Takes over what ``.bench/results`` has into ``docs/benchmarks`` first, so that the page can be made again
anywhere. ``--check`` writes nothing and fails where the page is not what those figures give.
"""

from __future__ import annotations

import json
import shutil
import sys
import tomllib
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
FOUND = ROOT / ".bench" / "results"
KEPT = ROOT / "docs" / "benchmarks"
PAGE = ROOT / "docs" / "benchmarks.md"
TARGETS = Path(__file__).with_name("targets.toml")

PEERS = """The same texts (580 characters) and vectors (384 dimensions, of unit length, in clusters), 256 a batch, each
store in a process of its own, one after the other, five turns. *Vectors owed*: record and words, and with ours the
row of the queue. *Ready vectors*: texts with vectors that are there already, with ours full text besides. A ratio
above 1 is in our favour; what each store does not do is in the second table, and belongs to its figures.
"""

NOTHING = 1e-3
"""Seconds and shares below this are left out of a cell."""

Figure = dict[str, Any]
Bench = dict[str, Any]

INTRO = """# Benchmarks

Written by `make report` from the figures in [benchmarks/](benchmarks/), which the benches keep as JSON. What each
bench does, and how it measures, is in [benches/README.md](../benches/README.md).

A figure with a target is a ratio of two things measured in turns in one run, at the median of 5 or more, since
machines are busy and differ; each bench checks its answers. Repeat all of it with

```sh
make bench        # every bench, about half an hour
make bench-peers  # the other stores, in environments of their own
make report       # this page
```

Input is random by a fixed seed (0 unless a figure in the JSON names another one), so that everyone measures the
same texts and vectors.
"""


def main() -> int:
    is_check = "--check" in sys.argv[1:]
    if not is_check:
        KEPT.mkdir(exist_ok=True)
        for path in FOUND.glob("*.json"):
            # Behind a dash are the sizes that somebody tried, or the cores of bench_hash.
            if "-" not in path.stem or path.stem.startswith("bench_hash-"):
                shutil.copyfile(path, KEPT / path.name)
    benches = {
        path.stem: json.loads(path.read_text(encoding="utf-8"))
        for path in sorted(KEPT.glob("*.json"))
    }
    targets = tomllib.loads(TARGETS.read_text(encoding="utf-8"))["target"]
    unexplained = [t["what"] for t in targets if verdict(t, benches) == "MISSED" and "why" not in t]
    for what in unexplained:
        print(f"missed, and benches/targets.toml does not say why: {what}", file=sys.stderr)
    text = page(benches, targets)
    if is_check:
        if PAGE.read_text(encoding="utf-8") != text:
            print("docs/benchmarks.md is not what its figures give: make report", file=sys.stderr)
            return 1
        return min(len(unexplained), 1)
    PAGE.write_text(text, encoding="utf-8")
    import plots

    plots.draw(benches, KEPT)
    print(f"{PAGE.relative_to(ROOT)}: {len(benches)} benches, {len(targets)} targets")
    return 0


def page(benches: dict[str, Bench], targets: list[dict[str, Any]]) -> str:
    parts = [INTRO, *section_targets(benches, targets), *section_peers(benches)]
    parts += [*section_scale(benches), *section_figures(benches), *section_machines(benches)]
    return "\n".join(parts)


# --- targets ------------------------------------------------------------------------------------


def section_targets(benches: dict[str, Bench], targets: list[dict[str, Any]]) -> list[str]:
    rows = [
        [target["what"], target["target"], measured(target, benches), verdict(target, benches)]
        for target in targets
    ]
    missed = [target for target in targets if verdict(target, benches) == "MISSED"]
    reasons = [
        f"- **{target['what']}**: {' '.join(target.get('why', 'not profiled yet.').split())}"
        for target in missed
    ]
    return [
        "## Targets\n",
        *table(["what", "target", "measured", ""], rows),
        "![What is measured as a ratio, with its target](benchmarks/ratios.svg)\n",
        *(["### What is missed, and why\n", *reasons, ""] if reasons else []),
    ]


def figures_of(target: dict[str, Any], benches: dict[str, Bench]) -> list[Figure]:
    named = (tuple(name.split(": ", 1)) for name in target["figures"])
    return [
        figure
        for bench, name in named
        for figure in benches.get(bench, {"figures": []})["figures"]
        if figure["name"] == name
    ]


def measured(target: dict[str, Any], benches: dict[str, Bench]) -> str:
    found = figures_of(target, benches)
    return "; ".join(map(headline, found)) or "not measured"


def verdict(target: dict[str, Any], benches: dict[str, Bench]) -> str:
    found = figures_of(target, benches)
    if not found:
        return ""
    return "OK" if all(figure["met"] for figure in found) else "MISSED"


def headline(figure: Figure) -> str:
    if "ratio" in figure and str(figure.get("target", "")).endswith("x"):
        return f"{figure['ratio']:.2f}x"
    value = f"{number(figure['ours'])} {figure['unit']}".strip()
    if "p99" in figure:
        return f"p50 {value}, p99 {number(figure['p99'])} {figure['unit']}"
    return value


# --- peers --------------------------------------------------------------------------------------


def section_peers(benches: dict[str, Bench]) -> list[str]:
    if "side_by_side" not in benches:
        return []
    figures = benches["side_by_side"]["figures"]
    parts = [
        "## Beside other stores\n",
        PEERS,
        "![Writing and searching beside other stores](benchmarks/peers.svg)\n",
    ]
    compared = [f for f in figures if "against" in f and "ratio" in f]
    parts += table(
        ["what", "theirs", "ours", "ratio", "besides"],
        [
            [
                figure["name"],
                f"{number(figure['reference'])} {figure['unit']}",
                f"{number(figure['ours'])} {figure['unit']}",
                f"{figure['ratio']:.2f}x",
                besides(figure, ("recall", "found", "prepared")),
            ]
            for figure in compared
        ],
    )
    parts.append(
        "*recall*: of the ten nearest, against an exact comparison. *found*: the text that the five "
        "words were drawn from is among ten hits. *prepared*: seconds before the first search.\n"
    )
    files = [f for f in figures if f["name"].startswith("file: ")]
    parts += table(
        [
            "store",
            "with vectors",
            "bytes a row",
            "peak MB",
            "durability as measured",
            "what it does not do",
        ],
        [
            [
                figure["name"].removeprefix("file: "),
                "yes" if figure["with_vectors"] else "no",
                number(figure["ours"]),
                number(figure["peak_mb"]),
                figure["durability"],
                figure["lacks"],
            ]
            for figure in files
        ],
    )
    return parts


def besides(figure: Figure, names: tuple[str, ...]) -> str:
    return ", ".join(
        f"{name} {figure[name]:.3g}" for name in names if figure.get(name, 0) >= NOTHING
    )


def section_scale(benches: dict[str, Bench]) -> list[str]:
    if "bench_scale" not in benches:
        return []
    plot = "![Drained rows a second and peak memory, by length of the queue](benchmarks/scale.svg)"
    return ["## At size\n", plot + "\n"]


# --- everything else ----------------------------------------------------------------------------


def section_figures(benches: dict[str, Bench]) -> list[str]:
    parts = ["## Every figure\n"]
    for name, bench in benches.items():
        if name == "side_by_side":
            continue
        rows = [
            [
                figure["name"],
                f"{number(figure['ours'])} {figure['unit']}",
                f"{number(figure['reference'])} {figure['unit']}" if "reference" in figure else "",
                figure.get("against", ""),
                f"{figure['ratio']:.2f}x" if "ratio" in figure else "",
                f"{figure['target']} {'OK' if figure['met'] else 'MISSED'}"
                if "target" in figure
                else "",
                besides(figure, ("p99", "recall", "peak_mb", "rounds")),
            ]
            for figure in bench["figures"]
        ]
        parts += [f"### {name}\n"]
        parts += table(
            ["what", "ours", "reference", "which is", "ratio", "target", "besides"], rows
        )
    return parts


def section_machines(benches: dict[str, Bench]) -> list[str]:
    """One row for benches that ran on the same machine on the same day with the same versions."""
    runs: dict[str, list[str]] = {}
    for name, bench in benches.items():
        machine = {key: value for key, value in bench["machine"].items() if key != "load"}
        runs.setdefault(json.dumps([bench["day"], machine, bench["versions"]]), []).append(name)
    rows = []
    for key, names in runs.items():
        day, machine, versions = json.loads(key)
        loads = [benches[name]["machine"]["load"] for name in names]
        said = (
            f"{machine['cpu']}, {machine['cores']} cores ({', '.join(machine['instructions'])}), "
            f"{machine['memory_gib']} GiB, {machine['system']}"
        )
        packages = ", ".join(f"{package} {version}" for package, version in versions.items())
        rows.append([day, said, f"{min(loads):g} to {max(loads):g}", packages, ", ".join(names)])
    return [
        "## Machine and versions\n",
        "The load is the system's when a bench started: above the cores, other work ran beside it.\n",
        *table(["day", "machine", "load", "versions", "benches"], rows),
    ]


def table(head: list[str], rows: list[list[str]]) -> list[str]:
    lines = [head, ["---"] * len(head), *rows]
    return ["\n".join("| " + " | ".join(row) + " |" for row in lines) + "\n"]


def number(value: float) -> str:
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}"


if __name__ == "__main__":
    sys.exit(main())
