"""Findings: what an audit says, and rules that are one statement over the rows that break them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import apsw


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


@dataclass(frozen=True, slots=True)
class Rule:
    """Rows that must not be: ``sql`` gives (key, chunk_id, node_id, detail) of each.

    Rows whose parent is gone altogether are SQLite's to find, by their foreign key.
    """

    code: str
    table: str
    message: str
    sql: str

    def apply(self, db: apsw.Connection, parameters: Sequence[Any] = ()) -> Iterator[Finding]:
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
