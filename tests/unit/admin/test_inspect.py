"""inspect: why a document is found or not. Each situation, its verdict, and what a search shows."""

from __future__ import annotations

import apsw
import pytest

import fathomdb
from fathomdb import EmbedderUnavailableError, EngineConfig, InvalidInputError, Node
from fathomdb.testing import (
    DeterministicEmbedder,
    Fault,
    FlakyEmbedder,
    ManualClock,
    RecordingEmbedder,
)


def verdict(db, node_id="d1", query=None, **filters):
    return db.admin.inspect(node_id, query, **filters).verdict


def written(db, text="the quick brown fox", **more):
    db.write(Node("Doc", "d1", text, **more))
    db.admin.drain_vector_projection()
    return db


# --- is it there ----------------------------------------------------------------------------------


def test_an_id_that_was_never_written_is_a_report_and_not_an_exception(db, path):
    report = db.admin.inspect("nobody", "a query")

    assert not report.live
    assert (report.kind, report.written_cursor, report.retired_cursor) == (None, None, None)
    assert report.verdict.startswith(f"'nobody' was never written to {path}")


def test_a_node_that_was_erased_by_its_id_says_in_which_commit(db):
    written(db)
    erased = db.admin.erase("d1")
    db.write(Node("Doc", "later", "text"))

    report = db.admin.inspect("d1")

    assert not report.live
    assert report.verdict.startswith(f"'d1' was erased in commit {erased.cursor}")


def test_a_node_that_went_with_its_source_is_one_that_nothing_is_known_of(db):
    written(db, source_ref="d2")
    db.admin.erase_source("d2")
    for node_id in ("d1", "d2"):  # the tombstone of a source is not one of a node of that name
        assert "was never written" in verdict(db, node_id)


def test_a_chunk_id_is_told_from_a_node_id(db):
    written(db)
    assert verdict(db, "d1#0") == "'d1#0' is a chunk of the node 'd1', not a node; inspect 'd1'."


def test_a_retired_node_says_in_which_commit(db):
    written(db, source_ref="s.md")
    receipt = db.write(retire="d1")

    report = db.admin.inspect("d1", "fox")

    assert not report.live
    assert (report.kind, report.source_ref) == ("Doc", "s.md")
    assert (report.written_cursor, report.retired_cursor) == (1, receipt.cursor)
    assert f"retired in commit {receipt.cursor}" in report.verdict
    assert "write it again" in report.verdict


def test_a_node_without_text_says_so(db):
    db.write(Node("Doc", "d1", properties={"a": 1}))
    assert "has no text, so no search finds it" in verdict(db, "d1", "a")


def test_a_complete_node(db):
    report = written(db).admin.inspect("d1")

    assert report.verdict == (
        "'d1' is live and complete: its text is found by words and by meaning."
    )
    (chunk,) = report.chunks
    assert (chunk.chunk_id, chunk.text) == ("d1#0", "the quick brown fox")
    assert (chunk.hash_ok, chunk.in_text_index, chunk.has_vector) == (True, True, True)
    assert chunk.work is None
    (vector,) = chunk.vectors
    assert (vector.active, vector.stored, vector.current) == (True, True, True)
    assert vector.profile == report.profile
    assert (report.vector_index, report.index_state) == ("enabled", "fresh")


def test_versions_before_this_one_are_counted(db):
    written(db)
    db.write(Node("Doc", "d1", "another text"))
    report = db.admin.inspect("d1")
    assert (report.superseded_versions, report.written_cursor) == (1, 2)


# --- why it has no vector -------------------------------------------------------------------------


def test_no_embedder(open_db):
    db = open_db(embedder=None)
    db.write(Node("Doc", "d1", "the quick brown fox"))
    said = verdict(db)
    assert said.startswith("'d1' is found by its words, but not by meaning: no embedder")
    assert "embedder=" in said


