"""The tests' own server tells the truth about the API: the official client takes its answers."""

from __future__ import annotations

import numpy as np
import openai
import pytest

from fathomdb.embedders.openai import OpenAIEmbedder
from fathomdb.testing import DeterministicEmbedder
from http_server import MODEL, Said, serving

TEXTS = ["one", "two", "three, a little longer"]


@pytest.fixture
def server():
    with serving() as server:
        yield server


@pytest.fixture
def client(server):
    with openai.OpenAI(base_url=server.url, api_key="sk-test", max_retries=0) as client:
        yield client


@pytest.mark.parametrize("encoding_format", ["float", "base64", None])
def test_the_official_client_reads_the_vectors_that_the_embedder_reads(
    server, client, encoding_format
):
    options = {} if encoding_format is None else {"encoding_format": encoding_format}
    answer = client.embeddings.create(model=MODEL, input=TEXTS, **options)

    vectors = [row.embedding for row in answer.data]
    if encoding_format == "base64":
        import base64

        vectors = [np.frombuffer(base64.b64decode(row), dtype="<f4") for row in vectors]
    expected = DeterministicEmbedder(16).batch_embed(TEXTS)
    assert [row.index for row in answer.data] == [0, 1, 2]
    np.testing.assert_array_equal(np.array(vectors, dtype=np.float32), expected)
    ours = OpenAIEmbedder(MODEL, base_url=server.url)
    np.testing.assert_array_equal(ours.batch_embed(TEXTS), expected)
    ours.close()
    assert answer.usage.total_tokens == 8
    assert answer.model == MODEL


def test_the_official_client_and_the_embedder_send_the_same_request(server, client, monkeypatch):
    monkeypatch.setenv("TEST_KEY", "sk-test")
    client.embeddings.create(
        model=MODEL, input=TEXTS, dimensions=8, encoding_format="base64", user="someone"
    )
    ours = OpenAIEmbedder(
        MODEL,
        base_url=server.url,
        dimensions=8,
        api_key_env="TEST_KEY",
        document_parameters={"user": "someone"},
    )
    ours.batch_embed(TEXTS)
    ours.close()

    theirs, own = server.asked
    assert own.path == theirs.path
    assert own.body == theirs.body
    assert own.headers["Authorization"] == theirs.headers["Authorization"]
    assert own.headers["Content-Type"] == theirs.headers["Content-Type"]


@pytest.mark.parametrize(
    ("said", "error"),
    [
        (Said(400), openai.BadRequestError),
        (Said(401), openai.AuthenticationError),
        (Said(404), openai.NotFoundError),
        (Said(422), openai.UnprocessableEntityError),
        (Said(429, headers={"Retry-After": "7"}), openai.RateLimitError),
        (Said(500), openai.InternalServerError),
    ],
    ids=lambda value: str(getattr(value, "status", "")),
)
def test_the_official_client_knows_the_errors_of_the_server(server, client, said, error):
    server.script.append(said)
    with pytest.raises(error) as caught:
        client.embeddings.create(model=MODEL, input=TEXTS)
    assert caught.value.body["message"] == "no"
    assert caught.value.response.headers.get("retry-after") == said.headers.get("Retry-After")
