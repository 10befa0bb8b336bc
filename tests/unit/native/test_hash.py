from __future__ import annotations

import json
from pathlib import Path

import pytest

from fathomdb._native import (
    canonical_chunk_hash,
    canonical_chunk_hashes,
    content_hashes,
    verify_chunk_hashes,
)
from fathomdb.errors import InvalidInputError

GOLDEN = json.loads((Path(__file__).parents[2] / "data" / "golden_hashes.json").read_text("utf-8"))
IDS = [case["chunk_id"] for case in GOLDEN]
TEXTS = [case["text"] for case in GOLDEN]
CANONICAL = [bytes.fromhex(case["canonical"]) for case in GOLDEN]
CONTENT = [bytes.fromhex(case["content"]) for case in GOLDEN]


def test_hashes_are_the_golden_ones_alone_and_in_a_batch() -> None:
    assert [canonical_chunk_hash(*pair).encode() for pair in zip(IDS, TEXTS, strict=True)] == [
        digest.hex().encode() for digest in CANONICAL
    ]
    assert canonical_chunk_hashes(IDS, TEXTS) == CANONICAL
    assert canonical_chunk_hashes(tuple(IDS), iter(TEXTS), content=True) == (CANONICAL, CONTENT)
    assert content_hashes(TEXTS) == CONTENT


def test_verify_returns_the_indices_that_differ() -> None:
    altered = [*TEXTS]
    altered[2] += "!"
    altered[-1] = ""
    assert verify_chunk_hashes(IDS, TEXTS, CANONICAL) == []
    assert verify_chunk_hashes(IDS, altered, CANONICAL) == [2, len(IDS) - 1]
    differing, content = verify_chunk_hashes(IDS, TEXTS, CANONICAL[::-1], content=True)
    assert content == CONTENT
    assert differing == [n for n in range(len(IDS)) if CANONICAL[n] != CANONICAL[::-1][n]]


def test_empty_batches_have_no_hashes() -> None:
    assert canonical_chunk_hashes([], []) == []
    assert canonical_chunk_hashes([], [], content=True) == ([], [])
    assert verify_chunk_hashes([], [], []) == []


def test_a_nul_belongs_to_a_text_but_never_to_an_id() -> None:
    assert canonical_chunk_hashes(["a"], ["\0b"]) != canonical_chunk_hashes(["a"], ["b"])
    with pytest.raises(InvalidInputError, match=r"chunk_id at index 1 .*NUL.*a\\0"):
        canonical_chunk_hashes(["x", "a\0"], ["b", "b"])
    with pytest.raises(InvalidInputError, match="NUL"):
        canonical_chunk_hash("a\0", "b")


@pytest.mark.parametrize(
    ("ids", "texts", "message"),
    [
        (["x", ""], ["a", "b"], "chunk_id at index 1 is empty"),
        (["x", "\udc80"], ["a", "b"], r"chunk_ids at index 1 has a lone surrogate.*'\\udc80'"),
        (["x", "y"], ["a", "b\ud800"], r"texts at index 1 has a lone surrogate.*'b\\ud800'"),
        (["x"], ["a", "b"], "chunk_ids has 1 items and texts has 2"),
        (["x"], [b"a"], "texts at index 0 must be a str, got bytes"),
        ([None], ["a"], "chunk_ids at index 0 must be a str, got NoneType"),
        ("x", ["a"], "chunk_ids must be a list, got str"),
        (["x"], None, "texts must be a list, got NoneType"),
    ],
)
def test_what_has_no_hash_is_refused_by_name_and_index(
    ids: object, texts: object, message: str
) -> None:
    with pytest.raises(InvalidInputError, match=message):
        canonical_chunk_hashes(ids, texts)  # type: ignore[call-overload]


def test_a_long_refused_text_is_shown_short() -> None:
    with pytest.raises(InvalidInputError) as caught:
        canonical_chunk_hash("x", "\ud800" + "y" * 10_000)
    assert len(str(caught.value)) < 200


@pytest.mark.parametrize(
    ("expected", "message"),
    [
        ([b"short"], "index 0 has 5 bytes"),
        (["a" * 32], "expected at index 0 must be bytes, got str"),
        ([], "chunk_ids has 1 items and expected has 0"),
    ],
)
def test_verify_refuses_what_is_no_hash(expected: object, message: str) -> None:
    with pytest.raises(InvalidInputError, match=message):
        verify_chunk_hashes(["x"], ["a"], expected)  # type: ignore[call-overload]
