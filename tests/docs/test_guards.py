"""The guards that `make guards` takes out: each is there, and the page of reliability names it."""

from __future__ import annotations

import importlib.util
import re
import sys

import pytest

from documents import ROOT

PAGE = ROOT / "docs" / "explanation" / "reliability.md"


@pytest.fixture(scope="module")
def guards():
    spec = importlib.util.spec_from_file_location("guards", ROOT / "tools" / "guards.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # its dataclass asks for it
    spec.loader.exec_module(module)
    return module


def test_each_guard_stands_once_in_its_file_and_its_tests_are_there(guards):
    for name, guard in guards.GUARDS.items():
        assert (guards.PACKAGE / guard.file).read_text(encoding="utf-8").count(guard.line) == 1, (
            name
        )
        assert (ROOT / guard.tests).exists(), name


def test_the_page_names_each_guard_and_its_tests(guards):
    section = PAGE.read_text(encoding="utf-8").split("## Whether the proofs would notice")[1]
    rows = re.findall(r"^\| (.+) \| `(tests/.+)` \|$", section.split("\n## ")[0], re.MULTILINE)

    assert rows == [(name, guard.tests) for name, guard in guards.GUARDS.items()]
