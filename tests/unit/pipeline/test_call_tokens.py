"""How many texts go into one call of an embedder that declares how many tokens it likes."""

from __future__ import annotations

import pytest

import inside
from fathomdb import Node
from fathomdb.embedders.protocol import EmbedderLimits
from fathomdb.pipeline import embed
from fathomdb.testing import DeterministicEmbedder, RecordingEmbedder

# Of one token, two, two, one, ten, and one: four characters each, rounded up.
TEXTS = ["a", "12345", "12345678", "abcd", "x" * 40, "b"]


def _open(open_db, tokens):
    inner = DeterministicEmbedder(limits=EmbedderLimits(tokens=tokens))
    embedder = RecordingEmbedder(inner)
    db = open_db(embedder=embedder)
    db.write(Node("Document", f"n{i}", text) for i, text in enumerate(TEXTS))
    assert db.admin.drain_vector_projection(timeout=30).processed == len(TEXTS)
    inside.check(db, inner)
    return [list(batch) for batch in embedder.batches]


@pytest.mark.parametrize(
    ("tokens", "cuts"),
    [
        (1, [1, 1, 1, 1, 1, 1]),  # at least one text, whatever its length
        (3, [2, 2, 1, 1]),
        (6, [4, 1, 1]),
        (17, [6]),
        (None, [6]),
    ],
)
def test_a_call_has_no_more_estimated_tokens_than_the_embedder_likes(open_db, tokens, cuts):
    calls = _open(open_db, tokens)

    assert [len(call) for call in calls] == cuts
    assert [text for call in calls for text in call] == TEXTS


@pytest.mark.parametrize("tokens", [None, 5])
def test_nothing_to_embed_is_no_call(tokens):
    with pytest.raises(StopIteration):
        next(embed.embed([], [], tokens))
