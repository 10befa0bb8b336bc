"""The short form of ``make torture``: the same lives, kills and judges, fewer of them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork")

TESTS = Path(__file__).parents[1]


def _campaign(folder, *arguments):
    """Runs it in a process of its own, which must have opened nothing before it forks."""
    summary = folder / "summary.json"
    done = subprocess.run(
        [
            *(sys.executable, "-m", "torture"),
            *("--folder", str(folder), "--json", str(summary), *arguments),
        ],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(TESTS), *sys.path])},
        capture_output=True,
        text=True,
        check=False,
    )
    said = f"{done.stdout}\n{done.stderr}"
    return (json.loads(summary.read_text("utf-8")) if summary.exists() else None), said


def test_nothing_is_lost_stuck_or_wrong_after_60_kills_and_30_at_named_points(tmp_path):
    found, said = _campaign(
        tmp_path, "--kills", "60", "--stops", "30", "--stop-every", "3", "--seed", "1"
    )

    assert found is not None, said
    assert found["violations"] == [], said
    named = sum(found["by_stage"].values())
    assert named >= 30
    assert found["kills"] >= 60 + named
    assert found["acknowledged"] > 100
