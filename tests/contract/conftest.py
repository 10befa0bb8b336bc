from __future__ import annotations

import pytest

from fathomdb.embedders.onnx import OnnxEmbedder
from fathomdb.embedders.static import StaticEmbedder
from models import minilm_folder


@pytest.fixture(scope="session")
def minilm():
    return OnnxEmbedder(minilm_folder())


@pytest.fixture(scope="session", params=["256", "128", "64"])
def static(request):
    return StaticEmbedder(request.param)
