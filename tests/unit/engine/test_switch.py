"""The switch to another model: what answers at each step, and what it costs."""

from __future__ import annotations

import pytest

import inside
from fathomdb import (
    DimensionMismatchError,
    EmbedderIdentity,
    EmbedderUnavailableError,
    EmbeddingChangeRequiresAckError,
    Node,
    SwitchStateError,
)
from fathomdb.actors.run import CLAIMED_AHEAD
from fathomdb.embedders.protocol import EmbedderLimits
from fathomdb.testing import DeterministicEmbedder, Fault, FlakyEmbedder, RecordingEmbedder

TEXTS = 60


def first():
    return RecordingEmbedder(DeterministicEmbedder())


def second(dimension=48, version="2"):
    identity = EmbedderIdentity("test/second", version, dimension)
    return RecordingEmbedder(DeterministicEmbedder(dimension, identity=identity, seed=2))


def third():
    identity = EmbedderIdentity("test/third", "1", 24)
    return RecordingEmbedder(DeterministicEmbedder(24, identity=identity, seed=3))


def fill(db):
    """Two kinds; the claims of a switch take one after the other."""
    db.write(Node("Doc" if n % 2 else "Memo", f"n{n}", f"text number {n}") for n in range(TEXTS))
    assert db.admin.drain_vector_projection().processed == TEXTS


def switch(db, embedder, **options):
    return db.admin.configure_embedding(embedder, acknowledge_rebuild_impact=True, **options)


def halfway(db, embedder, **options):
    """One kind has flipped and the other has not."""
    switch(db, embedder, **options)
    db.admin.run_tick()
    answers = {kind.kind: kind.answers for kind in db.admin.status().switch.kinds}
    assert answers == {"Doc": True, "Memo": False}


def check(db, *embedders):
    """The invariants, without a call of what counts its calls."""
    inside.check(db, *(embedder.inner for embedder in embedders))
    assert db.admin.check_integrity().ok


def document_texts(embedder):
    """Texts of the file that the model was asked for; queries have a method of their own."""
    return [text for text in embedder.texts if text.startswith("text number")]


def answers_under(db, **options):
    found = db.search("a query of words", explain=True, **options)
    return {
        kind: arm["profile"] for arm in found.explanation["vector_arms"] for kind in arm["kinds"]
    }


# --- lesson 16 ------------------------------------------------------------------------------------


def test_a_model_of_the_same_dimension_and_another_identity_is_refused_and_both_are_named(open_db):
    one = first()
    db = open_db(embedder=one)
    fill(db)
    same_size = second(32)
    with pytest.raises(EmbeddingChangeRequiresAckError) as refused:
        db.admin.configure_embedding(same_size)
    for identity in (one.identity(), same_size.identity()):
        assert str(identity) in str(refused.value)
    assert refused.value.affected_kinds == ("Doc", "Memo")
    with pytest.raises(ValueError, match="never mixed") as refused:
        db.admin.drain_vector_projection(embedder=same_size)
    for identity in (one.identity(), same_size.identity()):
        assert str(identity) in str(refused.value)
    assert same_size.batches == []
    assert answers_under(db) == {"Doc": str(one.identity()), "Memo": str(one.identity())}


@pytest.mark.parametrize(
    "other",
    [
        EmbedderIdentity("m", "2", 8),
        EmbedderIdentity("n", "1", 8),
        EmbedderIdentity("m", "1", 8, "none"),
        EmbedderIdentity("m", "1", 8, preparation={"query_prefix": "query: "}),
        EmbedderIdentity("m", "1", 8, preparation={"document_prefix": "passage: "}),
        EmbedderIdentity("m", "1", 8, preparation={"pooling": "cls"}),
        EmbedderIdentity("m", "1", 8, preparation={"max_tokens": "128"}),
        EmbedderIdentity("m", "1", 8, preparation={"text": "2"}),
    ],
    ids=str,
)
def test_whatever_changes_the_vector_space_is_another_profile(open_db, other):
    db = open_db(embedder=DeterministicEmbedder(8, identity=EmbedderIdentity("m", "1", 8)))
    db.write(Node("Doc", "a", "text"))
    db.admin.drain_vector_projection()
    with pytest.raises(EmbeddingChangeRequiresAckError):
        db.admin.configure_embedding(DeterministicEmbedder(8, identity=other))


