"""Erasure: every row of a node or of a source goes, all versions, and a tombstone stays."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from fathomdb.store import chunks, fts, keys, residue, reuse, vectors, work
from fathomdb.store.connection import only_row

if TYPE_CHECKING:
    from collections.abc import Iterable

    import apsw

    from fathomdb.store.transaction import Transaction

Erasable = Literal["node", "source"]
PAGE_CHUNKS = 1024
"""Chunks whose texts are read at once, so that memory does not grow with what is erased."""


@dataclass(frozen=True, slots=True)
class Erased:
    """Rows that went: live nodes, versions of nodes (live ones too), and what was made of them.

    ``cached`` are vectors of the cache, of whichever text.
    """

    nodes: int = 0
    versions: int = 0
    chunks: int = 0
    vectors: int = 0
    work: int = 0
    cached: int = 0

    def __add__(self, other: Erased) -> Erased:
        return Erased(
            self.nodes + other.nodes,
            self.versions + other.versions,
            self.chunks + other.chunks,
            self.vectors + other.vectors,
            self.work + other.work,
            self.cached + other.cached,
        )


def count(db: apsw.Connection) -> int:
    """A number that grows with each erasure: whether one came between two looks at the file."""
    return int(db.execute("SELECT ifnull(max(tombstone_id), 0) FROM tombstones").get)


def digest(handle: str) -> bytes:
    """SHA-256 of an id or a source: all that a tombstone says of it."""
    return hashlib.sha256(handle.encode()).digest()


def erase(tx: Transaction, what: Erasable, handle: str, now_ms: int) -> Erased:
    """Erases what a node_id or a source_ref names, in the writer's transaction.

    A live node that another source has written since stays; its versions from this source go. No
    older version comes back to life. Where nothing is found nothing is written.
    """
    db = tx.db
    column = "logical_id" if what == "node" else "source_ref"
    versions: list[Any] = db.execute(
        f"SELECT node_key, kind, superseded_cursor IS NULL FROM nodes WHERE {column} = ?", (handle,)
    ).fetchall()
    if not versions:
        return Erased()
    live: dict[str, list[int]] = {}
    for node_key, kind, is_live in versions:
        if is_live:
            live.setdefault(kind, []).append(node_key)
    erased = Erased(sum(map(len, live.values())), len(versions))
    for kind, node_keys in live.items():
        chunk_keys = _chunk_keys(db, node_keys)
        for first in range(0, len(chunk_keys), PAGE_CHUNKS):
            erased += _erase_chunks(tx, kind, chunk_keys[first : first + PAGE_CHUNKS])
    db.execute(
        "DELETE FROM nodes WHERE node_key IN (SELECT value FROM carray(?))",
        (keys.ints(row[0] for row in versions),),
    )
    # What an embedder said last may quote a text of its batch, of whichever kind.
    db.execute("UPDATE vector_index_schemas SET last_error = NULL WHERE last_error IS NOT NULL")
    db.execute("UPDATE engine_status SET value = NULL WHERE name = 'outage'")
    db.execute(
        "INSERT INTO tombstones (what, sha256, nodes, versions, chunks, vectors, work, cursor, "
        "erased_at_ms) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            what,
            digest(handle),
            erased.nodes,
            erased.versions,
            erased.chunks,
            erased.vectors,
            erased.work,
            tx.cursor(),
            now_ms,
        ),
    )
    return erased


def erased_in(db: apsw.Connection, what: Erasable, handle: str) -> int | None:
    """The commit that erased what a handle named last, or None where no tombstone is of it."""
    found: int | None = db.execute(
        "SELECT max(cursor) FROM tombstones WHERE what = ? AND sha256 = ?", (what, digest(handle))
    ).get
    return found


def _chunk_keys(db: apsw.Connection, node_keys: Iterable[int]) -> list[int]:
    rows = db.execute(
        "SELECT chunk_key FROM chunks WHERE node_key IN (SELECT value FROM carray(?)) "
        "ORDER BY chunk_key",
        (keys.ints(node_keys),),
    )
    return [row[0] for row in rows]


def _erase_chunks(tx: Transaction, kind: str, chunk_keys: list[int]) -> Erased:
    """Full text first, while the text can still be read; then what refers to the chunks."""
    db = tx.db
    vectors_there, work_there = only_row(
        db.execute(
            "SELECT (SELECT count(*) FROM vector_ledger WHERE chunk_key IN "
            "(SELECT value FROM carray(?1))), (SELECT count(*) FROM vector_projection_work "
            "WHERE chunk_key IN (SELECT value FROM carray(?1)))",
            (keys.ints(chunk_keys),),
        )
    )
    tx.fts.delete(chunks.texts(db, chunk_keys))
    vectors.delete(db, kind, chunk_keys, tx.vectors)
    work.delete_chunks(db, chunk_keys)
    chunks.delete(db, chunk_keys)
    return Erased(chunks=len(chunk_keys), vectors=vectors_there, work=work_there)


def count_shared(tx: Transaction, what: Erasable, handles: Iterable[str]) -> int:
    """Vectors of texts that handles name and that something else has too: they stay with that."""
    column = "logical_id" if what == "node" else "source_ref"
    content_of: dict[int, dict[int, bytes]] = {}
    for profile_id, chunk_key, content_hash in tx.db.execute(
        "SELECT l.profile_id, l.chunk_key, l.content_hash FROM nodes AS n "
        "JOIN chunks AS c USING (node_key) JOIN vector_ledger AS l USING (chunk_key) "
        f"WHERE n.{column} IN (SELECT value FROM carray(?)) AND n.superseded_cursor IS NULL",
        (keys.texts(handles),),
    ):
        content_of.setdefault(profile_id, {})[chunk_key] = content_hash
    return sum(
        len(reuse.held_elsewhere(tx.db, tx.contents, profile_id, of_profile))
        for profile_id, of_profile in content_of.items()
    )


def begin_clearing(tx: Transaction) -> Erased:
    """Clears what is left of words and vectors now, and has the rest cleared after the commit.

    The whole cache: whose text a vector was made of is not kept, since that would be one trace more,
    and what was erased may have had texts long ago that another had too.
    """
    fts.forget_separators(tx.db)
    residue.mark_pending(tx.db)
    return Erased(cached=reuse.forget_all(tx.db))
