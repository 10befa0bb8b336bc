"""Findings: what an audit says, every code it has, and rules that are one statement."""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    import apsw

_RESTORE = (
    "no other copy of it is in the file: restore an export, or write its records from their source "
    "into a new file"
)
_AGAIN = "repair it again; where it stays, something is writing to the file past the engine"

ADVICE: Mapping[str, str] = MappingProxyType(
    {
        # the file
        "unreadable": f"a part of the file cannot be read and {_RESTORE}",
        "sqlite": f"SQLite finds a page or a constraint broken and {_RESTORE}",
        "foreign_key": "a chunk without its node is text that nobody can find, and its node is not "
        "known: read it with SQL and write it again as a node, or restore an export",
        "schema_object": "a table that is not ours is never dropped: move it to a file of its own; "
        f"of a table of ours that is gone {_RESTORE}",
        "engine_state": f"the row that every commit counts in is gone or is no count: {_RESTORE}",
        "vector_commits": _AGAIN,
        "status_value": _AGAIN,
        # canonical records
        "node_cursor": "the number is beyond any commit: restore an export, or write the node again",
        "node_row": "records are never changed: write the node again from its source, or erase it; "
        "where its id cannot be named, restore an export",
        "tombstone_row": "what it says of an erasure is not known any more: restore an export",
        "tombstone_cursor": "the number is beyond any commit: restore an export",
        "node_version": "a superseded version ended before it began; it is history alone, so erase "
        "the node, or restore an export",
        "chunk_without_live_node": "the node was retired and its text was left, or the node was "
        "marked by mistake; only you can know: erase the node, and write it again if it is wanted",
        "chunk_order": "two pieces of a text claim one place and their order is not known: write "
        "the node again from its source",
        "chunk_offsets": _AGAIN,
        "chunk_hash": _AGAIN,
        "chunk_text": f"the text is not valid UTF-8 and {_RESTORE}",
        # indexes and models
        "index_profile": "no model is active that the kind could be indexed under: open the file "
        "with its embedder",
        "index_disabled": _AGAIN,
        "profile_identity": "the model of the vectors is described in two ways: restore an export, "
        "or name the model with admin.configure_embedding(..., acknowledge_rebuild_impact=True)",
        # the queue
        "vector_not_owed": _AGAIN,
        "work_row": _AGAIN,
        "work_hash": _AGAIN,
        "work_kind": _AGAIN,
        "work_not_wanted": _AGAIN,
        "work_fence": _AGAIN,
        "work_attempts": _AGAIN,
        "work_due": _AGAIN,
        "work_stuck": "open the file for writing, which takes its rows over",
        # vectors
        "ledger_hash": _AGAIN,
        "ledger_content": _AGAIN,
        "ledger_not_wanted": _AGAIN,
        "ledger_without_vector": _AGAIN,
        "vector_without_ledger": _AGAIN,
        "vector_table_missing": _AGAIN,
        "vector_table_definition": _AGAIN,
        "vector_table_unknown": _AGAIN,
        "vector_block": _AGAIN,
        "vector_values": _AGAIN,
        "vector_length": _AGAIN,
        "cache_vector": _AGAIN,
        "cache_live": _AGAIN,
        # full text
        "text_row_missing": _AGAIN,
        "text_row_orphaned": _AGAIN,
        "text_index": "make the index again with admin.rebuild(kind, target='fts')",
        "text_settings": _AGAIN,
        "text_rebuild": _AGAIN,
    }
)
"""Every code that a finding can have, and what to do where ``repair`` leaves one."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong: ``code`` is a stable word, ``key`` the row's key in ``table``.

    ``chunk_id`` and ``node_id`` are there where the row belongs to a chunk or a node.
    """

    code: str
    table: str
    message: str
    key: int | None = None
    chunk_id: str | None = None
    node_id: str | None = None

    def __post_init__(self) -> None:
        # A code that nobody listed would be one that nothing repairs and no test plants.
        if self.code not in ADVICE:
            raise ValueError(f"{self.code!r} is not a code of store/findings.py")


@dataclass(frozen=True, slots=True)
class Limits:
    """What can be, by the clock and the engine's numbers: beyond it a row was not written by us."""

    now_ms: int
    latest_due_ms: int
    most_attempts: int

    def named(self) -> dict[str, int]:
        """As parameters of a rule."""
        return {"latest_due": self.latest_due_ms, "most_attempts": self.most_attempts}


@dataclass(frozen=True, slots=True)
class Rule:
    """Rows that must not be: ``sql`` gives (key, chunk_id, node_id, detail) of each.

    Rows whose parent is gone altogether are SQLite's to find, by their foreign key.
    """

    code: str
    table: str
    message: str
    sql: str

    def apply(self, db: apsw.Connection, parameters: Any = ()) -> Iterator[Finding]:
        """The findings, in the order of the rows."""
        for key, chunk_id, node_id, detail in db.execute(self.sql, parameters):
            yield Finding(
                self.code,
                self.table,
                self.message.format(key=key, chunk=chunk_id, node=node_id, detail=detail),
                key,
                chunk_id,
                node_id,
            )


def of_chunk(db: apsw.Connection, code: str, table: str, message: str, key: int) -> Finding:
    """A finding about one chunk; ``{chunk}`` in the message becomes its id."""
    row = db.execute(
        "SELECT c.chunk_id, n.logical_id FROM chunks AS c LEFT JOIN nodes AS n USING (node_key) "
        "WHERE c.chunk_key = ?",
        (key,),
    ).fetchone()
    chunk_id, node_id = row if row is not None else (None, None)
    named = message.replace("{chunk}", chunk_id if chunk_id is not None else f"of key {key}")
    return Finding(code, table, named, key, chunk_id, node_id)
