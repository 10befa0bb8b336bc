"""Reconcile: what is derived from a chunk becomes what the chunk's text asks for.

The one repair of rows. Everything is read again inside the transaction, so what a write changed
since it was found is seen as it is now, and what is right already is left alone. The text is the
truth: its hash, its work, its ledger row and its vector follow from it.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fathomdb import _native
from fathomdb.config import BACKFILL_PRIORITY, INCREMENTAL_PRIORITY
from fathomdb.store import audit_vectors, indexes, keys, profiles, vectors, work

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    import apsw

    from fathomdb.store.findings import Limits
    from fathomdb.store.profiles import Profile
    from fathomdb.store.transaction import Transaction


@dataclass(frozen=True, slots=True)
class _Chunk:
    """A chunk as it is now; ``wanted`` are the profiles that a vector is wanted under."""

    key: int
    chunk_id: str
    kind: str | None
    wanted: frozenset[int]
    canonical_hash: bytes
    content_hash: bytes


Done = dict[int, list[str]]
"""What was done, by chunk key; a chunk that was right has an empty list."""


def reconcile(tx: Transaction, chunk_keys: Sequence[int], limits: Limits) -> Done:
    """Puts right what hangs on these chunks, and owes at backfill priority what is missing then.

    A chunk whose text cannot be read is left as it is and is not in the result.
    """
    done: Done = {}
    chunks = _read(tx.db, chunk_keys, done)
    current = _vectors(tx, chunks, done)
    _work(tx, chunks, current, limits, done)
    return done


def _read(db: apsw.Connection, chunk_keys: Sequence[int], done: Done) -> dict[int, _Chunk]:
    found = {}
    rows: Any = db.execute(
        "SELECT c.chunk_key, c.chunk_id, CAST(c.text AS BLOB), c.canonical_hash, n.kind "
        "FROM chunks AS c LEFT JOIN nodes AS n "
        "ON n.node_key = c.node_key AND n.superseded_cursor IS NULL "
        "WHERE c.chunk_key IN (SELECT value FROM carray(?))",
        (keys.ints(chunk_keys),),
    ).fetchall()
    under: dict[str, set[int]] = {}
    for of_kind, profile_id in indexes.wanted(db):
        under.setdefault(of_kind, set()).add(profile_id)
    for key, chunk_id, text, stored, kind in rows:
        try:
            canonical_hash = _native.canonical_chunk_hashes([chunk_id], [text.decode()])[0]
        except UnicodeDecodeError:
            continue
        done[key] = []
        content_hash = hashlib.sha256(text).digest()
        wanted = frozenset(under.get(kind, ()))
        found[key] = _Chunk(key, chunk_id, kind, wanted, canonical_hash, content_hash)
        if stored != canonical_hash:
            db.execute(
                "UPDATE chunks SET canonical_hash = ? WHERE chunk_key = ?", (canonical_hash, key)
            )
            done[key].append("its hash was made again from its text: compare that with its source")
    return found


# --- vectors --------------------------------------------------------------------------------------


Place = tuple[int, int]
"""A chunk's key and a profile that its vector is wanted under."""


def _vectors(tx: Transaction, chunks: dict[int, _Chunk], done: Done) -> set[Place]:
    """Removes vectors that are not what the ledger and the text say; returns where a right one is."""
    db, known = tx.db, profiles.every(tx.db)
    ledger: dict[int, dict[int, tuple[bytes, bytes]]] = {}
    for key, profile_id, canonical_hash, content_hash in db.execute(
        "SELECT chunk_key, profile_id, canonical_hash, content_hash FROM vector_ledger "
        "WHERE chunk_key IN (SELECT value FROM carray(?))",
        (keys.ints(chunks),),
    ):
        ledger.setdefault(profile_id, {})[key] = (canonical_hash, content_hash)
    current: set[Place] = set()
    places = {(chunk.kind, key) for chunk in chunks.values() for key in chunk.wanted}
    for kind, profile_id in places:
        if kind is None or profile_id not in known:
            continue
        of_kind = [c for c in chunks.values() if c.kind == kind]
        said = ledger.get(profile_id, {})
        sound = _sound(db, kind, known[profile_id], [chunk.key for chunk in of_kind])
        for chunk in of_kind:
            made_from = (chunk.canonical_hash, chunk.content_hash)
            if sound.get(chunk.key) and said.get(chunk.key) == made_from:
                current.add((chunk.key, profile_id))
            elif chunk.key in said or chunk.key in sound:
                _remove(tx, kind, profile_id, [chunk.key])
                done[chunk.key].append("its vector was removed")
    for profile_id, said in ledger.items():
        for key in said:
            chunk = chunks[key]
            if profile_id not in chunk.wanted:
                if chunk.kind is not None:
                    _remove(tx, chunk.kind, profile_id, [key])
                else:
                    _forget(db, profile_id, [key])
                done[key].append("its vector under a model that is not wanted was removed")
    return current


