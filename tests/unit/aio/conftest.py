"""What tests of the asynchronous face share."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from fathomdb import EngineConfig, aio
from fathomdb.testing import DeterministicEmbedder, RecordingEmbedder

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

HANGS_AFTER_SECONDS = 60


@pytest.fixture
def run() -> Callable[[Coroutine], object]:
    """Runs a coroutine on a loop of its own; one that hangs fails."""

    def running(coroutine: Coroutine) -> object:
        return asyncio.run(asyncio.wait_for(coroutine, HANGS_AFTER_SECONDS))

    return running


@pytest.fixture
def embedder() -> RecordingEmbedder:
    return RecordingEmbedder(DeterministicEmbedder(), patience_seconds=HANGS_AFTER_SECONDS)


@pytest.fixture
def opening(path: str, embedder: RecordingEmbedder) -> Callable[..., aio.Opening]:
    """Opens the test's database; ``threads`` of each lane."""

    def opened(*, threads: int = 2, **options: object) -> aio.Opening:
        options.setdefault("embedder", embedder)
        options.setdefault("config", EngineConfig(async_threads=threads))
        return aio.open(path, **options)

    return opened
