"""The example keeps the contract of every embedder."""

from __future__ import annotations

import pytest
from fathomdb_embedder_example import ByteCounts

from fathomdb.testing import EmbedderContract


class TestByteCounts(EmbedderContract):
    """Its vectors are the same bits in every batch, so the tolerance is 0."""

    tolerance = 0

    @pytest.fixture
    def embedder(self) -> ByteCounts:
        """The embedder that is held to the contract."""
        return ByteCounts()