# --- lesson 17 ------------------------------------------------------------------------------------


def test_queries_go_to_the_query_method_of_the_model_that_answers_and_texts_never(open_db):
    one, two = first(), second()
    db = open_db(embedder=one)
    fill(db)
    halfway(db, two)
    one.queries.clear()
    two.queries.clear()
    db.search("a query")
    assert (one.queries, two.queries) == (["a query"], ["a query"])
    assert "a query" not in [*one.texts, *two.texts]
    db.admin.drain_vector_projection()
    db.search("another query")
    assert (one.queries, two.queries) == (["a query"], ["a query", "another query"])


# --- lesson 18 ------------------------------------------------------------------------------------


def test_the_old_index_answers_until_the_new_one_is_complete_and_then_the_new_one(open_db):
    one, two = first(), second()
    db = open_db(embedder=one)
    fill(db)
    before = [(hit.node_id, hit.distance) for hit in db.semantic_search("text number 7", limit=20)]

    outcome = switch(db, two)

    assert (outcome.outcome, outcome.stale_kinds) == ("replaced", ("Doc", "Memo"))
    assert outcome.enqueued_rows == TEXTS
    result = db.semantic_search("text number 7", limit=20)
    assert [(hit.node_id, hit.distance) for hit in result] == before
    assert result.degraded is None
    assert result.freshness.pending == 0
    assert two.batches == []

    assert db.admin.drain_vector_projection().backfill_processed == TEXTS
    status = db.admin.status()
    assert status.switch is None
    assert status.active_profile == str(two.identity())
    assert status.previous_profile == str(one.identity())
    assert db.search("text number 7").degraded is None
    assert answers_under(db) == {"Doc": str(two.identity()), "Memo": str(two.identity())}
    check(db, one, two)


def test_each_kind_flips_when_its_own_index_is_complete_and_a_search_asks_both_models(open_db):
    one, two = first(), second()
    db = open_db(embedder=one)
    fill(db)
    halfway(db, two)
    assert answers_under(db) == {"Doc": str(two.identity()), "Memo": str(one.identity())}
    found = db.semantic_search("text number 8", limit=TEXTS)
    assert len(found) == TEXTS
    assert found.degraded is None
    # The nearest of each model, by its rank: their distances say nothing of each other.
    assert {hit.kind for hit in found[:2]} == {"Doc", "Memo"}
    for kind, embedder in (("Doc", two), ("Memo", one)):
        assert answers_under(db, kind=kind) == {kind: str(embedder.identity())}
        alone = db.semantic_search("text number 8", kind=kind, limit=TEXTS)
        assert [hit.node_id for hit in alone] == [hit.node_id for hit in found if hit.kind == kind]
    check(db, one, two)


def test_fresh_writes_go_to_both_and_to_the_one_that_answers_first(open_db):
    one, two = first(), second()
    db = open_db(embedder=one)
    fill(db)
    switch(db, two)
    receipt = db.write(Node("Doc", "fresh", "text number 1000"))
    assert receipt.enqueued == 1
    assert db.search("text number 1000").freshness.pending == 1
    one.batches.clear()
    assert db.admin.run_tick().incremental_processed == 1
    assert one.texts == ["text number 1000"]
    assert db.wait(receipt).complete
    assert db.semantic_search("text number 1000")[0].node_id == "fresh"
    db.admin.run_tick()
    assert two.texts[0] == "text number 1000"  # before what is old
    db.admin.drain_vector_projection()
    assert db.semantic_search("text number 1000")[0].node_id == "fresh"