def test_a_kind_without_an_index(open_db):
    db = written(open_db(index_kinds=()))
    assert db.admin.inspect("d1").vector_index == "never_configured"
    assert "kind 'Doc' has no vector index; admin.configure_vec('Doc') makes one" in verdict(db)


def test_a_kind_whose_index_was_disabled(db):
    written(db).admin.disable_vec("Doc")
    assert db.admin.inspect("d1").vector_index == "disabled"
    assert "was disabled; admin.configure_vec('Doc') enables it" in verdict(db)


def test_work_that_nobody_does_because_there_is_no_background(db):
    db.write(Node("Doc", "d1", "text"))
    report = db.admin.inspect("d1")
    assert (report.chunks[0].work.state, report.chunks[0].work.lane) == ("pending", "incremental")
    assert "background=False; call admin.drain_vector_projection()" in report.verdict


def test_work_that_is_being_done_and_work_that_will_be(open_db):
    recording = RecordingEmbedder(DeterministicEmbedder())
    db = open_db(embedder=recording, background=True)
    recording.hold()
    first = db.write(Node("Doc", "d1", "text"))
    recording.wait_held()
    try:
        assert "is being made at this moment" in verdict(db)
    finally:
        recording.release()
    assert db.wait(first).complete
    assert "complete" in verdict(db)


def test_an_outage_is_told_in_the_words_of_the_provider(open_db):
    down = FlakyEmbedder(
        DeterministicEmbedder(), [Fault(EmbedderUnavailableError("503 from api.example"))]
    )
    db = open_db(embedder=down)
    written(db)
    assert "503 from api.example" in verdict(db)
    report = db.admin.inspect("d1", "wolf")
    assert report.query.no_vector_reason is not None
    assert "not found: it has none of the query's words" in report.verdict
    assert "503 from api.example" in report.verdict


def test_a_vector_that_the_model_cannot_make_is_not_worth_another_try(open_db):
    db = open_db(embedder=FlakyEmbedder(DeterministicEmbedder(), [Fault("zero", texts="poison")]))
    written(db, "a poison text")
    report = db.admin.inspect("d1")
    assert (report.chunks[0].work.state, report.chunks[0].work.cause) == ("failed", "zero")
    assert "failed after 1 attempt (zero: " in report.verdict
    assert "change the text or the model" in report.verdict
    assert "requeue" not in report.verdict


def test_a_retry_says_when_it_comes_and_a_failure_how_to_go_on(open_db):
    clock = ManualClock()
    bomb = FlakyEmbedder(DeterministicEmbedder(), [Fault(RuntimeError("boom"), texts="bomb")])
    config = EngineConfig(clock=clock, max_attempts=2, retry_wait_seconds=90.0)
    db = open_db(embedder=bomb, config=config)
    written(db, "a bomb text")
    work = db.admin.inspect("d1").chunks[0].work
    assert (work.state, work.attempts, work.due_in_seconds) == ("pending", 1, 90.0)
    clock.advance(91)
    db.admin.drain_vector_projection()
    said = verdict(db)
    assert "failed after 2 attempts (embedder_error: RuntimeError: boom)" in said
    assert "admin.requeue_failed('Doc')" in said


def test_a_node_with_some_of_its_vectors_is_found_in_part(open_db):
    db = open_db(embedder=FlakyEmbedder(DeterministicEmbedder(), [Fault("nan", texts="poison")]))
    db.write(Node("Doc", "d1", chunks=["good", "a poison", "fine"]))
    db.admin.drain_vector_projection()
    said = verdict(db)
    assert said.startswith("'d1' is found by its words, and by meaning only in part: ")
    assert "'d1#1'" in said


def test_an_engine_without_a_model_and_one_of_another_model_say_what_to_open(open_db, path):
    written(open_db()).close()
    with fathomdb.open(path, embedder=False) as db:
        assert "embedder=False" in verdict(db)
    with fathomdb.open(path, embedder=DeterministicEmbedder(16, seed=9)) as db:
        assert "active model is fathomdb/deterministic-test@0" in verdict(db)


