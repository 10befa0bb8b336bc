"""The invariants of a file, written once: against itself, and against a plain model.

They read through a snapshot, with statements of their own, never with the engine's answers. Used by
the state machine, the crash campaign and every test that calls ``inside.check``.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

import model
import oracle
from fathomdb.store import vectors as vector_tables

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    import fathomdb
    from fathomdb.embedders.protocol import Embedder
    from fathomdb.store.codes import Codes
    from fathomdb.store.connection import Connection
    from model import Content, Model


@dataclass(frozen=True, slots=True)
class Counters:
    """What only ever grows in a file."""

    cursor: int
    fence: int


def counters(connection: Connection) -> Counters:
    return Counters(*connection.execute("SELECT cursor, fence FROM engine_state").fetchone())


@dataclass(frozen=True, slots=True)
class _Chunk:
    chunk_id: str
    text: str
    canonical_hash: bytes
    kind: str
    live: bool
    profile_id: int | None
    """That the chunk's kind answers under."""
    wanted: frozenset[int]
    """All that the chunk's kind has an index under."""


# --- a file against itself ------------------------------------------------------------------------


def check(connection: Connection, embedders: Iterable[Embedder]) -> None:
    """Holds at every commit. ``embedders`` are those of all profiles whose vectors may be there.

    Raises:
        AssertionError: Something does not hold; it says what, and of which chunk.
    """
    embedder_of = {embedder.identity().fingerprint: embedder for embedder in embedders}
    profiles = {
        row[0]: row[1:]
        for row in connection.execute(
            "SELECT profile_id, fingerprint, dimension, normalization_policy, state "
            "FROM vector_embedding_profiles"
        )
    }
    state_of = {key: state for key, (*_, state) in profiles.items()}
    active = [key for key, state in state_of.items() if state == "active"]
    second = [key for key, state in state_of.items() if state in ("building", "previous")]
    assert len(active) <= 1, f"{len(active)} profiles are active"
    assert len(second) <= len(active), f"{second} beside the active {active}"
    _check_switch(connection, state_of)
    chunks = _chunks(connection)
    for key, chunk in chunks.items():
        assert chunk.live, f"chunk {chunk.chunk_id} is of a version that ended"
        assert chunk.canonical_hash == oracle.canonical_hash(chunk.chunk_id, chunk.text), (
            f"the hash of chunk {chunk.chunk_id} is not that of its text"
        )
        assert chunk.profile_id is None or state_of[chunk.profile_id] in ("active", "building"), (
            f"{chunk.kind} answers under profile {chunk.profile_id}, active is {active}: {key}"
        )
    ledger = _check_ledger(connection, chunks)
    _check_vectors(connection, chunks, ledger, profiles, embedder_of)
    _check_work(connection, chunks, ledger)
    _check_cache(connection, profiles)


def check_codes(connection: Connection, codes: Codes) -> None:
    """Nothing is written meanwhile: the codes of a table are of the vectors that it has."""
    for (table,) in connection.execute(
        "SELECT name FROM sqlite_master WHERE sql LIKE 'CREATE VIRTUAL%USING vec0%'"
    ).fetchall():
        known = codes.chunk_keys(table)
        if known is not None:
            there = {row[0] for row in connection.execute(f'SELECT chunk_key FROM "{table}"')}
            assert known == there, f"the codes of {table} are of {known ^ there} too, or not"


def _check_cache(
    connection: Connection, profiles: Mapping[int, tuple[str, int | None, str, str]]
) -> None:
    live = set(connection.execute("SELECT profile_id, content_hash FROM vector_ledger"))
    for profile_id, content_hash, blob in connection.execute(
        "SELECT profile_id, content_hash, embedding FROM vector_cache"
    ):
        assert (profile_id, content_hash) not in live, "the cache keeps what a live chunk has"
        _, dimension, policy, _ = profiles[profile_id]
        vector = np.frombuffer(blob, dtype="<f4")
        assert vector.shape == (dimension,), f"a cached vector has {len(vector)} numbers"
        assert np.isfinite(vector).all(), "a cached vector is not finite"
        assert vector.any(), "a cached vector is zero"
        if policy == "l2":
            np.testing.assert_allclose(np.linalg.norm(vector), 1.0, atol=1e-5)


def _check_switch(connection: Connection, state_of: Mapping[int, str]) -> None:
    """A switch is under way as long as a kind waits for it, and no longer."""
    for profile_id, state in state_of.items():
        if state == "building":
            waiting = connection.execute(
                "SELECT count(*) FROM vector_index_schemas WHERE enabled = 1 AND profile_id <> ?",
                (profile_id,),
            ).get
            assert waiting, f"no kind waits for profile {profile_id}, which is still being built"


