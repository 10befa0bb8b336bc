"""Vector index schemas: per kind, whether it is indexed, under which profile, and how fresh it is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, NamedTuple

from fathomdb.config import BACKFILL_PRIORITY, INCREMENTAL_PRIORITY
from fathomdb.store import keys, profiles, vectors, work

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    import apsw

    from fathomdb.store.codes import Changes
    from fathomdb.store.conditions import Condition
    from fathomdb.store.profiles import Profile
    from fathomdb.store.reuse import Cache

IndexState = Literal["fresh", "building", "stale"]


@dataclass(frozen=True, slots=True)
class IndexSchema:
    """A row; a kind that was disabled keeps its row, and that wins over enabling by itself."""

    kind: str
    enabled: bool
    state: IndexState
    profile_id: int | None
    last_error: str | None
    last_completed_at_ms: int | None


_COLUMNS = "kind, enabled, state, profile_id, last_error, last_completed_at_ms"


def _row(values: tuple[object, ...]) -> IndexSchema:
    kind, enabled, *rest = values
    return IndexSchema(kind, bool(enabled), *rest)  # type: ignore[arg-type]


def get(db: apsw.Connection, kind: str) -> IndexSchema | None:
    """The schema of a kind, or None where it was never configured."""
    row = db.execute(
        f"SELECT {_COLUMNS} FROM vector_index_schemas WHERE kind = ?", (kind,)
    ).fetchone()
    return _row(row) if row else None


def every(db: apsw.Connection) -> list[IndexSchema]:
    """All schemas, by kind."""
    return [
        _row(row)
        for row in db.execute(f"SELECT {_COLUMNS} FROM vector_index_schemas ORDER BY kind")
    ]


def of_kinds(db: apsw.Connection, kinds: Iterable[str]) -> dict[str, IndexSchema]:
    """The schemas of these kinds that have one."""
    return {
        row[0]: _row(row)
        for row in db.execute(
            f"SELECT {_COLUMNS} FROM vector_index_schemas "
            "WHERE kind IN (SELECT value FROM carray(?))",
            (keys.texts(kinds),),
        )
    }


def of_table(db: apsw.Connection, table: str) -> tuple[str, int] | None:
    """(kind, profile_id) of the enabled kind whose vectors are in a table, or None."""
    for found in wanted(db):
        if vectors.table_name(*found) == table:
            return found
    return None


def wanted(db: apsw.Connection) -> list[tuple[str, int]]:
    """Every (kind, profile_id) that vectors are wanted under, by kind."""
    return list(db.execute("SELECT kind, profile_id FROM wanted_vectors ORDER BY kind, profile_id"))


def kinds_under(db: apsw.Connection, profile_id: int) -> list[str]:
    """The kinds that want vectors under a profile, by name."""
    rows = db.execute(
        "SELECT kind FROM wanted_vectors WHERE profile_id = ? ORDER BY kind", (profile_id,)
    )
    return [row[0] for row in rows]


class Owed(NamedTuple):
    """A profile that a written chunk of a kind is owed a vector under, and how soon."""

    profile_id: int
    priority: int


def owed_under(db: apsw.Connection, kinds: Iterable[str]) -> dict[str, list[Owed]]:
    """What a write owes a chunk of each of these kinds; a kind that is not indexed owes nothing.

    Fresh for the index that answers and for one that is being built; at backfill priority for one
    that is only kept.
    """
    found: dict[str, list[Owed]] = {}
    for kind, profile_id, fresh in db.execute(
        "SELECT v.kind, v.profile_id, v.serves OR p.state = 'building' FROM wanted_vectors AS v "
        "JOIN vector_embedding_profiles AS p USING (profile_id) "
        "WHERE v.kind IN (SELECT value FROM carray(?)) ORDER BY v.kind, p.state",
        (keys.texts(kinds),),
    ):
        priority = INCREMENTAL_PRIORITY if fresh else BACKFILL_PRIORITY
        found.setdefault(kind, []).append(Owed(profile_id, priority))
    return found


def unindexed_kinds(db: apsw.Connection, condition: Condition) -> list[str]:
    """Kinds without a vector index that have chunks of live nodes ``n`` which meet a condition."""
    # The likelihood has a filter by ids go through the index of ids, not through a whole kind.
    rows = db.execute(
        "SELECT k.kind FROM kinds AS k LEFT JOIN vector_index_schemas AS s USING (kind) "
        "WHERE coalesce(s.enabled, 0) = 0 AND EXISTS (SELECT 1 FROM nodes AS n "
        "JOIN chunks AS c USING (node_key) WHERE likelihood(n.kind = k.kind, 0.9) "
        f"AND n.superseded_cursor IS NULL AND {condition.sql}) ORDER BY k.kind",
        condition.parameters,
    )
    return [row[0] for row in rows]


def enable(db: apsw.Connection, kind: str, profile: Profile, *, fence: int, now_ms: int) -> int:
    """Enables a kind under the active profile; returns the rows that the index is owed by this.

    A profile that is being built or kept gets its index of the kind too. Idempotent: an index that
    answers already under the profile that is being built goes on answering.
    """
    known, wanted_profiles = get(db, kind), profiles.wanted(db)
    if known is not None and known.enabled:
        answers = [item for item in wanted_profiles if item.profile_id == known.profile_id]
        profile = answers[0] if answers else profile
    owed = {
        item.profile_id: add_index(db, kind, item, fence=fence, now_ms=now_ms)
        for item in wanted_profiles
    }
    enqueued = owed[profile.profile_id]
    db.execute(
        "INSERT INTO vector_index_schemas (kind, enabled, source, state, profile_id) "
        "VALUES (?1, 1, 'chunks', ?2, ?3) ON CONFLICT (kind) DO UPDATE SET enabled = 1, "
        "profile_id = ?3, state = CASE WHEN ?4 OR enabled = 0 THEN ?2 ELSE state END",
        (kind, "building" if enqueued else "fresh", profile.profile_id, enqueued > 0),
    )
    return enqueued


def add_index(db: apsw.Connection, kind: str, profile: Profile, *, fence: int, now_ms: int) -> int:
    """Enqueues what a kind has no current vector for under a profile; returns the rows.

    Makes the vector table where the dimension is known; idempotent.
    """
    if profile.dimension is not None:
        vectors.create(db, kind, profile)
    return work.enqueue_missing(db, kind, profile.profile_id, fence=fence, now_ms=now_ms)


def drop_indexes(
    db: apsw.Connection,
    kinds: Collection[str],
    profile_id: int,
    changes: Changes,
    *,
    cache: Cache | None,
) -> None:
    """Removes the work and the vectors of kinds under a profile, these to the cache at most."""
    for kind in kinds:
        work.delete_kind(db, kind, profile_id)
    vectors.drop(db, kinds, profile_id, changes, cache=cache)


def disable(db: apsw.Connection, kind: str, changes: Changes, *, cache: Cache | None) -> None:
    """Disables a kind: its work and its vectors go in the same transaction, to the cache at most."""
    for of_kind, profile_id in wanted(db):
        if of_kind == kind:
            drop_indexes(db, [kind], profile_id, changes, cache=cache)
    db.execute(
        "INSERT INTO vector_index_schemas (kind, enabled, source, state) "
        "VALUES (?, 0, 'chunks', 'stale') ON CONFLICT (kind) DO UPDATE SET enabled = 0, "
        "state = 'stale', profile_id = NULL, last_error = NULL, rebuild_after_key = NULL",
        (kind,),
    )


def serve_under(db: apsw.Connection, kind: str, profile_id: int) -> None:
    """Has the index of a kind under a profile answer from now on.

    A rebuild that was under way was one of the index that answered before.
    """
    db.execute(
        "UPDATE vector_index_schemas SET profile_id = ?, state = 'fresh', last_error = NULL, "
        "rebuild_after_key = NULL WHERE kind = ?",
        (profile_id, kind),
    )


def set_state(db: apsw.Connection, kind: str, state: IndexState) -> None:
    """Says how fresh the index of a kind is."""
    db.execute("UPDATE vector_index_schemas SET state = ? WHERE kind = ?", (state, kind))


def complete(db: apsw.Connection, profile_id: int) -> None:
    """Marks the kinds of a profile that have no more work waiting as fresh."""
    db.execute(
        "UPDATE vector_index_schemas SET state = 'fresh' WHERE profile_id = ?1 AND enabled = 1 "
        "AND state <> 'fresh' AND rebuild_after_key IS NULL AND NOT EXISTS (SELECT 1 FROM vector_projection_work AS w "
        "WHERE w.kind = vector_index_schemas.kind AND w.profile_id = ?1 AND w.state <> 'failed')",
        (profile_id,),
    )


def begin_rebuild(db: apsw.Connection, kind: str) -> None:
    """Notes that the vectors of a kind are to be owed again, from its first chunk on."""
    db.execute(
        "UPDATE vector_index_schemas SET state = 'building', rebuild_after_key = 0 WHERE kind = ?",
        (kind,),
    )


def unfinished_rebuilds(db: apsw.Connection) -> list[str]:
    """Kinds whose rebuild has not come to the last chunk yet."""
    return [
        row[0]
        for row in db.execute(
            "SELECT kind FROM vector_index_schemas WHERE rebuild_after_key IS NOT NULL"
        )
    ]


def rebuild_position(db: apsw.Connection, kind: str) -> tuple[int, int] | None:
    """(profile_id, key) that the rebuild of an enabled kind has come to, or None."""
    row: tuple[int, int] | None = db.execute(
        "SELECT profile_id, rebuild_after_key FROM vector_index_schemas "
        "WHERE kind = ? AND enabled = 1 AND rebuild_after_key IS NOT NULL",
        (kind,),
    ).fetchone()
    return row


def set_rebuild_position(db: apsw.Connection, kind: str, after_key: int | None) -> None:
    """Remembers the key that a rebuild has come to; None ends it."""
    db.execute(
        "UPDATE vector_index_schemas SET rebuild_after_key = ? WHERE kind = ?", (after_key, kind)
    )


def note_completed(db: apsw.Connection, kinds: Iterable[str], now_ms: int) -> None:
    """Remembers when a vector of these kinds was last stored, and that it went well."""
    db.execute(
        "UPDATE vector_index_schemas SET last_completed_at_ms = ?, last_error = NULL "
        "WHERE kind IN (SELECT value FROM carray(?))",
        (now_ms, keys.texts(kinds)),
    )


def note_error(db: apsw.Connection, kinds: Iterable[str], message: str) -> None:
    """Remembers what last went wrong for these kinds."""
    db.execute(
        "UPDATE vector_index_schemas SET last_error = ? "
        "WHERE kind IN (SELECT value FROM carray(?))",
        (message, keys.texts(kinds)),
    )