def test_a_reader_says_that_nobody_makes_vectors(open_db):
    owner = open_db()
    owner.write(Node("Doc", "d1", "text"))
    owner.close()
    reader = open_db(read_only=True)
    assert "no process has the file open for writing" in verdict(reader)


# --- damage ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        ("UPDATE chunks SET canonical_hash = zeroblob(32)", "its hash differs"),
        (
            (
                "INSERT INTO chunks_fts (chunks_fts, rowid, text) "
                "SELECT 'delete', chunk_key, text FROM chunks"
            ),
            "admin.rebuild('Doc', target='fts')",
        ),
        ("DELETE FROM vector_ledger", "neither a vector nor a place in the queue"),
    ],
)
def test_damage_is_said_before_anything_else(open_db, path, damage, said):
    written(open_db()).close()
    connection = apsw.Connection(path)
    connection.execute(damage)
    connection.close()
    assert said in verdict(open_db())


# --- the filter -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("filters", "on", "because"),
    [
        ({"where": {"lang": "en"}}, "where", "where={'lang': 'en'}: there it has 'de'"),
        ({"where": {"year": {"gte": 2020}}}, "where", "it has no such property"),
        ({"where": {("a", "b"): 2}}, "where", "there it has 1"),
        ({"where": {"not": {"lang": "de"}}}, "where", "there it has {'lang': 'de'"),
        ({"ids": ["d2"]}, "ids", "ids=['d2']: its id is not among them"),
        ({"ids": iter(["d2"])}, "ids", "ids=['d2']: its id is not among them"),
        ({"source_ref": "b.md"}, "source_ref", "its source_ref is 'a.md'"),
        ({"kind": "Note"}, "kind", "kind='Note': it is of kind 'Doc'"),
    ],
)
def test_the_condition_that_drops_it_is_named(db, filters, on, because):
    written(db, properties={"lang": "de", "a": {"b": 1}}, source_ref="a.md")
    db.write(Node("Note", "n1", "a note"))

    report = db.admin.inspect("d1", "fox", **filters)

    (dropped,) = report.query.dropped_by
    assert (dropped.on, dropped.passes) == (on, False)
    assert report.verdict.startswith("'d1' is dropped by the filter ")
    assert because in report.verdict
    # What the search would have made of it without the filter is there all the same.
    assert report.query.rank == 1


def test_each_condition_is_tested_alone(db):
    written(db, properties={"lang": "de", "year": 2024})
    report = db.admin.inspect(
        "d1", "fox", kind="Doc", ids=["d1"], where={"year": {"gte": 2020}, "lang": "en"}
    )
    assert [(item.condition, item.passes) for item in report.query.filters] == [
        ("kind='Doc'", True),
        ("where={'year': {'gte': 2020}}", True),
        ("where={'lang': 'en'}", False),
        ("ids=['d1']", True),
    ]


def test_ranks_are_among_those_that_pass_the_filter(db):
    db.write([Node("Doc", f"x{n}", "fox fox fox", {"lang": "en"}) for n in range(5)])
    written(db, properties={"lang": "de"})
    assert db.admin.inspect("d1", "fox").query.text_rank == 6
    assert db.admin.inspect("d1", "fox", where={"lang": "de"}).query.text_rank == 1


# --- the query ------------------------------------------------------------------------------------


@pytest.fixture
def corpus(db):
    words = ["fox", "wolf", "hare", "bear", "lynx", "owl"]
    db.write(
        [
            Node(
                "Doc",
                f"d{n}",
                chunks=[f"{words[n % 6]} {words[n // 6 % 6]} number {n}", f"and {words[n % 5]}"],
            )
            for n in range(120)
        ]
    )
    db.admin.drain_vector_projection()
    return db


