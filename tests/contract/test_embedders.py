"""Every embedder of the package passes the suite that it gives to plugin authors."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest
from langchain_core.embeddings import DeterministicFakeEmbedding

from fathomdb.embedders.function import embedder as embedder_decorator
from fathomdb.embedders.hashing import HashingEmbedder
from fathomdb.embedders.langchain import from_langchain
from fathomdb.embedders.openai import OpenAIEmbedder
from fathomdb.embedders.protocol import EmbedderLimits
from fathomdb.testing import (
    DeterministicEmbedder,
    EmbedderContract,
    FlakyEmbedder,
    RecordingEmbedder,
)
from http_server import MODEL, serving


class TestHashing(EmbedderContract):
    tolerance = 0

    @pytest.fixture(params=["256", "512"])
    def embedder(self, request):
        return HashingEmbedder(request.param)


class TestStatic(EmbedderContract):
    tolerance = 0

    @pytest.fixture
    def embedder(self, static):
        return static


class TestOnnx(EmbedderContract):
    @pytest.fixture
    def embedder(self, minilm):
        return minilm


class TestFunction(EmbedderContract):
    tolerance = 0

    @pytest.fixture
    def embedder(self):
        inner = DeterministicEmbedder(16)

        @embedder_decorator("acme/lists", dimension=16, query=lambda text: [float(len(text))] * 16)
        def embed(texts):
            return inner.batch_embed(texts).tolist()

        return embed


class TestFunctionOfUnknownDimension(EmbedderContract):
    tolerance = 0

    @pytest.fixture
    def embedder(self):
        @embedder_decorator("acme/learned")
        def embed(texts):
            return np.asfortranarray(DeterministicEmbedder(24).batch_embed(texts), dtype=np.float64)

        return embed


class TestAsyncFunction(EmbedderContract):
    tolerance = 0

    @pytest.fixture
    def embedder(self):
        inner = DeterministicEmbedder(16)
        lock = asyncio.Lock()  # belongs to the loop of its first use

        async def query(text):
            return [float(len(text))] * 16

        @embedder_decorator("acme/async", dimension=16, query=query, concurrency=4)
        async def embed(texts):
            async with lock:
                await asyncio.sleep(0)
                return inner.batch_embed(texts)

        return embed


class TestOpenAI(EmbedderContract):
    tolerance = 0

    @pytest.fixture
    def embedder(self):
        with serving() as server:
            made = OpenAIEmbedder(
                MODEL, base_url=server.url, batch_items=5, max_tokens=512, query_prefix="query: "
            )
            yield made
            made.close()


class TestLangChain(EmbedderContract):
    tolerance = 0

    @pytest.fixture
    def embedder(self):
        return from_langchain(
            DeterministicFakeEmbedding(size=32), "fake/deterministic", dimension=32
        )


class TestDeterministic(EmbedderContract):
    tolerance = 0

    @pytest.fixture
    def embedder(self):
        return DeterministicEmbedder(limits=EmbedderLimits(concurrency=4))


class TestFlakyWithoutFaults(EmbedderContract):
    tolerance = 0

    @pytest.fixture
    def embedder(self):
        return FlakyEmbedder(DeterministicEmbedder())


class TestRecording(EmbedderContract):
    tolerance = 0

    @pytest.fixture
    def embedder(self):
        return RecordingEmbedder(DeterministicEmbedder(limits=EmbedderLimits(concurrency=4)))