def test_going_back_is_instant_and_what_was_written_since_is_there(open_db):
    one, two = first(), second()
    db = open_db(embedder=one)
    fill(db)
    switch(db, two)
    db.admin.drain_vector_projection()
    db.write(Node("Doc", "since", "text number 1000"))
    db.admin.drain_vector_projection()
    db.write(Node("Doc", "later", "text number 1001"))
    one.batches.clear()

    report = db.admin.rollback()

    assert report.profile == str(one.identity())
    assert report.replaced == str(two.identity())
    assert report.missing == 1
    assert one.texts == []
    result = db.semantic_search("text number 1000")
    assert result[0].node_id == "since"
    assert result.degraded is None
    assert result.freshness.pending == 1
    assert inside.work(db)["later#0"].priority == 1000
    db.admin.drain_vector_projection()
    assert document_texts(one) == ["text number 1001"]
    assert db.semantic_search("text number 1001")[0].node_id == "later"
    check(db, one, two)
    # And forward again: nothing is embedded for that either.
    two.batches.clear()
    assert db.admin.rollback().profile == str(two.identity())
    db.admin.drain_vector_projection()
    assert document_texts(two) == []


def test_without_the_old_index_nothing_is_kept_and_fresh_writes_cost_one_call(open_db):
    one, two = first(), second()
    db = open_db(embedder=one)
    fill(db)
    switch(db, two, keep_previous=False)
    db.admin.drain_vector_projection()
    status = db.admin.status()
    assert status.previous_profile is None
    with pytest.raises(SwitchStateError, match="no model is kept"):
        db.admin.rollback()
    one.batches.clear()
    db.write(Node("Doc", "fresh", "text number 1000"))
    db.admin.drain_vector_projection()
    assert one.batches == []
    check(db, two)


def test_pruning_frees_what_was_kept(open_db):
    one, two = first(), second()
    db = open_db(embedder=one)
    fill(db)
    switch(db, two)
    db.admin.drain_vector_projection()
    report = db.admin.prune_profiles()
    assert (report.profiles, report.vectors) == ((str(one.identity()),), TEXTS)
    assert db.admin.prune_profiles().vectors == 0
    with pytest.raises(SwitchStateError):
        db.admin.rollback()
    check(db, two)
    assert db.admin.check_integrity().ok


def test_a_new_switch_prunes_what_is_kept_of_the_one_before(open_db):
    one, two, three = first(), second(), third()
    db = open_db(embedder=one)
    fill(db)
    switch(db, two)
    db.admin.drain_vector_projection()
    switch(db, three)
    assert db.admin.status().previous_profile is None
    check(db, two, three)
    db.admin.drain_vector_projection()
    assert db.admin.status().previous_profile == str(two.identity())
    check(db, two, three)


@pytest.mark.parametrize("how", ["kept", "pruned", "erased"])
def test_switching_back_to_an_earlier_model_works(open_db, how):
    """It was empty for ever in another system, or an insert that failed."""
    one, two = first(), second()
    db = open_db(embedder=one)
    fill(db)
    switch(db, two)
    db.admin.drain_vector_projection()
    if how != "kept":
        db.admin.prune_profiles()
    texts = TEXTS
    if how == "erased":
        db.admin.erase(["n0"])  # takes the cache along, whoever had its texts
        texts -= 1
    one.batches.clear()
    switch(db, one)
    db.admin.drain_vector_projection()
    assert db.admin.status().active_profile == str(one.identity())
    assert len(document_texts(one)) == (texts if how == "erased" else 0)
    assert db.semantic_search("text number 9")[0].node_id == "n9"
    check(db, one, two)


