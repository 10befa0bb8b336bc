"""Inspection: what the file has of one node, of one source, of one kind's vectors, as it is.

What belongs here: reads that put several tables side by side for a person who looks inside. What
does not: reads of the hot path (one file per table family).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from fathomdb.store import fts, keys
from fathomdb.store.connection import only_row, quote

if TYPE_CHECKING:
    from collections.abc import Iterable

    import apsw


@dataclass(frozen=True, slots=True)
class LastVersion:
    """The last superseded version of a node that is no longer live."""

    kind: str
    source_ref: str | None
    written_cursor: int
    superseded_cursor: int


def last_version(db: apsw.Connection, node_id: str) -> LastVersion | None:
    """How a node was when it ended, or None where there never was one."""
    row = db.execute(
        "SELECT kind, source_ref, written_cursor, superseded_cursor FROM nodes "
        "WHERE logical_id = ? AND superseded_cursor IS NOT NULL "
        "ORDER BY superseded_cursor DESC, node_key DESC LIMIT 1",
        (node_id,),
    ).fetchone()
    return LastVersion(*row) if row is not None else None


def in_text_index(db: apsw.Connection, chunk_keys: Iterable[int]) -> set[int]:
    """Those of the chunks that the full-text index has."""
    rows = db.execute(
        f"SELECT id FROM {quote(fts.MAIN + '_docsize')} WHERE id IN (SELECT value FROM carray(?))",
        (keys.ints(chunk_keys),),
    )
    return {row[0] for row in rows}


def ledger(db: apsw.Connection, chunk_keys: Iterable[int]) -> dict[tuple[int, int], bytes]:
    """What each vector of the chunks was made from, by (chunk_key, profile_id)."""
    rows = db.execute(
        "SELECT chunk_key, profile_id, canonical_hash FROM vector_ledger "
        "WHERE chunk_key IN (SELECT value FROM carray(?))",
        (keys.ints(chunk_keys),),
    )
    return {(row[0], row[1]): row[2] for row in rows}


def counts_of_source(db: apsw.Connection, source_ref: str) -> tuple[int, int, int, int]:
    """(chunks, vectors, unsettled work, failed work) of the live nodes of a source."""
    row = only_row(
        db.execute(
            "SELECT count(*), count(l.chunk_key), count(*) FILTER (WHERE w.state <> 'failed'), "
            "count(*) FILTER (WHERE w.state = 'failed') "
            "FROM nodes AS n JOIN chunks AS c USING (node_key) "
            "LEFT JOIN vector_index_schemas AS p ON p.kind = n.kind AND p.enabled = 1 "
            "LEFT JOIN vector_ledger AS l "
            "ON l.chunk_key = c.chunk_key AND l.profile_id = p.profile_id "
            "LEFT JOIN vector_projection_work AS w "
            "ON w.chunk_key = c.chunk_key AND w.profile_id = p.profile_id "
            "WHERE n.source_ref = ? AND n.superseded_cursor IS NULL",
            (source_ref,),
        )
    )
    return int(row[0]), int(row[1]), int(row[2]), int(row[3])


def projected_page(
    db: apsw.Connection, kind: str, profile_id: int, after_chunk_id: str, limit: int
) -> list[tuple[str, int, bytes]]:
    """(chunk_id, chunk_key, ledger hash) of the projected chunks of a kind, ordered by chunk_id."""
    rows = db.execute(
        "SELECT c.chunk_id, c.chunk_key, l.canonical_hash FROM chunks AS c "
        "CROSS JOIN nodes AS n USING (node_key) CROSS JOIN vector_ledger AS l "
        "ON l.chunk_key = c.chunk_key AND l.profile_id = ? "
        "WHERE c.chunk_id > ? AND n.kind = ? AND n.superseded_cursor IS NULL "
        "ORDER BY c.chunk_id LIMIT ?",
        (profile_id, after_chunk_id, kind, limit),
    )
    return [(row[0], int(row[1]), row[2]) for row in rows]