def _chunks(connection: Connection) -> dict[int, _Chunk]:
    wanted: dict[str, set[int]] = {}
    for kind, profile_id in connection.execute(
        "SELECT s.kind, p.profile_id FROM vector_index_schemas AS s, vector_embedding_profiles AS p "
        "WHERE s.enabled = 1 AND s.profile_id IS NOT NULL AND p.state <> 'retired'"
    ):
        wanted.setdefault(kind, set()).add(profile_id)
    rows = connection.execute(
        "SELECT c.chunk_key, c.chunk_id, c.text, c.canonical_hash, n.kind, "
        "n.superseded_cursor IS NULL, CASE s.enabled WHEN 1 THEN s.profile_id END "
        "FROM chunks AS c LEFT JOIN nodes AS n USING (node_key) "
        "LEFT JOIN vector_index_schemas AS s ON s.kind = n.kind"
    )
    return {
        row[0]: _Chunk(*row[1:5], bool(row[5]), row[6], frozenset(wanted.get(row[4], ())))
        for row in rows
    }


Ledger = dict[tuple[int, int], bytes]


def _check_ledger(connection: Connection, chunks: Mapping[int, _Chunk]) -> Ledger:
    ledger: Ledger = {}
    for key, profile_id, canonical_hash, content_hash in connection.execute(
        "SELECT chunk_key, profile_id, canonical_hash, content_hash FROM vector_ledger"
    ):
        chunk = chunks.get(key)
        assert chunk is not None, f"the ledger has a vector of no live chunk: key {key}"
        assert profile_id in chunk.wanted, (
            f"{chunk.chunk_id} has a vector under profile {profile_id}, wanted is {chunk.wanted}"
        )
        assert canonical_hash == chunk.canonical_hash, (
            f"the vector of {chunk.chunk_id} is of another text"
        )
        assert content_hash == oracle.content_hash(chunk.text), (
            f"the vector of {chunk.chunk_id} would be reused for another text"
        )
        ledger[key, profile_id] = canonical_hash
    return ledger


def _check_vectors(
    connection: Connection,
    chunks: Mapping[int, _Chunk],
    ledger: Ledger,
    profiles: Mapping[int, tuple[str, int | None, str, str]],
    embedder_of: Mapping[str, Embedder],
) -> None:
    tables = {
        row[0]
        for row in connection.execute(
            "SELECT name FROM sqlite_master WHERE sql LIKE 'CREATE VIRTUAL TABLE%USING vec0%'"
        )
    }
    indexed = connection.execute(
        "SELECT s.kind, p.profile_id FROM vector_index_schemas AS s, vector_embedding_profiles AS p "
        "WHERE s.enabled = 1 AND s.profile_id IS NOT NULL AND p.state <> 'retired'"
    ).fetchall()
    stored = set()
    for kind, profile_id in indexed:
        fingerprint, dimension, *_ = profiles[profile_id]
        name = vector_tables.table_name(kind, profile_id)
        assert (name in tables) == (dimension is not None), f"{name} is missing or too early"
        tables.discard(name)
        if dimension is None:
            continue
        for key, blob in connection.execute(f'SELECT chunk_key, embedding FROM "{name}"'):
            chunk = chunks.get(key)
            assert chunk is not None, f"{name} has a vector of no live chunk: key {key}"
            assert chunk.kind == kind, f"the vector of {chunk.chunk_id} is in the table of {kind}"
            vector = np.frombuffer(blob, dtype="<f4")
            assert vector.shape == (dimension,), f"the vector of {chunk.chunk_id} has {len(vector)}"
            assert np.isfinite(vector).all(), f"the vector of {chunk.chunk_id} is not finite"
            embedder = embedder_of.get(fingerprint)
            assert embedder is not None, f"nobody here can say what a vector of {name} must be"
            # Not to the bit: a model may answer a little otherwise in another batch.
            np.testing.assert_allclose(
                vector,
                np.frombuffer(model.vector_blob(embedder, chunk.text), dtype="<f4"),
                atol=1e-6,
                err_msg=f"the vector of {chunk.chunk_id} is of another text",
            )
            stored.add((key, profile_id))
    assert not tables, f"vector tables of no indexed kind: {sorted(tables)}"
    assert stored == ledger.keys(), f"ledger and vectors differ: {stored ^ ledger.keys()}"


