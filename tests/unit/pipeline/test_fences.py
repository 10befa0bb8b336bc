"""Claim and apply on a real store: fences that move on, and statements that stay cheap."""

from __future__ import annotations

import pytest

import inside
import oracle
from fathomdb import Node
from fathomdb.pipeline import apply, claim, embed, outcome, verify
from fathomdb.pipeline.validate import validate
from fathomdb.store import profiles, work
from fathomdb.testing import DeterministicEmbedder

EMBEDDER = DeterministicEmbedder()
SIZES = claim.BatchSizes(64, 32)
POLICY = apply.RetryPolicy(5, 1.0)
NOW_MS = 1 << 50
"""Later than any due time."""


@pytest.fixture
def claimed(db):
    """Three rows, claimed by hand, and what a good embedder made of them."""
    db.write([Node("Document", f"n{i}", f"text {i}") for i in range(3)])
    return _claim_and_embed(db)


def _claim_and_embed(db):
    with inside.snapshot(db) as connection:
        profile = profiles.active(connection)
    taken = inside.in_writer(
        db,
        lambda tx: claim.claim(tx, profile.profile_id, SIZES, NOW_MS),
    )
    with inside.snapshot(db) as connection:
        rows = work.claimed(connection, taken.fence)
    verified = verify.verify(rows, {"Document"})
    packed = validate(EMBEDDER.batch_embed(verified.texts), len(rows), profile)
    return outcome.BatchOutcome(
        taken,
        stored=[
            outcome.Stored(row, packed, n, verified.content_hashes[n], reused=False)
            for n, row in enumerate(verified.rows)
        ],
        kinds={"Document"},
    )


def _apply(db, result):
    return inside.in_writer(db, lambda tx: apply.apply_if_claimed(tx, result, POLICY, NOW_MS))


def _reverted_and_claimed_again(db):
    inside.in_writer(db, lambda tx: work.revert_all(tx.db, tx.fence()))
    return _claim_and_embed(db)


def test_an_outcome_is_applied_once(db, claimed):
    assert _apply(db, claimed).incremental_processed == 3
    stored = inside.blobs(db)

    tally = _apply(db, claimed)

    assert (tally.claimed, tally.discard_reasons) == (3, {"superseded": 3})
    assert inside.blobs(db) == stored
    inside.check(db, EMBEDDER)


def test_an_outcome_under_an_old_fence_writes_nothing_though_the_rows_are_inflight_again(
    db, claimed
):
    second = _reverted_and_claimed_again(db)
    before = inside.work(db)

    tally = _apply(db, claimed)

    assert (tally.claimed, tally.discard_reasons) == (3, {"superseded": 3})
    assert inside.work(db) == before
    assert inside.vectors(db) == {}
    assert _apply(db, second).incremental_processed == 3
    inside.check(db, EMBEDDER)


@pytest.mark.parametrize("what", ["stored", "discarded", "failed", "charged", "reverted"])
def test_nothing_of_an_old_outcome_settles_rows_that_another_claim_holds(db, claimed, what):
    _reverted_and_claimed_again(db)
    rows = [item.row for item in claimed.stored]
    late = outcome.BatchOutcome(claimed.claim, kinds={"Document"}, error="late")
    if what == "stored":
        late.stored = claimed.stored
    elif what == "discarded":
        late.discarded = [outcome.Discarded(row, "no_live_chunk") for row in rows]
        late.discarded[0] = outcome.Discarded(rows[0], "hash_changed", bytes(32))
    elif what == "failed":
        late.failed = [outcome.Failed(row, "zero", "late") for row in rows]
    elif what == "charged":
        late.charged = [outcome.Charged(row, "late") for row in rows]
    before = inside.work(db)

    assert _apply(db, late).discard_reasons == {"superseded": 3}

    assert inside.work(db) == before
    assert inside.vectors(db) == {}


def test_an_outcome_of_rows_that_a_reopen_recovered_writes_nothing(db, claimed):
    inside.in_writer(db, lambda tx: work.recover(tx.db, tx.fence(), NOW_MS))

    assert _apply(db, claimed).discard_reasons == {"superseded": 3}

    assert {row.state for row in inside.work(db).values()} == {"pending"}
    assert inside.vectors(db) == {}


def test_rows_of_one_claim_are_settled_each_for_itself(db, claimed):
    db.write(Node("Document", "n1", "another text"))

    tally = _apply(db, claimed)

    assert (tally.incremental_processed, tally.discard_reasons) == (2, {"superseded": 1})
    assert set(inside.vectors(db)) == {"n0#0", "n2#0"}
    inside.check(db, EMBEDDER)


def test_what_no_list_names_goes_back_with_its_attempt(db, claimed):
    del claimed.stored[1]
    assert {row.attempts for row in inside.work(db).values()} == {1}

    tally = _apply(db, claimed)

    assert (tally.incremental_processed, tally.reverted) == (2, 1)
    (row,) = inside.work(db).values()
    assert (row.chunk_id, row.state, row.attempts) == ("n1#0", "pending", 0)


