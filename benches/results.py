"""Keeps what a bench found as JSON in ``.bench/results``, from which ``make report`` writes its page."""

from __future__ import annotations

import datetime as dt
import json
import os
import platform
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import apsw

__all__ = ["aim", "keep"]

RESULTS = Path(__file__).resolve().parent.parent / ".bench" / "results"
PACKAGES = ("fathomdb-py", "apsw", "sqlite-vec", "numpy")
# Of all that a CPU can do, what the kernels ask for.
INSTRUCTIONS = ("sha_ni", "avx2", "f16c", "avx512_vpopcntdq", "sha2", "asimd")

_figures: list[dict[str, Any]] = []


def aim(target: str, met: bool) -> str:
    """The end of a line that has a target."""
    return f"  target {target} {'OK' if met else 'MISSED'}"


def keep(
    name: str,
    ours: float,
    unit: str,
    *,
    reference: float | None = None,
    against: str | None = None,
    ratio: float | None = None,
    target: str | None = None,
    met: bool = False,
    seed: int = 0,
    **about: Any,
) -> str:
    """Keeps one figure under a name that its bench has once, and returns the end of its line.

    ``about`` is whatever else a reader would ask for: sizes, rounds, percentiles.
    """
    assert all(figure["name"] != name for figure in _figures), name
    figure = {
        "name": name,
        "ours": ours,
        "unit": unit,
        "reference": reference,
        "against": against,
        "ratio": ratio,
        "target": target,
        "met": met if target else None,
        "seed": seed,
        **about,
    }
    _figures.append({key: _short(value) for key, value in figure.items() if value is not None})
    _write()
    return "" if target is None else aim(target, met)


def _short(value: Any) -> Any:
    """Four digits are more than any of these figures is good for."""
    return float(f"{value:.4g}") if isinstance(value, float) else value


def _write() -> None:
    bench = "-".join([Path(sys.argv[0]).stem, *sys.argv[1:]])
    RESULTS.mkdir(parents=True, exist_ok=True)
    found = {"bench": bench, **_ABOUT, "figures": _figures}
    (RESULTS / f"{bench}.json").write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


def _about() -> dict[str, Any]:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    cpu, instructions = _cpu()
    pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return {
        "day": dt.datetime.now(tz=dt.UTC).date().isoformat(),
        "machine": {
            "cpu": cpu,
            "cores": cores,
            "instructions": instructions,
            "memory_gib": round(pages / 2**30),
            "system": f"{platform.system()} {platform.release()}",
            # Above the number of cores the machine had other work while the bench ran.
            "load": round(os.getloadavg()[0], 1),
        },
        "versions": {
            "python": platform.python_version(),
            "sqlite": apsw.sqlite_lib_version(),
            **{package: version(package) for package in PACKAGES},
        },
    }


def _cpu() -> tuple[str, list[str]]:
    known = Path("/proc/cpuinfo")
    if not known.exists():
        return platform.processor() or platform.machine(), []
    lines = known.read_text(encoding="utf-8").splitlines()
    said = dict(map(str.strip, line.split(":", 1)) for line in lines if ":" in line)
    flags = said.get("flags", said.get("Features", "")).split()
    name = said.get("model name", platform.machine())
    return name, [word for word in INSTRUCTIONS if word in flags]


_ABOUT = _about()  # before the bench itself is the load
