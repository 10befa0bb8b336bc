"""Text search at scale: rare words select, common ones rank, and nothing of a filter is lost."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fathomdb import Node
from fathomdb.search import candidates, filters, terms
from fathomdb.store import fts, postings
from fathomdb.testing import temporary

COUNT = 20_000
WORDS = [
    f"{a}{b}{c}" for a in "bdgklm" for b in ("am", "or", "ist") for c in ("on", "us", "ix", "ar")
]


def text_of(n, rng):
    """``everywhere`` in all, ``third`` in a third, ``start`` in the first tenth; others as drawn."""
    words = ["everywhere", *rng.choices(WORDS, k=8)]
    words += (
        ["third"] * (n % 3 == 0) + ["start"] * (n < COUNT // 10) + [f"only{n}"] * (n % 4999 == 0)
    )
    words += ["fiftieth"] * (n % 50 == 0) * (1 + n % 3)
    rng.shuffle(words)
    return " ".join(words)


@pytest.fixture(scope="module", params=fts.TOKENIZERS)
def db(request):
    rng = random.Random(7)
    with temporary(embedder=False) as engine:
        engine.write(
            Node("Doc", f"n{n}", text_of(n, rng), {"n": n, "even": n % 2 == 0})
            for n in range(COUNT)
        )
        if request.param != fts.DEFAULT_TOKENIZER:
            engine.admin.configure_fts(request.param)
        yield engine


@pytest.fixture
def snapshot(db):
    with db._runtime.snapshot() as connection:
        yield connection


def full_or(connection, query, where=None):
    """What FTS5 says of an OR of all words: the score of every chunk that has one."""
    match = " OR ".join(map(fts.phrase, fts.words(connection, query, 256)))
    rows = fts.matches(connection, match, filters.build(where=where).condition)
    return {row[0]: row[2] for row in rows}


def scored(connection, query, where=None, limit=10):
    chosen = terms.choose(connection, query)
    assert not chosen.exact
    return {
        row.chunk_key: row.score
        for row in candidates.scored(
            connection, chosen, filters.build(where=where), limit=limit, per_node=1
        )
    }


QUERIES = ["only4999 third everywhere", "fiftieth third everywhere start", "fiftieth everywhere",
           "third only9998 bamon gorus"]  # fmt: skip


@pytest.mark.parametrize("query", QUERIES)
def test_scores_are_those_of_the_full_or_where_frequencies_are_known(snapshot, query, monkeypatch):
    monkeypatch.setattr(postings, "PROBE", COUNT)
    expected = full_or(snapshot, query)
    found = scored(snapshot, query)
    assert found
    for key, score in found.items():
        assert score == pytest.approx(expected[key], rel=1e-9)


@pytest.mark.parametrize("query", QUERIES)
def test_scores_are_near_those_of_the_full_or_where_frequencies_are_estimated(snapshot, query):
    expected = full_or(snapshot, query)
    for key, score in scored(snapshot, query).items():
        assert score == pytest.approx(expected[key], rel=0.1)


@pytest.mark.parametrize("n", range(0, COUNT, 4999))
def test_a_rare_word_among_common_ones_finds_its_chunk(db, n):
    hits = db.text_search(f"what is third everywhere start fiftieth only{n}")
    assert hits[0].node_id == f"n{n}"


def test_common_words_rank_what_a_rare_one_selects(snapshot, monkeypatch):
    monkeypatch.setattr(terms, "SELECTING_SHARE", 0.02)
    monkeypatch.setattr(terms, "EXACT_ROWS", 0)
    monkeypatch.setattr(postings, "PROBE", COUNT)
    expected = full_or(snapshot, "fiftieth")
    found = scored(snapshot, "fiftieth third")
    assert found.keys() == expected.keys()
    both = full_or(snapshot, "fiftieth third")
    assert [*found] == sorted(expected, key=lambda key: (-both[key], key))


def test_a_word_that_is_frequent_at_one_end_alone_is_not_common(snapshot):
    corpus = postings.corpus(snapshot)
    for end in ("start", "everywhere"):
        found = postings.about(snapshot, fts.phrase(end), corpus)
        assert found == (COUNT if end == "everywhere" else pytest.approx(COUNT // 10, rel=1.5))
    assert terms.choose(snapshot, "everywhere third start").every[0].word == "start"


def test_only_common_words_find_the_newest_that_have_them(db):
    hits = db.text_search("everywhere", limit=20)
    assert len(hits) == 20
    assert all(int(hit.node_id[1:]) >= COUNT - terms.EXACT_ROWS for hit in hits)


def test_an_exact_search_ranks_every_chunk_that_has_any_of_the_words(db, snapshot):
    for query in ("everywhere", "everywhere third start"):
        best = sorted(full_or(snapshot, query).values(), reverse=True)[:20]
        hits = db.search(query, mode="text", exact=True, limit=20)
        assert [hit.score for hit in hits] == pytest.approx(best)


def test_of_more_than_32_words_the_rarest_are_searched_for(db, snapshot):
    query = " ".join([*WORDS, "everywhere", "third", "only4999"])
    chosen = terms.choose(snapshot, query)
    assert len(chosen.every) == terms.MAX_TERMS
    assert chosen.every[0].word == "only4999"
    assert "everywhere" not in {term.word for term in chosen.every}
    assert all("everywhere" in hit.text for hit in db.text_search(query))


def test_a_filter_that_few_pass_finds_what_the_full_or_would(db, snapshot):
    where = {"n": {"gte": 7000, "lt": 7040}}
    query = "only4999 everywhere third"
    expected = full_or(snapshot, query, where)
    found = scored(snapshot, query, where)
    assert len(expected) == 40
    assert found.keys() == expected.keys()
    assert len(db.text_search(query, where=where, limit=100)) == 40


def test_a_filter_that_many_pass_is_applied_before_the_cut(db):
    hits = db.text_search("fiftieth third everywhere", where={"even": True}, limit=300)
    assert len({hit.node_id for hit in hits}) == 300
    assert all(hit.properties["even"] for hit in hits)


def test_a_node_of_many_chunks_leaves_room_for_others():
    with temporary(embedder=False) as db:
        long = [f"common word {n} needle" for n in range(6000)]
        db.write(Node("Doc", "long", chunks=long))
        db.write(
            Node("Doc", f"n{n}", f"common word {n}" + " needle" * (n < 20)) for n in range(6000)
        )
        hits = db.text_search("needle common word", limit=20)
        assert len({hit.node_id for hit in hits}) == 20
        assert "long" in {hit.node_id for hit in hits}


def test_a_node_of_many_chunks_leaves_room_for_others_that_pass_a_rare_filter():
    with temporary(embedder=False) as db:
        db.write(Node("Doc", f"other{n}", "needle common", {"k": 0}) for n in range(2_000))
        db.write(Node("Doc", "long", None, {"k": 1}, chunks=["needle common"] * 1_200))
        db.write(Node("Doc", f"n{n}", "needle common", {"k": 1}) for n in range(20))
        for part in "ab":
            db.write(Node("Fill", f"{part}{n}", "common word") for n in range(6_000))
        hits = db.text_search("needle common", where={"k": 1}, limit=20)
        assert len({hit.node_id for hit in hits}) == 20


def test_an_explained_search_says_which_words_select(db):
    explained = db.text_search("only4999 third everywhere", explain=True).explanation
    assert explained["text_expression"] == '"only4999" OR "third" OR "everywhere"'
    assert explained["text_selecting"] == ["only4999", "third"]


def test_no_word_of_the_index_finds_nothing(db):
    assert not db.text_search("nowhere nothing never")


@settings(deadline=None, max_examples=15)
@given(st.lists(st.sampled_from([*WORDS, "everywhere", "third", "start", "fiftieth", "only0"]),
                min_size=1, max_size=40))  # fmt: skip
def test_what_is_chosen_is_a_function_of_the_snapshot(db, words):
    query = " ".join(words)
    with db._runtime.snapshot() as one, db._runtime.snapshot() as other:
        chosen = terms.choose(one, query)
        assert terms.choose(other, query) == chosen
        assert terms.choose(one, query) == chosen
    found_in = [term.found_in for term in chosen.every]
    assert found_in == sorted(found_in)
    assert len(found_in) <= terms.MAX_TERMS
    assert chosen.selecting == 1 or sum(found_in[: chosen.selecting]) <= chosen.most_rows
    assert [hit.chunk_id for hit in db.text_search(query)] == [
        hit.chunk_id for hit in db.text_search(query)
    ]
