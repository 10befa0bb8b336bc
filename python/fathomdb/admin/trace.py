"""Trace: all that the file has from one source."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from fathomdb.pipeline.prepare import check_name
from fathomdb.store import inspection, nodes

if TYPE_CHECKING:
    from fathomdb.actors.runtime import Runtime


@dataclass(frozen=True, slots=True)
class TracedVersion:
    """A version of a node; ``superseded_cursor`` is the commit that ended it, None while it lives."""

    node_id: str
    kind: str
    written_cursor: int
    superseded_cursor: int | None


@dataclass(frozen=True, slots=True)
class SourceTrace:
    """What came from a source: versions of nodes, and what was made of them.

    ``live`` is in the order of first writing, ``superseded`` in the order of ending: these are versions that were rewritten or retired: they keep their properties, not
    their text. The counts are of the chunks of the ``live`` nodes: how many there are, have their
    vector under the active profile, wait for it, and failed.
    """

    source_ref: str
    live: tuple[TracedVersion, ...]
    superseded: tuple[TracedVersion, ...]
    chunks: int
    vectors: int
    pending: int
    failed: int


def trace(runtime: Runtime, source_ref: str) -> SourceTrace:
    """Everything of a source; empty where nothing ever came from it."""
    check_name("source_ref", source_ref)
    with runtime.snapshot() as db:
        versions = [
            TracedVersion(row.node_id, row.kind, row.written_cursor, row.superseded_cursor)
            for row in nodes.versions_of_source(db, source_ref)
        ]
        chunks, vectors, pending, failed = inspection.counts_of_source(db, source_ref)
    ended = [row for row in versions if row.superseded_cursor is not None]
    return SourceTrace(
        source_ref=source_ref,
        live=tuple(row for row in versions if row.superseded_cursor is None),
        superseded=tuple(sorted(ended, key=lambda row: (row.superseded_cursor, row.node_id))),
        chunks=chunks,
        vectors=vectors,
        pending=pending,
        failed=failed,
    )