def test_a_second_switch_during_a_first_replaces_the_one_that_is_built(open_db):
    one, two, three = first(), second(), third()
    db = open_db(embedder=one)
    fill(db)
    halfway(db, two)
    two.batches.clear()

    assert switch(db, three).outcome == "replaced"

    assert answers_under(db) == {"Doc": str(one.identity()), "Memo": str(one.identity())}
    check(db, one, three)
    db.admin.drain_vector_projection()
    assert document_texts(two) == []
    assert db.admin.status().active_profile == str(three.identity())
    assert db.admin.status().previous_profile == str(one.identity())
    check(db, one, three)


def test_configuring_the_model_that_is_built_again_goes_on_and_the_active_one_ends_it(open_db):
    one, two = first(), second()
    db = open_db(embedder=one)
    fill(db)
    halfway(db, two)
    assert switch(db, two).outcome == "unchanged"
    assert db.admin.configure_embedding(one).outcome == "unchanged"
    assert db.admin.status().switch.done == 32
    assert switch(db, one).outcome == "replaced"
    assert db.admin.status().switch is None
    assert answers_under(db) == {"Doc": str(one.identity()), "Memo": str(one.identity())}
    check(db, one)


def test_the_vector_of_a_caller_is_one_of_the_active_model_all_through_a_switch(open_db):
    one, two = first(), second()
    db = open_db(embedder=one)
    fill(db)
    vector = one.batch_embed(["text number 8"])[0]
    halfway(db, two)
    found = db.raw_vector_search(vector, limit=TEXTS)
    assert {hit.kind for hit in found} == {"Memo"}
    assert found[0].node_id == "n8"
    assert found.degraded == "building"
    assert str(two.identity()) in found.reason
    db.admin.drain_vector_projection()
    with pytest.raises(DimensionMismatchError):
        db.raw_vector_search(vector)


# --- lesson 19 ------------------------------------------------------------------------------------


def test_closed_half_way_it_resumes_with_both_embedders_and_embeds_nothing_twice(open_db):
    one, two = first(), second()
    with open_db(embedder=one) as db:
        fill(db)
        halfway(db, two)
    db = open_db(embedder=[one, two])
    assert answers_under(db) == {"Doc": str(two.identity()), "Memo": str(one.identity())}
    assert db.admin.status().switch.waits_for is None
    db.admin.drain_vector_projection()
    assert db.admin.status().switch is None
    assert len(document_texts(two)) == len(set(document_texts(two))) == TEXTS
    assert len(document_texts(one)) == TEXTS
    check(db, one, two)


def test_without_the_embedder_that_is_built_the_old_one_serves_and_the_switch_says_what_it_lacks(
    open_db,
):
    one, two = first(), second()
    with open_db(embedder=one) as db:
        fill(db)
        switch(db, two)
    db = open_db(embedder=one)
    assert db.search("text number 3").degraded is None
    assert "pass its embedder to fathomdb.open" in db.admin.status().switch.waits_for
    assert db.admin.drain_vector_projection().processed == 0
    # Handed in, it goes on where it was.
    assert db.admin.configure_embedding(two).outcome == "unchanged"
    db.admin.drain_vector_projection()
    assert db.admin.status().active_profile == str(two.identity())


def test_a_kind_that_flipped_is_found_by_words_where_its_model_is_not_there(open_db):
    one, two = first(), second()
    with open_db(embedder=one) as db:
        fill(db)
        halfway(db, two)
    db = open_db(embedder=one)
    found = db.search("text number 7", limit=TEXTS)
    assert len(found) == TEXTS
    assert found.degraded == "no_embedder"
    assert str(two.identity()) in found.reason
    assert db.search("text number 8", kind="Memo").degraded is None


# --- steering -------------------------------------------------------------------------------------


