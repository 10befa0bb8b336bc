"""Recovery, death by death: what is claimed when, and who may be failed for it.

A process that dies leaves nothing but its file, so a death is played here on the file alone: rows
are claimed and not settled, and recovered as the next open does. Real processes that are killed:
``tests/fault/test_killing_texts.py``.
"""

from __future__ import annotations

import random
from collections import Counter

import pytest

import inside
from fathomdb import Node
from fathomdb.pipeline import claim
from fathomdb.pipeline.recover import recover
from fathomdb.store import profiles, work

MAX_ATTEMPTS = 5
SIZES = claim.BatchSizes(16, 16)
CLAIMED_AHEAD = 4


class Life:
    """One process after the other on the same file, each a time later than the one before."""

    def __init__(self, db, count, now_ms=1 << 50):
        self.db = db
        self.now_ms = now_ms
        db.write([Node("Document", f"n{i:03}", f"text {i}") for i in range(count)])
        with inside.snapshot(db) as connection:
            self.profile_id = profiles.active(connection).profile_id

    def claim(self):
        return inside.in_writer(
            self.db, lambda tx: claim.claim(tx, self.profile_id, SIZES, self.now_ms)
        )

    def rows(self, claimed):
        with inside.snapshot(self.db) as connection:
            return {row.chunk_id: row.work_id for row in work.claimed(connection, claimed.fence)}

    def settle(self, claimed):
        inside.in_writer(self.db, lambda tx: work.delete_all_claimed(tx.db, claimed.fence))

    def revert(self):
        inside.in_writer(self.db, lambda tx: work.revert_all(tx.db, tx.fence()))

    def die(self):
        """The process dies, and the next one opens the file."""
        self.now_ms += 1_000
        return inside.in_writer(self.db, lambda tx: recover(tx, MAX_ATTEMPTS, self.now_ms, 3600.0))

    def inflight(self):
        return {key for key, row in inside.work(self.db).items() if row.state == "inflight"}

    def failed(self):
        return {key for key, row in inside.work(self.db).items() if row.state == "failed"}

    def claim_ahead(self):
        """As many claims as a run has under way at once."""
        claims = []
        while len(claims) < CLAIMED_AHEAD and (claimed := self.claim()).count:
            claims.append(claimed)
        return claims


@pytest.fixture
def db(open_db):
    return open_db(durability="normal")  # nothing here is about the disk


def test_rows_of_a_dead_process_are_claimed_behind_what_waits_and_in_ever_smaller_batches(db):
    life = Life(db, 40)
    first = set(life.rows(life.claim()))
    assert len(first) == 16
    life.die()

    rest = life.claim(), life.claim()
    assert not first & {*life.rows(rest[0]), *life.rows(rest[1])}
    for claimed in rest:
        life.settle(claimed)
    second = life.claim()
    assert second.count == 2  # an eighth
    assert set(life.rows(second)) < first
    life.die()
    while (claimed := life.claim()).count == 2:
        life.settle(claimed)

    assert claimed.count == 1
    assert set(life.rows(claimed)) < set(first)


def _suspects(life):
    """Brings all rows to where they are claimed for the third time."""
    while life.claim().count:
        pass
    life.die()
    while life.claim().count:
        pass
    life.die()
    assert {row.attempts for row in inside.work(life.db).values()} == {2}


def test_a_row_that_is_claimed_for_the_third_time_after_deaths_is_the_only_one_inflight(db):
    life = Life(db, 8)
    _suspects(life)
    while inside.work(db):
        alone = life.claim()
        assert alone.count == 1
        assert life.claim().count == 0
        assert len(life.inflight()) == 1
        life.settle(alone)


def _write_due(life, node_id, due_at_ms):
    life.db.write(Node("Document", node_id, f"text {node_id}"))
    inside.in_writer(
        life.db,
        lambda tx: tx.db.execute(
            "UPDATE vector_projection_work SET due_at_ms = ? WHERE attempts = 0 "
            "AND due_at_ms < 1 << 49",
            (due_at_ms,),
        ),
    )