def _check_work(connection: Connection, chunks: Mapping[int, _Chunk], ledger: Ledger) -> None:
    last_fence = counters(connection).fence
    owed = set()
    for key, profile_id, kind, canonical_hash, state, fence, attempts, cause in connection.execute(
        "SELECT chunk_key, profile_id, kind, canonical_hash, state, fence, attempts, cause "
        "FROM vector_projection_work"
    ):
        chunk = chunks.get(key)
        assert chunk is not None, f"work for no live chunk: key {key}"
        said = f"the work of {chunk.chunk_id} ({state})"
        assert kind == chunk.kind, f"{said} is of kind {kind}"
        assert profile_id in chunk.wanted, f"{said} is not wanted"
        assert canonical_hash == chunk.canonical_hash, f"{said} asks for another text"
        assert 0 < fence <= last_fence, f"{said} has the fence {fence} of {last_fence}"
        assert attempts >= (state == "inflight"), f"{said} has {attempts} attempts"
        assert (state == "failed") == (cause is not None), f"{said} has the cause {cause}"
        assert (key, profile_id) not in owed, f"{said} is there twice"
        owed.add((key, profile_id))
    for key, chunk in chunks.items():
        for profile_id in chunk.wanted:
            assert {(key, profile_id)} & (owed | ledger.keys()), (
                f"{chunk.chunk_id} has neither a vector nor work under profile {profile_id}"
            )


def check_growth(before: Counters, now: Counters) -> None:
    """Commit numbers and fences never go back, whatever happened to the process."""
    assert now.cursor >= before.cursor, f"the cursor went back from {before} to {now}"
    assert now.fence >= before.fence, f"the fence went back from {before} to {now}"


# --- a file against a model -----------------------------------------------------------------------


def content(connection: Connection) -> Content:
    """The canonical state that is in the file."""
    found = model.Content()
    pieces: dict[int, list[model.Piece]] = {}
    for node_key, *piece in connection.execute(
        "SELECT node_key, chunk_id, text, byte_start, byte_end FROM chunks "
        "ORDER BY node_key, ordinal"
    ):
        pieces.setdefault(node_key, []).append(tuple(piece))
    for node_key, node_id, kind, properties, source_ref, split, ended in connection.execute(
        "SELECT node_key, logical_id, kind, properties, source_ref, split, superseded_cursor "
        "FROM nodes"
    ):
        encoded = None if properties is None else model.sorted_json(json.loads(properties))
        record = model.Record(
            kind, encoded, source_ref, bool(split), tuple(pieces.get(node_key, ()))
        )
        if ended is None:
            assert node_id not in found.live, f"{node_id} is live twice"
            found.live[node_id] = record
        else:
            found.superseded.setdefault(node_id, []).append(record.version)
    for versions in found.superseded.values():
        versions.sort(key=repr)
    for kind, enabled in connection.execute("SELECT kind, enabled FROM vector_index_schemas"):
        found.indexed[kind] = bool(enabled)
    row = connection.execute(
        # The one that it is becoming, where a switch is under way.
        "SELECT fingerprint FROM vector_embedding_profiles WHERE state IN ('building', 'active') "
        "ORDER BY state = 'active'"
    ).fetchone()
    found.fingerprint = None if row is None else row[0]
    return found


def differences(found: Content, expected: Content) -> list[str]:
    """Where a file is not what it must be, in words; empty where it is."""
    said = []
    for what in ("live", "superseded", "indexed"):
        there: Mapping[str, object] = getattr(found, what)
        due: Mapping[str, object] = getattr(expected, what)
        said.extend(
            f"{what} {key!r} is {there.get(key)!r} in the file and {due.get(key)!r} in the model"
            for key in sorted(there.keys() | due.keys())
            if there.get(key) != due.get(key)
        )
    if found.fingerprint != expected.fingerprint:
        said.append(f"the model {found.fingerprint} is active, not {expected.fingerprint}")
    return said


def check_model(connection: Connection, expected: Model) -> None:
    """The file's canonical state is the model's."""
    found = differences(content(connection), expected.content)
    assert not found, "\n".join(found)


def check_projected(db: fathomdb.Engine, expected: Model) -> None:
    """Nothing is owed any more, and every kind's digest is the model's."""
    with db._runtime.snapshot() as connection:
        left = connection.execute(
            "SELECT state, attempts, cause, last_error FROM vector_projection_work"
        ).fetchall()
    assert not left, f"still owed after a drain: {left}"
    for kind in expected.indexed_kinds():
        assert db.admin.projection_digest(kind) == expected.digest(kind), f"the digest of {kind}"
