"""The small file of each released schema, and what must be in it after an upgrade."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from fathomdb.store.schema import SCHEMA_VERSION

if TYPE_CHECKING:
    from collections.abc import Callable

DATA = Path(__file__).resolve().parents[1] / "data" / "upgrade"
OLDER = range(1, SCHEMA_VERSION)


@pytest.fixture
def old_file(path: str) -> Callable[[int], str]:
    """Puts the file of a version where the test's database is."""

    def place(version: int) -> str:
        Path(path).write_bytes(gzip.decompress((DATA / f"v{version}.db.gz").read_bytes()))
        return path

    return place


def expected(version: int) -> dict[str, Any]:
    """Every row and answer of the file of a version."""
    return json.loads((DATA / f"v{version}.json").read_text())
