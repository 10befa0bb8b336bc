"""A claim costs the same however many rows wait and however many have failed."""

from __future__ import annotations

import apsw

import inside
from fathomdb import Node
from fathomdb.store import work

PENDING, FAILED = 1_000_000, 100_000

# As writes would leave them, but in one statement each: one node with very many chunks.
_CHUNKS = """
WITH RECURSIVE n (i) AS (SELECT :first UNION ALL SELECT i + 1 FROM n WHERE i < :last)
INSERT INTO chunks (chunk_key, chunk_id, node_key, ordinal, canonical_hash, text)
SELECT i, 'c' || i, 1, i, zeroblob(32), 'a text' FROM n
"""
_WORK = """
INSERT INTO vector_projection_work (chunk_key, profile_id, kind, canonical_hash, priority, state,
    fence, attempts, enqueued_at_ms, due_at_ms, cause)
SELECT chunk_key, 1, 'Document', canonical_hash, 1000, :state, 1, 0, chunk_key, chunk_key, :cause
FROM chunks WHERE chunk_key BETWEEN :first AND :last
"""


def _fill(db, first, count, state="pending", cause=None):
    def operation(tx):
        last = first + count - 1
        tx.db.execute(_CHUNKS, {"first": first, "last": last})
        tx.db.execute(_WORK, {"first": first, "last": last, "state": state, "cause": cause})

    inside.in_writer(db, operation)


def _steps_of_a_claim(db):
    """Steps of SQLite's machine that looking for work and claiming a batch takes."""
    steps = []

    def operation(tx):
        def profiled(event):
            steps.append(event["stmt_status"]["SQLITE_STMTSTATUS_VM_STEP"])
            assert event["stmt_status"]["SQLITE_STMTSTATUS_FULLSCAN_STEP"] == 0
            assert event["stmt_status"]["SQLITE_STMTSTATUS_SORT"] == 0

        tx.db.trace_v2(apsw.SQLITE_TRACE_PROFILE, profiled)
        try:
            assert work.inflight(tx.db) == []
            due = work.first_due(tx.db, 1, incremental=True, now_ms=1 << 50)
            assert due == (0, False)
            assert not work.has_due(tx.db, 1, incremental=False, now_ms=1 << 50)
            claimed = work.claim(
                tx.db,
                1,
                incremental=True,
                limit=64,
                attempts=0,
                fence=tx.fence(),
                now_ms=1 << 50,
            )
        finally:
            tx.db.trace_v2(0, None)
        assert claimed == 64

    inside.in_writer(db, operation)
    inside.in_writer(db, lambda tx: work.revert_all(tx.db, tx.fence()))
    return sum(steps)


def test_a_claim_takes_as_many_steps_from_a_long_queue_with_failed_rows_as_from_a_short_one(db):
    db.write(Node("Document", "n"))
    db.admin.configure_vec("Document")
    _fill(db, 1, 100)
    short = _steps_of_a_claim(db)

    _fill(db, 101, PENDING)
    _fill(db, 101 + PENDING, FAILED, "failed", "embedder_error")
    long = _steps_of_a_claim(db)

    assert db.admin.get_vec_index_status("Document").pending_incremental == 100 + PENDING
    assert short > 64  # it was measured at all
    assert long <= 1.05 * short
