"""Nodes: the live row of each id, and the versions that it superseded."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from fathomdb.store import bulk, keys
from fathomdb.store.connection import only_row

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    import apsw

    from fathomdb.store.conditions import Condition


@dataclass(frozen=True, slots=True)
class NodeRow:
    """A live row; ``properties`` is JSON text, ``split`` says that our splitter cut its text."""

    node_key: int
    node_id: str
    kind: str
    properties: str | None
    source_ref: str | None
    split: bool
    cursor: int


_COLUMNS = "node_key, logical_id, kind, properties, source_ref, split, written_cursor"


def _row(values: Sequence[object]) -> NodeRow:
    key, node_id, kind, properties, source_ref, split, cursor = values
    return NodeRow(key, node_id, kind, properties, source_ref, bool(split), cursor)  # type: ignore[arg-type]


def live(db: apsw.Connection, node_ids: Iterable[str]) -> dict[str, NodeRow]:
    """The live rows of these ids, by id."""
    rows = db.execute(
        f"SELECT {_COLUMNS} FROM nodes WHERE superseded_cursor IS NULL "
        "AND logical_id IN (SELECT value FROM carray(?))",
        (keys.texts(node_ids),),
    )
    return {row[1]: _row(row) for row in rows}


def page(db: apsw.Connection, *, after_key: int, limit: int, condition: Condition) -> list[NodeRow]:
    """Live rows that meet a condition, in key order."""
    rows = db.execute(
        f"SELECT {_COLUMNS} FROM nodes AS n WHERE superseded_cursor IS NULL AND node_key > ? "
        f"AND {condition.sql} ORDER BY node_key LIMIT ?",
        (after_key, *condition.parameters, limit),
    )
    return [_row(row) for row in rows]


def count(db: apsw.Connection, condition: Condition) -> int:
    """How many live rows meet a condition."""
    return int(
        db.execute(
            f"SELECT count(*) FROM nodes AS n WHERE superseded_cursor IS NULL AND {condition.sql}",
            condition.parameters,
        ).get
    )


def next_key(db: apsw.Connection) -> int:
    """The first key that no row has; keys are handed out by the one writer."""
    return int(db.execute("SELECT coalesce(max(node_key), 0) + 1 FROM nodes").get)


def insert(
    db: apsw.Connection,
    added: Sequence[tuple[int, str, str, str | None, str | None, bool, int]],
) -> None:
    """Adds live rows: key, id, kind, properties, source_ref, split, cursor."""
    bulk.insert(db, "nodes", _COLUMNS, added)


def supersede(
    db: apsw.Connection,
    rows: Iterable[tuple[str, str | None, str | None, bool, int, int]],
) -> None:
    """Rewrites live rows (kind, properties, source_ref, split, cursor, node_key).

    The old version is copied aside and the live row keeps its key, so that chunks which did not
    change need no new row.
    """
    for kind, properties, source_ref, split, cursor, node_key in rows:
        db.execute(
            "INSERT INTO nodes (logical_id, kind, properties, source_ref, split, written_cursor, "
            "superseded_cursor) SELECT logical_id, kind, properties, source_ref, split, "
            "written_cursor, ? FROM nodes WHERE node_key = ?",
            (cursor, node_key),
        )
        db.execute(
            "UPDATE nodes SET kind = ?, properties = ?, source_ref = ?, split = ?, "
            "written_cursor = ? WHERE node_key = ?",
            (kind, properties, source_ref, split, cursor, node_key),
        )


def retire(db: apsw.Connection, node_keys: Iterable[int], cursor: int) -> None:
    """Ends the life of rows; they stay as superseded versions, without chunks."""
    db.execute(
        "UPDATE nodes SET superseded_cursor = ? WHERE node_key IN (SELECT value FROM carray(?))",
        (cursor, keys.ints(node_keys)),
    )


@dataclass(frozen=True, slots=True)
class VersionRow:
    """Any version of a node; ``superseded_cursor`` None is the live one."""

    node_id: str
    kind: str
    written_cursor: int
    superseded_cursor: int | None


def versions_of_source(db: apsw.Connection, source_ref: str) -> Iterator[VersionRow]:
    """Every version that came from a source, live ones first, oldest first."""
    rows = db.execute(
        "SELECT logical_id, kind, written_cursor, superseded_cursor FROM nodes "
        "WHERE source_ref = ? ORDER BY superseded_cursor IS NOT NULL, node_key",
        (source_ref,),
    )
    return (VersionRow(*row) for row in rows)


def superseded(db: apsw.Connection, node_id: str) -> tuple[int, int | None]:
    """How many superseded versions an id has, and the commit that ended the last of them."""
    row = only_row(
        db.execute(
            "SELECT count(*), max(superseded_cursor) FROM nodes "
            "WHERE logical_id = ? AND superseded_cursor IS NOT NULL",
            (node_id,),
        )
    )
    return int(row[0]), row[1]


def live_ids_of_source(db: apsw.Connection, source_ref: str, kind: str | None) -> Iterator[str]:
    """Ids of the live nodes of a source, of one kind where given."""
    rows = db.execute(
        "SELECT logical_id FROM nodes WHERE source_ref = ?1 AND superseded_cursor IS NULL "
        "AND (?2 IS NULL OR kind = ?2)",
        (source_ref, kind),
    )
    return (row[0] for row in rows)
