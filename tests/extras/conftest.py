"""Tests of embedders that need gigabytes: ``make test-extras`` installs those, and runs these."""

from __future__ import annotations

import pytest

from fathomdb.embedders.sentence_transformers import SentenceTransformersEmbedder
from models import minilm_torch_folder


@pytest.fixture(scope="session")
def minilm_folder():
    return minilm_torch_folder()


@pytest.fixture(scope="session")
def minilm(minilm_folder):
    return SentenceTransformersEmbedder(minilm_folder, device="cpu")
