from __future__ import annotations

import pytest

from fathomdb.embedders.onnx import OnnxEmbedder
from models import minilm_folder


@pytest.fixture(scope="session")
def minilm_files():
    return minilm_folder()


@pytest.fixture(scope="session")
def minilm(minilm_files):
    return OnnxEmbedder(minilm_files)
