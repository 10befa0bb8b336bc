from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import oracle
from fathomdb._native import SPLITTER_VERSION, split_text
from fathomdb.errors import InvalidInputError

GOLDEN = json.loads((Path(__file__).parents[2] / "data" / "golden_splits.json").read_text("utf-8"))


def test_the_golden_pieces_belong_to_this_splitter() -> None:
    assert GOLDEN["splitter"] == SPLITTER_VERSION


@pytest.mark.parametrize("case", GOLDEN["cases"], ids=lambda case: repr(case["text"][:20]))
def test_texts_are_cut_into_the_golden_pieces(case: dict[str, Any]) -> None:
    pieces = split_text(case["text"], case["chunk_chars"])
    assert [piece for _, _, piece in pieces] == case["pieces"]


def test_offsets_are_bytes_of_utf8() -> None:
    assert split_text("é ü", 1) == [(0, 3, "é "), (3, 5, "ü")]


@pytest.mark.parametrize(
    ("text", "chunk_chars", "message"),
    [
        ("a", 0, "chunk_chars must be an integer of 1 or more, got 0"),
        ("a", True, "chunk_chars must be an integer of 1 or more, got True"),
        ("a", None, "chunk_chars must be an integer of 1 or more, got None"),
        ("a\ud800", 5, r"text has a lone surrogate.*'a\\ud800'"),
        (b"a", 5, "text must be a str, got bytes"),
    ],
)
def test_what_cannot_be_split_is_refused(text: Any, chunk_chars: Any, message: str) -> None:
    with pytest.raises(InvalidInputError, match=message):
        split_text(text, chunk_chars)


@pytest.mark.parametrize(
    ("text", "chunk_chars"),
    [
        ("x" * 4_000_000, 1000),
        ("function(a,b){return a.c(b)+1};" * 130_000, 1000),
        ("No end of the line. " * 200_000, 1000),
        (" " * 500_000 + "x" + " " * 500_000, 1),
        ("a word\n" * 150_000, 20),
        ("ภาษาไทย" * 50_000, 100),
    ],
    ids=["one word", "minified", "one line", "blank", "short lines", "thai"],
)
def test_a_long_text_without_places_to_cut_is_cut_all_the_same(text: str, chunk_chars: int) -> None:
    # Work that grows with the square of the length would take from minutes to hours here.
    assert oracle.fault_of_split(text, chunk_chars, split_text(text, chunk_chars)) is None
