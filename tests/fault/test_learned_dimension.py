"""A dimension that is learned is kept for good: only a vector that can be stored may teach it."""

from __future__ import annotations

import numpy as np
import pytest

import inside
from fathomdb import EmbedderIdentity, EngineConfig, Node
from fathomdb.identity import MAX_DIMENSION
from fathomdb.testing import DeterministicEmbedder, Fault, FlakyEmbedder, ManualClock

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


def _ragged(places, dimension=7):
    """A result whose rows at these places have another length."""

    def effect(good, rows):
        made = good.tolist()
        for row in rows:
            made[row] = [0.5] * dimension
        return made

    return Fault(effect, texts=lambda text: text in places)


def _write(db, count):
    db.write([Node("Document", f"n{i}", f"text {i}") for i in range(count)])


@pytest.mark.parametrize("wrong", [{"text 0"}, {"text 5"}, {"text 0", "text 1", "text 2"}])
def test_rows_of_another_length_in_the_first_batch_teach_nothing_wrong(open_db, wrong):
    # Also where the first row is one of them: each text is asked for alone, and most rows teach.
    db = _open(open_db, _ragged(wrong))
    _write(db, 8)

    report = db.admin.drain_vector_projection(timeout=30)

    assert "(8 dimensions)" in db.admin.status().active_profile
    assert (report.processed, report.failed) == (8 - len(wrong), len(wrong))
    assert inside.adds_up(report)
    failed = db.admin.failed_work()
    assert {row.cause for row in failed} == {"dimension"}
    assert {f"text {row.chunk_id[1:-2]}" for row in failed} == wrong
    inside.check(db, GOOD)


def test_where_no_length_is_that_of_most_rows_nothing_is_learned_and_all_are_tried_again(open_db):
    clock = ManualClock()
    db = open_db(
        embedder=(flaky := FlakyEmbedder(GOOD, [_ragged({"text 0", "text 1"})])),
        config=EngineConfig(clock=clock),
    )
    _write(db, 4)

    report = db.admin.drain_vector_projection(timeout=30)

    assert (report.processed, report.failed, report.reverted) == (0, 0, 4)
    assert "(? dimensions)" in db.admin.status().active_profile
    rows = inside.work(db).values()
    assert {row.attempts for row in rows} == {1}
    assert all("numbers, and as many rows" in row.last_error for row in rows)
    assert inside.vectors(db) == {}
    flaky.script = ()
    clock.advance(10.0)
    assert db.admin.drain_vector_projection(timeout=30).processed == 4
    inside.check(db, GOOD)