def test_what_must_be_alone_waits_for_what_is_inflight_and_later_work_does_not_pass_it(db):
    life = Life(db, 1)
    _suspects(life)
    _write_due(life, "early", life.now_ms - 1)
    _write_due(life, "late", life.now_ms + 1)
    life.now_ms += 1

    early = life.claim()
    assert set(life.rows(early)) == {"early#0", "late#0"}  # tried as often: one batch
    life.revert()
    inside.in_writer(
        db,
        lambda tx: tx.db.execute(
            "UPDATE vector_projection_work SET attempts = 1 WHERE work_id = 2"
        ),
    )
    early = life.claim()
    assert set(life.rows(early)) == {"early#0"}
    assert life.claim().count == 0
    life.settle(early)
    suspect = life.claim()
    assert set(life.rows(suspect)) == {"n000#0"}
    assert life.claim().count == 0  # "late" is due, and must not be beside it
    life.settle(suspect)

    assert set(life.rows(life.claim())) == {"late#0"}


def test_rows_that_were_charged_are_tried_again_beside_others(db):
    life = Life(db, 3)

    def charge(tx):
        tx.db.execute("UPDATE vector_projection_work SET attempts = 3, last_error = 'ValueError'")

    inside.in_writer(db, charge)

    assert [life.claim().count for _ in range(4)] == [1, 1, 1, 0]


@pytest.mark.parametrize("poison", [{"n017#0"}, {"n000#0", "n001#0"}, {"n003#0", "n063#0"}])
def test_texts_that_kill_are_failed_after_few_deaths_and_no_other_row_ever_is(db, poison):
    life = Life(db, 64)
    deaths = 0
    while True:
        claims = life.claim_ahead()
        if not claims:
            break
        for n, claimed in enumerate(claims):  # one after the other goes into the embedder
            if poison & set(life.rows(claimed)):
                life.die()
                deaths += 1
                break
            life.settle(claimed)
            assert n < CLAIMED_AHEAD

    assert life.failed() == poison
    assert set(inside.work(db)) == poison  # every other row was settled
    assert {row.cause for row in inside.work(db).values()} == {"process_died"}
    assert {row.attempts for row in inside.work(db).values()} == {MAX_ATTEMPTS}
    assert deaths <= MAX_ATTEMPTS * len(poison)


@pytest.mark.parametrize("seed", range(2))
def test_rows_inflight_at_any_number_of_kills_and_closes_are_failed_only_if_alone_three_times(
    db, seed
):
    chance = random.Random(seed)
    life = Life(db, 30)
    alone = Counter()
    for n in range(100):
        for _ in range(chance.randrange(4)):
            for claimed in life.claim_ahead():
                if chance.random() < 0.1:
                    life.settle(claimed)
        if chance.random() < 0.2:
            life.revert()  # a close
        inflight = life.inflight()
        if len(inflight) == 1:
            alone.update(inflight)
        life.die()
        if not inside.work(db):
            life = Life(db, 30, life.now_ms)
        for chunk_id in life.failed():
            assert alone[chunk_id] >= 3, (n, chunk_id)


def test_a_lone_row_is_not_failed_by_a_stray_kill_even_where_one_attempt_is_allowed(db):
    life = Life(db, 1)
    for _ in range(2):
        assert life.claim().count == 1
        inside.in_writer(db, lambda tx: recover(tx, 1, life.now_ms, 3600.0))
        assert life.failed() == set()

    assert life.claim().count == 1
    assert inside.in_writer(db, lambda tx: recover(tx, 1, life.now_ms, 3600.0)).failed == 1
    assert life.failed() == {"n000#0"}


def test_a_row_that_died_alone_is_not_failed_where_another_one_is_inflight_too(db):
    life = Life(db, 2)

    def plant(tx):
        tx.db.execute(
            "UPDATE vector_projection_work SET state = 'inflight', attempts = 9, last_error = ?",
            (work.PROCESS_DIED,),
        )

    inside.in_writer(db, plant)

    assert life.die().failed == 0
    assert life.failed() == set()


def test_a_row_that_was_charged_before_is_not_failed_by_its_first_death_alone(db):
    life = Life(db, 1)

    def plant(tx):
        tx.db.execute(
            "UPDATE vector_projection_work SET state = 'inflight', attempts = 9, "
            "last_error = 'ValueError: bad'"
        )

    inside.in_writer(db, plant)

    assert life.die().failed == 0
    assert life.failed() == set()


def test_a_text_that_is_rewritten_after_deaths_is_a_new_text(db):
    life = Life(db, 1)
    _suspects(life)

    db.write([Node("Document", "n000", "another text"), Node("Document", "other", "other")])

    assert life.claim().count == 2
