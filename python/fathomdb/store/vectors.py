"""Vectors: one sqlite-vec table per kind and profile, and the ledger of what each was made from."""

from __future__ import annotations

import functools
import hashlib
import re
from typing import TYPE_CHECKING, Any

from fathomdb.errors import CorruptDatabaseError
from fathomdb.store import blocks, keys, reuse
from fathomdb.store.connection import quote

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

    import apsw

    from fathomdb.store.codes import Changes
    from fathomdb.store.conditions import Condition
    from fathomdb.store.profiles import Profile

_PAGE_ROWS = 1024
"""Vectors that are held in memory at once while a whole table goes to the cache."""


@functools.lru_cache
def table_name(kind: str, profile_id: int) -> str:
    """``vec_<slug>_<10 hex of SHA-256(kind)>_p<profile_id>``; the slug is only for readers."""
    slug = re.sub(r"[^a-z0-9]+", "_", kind.lower()).strip("_")[:24]
    digest = hashlib.sha256(kind.encode()).hexdigest()[:10]
    return f"vec_{slug}_{digest}_p{profile_id}"


def create(db: apsw.Connection, kind: str, profile: Profile) -> None:
    """Makes the table of a kind under a profile whose dimension is known, if it is not there."""
    db.execute(
        f"CREATE VIRTUAL TABLE IF NOT EXISTS {quote(table_name(kind, profile.profile_id))} "
        f"USING {_definition(profile)}"
    )


def _definition(profile: Profile) -> str:
    # L2 on unit vectors ranks as cosine does and is the cheaper of the two to scan.
    metric = "l2" if profile.normalizes else "cosine"
    return (
        f"vec0(chunk_key INTEGER PRIMARY KEY, embedding float[{profile.dimension}] "
        f"distance_metric={metric}, chunk_size={blocks.ROWS})"
    )


def is_made_for(sql: str, profile: Profile) -> bool:
    """Whether a table that was made with this statement holds vectors of the profile."""
    return sql.endswith(f"USING {_definition(profile)}")


def tables(db: apsw.Connection) -> dict[str, str]:
    """The vector tables that are there, whatever they are for, with the statement of each."""
    return dict(
        db.execute(
            "SELECT name, sql FROM sqlite_master WHERE sql LIKE 'CREATE VIRTUAL%USING vec0%'"
        )
    )


def drop(
    db: apsw.Connection,
    kinds: Collection[str],
    profile_id: int,
    changes: Changes,
    *,
    cache: reuse.Cache | None = None,
) -> None:
    """Removes the tables of kinds under a profile and the ledger rows of these kinds.

    With a cache the newest vectors of texts that no live row has then go there.
    """
    newest = _newest(db, kinds, profile_id, cache.most_bytes) if cache is not None else []
    db.execute(
        "DELETE FROM vector_ledger WHERE profile_id = ? AND chunk_key IN (SELECT c.chunk_key "
        "FROM nodes AS n JOIN chunks AS c USING (node_key) "
        "WHERE n.kind IN (SELECT value FROM carray(?)) AND n.superseded_cursor IS NULL)",
        (profile_id, keys.texts(kinds)),
    )
    for first in range(0, len(newest), _PAGE_ROWS):
        assert cache is not None
        page: dict[str, dict[int, bytes]] = {}
        for kind, chunk_key, content_hash in newest[first : first + _PAGE_ROWS]:
            page.setdefault(kind, {})[chunk_key] = content_hash
        for kind, content_of in page.items():
            _to_cache(db, kind, profile_id, content_of, cache)
    for kind in kinds:
        changes.drop(table_name(kind, profile_id))
        db.execute(f"DROP TABLE IF EXISTS {quote(table_name(kind, profile_id))}")