def test_a_paused_switch_builds_nothing_over_a_restart_too_and_resumes(open_db):
    one, two = first(), second()
    with open_db(embedder=one) as db:
        fill(db)
        switch(db, two)
        db.admin.pause_switch()
        db.write(Node("Doc", "fresh", "text number 1000"))
        assert db.admin.drain_vector_projection().processed == 1
    db = open_db(embedder=[one, two])
    assert db.admin.status().switch.paused
    assert db.admin.drain_vector_projection().processed == 0
    assert document_texts(two) == []
    db.admin.resume_switch()
    assert db.admin.drain_vector_projection().processed == TEXTS + 1
    assert db.admin.status().switch is None


def test_a_cancelled_switch_leaves_nothing_and_kinds_that_flipped_go_back(open_db):
    one, two = first(), second()
    db = open_db(embedder=one)
    fill(db)
    halfway(db, two)
    # Fresh for the old index too, which no longer answers for this kind.
    db.write(Node("Doc", "since", "text number 1000"))
    report = db.admin.cancel_switch()
    assert (report.profiles, report.vectors) == ((str(two.identity()),), 32)
    assert db.admin.status().switch is None
    assert answers_under(db) == {"Doc": str(one.identity()), "Memo": str(one.identity())}
    assert inside.work(db)["since#0"].priority == 1000
    check(db, one)
    assert db.admin.check_integrity().ok


def test_without_a_switch_there_is_nothing_to_steer(open_db):
    db = open_db(embedder=first())
    fill(db)
    for steer in (db.admin.pause_switch, db.admin.resume_switch, db.admin.cancel_switch):
        with pytest.raises(SwitchStateError, match="no switch of models is under way"):
            steer()
    switch(db, second())
    with pytest.raises(SwitchStateError, match="cancel_switch"):
        db.admin.rollback()


def test_a_few_texts_that_fail_for_good_do_not_hold_a_kind_up_and_are_counted(open_db):
    one = first()
    two = FlakyEmbedder(second(), [Fault("zero", texts="number 7")])
    db = open_db(embedder=one)
    fill(db)
    switch(db, two)
    db.admin.drain_vector_projection()
    assert db.admin.status().switch is None
    assert db.admin.status().active_profile == str(two.identity())
    assert [row.chunk_id for row in db.admin.failed_work()] == ["n7#0"]
    assert db.search("text").freshness.failed == 1


def test_a_kind_of_which_more_than_half_failed_waits_for_a_decision_and_says_so(open_db):
    one = first()
    two = FlakyEmbedder(second(), [Fault("zero", texts="text number")])
    db = open_db(embedder=one)
    fill(db)
    switch(db, two)
    db.admin.drain_vector_projection()
    doc = db.admin.get_vec_index_status("Doc").switch
    assert (doc.answers, doc.failed, doc.done, doc.pending) == (False, 30, 0, 0)
    assert "accept_failures=True" in doc.blocked
    assert answers_under(db) == {"Doc": str(one.identity()), "Memo": str(one.identity())}
    two.script = ()
    assert db.admin.requeue_failed("Doc") == 30
    db.admin.drain_vector_projection()
    assert answers_under(db) == {"Doc": str(two.identity()), "Memo": str(one.identity())}
    db.admin.resume_switch(accept_failures=True)
    assert db.admin.status().switch is None
    assert db.search("text").freshness.failed == 30


def test_disabling_the_last_kind_that_waits_ends_the_switch(open_db):
    one, two = first(), second()
    db = open_db(embedder=one)
    fill(db)
    halfway(db, two)
    db.admin.disable_vec("Memo")
    assert db.admin.status().switch is None
    assert db.admin.status().active_profile == str(two.identity())
    check(db, one, two)


def test_a_kind_that_is_enabled_during_a_switch_gets_both_indexes(open_db):
    one, two = first(), second()
    db = open_db(embedder=one)
    fill(db)
    switch(db, two)
    db.write(Node("New", "new", "text number 1000"))
    assert db.search("text number 1000", kind="New").degraded is None
    check(db, one, two)
    db.admin.drain_vector_projection()
    assert db.semantic_search("text number 1000", kind="New")[0].node_id == "new"
    db.admin.rollback()
    assert db.semantic_search("text number 1000", kind="New")[0].node_id == "new"


