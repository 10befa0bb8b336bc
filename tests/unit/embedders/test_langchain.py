from __future__ import annotations

import numpy as np
import pytest
from langchain_core.embeddings import DeterministicFakeEmbedding, Embeddings

import fathomdb
from fathomdb import EmbedderLimits, InvalidInputError, Node
from fathomdb.embedders.protocol import limits_of
from fathomdb.embedders.registry import is_local, resolve, spec_of
from inside import vectors


class TwoSided(Embeddings):
    """Documents and queries lie in the same places only if each goes by its own method."""

    def __init__(self):
        self.asked = []

    def embed_documents(self, texts):
        self.asked.append(("documents", texts))
        return [[1.0, float(len(text)), 0.0] for text in texts]

    def embed_query(self, text):
        self.asked.append(("query", text))
        return [1.0, float(len(text)), 0.0]


def test_documents_go_by_the_document_method_and_queries_by_the_query_method(open_db):
    embeddings = TwoSided()
    db = open_db(embedder=fathomdb.from_langchain(embeddings, "acme/two-sided", dimension=3))
    db.write([Node("Word", "w1", "a"), Node("Word", "w2", "ccc")])
    db.admin.drain_vector_projection(timeout=30)
    assert db.semantic_search("bbb")[0].node_id == "w2"
    assert [method for method, _ in embeddings.asked] == ["documents", "query"]
    assert embeddings.asked[1] == ("query", "bbb")
    # A list, as its signature says: some of them do not take another sequence.
    assert type(embeddings.asked[0][1]) is list


def test_an_embeddings_object_of_langchain_finds_what_it_embedded(open_db):
    embeddings = DeterministicFakeEmbedding(size=48)
    db = open_db(embedder=fathomdb.from_langchain(embeddings, "fake/deterministic", "7"))
    db.write([Node("Note", f"n{number}", f"note {number}") for number in range(20)])
    db.admin.drain_vector_projection(timeout=30)
    assert db.semantic_search("note 13")[0].node_id == "n13"
    assert "fake/deterministic@7 (48 dimensions)" in str(db.admin.status())
    stored = vectors(db)["n13#0"]
    given = np.array(embeddings.embed_query("note 13"))
    np.testing.assert_allclose(stored, given / np.linalg.norm(given), atol=1e-6)


def test_what_is_said_about_it_is_declared():
    made = fathomdb.from_langchain(
        TwoSided(),
        "acme/e5",
        version="3",
        dimension=3,
        normalization="none",
        max_tokens=512,
        items=64,
        concurrency=4,
        local=True,
        preparation={"prefix": "query: "},
    )
    assert made.identity() == fathomdb.EmbedderIdentity(
        "acme/e5", "3", 3, "none", {"prefix": "query: "}
    )
    assert limits_of(made) == EmbedderLimits(items=64, concurrency=4)
    assert (made.max_tokens, is_local(made)) == (512, True)


def test_it_is_taken_for_remote_and_is_never_remembered():
    made = fathomdb.from_langchain(TwoSided(), "acme/e5")
    assert not is_local(made)
    assert spec_of(made) is None


def test_an_error_of_the_object_passes_through_as_the_outage_that_it_is(open_db):
    class Down(TwoSided):
        def embed_documents(self, texts):
            raise ConnectionRefusedError("nobody listens")

    db = open_db(embedder=fathomdb.from_langchain(Down(), "acme/down", dimension=3))
    db.write(Node("Word", "w1", "a"))
    report = db.admin.drain_vector_projection(timeout=0)
    assert (report.stopped_by, report.reverted, report.failed) == ("unavailable", 1, 0)


def test_the_bare_object_is_refused_with_the_line_to_write():
    with pytest.raises(InvalidInputError, match=r"LangChain TwoSided.*which model") as caught:
        resolve(TwoSided())
    line = str(caught.value).split("wrap it: ")[1]
    made = eval(line, {"fathomdb": fathomdb, "embeddings": TwoSided()})
    assert str(made.identity()) == "acme/e5@3 (384 dimensions)"
    assert resolve(made) is made


@pytest.mark.parametrize(
    ("wrong", "said"),
    [(TwoSided, "the class TwoSided"), ("acme/e5", "a str"), (None, "a NoneType")],
)
def test_what_is_no_embeddings_object_is_refused(wrong, said):
    with pytest.raises(InvalidInputError, match=f"embed_documents.*got {said}$"):
        fathomdb.from_langchain(wrong, "acme/e5")


def test_an_object_with_a_key_in_it_is_not_shown():
    class Secretive:
        def embed_documents(self, texts):
            return []

        def __repr__(self):
            return "Secretive(key='s3cret')"

    with pytest.raises(InvalidInputError, match=r"got a Secretive$"):
        fathomdb.from_langchain(Secretive(), "acme/e5")
