"""What is counted of the queue, and what it takes."""

from __future__ import annotations

import apsw

from fathomdb import Node
from fathomdb.store import queue


def test_counting_a_long_queue_fills_no_cache_and_leaves_its_size_as_it_was(open_db):
    db = open_db(embedder="hashing", background=False)
    db.write(Node("Doc", f"n{n}", f"text {n}") for n in range(20_000))
    with db._runtime.snapshot() as connection:
        before = connection.execute("PRAGMA cache_size").get
        count = queue.unsettled(connection, db._runtime.model.profile.profile_id)
        assert count == 20_000
        used, _ = connection.status(apsw.SQLITE_DBSTATUS_CACHE_USED)
        assert used < 32 * connection.execute("PRAGMA page_size").get
        assert connection.execute("PRAGMA cache_size").get == before
