"""What tests of the engine share."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

import fathomdb
from fathomdb.testing import DeterministicEmbedder

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


@pytest.fixture
def path(tmp_path: Path) -> str:
    """Where a test's database is."""
    return str(tmp_path / "test.db")


@pytest.fixture
def open_db(path: str) -> Iterator[Callable[..., fathomdb.Engine]]:
    """Opens the test's database, with no background work unless asked; closed after the test."""
    engines: list[fathomdb.Engine] = []

    def opened(**options: object) -> fathomdb.Engine:
        options.setdefault("embedder", DeterministicEmbedder())
        options.setdefault("background", False)
        engine = fathomdb.open(path, **options)
        engines.append(engine)
        return engine

    yield opened
    for engine in engines:
        engine.close()


@pytest.fixture
def db(open_db: Callable[..., fathomdb.Engine]) -> fathomdb.Engine:
    """An empty database with a deterministic embedder and no background work."""
    return open_db()
