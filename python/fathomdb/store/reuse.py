"""Vectors found again by their text: of a live row by the ledger, of a text that is gone in a cache.

The cache holds only what no live row has, so that nothing is kept twice: the transaction that
removes the last vector of a text puts it here, the one that stores the text again takes it out. A
row's ``position`` is the number of bytes before it, so that the oldest go first and the bound is
kept without counting.
"""

from __future__ import annotations

import sys
from itertools import islice
from typing import TYPE_CHECKING, NamedTuple

from fathomdb import _native
from fathomdb.store import keys

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

    import apsw

ROW_BYTES = 128
"""What a row takes beside its numbers: its hash twice, in the table and in its index."""
_PAGE_ROWS = 4096
_FEW = 4
"""Chunks of one text that are looked at first: the newest are most likely still there."""
_EVERY = sys.maxsize
_MOST_STALE = 1_000_000
"""Entries of chunks that are gone, beyond as many as there are rows, before the index is read anew."""


class Contents:
    """Which chunks have, or had, a vector of a text: all of the ledger's rows, in memory.

    An index in the file would be written all over with every batch (``content.rs`` has figures).
    Read and added to by the writer alone, so that it misses nothing; anyone may ask.
    """

    def __init__(self) -> None:
        self._index: _native.ContentIndex | None = None
        self._read = 0
        self.reads = 0
        """How often the ledger was read."""

    def read(self, db: apsw.Connection) -> None:
        """Reads the ledger, once; again where most of what is known is gone. The writer's."""
        if self._index is not None and len(self._index) <= 2 * self._read + _MOST_STALE:
            return
        index = _native.ContentIndex()
        rows = db.execute("SELECT content_hash, chunk_key FROM vector_ledger")
        while page := [*islice(rows, _PAGE_ROWS)]:
            index.add([row[0] for row in page], [row[1] for row in page])
        self._index, self._read = index, len(index)
        self.reads += 1

    def forget(self) -> None:
        """Has the ledger read again: what was read is not what it came to."""
        self._index = None

    def add(self, content_hashes: Sequence[bytes], chunk_keys: Sequence[int]) -> None:
        """Notes new rows. The writer's; should they be rolled back, nothing is lost by it."""
        if self._index is not None:
            self._index.add(content_hashes, chunk_keys)

    def find(self, content_hashes: Collection[bytes], most: int) -> list[int]:
        """Chunks that may have a vector of one of these texts, at most so many of each."""
        return [] if self._index is None else self._index.find([*content_hashes], most)


class Cache(NamedTuple):
    """Where vectors of texts that are gone go."""

    contents: Contents
    most_bytes: int


def live(
    db: apsw.Connection, contents: Contents, profile_id: int, content_hashes: Collection[bytes]
) -> dict[bytes, tuple[int, str]]:
    """(chunk_key, kind) of one chunk that has a vector of each of these texts, where one has."""
    there: dict[bytes, tuple[int, str]] = {}
    wanted = set(content_hashes)
    for most in (_FEW, _EVERY):
        found = contents.find(wanted, most)
        if found:
            rows = db.execute(
                "SELECT l.content_hash, l.chunk_key, n.kind FROM vector_ledger AS l "
                "JOIN chunks AS c USING (chunk_key) JOIN nodes AS n USING (node_key) "
                "WHERE l.profile_id = ? AND l.chunk_key IN (SELECT value FROM carray(?))",
                (profile_id, keys.ints(found)),
            )
            there |= {row[0]: (row[1], row[2]) for row in rows if row[0] in wanted}
            wanted -= there.keys()
        if len(found) < _FEW:
            break  # those were all
    return there


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
    db: apsw.Connection, contents: Contents, profile_id: int, content_hashes: Iterable[bytes]
) -> set[bytes]:
    """Those of these texts that no live row has a vector of; asked by the writer."""
    contents.read(db)
    gone = set(content_hashes)
    for most in (_FEW, _EVERY):
        found = contents.find(gone, most)
        gone -= _texts_of(db, profile_id, found)
        if len(found) < _FEW:
            break  # those were all
    return gone


def held_elsewhere(
    db: apsw.Connection,
    contents: Contents,
    profile_id: int,
    content_of: Mapping[int, bytes],
) -> set[bytes]:
    """Texts of these chunks that a chunk which is not among them has a vector of, too."""
    contents.read(db)
    asked = set(content_of.values())
    others = [key for key in contents.find(asked, _EVERY) if key not in content_of]
    return _texts_of(db, profile_id, others) & asked


def _texts_of(db: apsw.Connection, profile_id: int, chunk_keys: Iterable[int]) -> set[bytes]:
    """The content hashes that these chunks have vectors of now."""
    rows = db.execute(
        "SELECT content_hash FROM vector_ledger WHERE profile_id = ? "
        "AND chunk_key IN (SELECT value FROM carray(?))",
        (profile_id, keys.ints(chunk_keys)),
    )
    return {row[0] for row in rows}


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
