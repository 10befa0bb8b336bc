"""A search while kinds are under two models: no distance of one is ever compared with the other's."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import fathomdb
from fathomdb import EmbedderIdentity, Node
from fathomdb.testing import DeterministicEmbedder

KINDS = ("Document", "Note")
TEXTS = 40


class Nearer(DeterministicEmbedder):
    """The same order as the model it is made of, and other distances: all of them drawn nearer.

    A common direction of the given share is added to every vector.
    """

    def __init__(self, dimension, seed, share):
        identity = EmbedderIdentity("test/nearer", f"{seed}/{share}", dimension + 1)
        super().__init__(dimension + 1, identity=identity, seed=seed)
        self._plain = DeterministicEmbedder(dimension, seed=seed)
        self._share = share

    def batch_embed(self, texts):
        made = np.asarray(self._plain.batch_embed(texts), dtype=np.float64)
        common = np.full((len(texts), 1), self._share)
        return np.hstack([made * np.sqrt(1 - self._share**2), common])


@pytest.fixture(scope="module")
def halfway(tmp_path_factory):
    """Files in mid-switch whose new models rank alike and differ in how near everything is."""
    folder = tmp_path_factory.mktemp("halfway")
    engines = []
    for share in (0.0, 0.5, 0.95):
        old = DeterministicEmbedder(16, seed=1)
        db = fathomdb.open(folder / f"{share}.db", embedder=old, background=False)
        db.write(Node(KINDS[n % 2], f"n{n}", f"text number {n}") for n in range(TEXTS))
        db.admin.drain_vector_projection()
        db.admin.configure_embedding(Nearer(12, 2, share), acknowledge_rebuild_impact=True)
        db.admin.run_tick()
        answers = [kind.answers for kind in db.admin.status().switch.kinds]
        assert answers == [True, False]
        engines.append(db)
    yield engines
    for db in engines:
        db.close()


searches = st.fixed_dictionaries(
    {
        "query": st.integers(0, 2 * TEXTS).map(lambda n: f"text number {n}")
        | st.just("a question"),
        "limit": st.integers(1, TEXTS + 5),
        # What nearness adds is the same for all of an arm, so that scaling takes it away too.
        "fusion": st.sampled_from(["rrf", "convex"]),
        "vector_weight": st.sampled_from([0.1, 0.4, 1.0]),
    }
)


@settings(deadline=None, max_examples=60)
@given(asked=searches)
def test_how_near_one_model_has_everything_moves_no_hit_of_the_other(halfway, asked):
    found = [[hit.node_id for hit in db.search(**asked)] for db in halfway]
    assert found[0] == found[1] == found[2]
    query, limit = asked["query"], asked["limit"]
    found = [[hit.node_id for hit in db.semantic_search(query, limit=limit)] for db in halfway]
    assert found[0] == found[1] == found[2]


@settings(deadline=None, max_examples=60)
@given(asked=searches)
def test_each_kind_is_in_the_order_of_its_own_model(halfway, asked):
    query = asked["query"]
    for db in halfway:
        both = db.semantic_search(query, limit=TEXTS)
        assert len(both) == TEXTS
        for kind in KINDS:
            alone = db.semantic_search(query, kind=kind, limit=TEXTS)
            assert [hit.node_id for hit in alone] == [
                hit.node_id for hit in both if hit.kind == kind
            ]
            distances = [hit.distance for hit in alone]
            assert distances == sorted(distances)
        # By rank in turn, whatever the distances are.
        assert all({both[n].kind, both[n + 1].kind} == {*KINDS} for n in range(0, TEXTS, 2))
