"""Vectors found again by their text: of a live row by the ledger, of a text that is gone in a cache.

The cache holds only what no live row has, so that nothing is kept twice: the transaction that
removes the last vector of a text puts it here, the one that stores the text again takes it out. A
row's ``position`` is the number of bytes before it, so that the oldest go first and the bound is
kept without counting.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fathomdb.store import keys

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    import apsw

ROW_BYTES = 128
"""What a row takes beside its numbers: its hash twice, in the table and in its index."""

# By the first bytes of the hash, which are all that the index has: a full one doubles the ledger.
# One row is enough, however many chunks have that text.
_LIVE = (
    "(SELECT l.chunk_key FROM vector_ledger AS l WHERE substr(l.content_hash, 1, 8) = "
    "substr(w.value, 1, 8) AND l.content_hash = w.value AND l.profile_id = ?1 LIMIT 1)"
)


def live(
    db: apsw.Connection, profile_id: int, content_hashes: Iterable[bytes]
) -> dict[bytes, tuple[int, str]]:
    """(chunk_key, kind) of one chunk that has a vector of each of these texts, where one has."""
    rows = db.execute(
        f"SELECT f.hash, f.chunk_key, n.kind FROM (SELECT w.value AS hash, {_LIVE} AS chunk_key "
        "FROM carray(?2) AS w) AS f JOIN chunks AS c USING (chunk_key) "
        "JOIN nodes AS n USING (node_key)",
        (profile_id, keys.blobs(content_hashes)),
    )
    return {row[0]: (row[1], row[2]) for row in rows}


def cached(
    db: apsw.Connection, profile_id: int, content_hashes: Iterable[bytes]
) -> dict[bytes, bytes]:
    """The cached vector of each of these texts that has one."""
    if is_empty(db):
        return {}
    return dict(
        db.execute(
            "SELECT content_hash, embedding FROM vector_cache WHERE profile_id = ? "
            "AND content_hash IN (SELECT value FROM carray(?))",
            (profile_id, keys.blobs(content_hashes)),
        )
    )


def without_live(
    db: apsw.Connection, profile_id: int, content_hashes: Iterable[bytes]
) -> set[bytes]:
    """Those of these texts that no live row has a vector of."""
    return {
        row[0]
        for row in db.execute(
            f"SELECT w.value FROM carray(?2) AS w WHERE {_LIVE} IS NULL",
            (profile_id, keys.blobs(content_hashes)),
        )
    }


def put(
    db: apsw.Connection, profile_id: int, vectors: Mapping[bytes, bytes], cache_bytes: int
) -> None:
    """Keeps vectors, by content hash, that no live row has; the oldest go beyond ``cache_bytes``."""
    if not vectors:
        return
    row = db.execute(
        "SELECT position + length(embedding) FROM vector_cache ORDER BY position DESC LIMIT 1"
    ).fetchone()
    position = 0 if row is None else int(row[0]) + ROW_BYTES
    rows = []
    for content_hash, blob in vectors.items():
        rows.append((position, profile_id, content_hash, blob))
        position += len(blob) + ROW_BYTES
    db.executemany(
        "INSERT OR REPLACE INTO vector_cache (position, profile_id, content_hash, embedding) "
        "VALUES (?, ?, ?, ?)",
        rows,
    )
    db.execute("DELETE FROM vector_cache WHERE position < ?", (position - cache_bytes,))


def take_out(db: apsw.Connection, profile_id: int, content_hashes: Sequence[bytes]) -> None:
    """Removes the vectors of texts that a live row has now."""
    if is_empty(db):
        return  # almost always, and a statement less for every batch
    db.execute(
        "DELETE FROM vector_cache WHERE profile_id = ? "
        "AND content_hash IN (SELECT value FROM carray(?))",
        (profile_id, keys.blobs(content_hashes)),
    )


def is_empty(db: apsw.Connection) -> bool:
    """Whether the cache holds nothing."""
    return db.execute("SELECT 1 FROM vector_cache LIMIT 1").fetchone() is None


def forget_profile(db: apsw.Connection, profile_id: int) -> None:
    """Removes everything of a profile that no longer serves."""
    db.execute("DELETE FROM vector_cache WHERE profile_id = ?", (profile_id,))


def forget_positions(db: apsw.Connection, positions: Iterable[int]) -> int:
    """Removes these rows; returns how many were there."""
    db.execute(
        "DELETE FROM vector_cache WHERE position IN (SELECT value FROM carray(?))",
        (keys.ints(positions),),
    )
    return db.changes()


def forget_all(db: apsw.Connection) -> int:
    """Empties the cache; returns how many vectors it held."""
    db.execute("DELETE FROM vector_cache")
    return db.changes()
