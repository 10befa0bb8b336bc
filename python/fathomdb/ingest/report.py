"""What an ingest says: while it runs, and when it is done."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

MAX_KEPT_ERRORS = 1000
"""Errors that a report keeps; all are counted."""


@dataclass(frozen=True, slots=True)
class IngestError:
    """A record that was not stored; ``record_number`` counts from 1, in the order of the input."""

    record_number: int
    message: str


@dataclass(frozen=True, slots=True)
class IngestProgress:
    """How far an ingest is; ``records`` counts what was read, the other counts what came of it.

    ``total_records`` is known for inputs with a length, ``total_bytes`` and ``bytes_read`` for
    files (for Parquet, ``bytes_read`` is the share of its rows).
    """

    records: int
    written: int
    unchanged: int
    chunks: int
    errors: int
    bytes_read: int | None
    total_bytes: int | None
    total_records: int | None


@dataclass(frozen=True, slots=True)
class IngestReport:
    """What an ingest did; ``records`` is always written + unchanged + duplicates + error_count.

    ``duplicates`` are records whose id came again in the same batch, where the last one wins.
    ``without_text`` is how many records of all had no text and are found by id alone. ``retired``
    counts what ``prune_source`` ended, ``chunks`` those stored new or changed, ``enqueued`` the
    vectors now owed for them. ``errors`` are the first 1,000 of ``error_count``. ``skipped`` counts
    the files of a folder that were not read, by reason. ``cursor`` is the last commit.
    """

    records: int
    written: int
    unchanged: int
    duplicates: int
    without_text: int
    retired: int
    chunks: int
    enqueued: int
    error_count: int
    errors: tuple[IngestError, ...] = field(repr=False)
    skipped: Mapping[str, int]
    seconds: float
    cursor: int


Progress = Callable[[IngestProgress], None]
"""Called after every batch; what it raises ends the ingest, and what is stored stays."""