@pytest.mark.parametrize("query", ["fox", "and bear", "number 7", "no such word at all"])
def test_the_ranks_are_those_of_the_searches(corpus, query):
    hybrid = [hit.node_id for hit in corpus.search(query, limit=200)]
    by_words = [hit.node_id for hit in corpus.text_search(query, limit=200)]
    near = corpus.semantic_search(query, limit=200)
    by_meaning = [hit.node_id for hit in near]

    for node_id in ("d0", "d7", "d63", "d119"):
        found = corpus.admin.inspect(node_id, query).query
        assert found.rank == hybrid.index(node_id) + 1
        assert found.text_rank == (by_words.index(node_id) + 1 if node_id in by_words else None)
        assert found.vector_rank == by_meaning.index(node_id) + 1
        assert found.distance == near[by_meaning.index(node_id)].distance


def test_scores_are_given_chunk_by_chunk(corpus):
    first, second = corpus.admin.inspect("d0", "number").chunks
    assert first.text_score is not None
    assert second.text_score is None
    assert first.distance != second.distance


def test_a_rank_that_the_default_limit_shows(corpus):
    said = corpus.admin.inspect("d7", "number 7 wolf").verdict
    assert said.startswith("'d7' is found at rank 1 (by words rank 1, by meaning rank ")


def test_a_rank_that_the_default_limit_does_not_show_names_the_limit_that_does(corpus):
    last = corpus.search("fox", limit=200)[-1].node_id
    report = corpus.admin.inspect(last, "fox")
    rank = report.query.rank
    assert f"ask for limit={rank}" in report.verdict
    assert corpus.search("fox", limit=rank)[-1].node_id == last
    assert last not in [hit.node_id for hit in corpus.search("fox", limit=rank - 1)]


def test_none_of_the_words_and_no_vector(db):
    db.write(Node("Doc", "d1", "the quick brown fox"))
    report = db.admin.inspect("d1", "wolf")
    assert (report.query.rank, report.query.text_score) == (None, None)
    assert report.verdict.startswith(
        "'d1' is not found: it has none of the query's words, and it cannot be found by meaning: "
        "its vector is still to be made"
    )


def test_found_by_words_alone_says_what_is_lacking(db):
    db.write(Node("Doc", "d1", "the quick brown fox"))
    said = verdict(db, "d1", "fox")
    assert said.startswith("'d1' is found at rank 1 (by words rank 1, by meaning not at all); ")
    assert "drain_vector_projection" in said


def test_a_query_without_a_word(open_db):
    db = open_db(embedder=None)
    db.write(Node("Doc", "d1", "the quick brown fox"))
    report = db.admin.inspect("d1", "???")
    assert report.query.expression is None
    assert "the query has no word that the full-text index could look up" in report.verdict


def test_behind_the_candidates_of_both_arms_it_names_the_limit_that_reaches_it(db):
    db.write([Node("Doc", f"x{n}", f"fox {n}") for n in range(420)])
    db.admin.drain_vector_projection()
    by_meaning = [hit.node_id for hit in db.semantic_search("wolf", limit=420)]
    last = by_meaning[-1]

    report = db.admin.inspect(last, "wolf")

    assert (report.query.rank, report.query.vector_rank) == (None, 420)
    assert "none of the query's words, and by meaning it comes at rank 420" in report.verdict
    assert "ask for limit=420" in report.verdict
    assert last in [hit.node_id for hit in db.search("wolf", limit=420)]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("",), "node_id must not be empty"),
        ((7,), "node_id must be a string"),
        (("d1", " "), "query must have a word"),
    ],
)
def test_arguments_that_are_not_valid_are_refused(db, arguments, said):
    with pytest.raises(InvalidInputError, match=said):
        db.admin.inspect(*arguments)


def test_a_filter_that_is_not_valid_is_refused_as_in_a_search(db):
    written(db)
    with pytest.raises(InvalidInputError, match="unknown operator"):
        db.admin.inspect("d1", "fox", where={"a": {"like": 1}})
    with pytest.raises(InvalidInputError, match="unknown kind"):
        db.admin.inspect("d1", "fox", kind="Nothing")