def _newest(
    db: apsw.Connection, kinds: Iterable[str], profile_id: int, cache_bytes: int
) -> list[tuple[str, int, bytes]]:
    """(kind, chunk_key, content hash) of as many vectors as a cache has room for, oldest first."""
    rows: list[Any] = db.execute(
        "SELECT * FROM (SELECT n.kind, l.chunk_key, l.content_hash FROM nodes AS n "
        "JOIN chunks AS c USING (node_key) JOIN vector_ledger AS l USING (chunk_key) "
        "WHERE n.kind IN (SELECT value FROM carray(?1)) "
        "AND n.superseded_cursor IS NULL AND l.profile_id = ?2 ORDER BY l.chunk_key DESC "
        "LIMIT (SELECT ?3 / (4 * dimension + ?4) FROM vector_embedding_profiles "
        "WHERE profile_id = ?2)) ORDER BY chunk_key",
        (
            keys.texts(kind for kind in kinds if exists(db, kind, profile_id)),
            profile_id,
            cache_bytes,
            reuse.ROW_BYTES,
        ),
    ).fetchall()
    return rows


def exists(db: apsw.Connection, kind: str, profile_id: int) -> bool:
    """Whether the table is there: it is not before the profile's dimension is known."""
    return bool(
        db.execute(
            "SELECT count(*) FROM sqlite_master WHERE type = 'table' AND name = ?",
            (table_name(kind, profile_id),),
        ).get
    )


def insert(
    db: apsw.Connection,
    kind: str,
    profile_id: int,
    dimension: int,
    rows: memoryview,
    chunk_keys: Sequence[int],
    *,
    canonical_hashes: bytes,
    content_hashes: Sequence[bytes],
    contents: reuse.Contents,
    changes: Changes,
) -> None:
    """Stores vectors with their ledger rows, replacing what is there, in a few statements.

    ``rows`` has ``dimension`` f32 for each of the chunk keys, ``canonical_hashes`` 32 bytes, all in
    the same order. The cache loses what is live now.
    """
    table = table_name(kind, profile_id)
    # A vector is replaced by a delete and an append; vec0's delete is the dear part (150 us and
    # more), so only where a row exists.
    present = [
        row[0]
        for row in db.execute(
            "SELECT chunk_key FROM vector_ledger WHERE profile_id = ? "
            "AND chunk_key IN (SELECT value FROM carray(?))",
            (profile_id, keys.ints(chunk_keys)),
        )
    ]
    if present:
        delete_rows(db, table, present, changes)
    blocks.append(db, table, chunk_keys, rows, 4 * dimension)
    db.execute(
        "INSERT OR REPLACE INTO vector_ledger (chunk_key, profile_id, canonical_hash, "
        "content_hash) SELECT value, ?1, substr(?2, 32 * rowid - 31, 32), "
        "substr(?3, 32 * rowid - 31, 32) FROM carray(?4)",
        (
            profile_id,
            canonical_hashes,
            b"".join(content_hashes),
            keys.ints(chunk_keys),
        ),
    )
    changes.put(table, rows, chunk_keys)
    contents.add(content_hashes, chunk_keys)
    reuse.take_out(db, profile_id, content_hashes)


def delete(
    db: apsw.Connection,
    kind: str,
    chunk_keys: Iterable[int],
    changes: Changes,
    *,
    cache: reuse.Cache | None = None,
) -> None:
    """Removes the vectors of these chunks of a kind, under every profile, with their ledger rows.

    With a cache those of texts that no live row has then go there.
    """
    found: dict[int, dict[int, bytes]] = {}
    for chunk_key, profile_id, content_hash in db.execute(
        "SELECT chunk_key, profile_id, content_hash FROM vector_ledger "
        "WHERE chunk_key IN (SELECT value FROM carray(?))",
        (keys.ints(chunk_keys),),
    ):
        found.setdefault(profile_id, {})[chunk_key] = content_hash
    for profile_id, content_of in found.items():
        db.execute(
            "DELETE FROM vector_ledger WHERE profile_id = ? "
            "AND chunk_key IN (SELECT value FROM carray(?))",
            (profile_id, keys.ints(content_of)),
        )
        if cache is not None:
            _to_cache(db, kind, profile_id, content_of, cache)
        delete_rows(db, table_name(kind, profile_id), [*content_of], changes)


