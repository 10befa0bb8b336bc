"""Which test holds which lesson: each that the tests' README names is there."""

from __future__ import annotations

import re

import pytest

from documents import ROOT

TESTS = ROOT / "tests"


def lessons() -> dict[int, list[str]]:
    """What stands in backquotes, by lesson: files and folders, and names of tests in the last file."""
    rows = re.findall(
        r"^\| (\d+)\. [^|]+\|(.+)\|$", (TESTS / "README.md").read_text(), re.MULTILINE
    )
    return {int(number): re.findall(r"`([^`]+)`", held) for number, held in rows}


def test_every_lesson_is_held():
    assert [*lessons()] == [*range(1, 31)]
    assert all(lessons().values())


@pytest.mark.parametrize("number", range(1, 31))
def test_each_test_that_holds_a_lesson_is_there(number):
    names: list[str] = []
    for said in lessons()[number]:
        if "/" in said or said.endswith(".py"):
            assert (TESTS / said).exists(), said
            if said.endswith(".py"):
                names = re.findall(r"^def test_(\w+)", (TESTS / said).read_text(), re.MULTILINE)
        else:
            # "...": as the one before, with another end.
            end = said.removeprefix("...")
            assert [
                name for name in names if name == end or (end != said and name.endswith(end))
            ], said
