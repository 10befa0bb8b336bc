"""The page of benchmarks says what the kept figures say, and why where one misses its target."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys

import pytest

from documents import ROOT

PARTS = ("benches/report.py", "benches/targets.toml", "docs/benchmarks.md")


@pytest.fixture
def copy(tmp_path):
    """What the page is made of, to be changed."""
    shutil.copytree(ROOT / "docs" / "benchmarks", tmp_path / "docs" / "benchmarks")
    (tmp_path / "benches").mkdir()
    for part in PARTS:
        shutil.copyfile(ROOT / part, tmp_path / part)
    return tmp_path


def check(root) -> subprocess.CompletedProcess[str]:
    program = [sys.executable, root / "benches" / "report.py", "--check"]
    return subprocess.run(program, check=False, capture_output=True, text=True, timeout=60)


def test_the_page_is_what_its_figures_give_and_every_missed_target_has_its_reason():
    done = check(ROOT)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_figure_that_is_not_on_the_page_is_found(copy):
    path = copy / "docs" / "benchmarks" / "bench_idle.json"
    found = json.loads(path.read_text())
    found["figures"][0]["ours"] = 0.1234
    path.write_text(json.dumps(found))
    done = check(copy)
    assert (done.returncode, "make report" in done.stderr) == (1, True)


def test_a_missed_target_without_a_reason_is_found(copy):
    (copy / "benches" / "targets.toml").write_text(
        '[[target]]\nwhat = "idle"\ntarget = "1 %"\nfigures = ["bench_idle: idle engine"]\n'
    )
    path = copy / "docs" / "benchmarks" / "bench_idle.json"
    found = json.loads(path.read_text())
    found["figures"][0]["met"] = False
    path.write_text(json.dumps(found))
    done = check(copy)
    assert (done.returncode, "does not say why: idle" in done.stderr) == (1, True)
