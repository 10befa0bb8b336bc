"""Chunks: the pieces of live text. Only live nodes have any."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import apsw

from fathomdb import _native
from fathomdb.store import bulk, keys
from fathomdb.store.conditions import EVERYTHING
from fathomdb.store.connection import only_row

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from fathomdb.store.conditions import Condition


@dataclass(frozen=True, slots=True)
class ChunkRow:
    """A chunk without its text."""

    chunk_key: int
    chunk_id: str
    node_key: int
    ordinal: int
    byte_start: int | None
    byte_end: int | None
    canonical_hash: bytes


_COLUMNS = "chunk_key, chunk_id, node_key, ordinal, byte_start, byte_end, canonical_hash"


def of_nodes(db: apsw.Connection, node_keys: Iterable[int]) -> dict[int, list[ChunkRow]]:
    """The chunks of these nodes in order, by node key."""
    found: dict[int, list[ChunkRow]] = {}
    for row in db.execute(
        f"SELECT {_COLUMNS} FROM chunks WHERE node_key IN (SELECT value FROM carray(?)) "
        "ORDER BY node_key, ordinal",
        (keys.ints(node_keys),),
    ):
        chunk = ChunkRow(*row)
        found.setdefault(chunk.node_key, []).append(chunk)
    return found


def texts(db: apsw.Connection, chunk_keys: Iterable[int]) -> list[tuple[int, str]]:
    """(chunk_key, text) of these chunks."""
    rows = db.execute(
        "SELECT chunk_key, text FROM chunks WHERE chunk_key IN (SELECT value FROM carray(?))",
        (keys.ints(chunk_keys),),
    )
    return [(int(row[0]), row[1]) for row in rows]


def node_keys(db: apsw.Connection, chunk_keys: Iterable[int]) -> dict[int, int]:
    """The node of each of these chunks, by chunk key."""
    rows = db.execute(
        "SELECT chunk_key, node_key FROM chunks WHERE chunk_key IN (SELECT value FROM carray(?))",
        (keys.ints(chunk_keys),),
    )
    return dict(rows)


def passing(
    db: apsw.Connection, chunk_keys: Iterable[int], condition: Condition
) -> list[tuple[int, int]]:
    """(chunk_key, node_key) of those chunks whose node ``n`` meets a condition, in the given order."""
    chunk_of_key = "FROM carray(?) AS k CROSS JOIN chunks AS c ON c.chunk_key = k.value"
    if condition == EVERYTHING:  # no node is read
        return list(
            db.execute(f"SELECT c.chunk_key, c.node_key {chunk_of_key}", (keys.ints(chunk_keys),))
        )
    return list(
        db.execute(
            f"SELECT c.chunk_key, n.node_key {chunk_of_key} CROSS JOIN nodes AS n USING (node_key) "
            f"WHERE {condition.sql}",
            (keys.ints(chunk_keys), *condition.parameters),
        )
    )


@dataclass(frozen=True, slots=True)
class FoundRow:
    """A chunk with its node, as a hit shows it; ``properties`` is JSON text."""

    chunk_key: int
    chunk_id: str
    text: str
    node_id: str
    kind: str
    properties: str | None
    source_ref: str | None


def for_hits(db: apsw.Connection, chunk_keys: Iterable[int]) -> dict[int, FoundRow]:
    """What hits show of these chunks, by chunk key."""
    rows = db.execute(
        "SELECT c.chunk_key, c.chunk_id, c.text, n.logical_id, n.kind, n.properties, n.source_ref "
        "FROM chunks AS c JOIN nodes AS n USING (node_key) "
        "WHERE c.chunk_key IN (SELECT value FROM carray(?))",
        (keys.ints(chunk_keys),),
    )
    return {row[0]: FoundRow(*row) for row in rows}


def next_key(db: apsw.Connection) -> int:
    """The first key that no row has; keys are handed out by the one writer."""
    return int(db.execute("SELECT coalesce(max(chunk_key), 0) + 1 FROM chunks").get)


def insert(
    db: apsw.Connection,
    added: Sequence[tuple[int, int, int, str, str, int | None, int | None, bytes]],
) -> bool:
    """Adds rows: key, node key, ordinal, id, text, byte start and end, hash.

    Returns False where an id is taken: some rows may be in then, and the request must be undone.
    """
    try:
        bulk.insert(
            db,
            "chunks",
            "chunk_key, node_key, ordinal, chunk_id, text, byte_start, byte_end, canonical_hash",
            added,
        )
    except apsw.ConstraintError as error:
        if getattr(error, "extendedresult", None) != apsw.SQLITE_CONSTRAINT_UNIQUE:
            raise
        return False
    return True


def update(
    db: apsw.Connection, rows: Iterable[tuple[int, int | None, int | None, bytes, str, int]]
) -> None:
    """Changes rows: ordinal, byte start and end, hash, text, chunk key."""
    db.executemany(
        "UPDATE chunks SET ordinal = ?, byte_start = ?, byte_end = ?, canonical_hash = ?, text = ? "
        "WHERE chunk_key = ?",
        rows,
    )


def move(db: apsw.Connection, rows: Iterable[tuple[int, int | None, int | None, int]]) -> None:
    """Gives chunks whose text stays a new place: ordinal, byte start and end, chunk key."""
    db.executemany(
        "UPDATE chunks SET ordinal = ?, byte_start = ?, byte_end = ? WHERE chunk_key = ?", rows
    )


def delete(db: apsw.Connection, chunk_keys: Iterable[int]) -> None:
    """Removes rows."""
    db.execute(
        "DELETE FROM chunks WHERE chunk_key IN (SELECT value FROM carray(?))",
        (keys.ints(chunk_keys),),
    )


def owners(db: apsw.Connection, chunk_ids: Iterable[str]) -> dict[str, str]:
    """Which node has each of these chunk ids, of those that are taken."""
    rows = db.execute(
        "SELECT c.chunk_id, n.logical_id FROM chunks AS c JOIN nodes AS n USING (node_key) "
        "WHERE c.chunk_id IN (SELECT value FROM carray(?))",
        (keys.texts(chunk_ids),),
    )
    return {row[0]: row[1] for row in rows}


def key_page(db: apsw.Connection, after_key: int, limit: int) -> list[int]:
    """The next keys in order: how a rebuild walks the whole store in pieces."""
    rows = db.execute(
        "SELECT chunk_key FROM chunks WHERE chunk_key > ? ORDER BY chunk_key LIMIT ?",
        (after_key, limit),
    )
    return [int(row[0]) for row in rows]


def page_end(db: apsw.Connection, kind: str, after_key: int, limit: int) -> int | None:
    """The last key of the next ``limit`` chunks of a kind, or None where there are no more."""
    last: int | None = db.execute(
        "SELECT max(chunk_key) FROM (SELECT c.chunk_key FROM chunks AS c JOIN nodes AS n "
        "USING (node_key) WHERE n.kind = ? AND c.chunk_key > ? ORDER BY c.chunk_key LIMIT ?)",
        (kind, after_key, limit),
    ).get
    return last


def count_between(db: apsw.Connection, kind: str, first_key: int, last_key: int) -> int:
    """How many chunks of a kind have a key in a range, both ends included."""
    return int(
        db.execute(
            "SELECT count(*) FROM chunks AS c JOIN nodes AS n USING (node_key) "
            "WHERE n.kind = ? AND c.chunk_key BETWEEN ? AND ?",
            (kind, first_key, last_key),
        ).get
    )


class Owed(NamedTuple):
    """Chunks that have no current vector under a profile, and what becomes of them.

    ``known`` texts have a vector of it all the same: in the cache, or of another chunk. Of the others
    ``repeated`` have a text that another one of them has too; ``characters`` are those of the rest.
    """

    chunks: int
    known: int
    repeated: int
    characters: int


def owed(db: apsw.Connection, kinds: Iterable[str], profile_id: int) -> Owed:
    """What it takes to give every chunk of these kinds a vector under a profile; reads every text."""
    # Who has a vector under any profile has the hash of its text in the ledger; the others are few.
    db.create_scalar_function("content_hash", _content_hash, 1, deterministic=True)
    return Owed(
        *only_row(
            db.execute(
                "WITH owed AS (SELECT length(c.text) AS characters, coalesce("
                "(SELECT e.content_hash FROM vector_ledger AS e WHERE e.chunk_key = c.chunk_key "
                "AND e.canonical_hash = c.canonical_hash LIMIT 1), content_hash(c.text)) AS hash "
                "FROM nodes AS n JOIN chunks AS c USING (node_key) LEFT JOIN vector_ledger AS l "
                "ON l.chunk_key = c.chunk_key AND l.profile_id = ?1 "
                "AND l.canonical_hash = c.canonical_hash "
                "WHERE n.kind IN (SELECT value FROM carray(?2)) "
                "AND n.superseded_cursor IS NULL AND l.chunk_key IS NULL), "
                "texts AS (SELECT count(*) AS chunks, max(characters) AS characters, hash IN "
                "(SELECT content_hash FROM vector_ledger WHERE profile_id = ?1 UNION ALL "
                "SELECT content_hash FROM vector_cache WHERE profile_id = ?1) AS known "
                "FROM owed GROUP BY hash) "
                "SELECT coalesce(sum(chunks), 0), coalesce(sum(chunks) FILTER (WHERE known), 0), "
                "coalesce(sum(chunks - 1) FILTER (WHERE NOT known), 0), "
                "coalesce(sum(characters) FILTER (WHERE NOT known), 0) FROM texts",
                (profile_id, keys.texts(kinds)),
            )
        )
    )


def _content_hash(*text: Any) -> bytes:
    return _native.content_hashes(text)[0]


def count(db: apsw.Connection, kind: str | None = None) -> int:
    """Live chunks, of one kind where given."""
    if kind is None:
        return int(db.execute("SELECT count(*) FROM chunks").get)
    return int(
        db.execute(
            "SELECT count(*) FROM nodes AS n JOIN chunks AS c USING (node_key) "
            "WHERE n.kind = ? AND n.superseded_cursor IS NULL",
            (kind,),
        ).get
    )
