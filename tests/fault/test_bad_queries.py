"""What an embedder can answer to a query that is no vector, and what a search makes of it."""

from __future__ import annotations

import numpy as np
import pytest

from fathomdb import EmbedderContractError, EmbedderUnavailableError, Node
from fathomdb.testing import DeterministicEmbedder


class AnswersQueries(DeterministicEmbedder):
    """Embeds documents well; a query is answered by ``answer``."""

    def __init__(self, answer):
        super().__init__(4)
        self._answer = answer

    def embed_query(self, text):
        return self._answer()


@pytest.fixture
def answering(open_db):
    def opened(answer):
        db = open_db(embedder=AnswersQueries(answer))
        db.write(Node("Document", "n", "some words"))
        db.admin.drain_vector_projection(timeout=30)
        return db

    return opened


@pytest.mark.parametrize(
    ("vector", "said"),
    [
        (np.full(4, np.nan), "not finite"),
        (np.zeros(4), "zero"),
        (np.ones(5), "5 columns"),
        (None, "bad query vector"),
    ],
    ids=["nan", "zero", "dimension", "none"],
)
def test_a_bad_query_vector_is_no_outage_that_a_retry_could_end(answering, vector, said):
    db = answering(lambda: vector)

    result = db.search("words")

    assert [hit.node_id for hit in result] == ["n"]  # by its words
    assert result.degraded == "outage"
    assert "returned a bad query vector" in result.reason
    assert said in result.reason
    with pytest.raises(EmbedderContractError, match="returned a bad query vector") as caught:
        db.semantic_search("words")
    assert not caught.value.retryable
    assert db.admin.status().outage is None


def test_a_time_out_of_the_transport_keeps_its_own_words(answering):
    def answer():
        raise TimeoutError("the proxy gave up")

    db = answering(answer)

    assert "the proxy gave up" in db.search("words").reason
    with pytest.raises(EmbedderUnavailableError, match="TimeoutError: the proxy gave up"):
        db.semantic_search("words")