def test_a_rebuild_that_is_under_way_ends_with_the_flip(open_db):
    one, two = first(), second()
    db = open_db(embedder=one)
    fill(db)
    switch(db, two)
    inside.in_writer(db, lambda tx: tx.db.execute(
        "UPDATE vector_index_schemas SET state = 'building', rebuild_after_key = 0 "
        "WHERE kind = 'Doc'"
    ))  # fmt: skip
    db.admin.drain_vector_projection()
    with inside.snapshot(db) as connection:
        assert connection.execute(
            "SELECT count(*) FROM vector_index_schemas WHERE rebuild_after_key IS NOT NULL"
        ).get == 0  # fmt: skip
    assert db.admin.get_vec_index_status("Doc").state == "fresh"


def test_enabling_a_kind_that_has_flipped_again_changes_nothing(open_db):
    one, two = first(), second()
    db = open_db(embedder=one)
    fill(db)
    halfway(db, two)
    assert db.admin.configure_vec("Doc").was_already_enabled
    assert answers_under(db) == {"Doc": str(two.identity()), "Memo": str(one.identity())}


def test_a_document_of_a_kind_that_has_flipped_is_inspected_under_the_model_that_answers(open_db):
    one, two = first(), second()
    db = open_db(embedder=one)
    fill(db)
    halfway(db, two)
    for node_id, answers in (("n1", two), ("n2", one)):
        report = db.admin.inspect(node_id, "text number 1")
        (chunk,) = report.chunks
        assert {vector.profile: vector.active for vector in chunk.vectors} == {
            str(embedder.identity()): embedder is answers for embedder in (one, two)
        }
        assert chunk.has_vector
        assert report.query.vector_rank is not None


def test_freshness_counts_what_the_index_that_answers_misses_and_no_other(open_db):
    one, two = first(), second()
    db = open_db(embedder=one)
    fill(db)
    halfway(db, two)
    db.write(Node("Doc", "fresh", "text number 1000"))  # owed by both, and one answers
    assert db.search("text number 1000").freshness.pending == 1
    assert db.search("text number 1000", kind="Memo").freshness.pending == 0


# --- what it says ---------------------------------------------------------------------------------


def test_the_status_of_a_switch_counts_each_kind(open_db):
    one, two = first(), second()
    db = open_db(embedder=one)
    fill(db)
    assert db.admin.status().switch is None
    halfway(db, two)
    status = db.admin.status()
    running = status.switch
    assert (running.from_profile, running.to_profile) == (str(one.identity()), str(two.identity()))
    assert (running.chunks, running.done, running.pending, running.failed) == (TEXTS, 32, 28, 0)
    memo = db.admin.get_vec_index_status("Memo").switch
    assert (memo.chunks, memo.done, memo.pending, memo.answers) == (30, 2, 28, False)
    assert memo.chunks_per_second > 0
    assert memo.seconds_left == pytest.approx(28 / memo.chunks_per_second)
    assert running.seconds_left == pytest.approx(memo.seconds_left)
    assert status.pending == 0  # of the indexes that answer


