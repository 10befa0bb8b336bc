"""A dimension that is learned is kept for good: only a vector that can be stored may teach it."""

from __future__ import annotations

import numpy as np
import pytest

import inside
from fathomdb import EmbedderIdentity, Node
from fathomdb.identity import MAX_DIMENSION
from fathomdb.testing import DeterministicEmbedder, Fault, FlakyEmbedder

GOOD = DeterministicEmbedder(8, identity=EmbedderIdentity("acme/undeclared", "1", None))


def _open(open_db, *faults):
    return open_db(embedder=FlakyEmbedder(GOOD, faults))


def test_a_bad_first_batch_teaches_no_dimension(open_db):
    db = _open(open_db, Fault(lambda good, rows: np.full((len(good), 3), np.nan), calls=[1]))
    db.write(Node("Document", "a", "first"))
    assert db.admin.run_tick().failed == 1
    assert [row.cause for row in db.admin.failed_work()] == ["not_finite"]
    assert "(? dimensions)" in db.admin.status().active_profile

    db.write(Node("Document", "b", "second"))
    assert db.admin.run_tick().processed == 1

    assert "(8 dimensions)" in db.admin.status().active_profile
    assert db.admin.requeue_failed("Document") == 1
    assert db.admin.run_tick().processed == 1
    inside.check(db, GOOD)


@pytest.mark.parametrize("columns", [MAX_DIMENSION + 1, 0])
def test_vectors_that_no_table_can_hold_are_a_broken_contract(open_db, columns):
    db = _open(open_db, Fault(lambda good, rows: np.ones((len(good), columns)), calls=range(1, 50)))
    db.write([Node("Document", f"n{i}", f"text {i}") for i in range(4)])

    report = db.admin.drain_vector_projection(timeout=30)

    assert (report.stopped_by, report.reverted) == ("unavailable", 4)
    assert db.admin.status().outage.startswith("EmbedderContractError: ")
    assert {row.attempts for row in inside.work(db).values()} == {0}


def test_one_text_with_too_many_dimensions_is_found_alone(open_db):
    def too_wide(good, rows):
        return np.ones((len(good), MAX_DIMENSION + 1))

    db = _open(open_db, Fault(too_wide, texts="poison"))
    db.write([Node("Document", f"n{i}", "poison" if i == 2 else f"text {i}") for i in range(8)])

    report = db.admin.drain_vector_projection(timeout=30)

    assert (report.processed, report.reverted) == (7, 1)
    assert f"{MAX_DIMENSION} at most" in inside.work(db)["n2#0"].last_error
    inside.check(db, GOOD)
