"""ContentIndex against a dictionary of sets."""

from __future__ import annotations

import random

import pytest

from fathomdb import InvalidInputError, _native

SEED = 20261123


def test_it_finds_what_a_dictionary_finds_and_the_newest_first():
    chance = random.Random(SEED)
    hashes = [chance.randbytes(32) for _ in range(50)]
    expected: dict[bytes, set[int]] = {}
    index = _native.ContentIndex()
    for _ in range(200):
        batch = chance.choices(hashes, k=chance.randrange(5))
        keys = [chance.randrange(-(2**40), 2**40) for _ in batch]
        for content_hash, key in zip(batch, keys, strict=True):
            expected.setdefault(content_hash, set()).add(key)
        index.add(batch, keys)

    assert len(index) == sum(map(len, expected.values()))
    for content_hash in hashes:
        found = index.find([content_hash], 1000)
        assert sorted(found) == sorted(expected.get(content_hash, ()))
        # The one that came first may be anywhere; of the others the greatest keys come first.
        assert found[:-1] == sorted(found[:-1], reverse=True)
        assert index.find([content_hash], 2) == found[:2]
    assert sorted(index.find(hashes, 1000)) == sorted(
        key for keys in expected.values() for key in keys
    )


def test_the_same_row_is_noted_once():
    index = _native.ContentIndex()
    for _ in range(3):
        index.add([b"a" * 32, b"a" * 32], [1, 2])
    assert (len(index), index.find([b"a" * 32], 9)) == (2, [2, 1])


def test_hashes_that_begin_alike_are_found_together_for_the_caller_to_compare():
    index = _native.ContentIndex()
    index.add([b"12345678" + b"a" * 24], [1])
    assert index.find([b"12345678" + b"b" * 24], 9) == [1]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (([b"a"], []), "equally many, got 1 and 0"),
        ((["a"], [1]), "hashes at index 0 must be bytes, got str"),
        (
            ([b"a"], [2**63]),
            "keys at index 0 must be an integer of 64 bits, got 9223372036854775808",
        ),
        (([b"a"], ["1"]), "keys at index 0 must be an integer"),
        ((b"a", [1]), "hashes must be a list"),
    ],
)
def test_what_cannot_be_noted_is_refused_and_nothing_is_noted(arguments, said):
    index = _native.ContentIndex()
    with pytest.raises(InvalidInputError, match=said):
        index.add(*arguments)
    assert len(index) == 0


@pytest.mark.parametrize("most", [0, -1, True, "1"])
def test_it_is_asked_for_at_least_one_of_each(most):
    with pytest.raises(InvalidInputError, match="most must be an integer of 1 or more"):
        _native.ContentIndex().find([b"a"], most)
