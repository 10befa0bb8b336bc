"""An engine lives as long as anything of it is in use, and no longer."""

from __future__ import annotations

import fathomdb
from fathomdb import Node


def test_the_admin_of_an_engine_that_nobody_else_holds_works(path):
    assert fathomdb.open(path, embedder=False).admin.status().pending == 0
    admin = fathomdb.open(path, embedder=False).admin
    assert admin.status().cursor == 0
    del admin
    fathomdb.open(path, embedder=False).close()


def test_a_stream_of_an_engine_that_nobody_else_holds_goes_to_its_end(open_db, path):
    with open_db(embedder=False) as db:
        db.write(Node("Doc", f"n{n}", properties={}) for n in range(1200))
    assert sum(1 for _ in fathomdb.open(path, embedder=False).nodes()) == 1200


def test_an_engine_that_nobody_holds_is_closed_at_once(path):
    db = fathomdb.open(path, embedder=False)
    db.admin.status()
    assert list(db.nodes()) == []
    del db
    fathomdb.open(path, embedder=False).close()