def _to_cache(
    db: apsw.Connection,
    kind: str,
    profile_id: int,
    content_of: Mapping[int, bytes],
    cache: reuse.Cache,
) -> None:
    """Keeps vectors whose ledger rows are gone: one of each text that no live row has."""
    gone = reuse.without_live(db, cache.contents, profile_id, content_of.values())
    key_of = {content: key for key, content in content_of.items() if content in gone}
    blobs = read(db, kind, profile_id, key_of.values())
    reuse.put(
        db,
        profile_id,
        {content: blobs[key] for content, key in key_of.items() if key in blobs},
        cache.most_bytes,
    )


def delete_rows(
    db: apsw.Connection, table: str, chunk_keys: Sequence[int], changes: Changes
) -> None:
    """Removes rows of a vector table, and nothing else of what is known of them."""
    changes.remove(table, chunk_keys)
    # Row by row: with IN (...) vec0 scans the whole table.
    db.executemany(
        f"DELETE FROM {quote(table)} WHERE chunk_key = ?", ((key,) for key in chunk_keys)
    )


def nearest(
    db: apsw.Connection,
    kind: str,
    profile: Profile,
    query: bytes,
    limit: int,
    within: Condition | None,
) -> list[tuple[int, float]]:
    """The nearest (chunk_key, cosine distance), closest first, ties by key.

    ``within`` is a subquery of chunk keys, applied before the nearest are cut.
    """
    table = quote(table_name(kind, profile.profile_id))
    only = "" if within is None else f"AND chunk_key IN ({within.sql})"
    rows: list[Any] = db.execute(
        f"SELECT chunk_key, distance FROM {table} WHERE embedding MATCH ? AND k = ? {only}",
        (query, limit, *(within.parameters if within is not None else ())),
    ).fetchall()
    return _by_distance(db, kind, profile, rows)


def distances(
    db: apsw.Connection, kind: str, profile: Profile, query: bytes, chunk_keys: Iterable[int]
) -> list[tuple[int, float]]:
    """As ``nearest``, of those of these chunks alone that have a vector; point reads."""
    table = quote(table_name(kind, profile.profile_id))
    # The same functions as behind MATCH, so that both say the same to the bit.
    distance = "vec_distance_l2" if profile.normalizes else "vec_distance_cosine"
    # CROSS JOIN has SQLite go by the keys.
    rows: list[Any] = db.execute(
        f"SELECT v.chunk_key, {distance}(v.embedding, ?) FROM carray(?) AS c "
        f"CROSS JOIN {table} AS v ON v.chunk_key = c.value",
        (query, keys.ints(chunk_keys)),
    ).fetchall()
    return _by_distance(db, kind, profile, rows)


def _by_distance(
    db: apsw.Connection, kind: str, profile: Profile, rows: list[Any]
) -> list[tuple[int, float]]:
    if any(distance is None for _, distance in rows):  # NaN, as SQLite has it
        raise CorruptDatabaseError(
            f"{db.filename} is damaged: the vector index of kind {kind!r} has numbers that are not "
            "finite; look at admin.check_integrity()"
        )
    if profile.normalizes:
        # For unit vectors |a - b|^2 = 2 (1 - cos).
        found = [(int(key), float(distance) ** 2 / 2) for key, distance in rows]
    else:
        found = [(int(key), float(distance)) for key, distance in rows]
    found.sort(key=lambda row: (row[1], row[0]))
    return found


def read(
    db: apsw.Connection, kind: str, profile_id: int, chunk_keys: Iterable[int]
) -> dict[int, bytes]:
    """The stored blobs of these chunks, by chunk key; point reads."""
    statement = f"SELECT embedding FROM {quote(table_name(kind, profile_id))} WHERE chunk_key = ?"
    found = {}
    for key in chunk_keys:
        row = db.execute(statement, (key,)).fetchone()
        if row is not None:
            found[key] = row[0]
    return found


def ledger(db: apsw.Connection, profile_id: int, chunk_keys: Iterable[int]) -> dict[int, bytes]:
    """The canonical hash that each of these chunks' vector was made from, by chunk key."""
    rows = db.execute(
        "SELECT chunk_key, canonical_hash FROM vector_ledger WHERE profile_id = ? "
        "AND chunk_key IN (SELECT value FROM carray(?))",
        (profile_id, keys.ints(chunk_keys)),
    )
    return {row[0]: row[1] for row in rows}