def test_fences_are_never_used_twice_not_even_after_a_rollback(db):
    seen = []

    def take(tx):
        seen.append(tx.fence())

    def fails(tx):
        seen.append(tx.fence())
        raise ValueError("undone")

    for _ in range(3):
        inside.in_writer(db, take)
        with pytest.raises(ValueError, match="undone"):
            inside.in_writer(db, fails)
        db.write(Node("Document", "n", f"text {len(seen)}"))
        seen.extend(row.fence for row in inside.work(db).values())

    # A fence of a request that was undone is in no row; those that are in rows only ever grow.
    assert seen[::3] == sorted(set(seen[::3]))
    assert len(set(seen[::3]) | set(seen[2::3])) == 6


def test_a_late_outcome_after_a_reopen_writes_nothing(open_db):
    db = open_db()
    db.write([Node("Document", f"n{i}", f"text {i}") for i in range(3)])
    late = _claim_and_embed(db)
    db.close()
    db = open_db()
    held = _claim_and_embed(db)

    assert late.claim.fence < held.claim.fence
    assert _apply(db, late).discard_reasons == {"superseded": 3}
    assert _apply(db, held).incremental_processed == 3


# --- verify ---------------------------------------------------------------------------------------


def test_verify_drops_what_is_gone_unwanted_or_of_another_text_and_keeps_the_order():
    def row(n, **changes):
        chunk_id, text = f"c{n}", f"text {n}"
        given = work.ClaimedRow(
            n, n, "Document", oracle.canonical_hash(chunk_id, text), 1, chunk_id, "Document", text
        )
        return given._replace(**changes)

    rows = [
        row(0),
        row(1, chunk_id=None, node_kind=None, text=None),
        row(2),
        row(3, node_kind="Note"),
        row(4, canonical_hash=bytes(32)),
        row(5, kind="Note", node_kind="Note"),
        row(6, text="rewritten"),
        row(7),
    ]

    verified = verify.verify(rows, {"Document"})

    assert [kept.work_id for kept in verified.rows] == [0, 2, 7]
    assert list(verified.texts) == ["text 0", "text 2", "text 7"]
    assert list(verified.content_hashes) == [oracle.content_hash(text) for text in verified.texts]
    found = {item.row.work_id: (item.reason, item.current_hash) for item in verified.discarded}
    assert found == {
        1: ("no_live_chunk", None),
        3: ("not_wanted", None),
        4: ("hash_changed", oracle.canonical_hash("c4", "text 4")),
        5: ("not_wanted", None),
        6: ("hash_changed", oracle.canonical_hash("c6", "rewritten")),
    }


# --- plans ----------------------------------------------------------------------------------------

_PARAMETERS = {"fence": 1, "profile": 1, "lane": 1, "now": 1, "limit": 64, "attempts": 0}


def _plan(db, sql, parameters):
    with inside.snapshot(db) as connection:
        rows = connection.execute(f"EXPLAIN QUERY PLAN {sql}", parameters)
        return [row[3] for row in rows]


def test_a_claim_finds_its_rows_by_the_partial_index_of_pending_rows(db):
    plan = _plan(db, work.CLAIM, _PARAMETERS)

    assert any("INDEX work_claim (profile_id=? AND lane=? AND due_at_ms<?)" in s for s in plan), (
        plan
    )
    assert not any(step.startswith("SCAN") for step in plan), plan
    assert not any("TEMP B-TREE" in step for step in plan), plan  # due order comes from the index


def test_settling_finds_its_rows_by_fence(db):
    plan = _plan(
        db,
        "SELECT work_id FROM vector_projection_work WHERE fence = ? AND state = 'inflight'",
        (1,),
    )

    (step,) = plan
    assert step.startswith("SEARCH vector_projection_work USING")
    assert step.endswith("INDEX work_inflight (fence=?)")


# --- the embed stage as it is driven --------------------------------------------------------------


def _drive(texts, answer):
    """Runs the embed stage; ``answer`` makes an array of the texts of a call, or raises."""
    calls = []
    hashes = [text.encode() for text in texts]
    steps = embed.embed(texts, hashes)
    try:
        asked = next(steps)
        while True:
            calls.append(list(asked))
            try:
                result = answer(asked)
            except Exception as error:
                asked = steps.throw(error)
            else:
                asked = steps.send(result)
    except StopIteration as stop:
        return stop.value, calls


def test_a_culprit_among_64_is_found_in_two_calls_for_each_halving():
    texts = [f"text {i}" for i in range(64)]

    def answer(asked):
        if "text 37" in asked:
            raise ValueError("no")
        return asked

    result, calls = _drive(texts, answer)

    assert set(result.errors) == {37}
    assert set(result.vectors) == set(range(64)) - {37}
    assert len(calls) <= 1 + 2 * 6
    for place, (packed, n) in result.vectors.items():
        assert packed[n] == texts[place]


def test_no_texts_make_no_call():
    assert _drive([], None)[1] == []
