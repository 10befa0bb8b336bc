"""Audit of the vectors: the ledger, and every number of every vector, in sqlite-vec's blocks.

A part of ``store/audit.py``. It reads vec0's shadow tables, which sqlite-vec documents and keeps
readable for older files: a vector by its key would cost thirty times as much.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fathomdb import _native
from fathomdb.store import keys, profiles, vectors
from fathomdb.store.audit_structure import has_its_fingerprint
from fathomdb.store.connection import quote
from fathomdb.store.findings import Finding, Rule, of_chunk

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    import apsw
    import numpy as np
    from numpy.typing import NDArray

    from fathomdb.store.profiles import Profile

NORM_TOLERANCE = 1e-3
"""How far a normalized vector may be from length 1: far above what rounding to f32 does."""


def ledger(db: apsw.Connection, kind: str, profile_id: int) -> Iterator[Finding]:
    """Ledger rows without a vector, and vectors without a ledger row of a live chunk."""
    table = vectors.table_name(kind, profile_id)
    rows = quote(table + "_rowids")
    yield from Rule(
        "ledger_without_vector",
        "vector_ledger",
        "chunk {chunk} has a ledger row and its vector is gone",
        "SELECT c.chunk_key, c.chunk_id, n.logical_id, NULL FROM nodes AS n "
        "JOIN chunks AS c USING (node_key) JOIN vector_ledger AS l "
        "ON l.chunk_key = c.chunk_key AND l.profile_id = ? WHERE n.kind = ? "
        "AND n.superseded_cursor IS NULL "
        f"AND NOT EXISTS (SELECT 1 FROM {rows} AS r WHERE r.rowid = c.chunk_key)",
    ).apply(db, (profile_id, kind))
    yield from Rule(
        "vector_without_ledger",
        table,
        "{detail} has a vector for the key {key}, and no live chunk of its kind says so",
        "SELECT r.rowid, c.chunk_id, n.logical_id, ?3 "
        f"FROM {rows} AS r LEFT JOIN vector_ledger AS l ON l.chunk_key = r.rowid "
        "AND l.profile_id = ?1 LEFT JOIN chunks AS c ON c.chunk_key = r.rowid "
        "LEFT JOIN nodes AS n ON n.node_key = c.node_key WHERE l.chunk_key IS NULL "
        "OR n.kind IS NOT ?2",
    ).apply(db, (profile_id, kind, table))


def values(
    db: apsw.Connection, table: str, profile: Profile, progress: Callable[[int], None]
) -> Iterator[Finding]:
    """Reads sqlite-vec's own blocks: a row by its key would cost thirty times as much."""
    import numpy as np  # slow to import, and only a check needs it

    assert profile.dimension is not None
    placed = 0
    blocks: Any = db.execute(
        "SELECT b.chunk_id, b.size, b.validity, b.rowids, v.vectors "
        f"FROM {quote(table + '_chunks')} AS b LEFT JOIN {quote(table + '_vector_chunks00')} AS v "
        "ON v.rowid = b.chunk_id ORDER BY b.chunk_id"
    )
    for block, size, validity, rowids, blob in blocks:
        sound = (
            len(validity) * 8 == size
            and len(rowids) == 8 * size
            and blob is not None
            and len(blob) == 4 * profile.dimension * size
        )
        if not sound:
            yield Finding(
                "vector_block", table, f"block {block} of {table} does not have its sizes", block
            )
            continue
        used = np.flatnonzero(np.unpackbits(np.frombuffer(validity, np.uint8), bitorder="little"))
        chunk_keys = np.frombuffer(rowids, "<i8")[used]
        rows = np.frombuffer(blob, "<f4").reshape(size, profile.dimension)[used]
        placed += len(used)
        yield from _misplaced(
            db, table, block, dict(zip(chunk_keys.tolist(), used.tolist(), strict=True))
        )
        yield from _bad_values(db, table, profile, chunk_keys, rows)
        progress(len(used))
    entries = int(db.execute(f"SELECT count(*) FROM {quote(table + '_rowids')}").get)
    if entries != placed:
        yield Finding(
            "vector_block", table, f"{table} has {entries} keys and {placed} vectors in its blocks"
        )


def _misplaced(
    db: apsw.Connection, table: str, block: int, offset_of: Mapping[int, int]
) -> Iterator[Finding]:
    known = {
        row[0]: (row[1], row[2])
        for row in db.execute(
            f"SELECT rowid, chunk_id, chunk_offset FROM {quote(table + '_rowids')} "
            "WHERE rowid IN (SELECT value FROM carray(?))",
            (keys.ints(offset_of),),
        )
    }
    for key, offset in offset_of.items():
        # A key that is not there at all shows in the totals, and where the ledger has it, there.
        if known.get(key, (block, offset)) != (block, offset):
            yield of_chunk(
                db,
                "vector_block",
                table,
                "the vector of chunk {chunk} is not in the place where it is looked for",
                key,
            )


def _bad_values(
    db: apsw.Connection,
    table: str,
    profile: Profile,
    chunk_keys: NDArray[np.int64],
    rows: NDArray[np.float32],
) -> Iterator[Finding]:
    said = {
        "vector_values": "the vector of chunk {chunk} cannot be compared: ",
        "vector_length": "the vector of chunk {chunk} ",
    }
    for n, (code, detail) in _faults(rows, profile).items():
        yield of_chunk(db, code, table, said[code] + detail, int(chunk_keys[n]))


def cached(db: apsw.Connection) -> Iterator[Finding]:
    """Cached vectors that cannot be one of their profile: nobody may get them for a text."""
    # Of a model that is described wrongly the description is the fault, not its vectors.
    known = {
        profile_id: profile
        for profile_id, profile in profiles.every(db).items()
        if has_its_fingerprint(db, profile)
    }
    for position, profile_id, blob in db.execute(
        "SELECT position, profile_id, embedding FROM vector_cache"
    ):
        profile = known.get(profile_id)
        # One whose profile is gone is SQLite's to find, by its foreign key.
        if profile is not None and (profile.dimension is None or not is_sound(blob, profile)):
            yield Finding(
                "cache_vector",
                "vector_cache",
                f"a cached vector of {len(blob)} bytes is none of the model {profile}",
                position,
            )


def _faults(rows: NDArray[np.float32], profile: Profile) -> dict[int, tuple[str, str]]:
    """(code, what is wrong) of the rows that cannot be a vector of the profile, by row."""
    import numpy as np

    assert profile.dimension is not None
    bad = {
        n: ("vector_values", detail)
        for n, _, _, detail in _native.pack_vectors(rows, profile.dimension).bad
    }
    if profile.normalizes:
        lengths = np.sqrt(np.einsum("ij,ij->i", rows, rows, dtype=np.float64))
        for n in np.flatnonzero(~(np.abs(lengths - 1.0) <= NORM_TOLERANCE)).tolist():
            said = f"has the length {lengths[n]:.4g}, and its profile's have length 1"
            bad.setdefault(n, ("vector_length", said))
    return bad


def is_sound(blob: bytes, profile: Profile) -> bool:
    """Whether a stored blob can be a vector of the profile."""
    import numpy as np

    assert profile.dimension is not None
    if len(blob) != 4 * profile.dimension:
        return False
    return not _faults(np.frombuffer(blob, "<f4").reshape(1, -1), profile)
