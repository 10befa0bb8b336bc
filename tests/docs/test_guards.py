"""The page of reliability names every guard that is taken out, and the tests that must see it."""

from __future__ import annotations

import re
import sys

from documents import ROOT

PAGE = ROOT / "docs" / "explanation" / "reliability.md"


def test_the_page_names_each_guard_and_its_tests(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "tools")
    monkeypatch.delitem(sys.modules, "guards", raising=False)
    import guards

    section = PAGE.read_text(encoding="utf-8").split("## Whether the proofs would notice")[1]
    rows = re.findall(r"^\| (.+) \| `(tests/.+)` \|$", section.split("\n## ")[0], re.MULTILINE)

    assert rows == [(name, guard.tests) for name, guard in guards.GUARDS.items()]
