"""A database for tests, which goes away."""

from __future__ import annotations

import contextlib
import os
import tempfile
from typing import TYPE_CHECKING, Any

from fathomdb.engine import open as open_engine
from fathomdb.testing.embedders import DeterministicEmbedder

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fathomdb.engine import Engine


@contextlib.contextmanager
def temporary(**options: Any) -> Iterator[Engine]:
    """An engine on a real file in a folder that is removed afterwards.

    Takes what :func:`fathomdb.open` takes but the path; without an ``embedder`` it has a
    :class:`DeterministicEmbedder`.
    """
    options.setdefault("embedder", DeterministicEmbedder())
    with (
        tempfile.TemporaryDirectory(prefix="fathomdb-") as folder,
        open_engine(os.path.join(folder, "temporary.db"), **options) as engine,
    ):
        yield engine
