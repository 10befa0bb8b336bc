"""Readers in other processes, through every life of the process that writes."""

from __future__ import annotations

import random

import pytest

import crowd
import inside
from crowd import KINDS, MODELS, SEEDS
from fathomdb import EngineConfig

IDS = [f"n{n}" for n in range(40)]
CONFIG = EngineConfig(chunk_chars=crowd.CHUNK_CHARS)
LIVES = 4


@pytest.mark.parametrize("seed", SEEDS)
def test_readers_find_whole_nodes_while_their_owner_works_closes_and_opens_again(
    open_db, path, seed
):
    rng = random.Random(seed)
    open_db(embedder=MODELS[0], config=CONFIG).close()
    version = 0
    with crowd.reading_processes(path, IDS, count=3, seed=seed):
        for life in range(LIVES):
            db = open_db(embedder=MODELS[0], background=life % 2 == 0, config=CONFIG)
            for _ in range(8):
                version += 1
                some = rng.sample(IDS, 8)
                parts = rng.randrange(1, 4)
                db.write(
                    [crowd.node(rng.choice(KINDS), name, version, parts) for name in some[:6]],
                    retire=some[6:],
                )
            db.admin.drain_vector_projection(timeout=0.05)
            db.admin.rebuild(KINDS[0], "fts")
            kind = rng.choice(KINDS)
            db.admin.disable_vec(kind)
            db.admin.configure_vec(kind)
            db.admin.configure_fts(rng.choice(["trigram", "porter unicode61"]))
            db.admin.configure_embedding(MODELS[life % 2], acknowledge_rebuild_impact=True)
            db.admin.configure_embedding(MODELS[0], acknowledge_rebuild_impact=True)
            db.write([crowd.node("Doc", name, version + 1, 3) for name in rng.sample(IDS, 20)])
            version += 1
            db.close()
    again = open_db(embedder=MODELS[0], config=CONFIG)
    again.admin.drain_vector_projection(timeout=60)
    inside.check(again, *MODELS)
    assert again.admin.check_integrity().ok
