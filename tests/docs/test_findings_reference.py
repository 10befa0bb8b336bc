"""The reference of findings names every code, and no other."""

from __future__ import annotations

import re

from documents import ROOT
from fathomdb.store.findings import ADVICE


def test_every_code_of_a_finding_is_in_the_reference_in_their_order():
    text = (ROOT / "docs" / "reference" / "findings.md").read_text()
    assert re.findall(r"^\| `(\w+)` \|", text, re.MULTILINE) == [*ADVICE]