def test_the_price_of_a_switch_is_known_before_and_asking_costs_nothing(open_db):
    one, two = first(), second()
    db = open_db(embedder=one)
    fill(db)
    two.batches.clear()
    impact = db.admin.preview_projection_impact(two)
    characters = sum(len(f"text number {n}") for n in range(TEXTS))
    assert impact.profile == str(two.identity())
    assert impact.kinds == ("Doc", "Memo")
    assert (impact.chunks, impact.already_there) == (TEXTS, 0)
    assert (impact.characters, impact.estimated_tokens) == (characters, -(-characters // 4))
    assert impact.rate_of == str(one.identity())
    assert impact.seconds == pytest.approx(TEXTS / impact.chunks_per_second)
    assert two.batches == []
    assert db.admin.status().switch is None
    assert db.admin.preview_projection_impact(one).already_there == TEXTS

    halfway(db, two)
    impact = db.admin.preview_projection_impact(two)
    assert (impact.already_there, impact.rate_of) == (32, str(two.identity()))


def test_the_price_of_a_switch_leaves_out_what_is_found_by_its_text(open_db):
    one, two = first(), second()
    db = open_db(embedder=one)
    fill(db)
    switch(db, two)
    db.admin.drain_vector_projection()
    switch(db, one)  # keeps two
    db.admin.drain_vector_projection()
    db.write(
        [
            Node("Doc", "gone", "text number 1000"),
            Node("Doc", "shares", "text number 5"),  # that of n5
            Node("Doc", "twice", "text number 1001"),
            Node("Memo", "again", "text number 1001"),
            Node("Doc", "new", "text number 1002"),
        ]
    )
    impact = db.admin.preview_projection_impact(two)
    assert (impact.chunks, impact.already_there) == (TEXTS + 5, TEXTS)
    assert (impact.cached, impact.repeated, impact.to_embed) == (1, 1, 3)
    assert impact.characters == 3 * len("text number 1000")
    db.admin.drain_vector_projection()
    db.write(retire=["gone"])
    db.admin.prune_profiles()
    impact = db.admin.preview_projection_impact(two)
    assert (impact.chunks, impact.already_there, impact.cached) == (TEXTS + 4, 0, TEXTS + 4)
    assert (impact.to_embed, impact.characters, impact.seconds) == (0, 0, 0.0)

    db.admin.erase(["n5"])  # takes the cache along
    impact = db.admin.preview_projection_impact(two)
    assert (impact.cached, impact.repeated, impact.to_embed) == (0, 1, TEXTS + 2)
    two.batches.clear()
    switch(db, two)
    db.admin.drain_vector_projection()
    assert len(document_texts(two)) == impact.to_embed
    check(db, one, two)


def test_an_erased_text_is_in_neither_index(open_db):
    one, two = first(), second()
    db = open_db(embedder=one)
    fill(db)
    halfway(db, two)
    receipt = db.admin.erase(["n1", "n40"])  # one has both vectors, one the older alone
    assert (receipt.chunks, receipt.vectors) == (2, 3)
    check(db, one, two)
    db.admin.drain_vector_projection()
    check(db, one, two)
    assert db.admin.check_integrity().ok


def _built(db, embedder):
    with inside.snapshot(db) as connection:
        return {
            row[0]
            for row in connection.execute(
                "SELECT c.chunk_id FROM vector_ledger AS l JOIN chunks AS c USING (chunk_key) "
                "JOIN vector_embedding_profiles AS p USING (profile_id) WHERE p.fingerprint = ?",
                (embedder.identity().fingerprint,),
            )
        }


@pytest.mark.parametrize("change", ["rewrite", "retire", "disable"])
def test_what_a_chunk_had_goes_from_every_index(open_db, change):
    one, two = first(), second()
    db = open_db(embedder=one)
    fill(db)
    halfway(db, two)
    if change == "rewrite":
        db.write(Node("Doc", "n1", "text number 1 anew"))
    elif change == "retire":
        db.write(retire=["n1"])
    else:
        db.admin.disable_vec("Doc")
    assert "n1#0" not in _built(db, one) | _built(db, two)
    check(db, one, two)
    db.admin.drain_vector_projection()
    check(db, one, two)


OF_THE_NEW_INDEX = "WHERE profile_id = 3"


@pytest.mark.parametrize(
    ("damage", "code"),
    [
        (f"DELETE FROM vector_projection_work {OF_THE_NEW_INDEX}", "vector_not_owed"),
        (f"DELETE FROM vector_ledger {OF_THE_NEW_INDEX}", "vector_not_owed"),
        (
            f"UPDATE vector_ledger SET canonical_hash = zeroblob(32) {OF_THE_NEW_INDEX}",
            "ledger_hash",
        ),
        (
            f"UPDATE vector_projection_work SET canonical_hash = zeroblob(32) {OF_THE_NEW_INDEX}",
            "work_hash",
        ),
        ("UPDATE vector_index_schemas SET profile_id = 2", "index_profile"),
    ],
)
def test_damage_in_mid_switch_is_found_repaired_and_the_switch_comes_to_its_end(
    open_db, damage, code
):
    one, two = first(), second()
    db = open_db(embedder=one)
    fill(db)
    switch(db, third())  # so that there is a model that nothing wants any more
    db.admin.cancel_switch()
    halfway(db, two)

    def plant(tx):
        tx.db.execute("PRAGMA defer_foreign_keys = ON")
        tx.db.execute(damage)

    inside.in_writer(db, plant)
    assert code in db.admin.check_integrity().found
    assert db.admin.repair().ok
    check(db, one, two)
    db.admin.drain_vector_projection()
    assert db.admin.status().switch is None
    assert db.admin.status().active_profile == str(two.identity())
    check(db, one, two)


# --- whose turn it is -----------------------------------------------------------------------------


class Told(DeterministicEmbedder):
    """Notes each batch in a list that several share, and calls ``then`` before it answers."""

    def __init__(self, name, told, then=lambda: None):
        identity = EmbedderIdentity(f"test/{name}", "1", 16)
        super().__init__(16, identity=identity, limits=EmbedderLimits(items=4))
        self.name, self.told, self.then = name, told, then

    def batch_embed(self, texts):
        self.told.append((self.name, tuple(texts)))
        self.then()
        return super().batch_embed(texts)


def test_a_fresh_write_takes_the_turn_from_the_model_that_is_built(open_db):
    told, wrote = [], []

    def write():
        if not wrote:
            wrote.append(db.write(Node("Doc", "fresh", "text number 1000")))

    one, two = Told("one", told), Told("two", told, write)
    db = open_db(embedder=one)
    fill(db)
    told.clear()
    switch(db, two)
    assert db.admin.drain_vector_projection().stopped_by == "idle"
    names = [name for name, _ in told]
    assert names.count("one") == 1
    # Not behind all that waits: behind what was claimed ahead, and in the commit that stored the first.
    assert names.index("one") <= 2 + CLAIMED_AHEAD
    assert db.admin.status().switch is None


def test_fresh_load_without_end_does_not_starve_a_switch(open_db):
    told = []

    def write():
        if len(told) < 100:
            db.write(Node("Doc", f"fresh{len(told)}", f"text number 1000{len(told)}"))

    one, two = Told("one", told), Told("two", told)
    db = open_db(embedder=one)
    fill(db)
    told.clear()
    switch(db, two)
    one.then = write
    db.write(Node("Doc", "fresh", "text number 999"))
    assert db.admin.drain_vector_projection().stopped_by == "idle"
    assert [name for name, _ in told[:100]].count("two") >= 4
    assert db.admin.status().switch is None


@pytest.mark.parametrize("background", [False, True])
def test_an_old_model_that_is_away_with_work_to_do_does_not_hold_up_the_switch(open_db, background):
    one = FlakyEmbedder(first())
    db = open_db(embedder=one)
    fill(db)
    one.script = [Fault(EmbedderUnavailableError("gone for good"))]
    db.write(Node("Doc", "fresh", "text number 1000"))
    if background:
        db.close()
        db = open_db(embedder=one, background=True)
    two = second()
    switch(db, two)
    if background:
        receipt = db.write(Node("Memo", "more", "text number 1001"))
        while db.admin.status().switch is not None:
            db.wait(receipt, timeout=0.05)
    else:
        db.admin.drain_vector_projection(timeout=20)
    assert db.admin.status().active_profile == str(two.identity())
    assert db.semantic_search("text number 1000")[0].node_id == "fresh"
