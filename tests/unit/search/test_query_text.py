"""A user's text is text: never FTS5 syntax, whatever is in it, under any tokenizer."""

from __future__ import annotations

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from fathomdb import InvalidInputError, Node
from fathomdb.search.terms import MAX_WORDS
from fathomdb.store.fts import TOKENIZERS
from fathomdb.testing import temporary

SYNTAX = [
    '"', '""', '"""', "'", "''", '"harbour', 'harbour"', '"harbour"', "AND", "OR", "NOT", "NEAR",
    "harbour AND", "OR harbour", "NOT harbour", "NEAR(harbour lights)", "NEAR(harbour, 5", "NEAR/2",
    "harbour*", "*", "**", "-harbour", "- harbour", "^harbour", "^", "text:harbour", "text : harbour",
    "{text}: harbour", "-text:harbour", "chunks_fts", "rowid:1", "rank", "(harbour", "harbour)", "(", ")",
    "((harbour)", "harbour + lights", "+", "\\", "\\harbour", ";", "; DROP TABLE nodes; --", "--",
    "/* harbour */", "%", "_", "🎉", "🎉 harbour 🎉", "👩‍👩‍👧‍👦", "\0", "har\0bour", "harbour\0lights", "\x01\x1b[31m",
    "?", "?1", ":name", "@x", "$y", "\u202eharbour", "e\u0301", "ﬁ", "数据库", "שלום", "\ufeff", "\uffff",
]  # fmt: skip


@pytest.fixture(scope="module", params=TOKENIZERS)
def db(request):
    with temporary(background=False) as engine:
        engine.admin.configure_fts(request.param)
        engine.write(
            [
                Node("Doc", "harbour", "The harbour lights were seen from the sea."),
                Node("Doc", "sea", "Nothing but the sea."),
            ]
        )
        engine.admin.drain_vector_projection()
        yield engine


@pytest.mark.parametrize("query", SYNTAX, ids=ascii)
def test_full_text_syntax_in_a_query_is_text(db, query):
    found = {hit.node_id for hit in db.text_search(query)}
    assert found <= {"harbour", "sea"}
    hybrid = db.search(query)
    assert found <= {hit.node_id for hit in hybrid}
    assert hybrid.degraded is None


@pytest.mark.parametrize(
    "query",
    ['"harbour', "harbour*", "-harbour", "^harbour", "(harbour", "harbour AND", "NOT harbour",
     "NEAR(harbour lights)", "🎉 harbour 🎉", "harbour\0lights", "harbour?", "«harbour»", "harbour."],
    ids=ascii,
)  # fmt: skip
def test_a_word_is_found_whatever_stands_around_it(db, query):
    assert "harbour" in {hit.node_id for hit in db.text_search(query)}


def test_the_words_of_a_query_are_ored_and_more_of_them_rank_higher(db):
    assert db.text_search("sea harbour unknownword")[0].node_id == "harbour"
    assert len(db.text_search("sea harbour unknownword")) == 2


@settings(deadline=None, max_examples=300)
@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1))
@example('a"b')
@example("\0\0\0")
def test_any_text_is_a_query(db, query):
    if not query.strip():
        with pytest.raises(InvalidInputError, match="must have a word in it"):
            db.text_search(query)
        return
    assert {hit.node_id for hit in db.text_search(query)} <= {"harbour", "sea"}


@pytest.mark.parametrize(
    "query",
    [
        "harbour lights " * 70_000,
        "harbour " + "x" * 1_000_000,
        "harbour " + " ".join(f"word{n}" for n in range(120_000)),
        "harbour " + '"' * 1_000_000,
        "harbour " + "(" * 1_000_000,
        "harbour " + "🎉" * 250_000,
    ],
    ids=["words", "one-word", "distinct-words", "quotes", "parentheses", "emoji"],
)
def test_a_megabyte_of_text_is_a_query(db, query):
    assert len(query.encode()) >= 1_000_000
    assert "harbour" in {hit.node_id for hit in db.text_search(query)}


def test_words_past_the_limit_are_ignored_and_those_before_it_are_not(db):
    words = " ".join(f"filler{n}" for n in range(MAX_WORDS - 1))
    assert [hit.node_id for hit in db.text_search(f"{words} harbour")] == ["harbour"]
    assert not db.text_search(f"{words} filler{MAX_WORDS} harbour")


@pytest.mark.parametrize("query", ["", " ", "\n\t", "\u2003"], ids=ascii)
def test_a_query_without_anything_in_it_is_refused(db, query):
    for search in (db.search, db.text_search, db.semantic_search):
        with pytest.raises(InvalidInputError) as caught:
            search(query)
        assert repr(query) in str(caught.value)


@pytest.mark.parametrize("query", [None, 5, b"harbour", ["harbour"]], ids=repr)
def test_a_query_that_is_not_a_string_is_refused(db, query):
    for search in (db.search, db.text_search, db.semantic_search):
        with pytest.raises(InvalidInputError) as caught:
            search(query)
        assert repr(query) in str(caught.value)


def test_a_lone_surrogate_in_a_query_is_refused(db):
    for search in (db.search, db.text_search, db.semantic_search):
        with pytest.raises(InvalidInputError, match=r"character 3.*ud800"):
            search("abc\ud800")


def test_the_same_text_stored_and_searched_is_found_under_every_tokenizer():
    texts = [
        "plain words",
        "NULs \0 inside \0 words",
        "Straße naïve",
        "数据库系统",
        "quote \" and ' end",
    ]
    with temporary(embedder=False) as engine:
        engine.write(Node("Doc", str(n), text) for n, text in enumerate(texts))
        for tokenizer in TOKENIZERS:
            engine.admin.configure_fts(tokenizer)
            for n, text in enumerate(texts):
                assert str(n) in {hit.node_id for hit in engine.text_search(text)}, (
                    tokenizer,
                    text,
                )
