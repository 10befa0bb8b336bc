"""projection_digest: equal for equal texts and vectors, whatever happened on the way."""

from __future__ import annotations

import hashlib
import struct
from typing import TYPE_CHECKING

import numpy as np
import pytest

import fathomdb
import oracle

if TYPE_CHECKING:
    from collections.abc import Callable
from fathomdb import InvalidInputError, KindNotVectorIndexedError, Node
from fathomdb.testing import DeterministicEmbedder, temporary

NODES = [Node("Doc", f"d{n}", f"text number {n}") for n in range(150)]
NODES.append(Node("Doc", "å", chunks=["one", "two"]))


def digest_of(history: Callable[[fathomdb.Engine], object], seed: int = 0) -> str:
    with temporary(embedder=DeterministicEmbedder(seed=seed), background=False) as db:
        history(db)
        db.admin.drain_vector_projection()
        return db.admin.projection_digest("Doc")


def at_once(db: fathomdb.Engine) -> None:
    db.write(NODES)


def backwards_one_by_one(db: fathomdb.Engine) -> None:
    for node in reversed(NODES):
        db.write(node)


def in_ticks(db: fathomdb.Engine) -> None:
    for start in range(0, len(NODES), 20):
        db.write(NODES[start : start + 20])
        db.admin.run_tick()


def rewritten_and_back(db: fathomdb.Engine) -> None:
    db.write(NODES)
    db.admin.drain_vector_projection()
    db.write([Node("Doc", node.node_id, "something else") for node in NODES[:70]])
    db.admin.run_tick()
    db.write(NODES[:70])


def beside_others(db: fathomdb.Engine) -> None:
    db.write([Node("Note", "n1", "of another kind"), Node("Doc", "gone", "retired later")])
    db.write(NODES)
    db.admin.drain_vector_projection()
    db.write(retire="gone")


def rebuilt(db: fathomdb.Engine) -> None:
    db.write(NODES)
    db.admin.drain_vector_projection()
    db.admin.rebuild("Doc")


def disabled_and_enabled(db: fathomdb.Engine) -> None:
    db.write(NODES)
    db.admin.drain_vector_projection()
    db.admin.disable_vec("Doc")
    db.admin.configure_vec("Doc")


@pytest.mark.parametrize(
    "history",
    [
        backwards_one_by_one,
        in_ticks,
        rewritten_and_back,
        beside_others,
        rebuilt,
        disabled_and_enabled,
    ],
)
def test_the_digest_does_not_depend_on_the_history(history):
    assert digest_of(history) == digest_of(at_once)


def test_another_text_another_id_and_another_model_have_another_digest():
    digests = {
        digest_of(at_once),
        digest_of(at_once, seed=1),
        digest_of(lambda db: db.write([*NODES[1:], Node("Doc", "d0", "another text")])),
        digest_of(lambda db: db.write([*NODES[1:], Node("Doc", "e0", "text number 0")])),
        digest_of(lambda db: db.write(NODES[1:])),
    }
    assert len(digests) == 5


def test_the_digest_is_what_its_description_says(db):
    db.write(NODES)
    db.admin.drain_vector_projection()
    embedder = DeterministicEmbedder()
    fingerprint = embedder.identity().fingerprint.encode()
    chunks = [
        (chunk.chunk_id, chunk.text) for node in NODES for chunk in db.get(node.node_id).chunks
    ]
    with db._runtime.snapshot() as connection:
        stored = dict(
            connection.execute(
                "SELECT c.chunk_id, v.embedding FROM chunks AS c "
                f'JOIN "{fathomdb.store.vectors.table_name("Doc", 1)}" AS v USING (chunk_key)'
            )
        )
    expected = hashlib.sha256()
    for chunk_id, text in sorted(chunks, key=lambda item: item[0].encode()):
        vector = np.asarray(embedder.batch_embed([text]))[0]
        np.testing.assert_allclose(np.frombuffer(stored[chunk_id], "<f4"), vector, atol=1e-6)
        canonical = oracle.canonical_hash(chunk_id, text)
        for field in (chunk_id.encode(), canonical, fingerprint, stored[chunk_id]):
            expected.update(struct.pack("<Q", len(field)) + field)

    assert db.admin.projection_digest("Doc") == expected.hexdigest()


def test_a_chunk_without_its_vector_is_not_in_the_digest(db):
    db.write(NODES)
    db.admin.drain_vector_projection()
    before = db.admin.projection_digest("Doc")
    db.write(Node("Doc", "late", "not embedded yet"))
    assert db.admin.projection_digest("Doc") == before


def test_a_kind_that_is_unknown_or_not_indexed_is_refused(db):
    db.write(Node("Doc", "d1", "text"))
    db.admin.disable_vec("Doc")
    with pytest.raises(KindNotVectorIndexedError, match="configure_vec"):
        db.admin.projection_digest("Doc")
    with pytest.raises(InvalidInputError, match="unknown kind"):
        db.admin.projection_digest("Nothing")