def _sound(
    db: apsw.Connection, kind: str, profile: Profile, chunk_keys: Sequence[int]
) -> dict[int, bool]:
    """The keys that have a vector, and whether that one can be compared."""
    if not vectors.exists(db, kind, profile.profile_id) or profile.dimension is None:
        return {}
    blobs = vectors.read(db, kind, profile.profile_id, chunk_keys)
    return {key: audit_vectors.is_sound(blob, profile) for key, blob in blobs.items()}


def _remove(tx: Transaction, kind: str, profile_id: int, chunk_keys: Sequence[int]) -> None:
    """Removes vectors that may not be there, and their ledger rows."""
    if vectors.exists(tx.db, kind, profile_id):
        vectors.delete_rows(tx.db, vectors.table_name(kind, profile_id), chunk_keys, tx.vectors)
    _forget(tx.db, profile_id, chunk_keys)


def _forget(db: apsw.Connection, profile_id: int, chunk_keys: Sequence[int]) -> None:
    db.execute(
        "DELETE FROM vector_ledger WHERE profile_id = ? "
        "AND chunk_key IN (SELECT value FROM carray(?))",
        (profile_id, keys.ints(chunk_keys)),
    )


# --- work -----------------------------------------------------------------------------------------


def _work(
    tx: Transaction, chunks: dict[int, _Chunk], current: set[Place], limits: Limits, done: Done
) -> None:
    """Removes work that nobody wants, and owes what has neither a right vector nor right work."""
    settled = set(current)
    owed: dict[tuple[str, int], list[int]] = {}
    rows: Any = tx.db.execute(
        "SELECT work_id, chunk_key, profile_id, kind, canonical_hash, priority, state, fence, "
        "attempts, due_at_ms, cause FROM vector_projection_work "
        "WHERE chunk_key IN (SELECT value FROM carray(?))",
        (keys.ints(chunks),),
    ).fetchall()
    for row in rows:
        chunk = chunks[row[1]]
        if chunk.kind is None or row[2] not in chunk.wanted:
            tx.db.execute("DELETE FROM vector_projection_work WHERE work_id = ?", (row[0],))
            done[chunk.key].append("its work, which nothing wants, was removed")
        elif _is_right(row, chunk, limits, tx.latest_fence()):
            settled.add((chunk.key, row[2]))
        else:
            # A row was there: a vector is owed, whether one is stored or not.
            settled.add((chunk.key, row[2]))
            owed.setdefault((chunk.kind, row[2]), []).append(chunk.key)
    for chunk in chunks.values():
        for profile_id in sorted(chunk.wanted):
            if chunk.kind is not None and (chunk.key, profile_id) not in settled:
                owed.setdefault((chunk.kind, profile_id), []).append(chunk.key)
    for (kind, profile_id), chunk_keys in owed.items():
        work.enqueue(
            tx.db,
            kind,
            profile_id,
            chunk_keys,
            priority=BACKFILL_PRIORITY,
            fence=tx.fence(),
            now_ms=limits.now_ms,
        )
        for key in chunk_keys:
            done[key].append("a vector is owed to it")


def _is_right(row: Any, chunk: _Chunk, limits: Limits, latest_fence: int) -> bool:
    _, _, _, kind, canonical_hash, priority, state, fence, attempts, due_at_ms, cause = row
    return (
        kind == chunk.kind
        and canonical_hash == chunk.canonical_hash
        and priority in (BACKFILL_PRIORITY, INCREMENTAL_PRIORITY)
        and state in ("pending", "inflight", "failed")
        and (state == "failed") == (cause is not None)
        and 0 <= attempts <= limits.most_attempts
        and fence <= latest_fence
        and (state != "pending" or due_at_ms <= limits.latest_due_ms)
    )


# --- what hangs on no chunk -----------------------------------------------------------------------


def keys_of(db: apsw.Connection, chunk_ids: Iterable[str]) -> dict[str, int]:
    """The keys of chunks that are there, by chunk_id."""
    return dict(
        db.execute(
            "SELECT chunk_id, chunk_key FROM chunks WHERE chunk_id IN (SELECT value FROM carray(?))",
            (keys.texts(chunk_ids),),
        )
    )


def remove_strays(
    tx: Transaction, kind: str, profile_id: int, chunk_keys: Sequence[int]
) -> list[int]:
    """Removes those vectors of a table that no ledger row of a live chunk of its kind speaks of."""
    accounted = {
        row[0]
        for row in tx.db.execute(
            "SELECT l.chunk_key FROM vector_ledger AS l JOIN chunks AS c USING (chunk_key) "
            "JOIN nodes AS n USING (node_key) WHERE l.profile_id = ? AND n.kind = ? "
            "AND n.superseded_cursor IS NULL AND l.chunk_key IN (SELECT value FROM carray(?))",
            (profile_id, kind, keys.ints(chunk_keys)),
        )
    }
    strays = [key for key in chunk_keys if key not in accounted]
    vectors.delete_rows(tx.db, vectors.table_name(kind, profile_id), strays, tx.vectors)
    return strays
