"""What is really in the file: read row by row through a snapshot, past the engine's own answers."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

import invariants
from fathomdb.store import vectors as vector_tables

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray

    import fathomdb
    from fathomdb.embedders.protocol import Embedder
    from fathomdb.store.connection import Connection
    from fathomdb.store.transaction import Transaction


@dataclass(frozen=True, slots=True)
class WorkRow:
    chunk_id: str
    kind: str
    state: str
    priority: int
    attempts: int
    fence: int
    canonical_hash: bytes
    cause: str | None
    last_error: str | None


def snapshot(db: fathomdb.Engine):
    return db._runtime.snapshot()


def in_writer(db: fathomdb.Engine, operation: Callable[[Transaction], object]) -> object:
    """Runs an operation in a transaction of the engine's own writer."""
    return db._runtime.write(operation)


@contextlib.contextmanager
def full_disk(db: fathomdb.Engine) -> Iterator[None]:
    """The file gets no page more than it has, whichever connection the writer goes on with."""
    writer = db._runtime._owned.writer
    pages = in_writer(db, lambda tx: tx.db.pragma("page_count"))
    reopen = writer._reopen

    def reopen_full() -> Connection:
        connection = reopen()
        connection.pragma("max_page_count", pages)
        return connection

    writer._reopen = reopen_full
    in_writer(db, lambda tx: tx.db.pragma("max_page_count", pages))
    try:
        yield
    finally:
        writer._reopen = reopen
        in_writer(db, lambda tx: tx.db.pragma("max_page_count", 1_000_000))


def work(db: fathomdb.Engine) -> dict[str, WorkRow]:
    """What the indexes that answer are owed, by chunk id; not what one beside them is."""
    with snapshot(db) as connection:
        rows = connection.execute(
            "SELECT c.chunk_id, w.kind, w.state, w.priority, w.attempts, w.fence, "
            "w.canonical_hash, w.cause, w.last_error "
            "FROM vector_projection_work AS w LEFT JOIN chunks AS c USING (chunk_key) "
            "WHERE NOT EXISTS (SELECT 1 FROM vector_index_schemas AS s WHERE s.kind = w.kind "
            "AND s.enabled = 1 AND s.profile_id <> w.profile_id)"
        )
        return {row[0]: WorkRow(*row) for row in rows}


def blobs(db: fathomdb.Engine) -> dict[str, tuple[bytes, bytes]]:
    """(canonical hash, f32 blob) of every vector of an index that answers, by chunk id: no ids, no times.

    Two files that hold the same are equal here, whatever happened to them on the way.
    """
    with snapshot(db) as connection:
        return {
            chunk_id: (canonical_hash, blob)
            for chunk_id, canonical_hash, blob in _stored(connection)
        }


def vectors(db: fathomdb.Engine) -> dict[str, NDArray[np.float32]]:
    """Every stored vector by chunk id."""
    return {key: np.frombuffer(blob, dtype="<f4") for key, (_, blob) in blobs(db).items()}


def cached(db: fathomdb.Engine) -> dict[str, bytes]:
    """The cached vectors, oldest first, by the SHA-256 of their text, in hex."""
    with snapshot(db) as connection:
        rows = connection.execute(
            "SELECT hex(content_hash), embedding FROM vector_cache ORDER BY position"
        )
        return {content_hash.lower(): blob for content_hash, blob in rows}


def _stored(connection: Connection) -> list[tuple[str, bytes, bytes]]:
    serving = dict(
        connection.execute("SELECT kind, profile_id FROM wanted_vectors WHERE serves").fetchall()
    )
    beside = {
        vector_tables.table_name(*row)
        for row in connection.execute(
            "SELECT k.kind, p.profile_id FROM kinds AS k, vector_embedding_profiles AS p "
            "WHERE p.state <> 'retired'"
        )
    }
    tables = {
        row[0]
        for row in connection.execute(
            "SELECT name FROM sqlite_master WHERE sql LIKE '%USING vec0%'"
        )
    }
    found = []
    for (kind,) in connection.execute("SELECT kind FROM kinds").fetchall():
        name = vector_tables.table_name(kind, serving[kind]) if kind in serving else ""
        if name not in tables:
            continue
        tables.discard(name)
        for key, blob in connection.execute(f'SELECT chunk_key, embedding FROM "{name}"'):
            row = connection.execute(
                "SELECT c.chunk_id, l.canonical_hash, n.kind FROM chunks AS c "
                "JOIN nodes AS n USING (node_key) JOIN vector_ledger AS l USING (chunk_key) "
                "WHERE chunk_key = ? AND l.profile_id = ?",
                (key, serving[kind]),
            ).fetchone()
            assert row is not None, f"{name} has a vector of no live chunk: key {key}"
            chunk_id, canonical_hash, of_kind = row
            assert of_kind == kind, f"the vector of {chunk_id} is in the table of {kind}"
            found.append((chunk_id, canonical_hash, bytes(blob)))
    assert tables <= beside, f"vector tables of no kind under a wanted profile: {tables - beside}"
    return found


def check(db: fathomdb.Engine, *embedders: Embedder) -> None:
    """The invariants of the file, where all of its vectors are of these embedders."""
    with snapshot(db) as connection:
        invariants.check(connection, embedders)


def adds_up(report: object) -> bool:
    """Claimed rows are the sum of what became of them."""
    parts = ("incremental_processed", "backfill_processed", "failed", "discarded_stale", "reverted")
    return (
        report.claimed == sum(getattr(report, part) for part in parts)
        and sum(report.discard_reasons.values()) == report.discarded_stale
    )
