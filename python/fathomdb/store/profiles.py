"""Embedding profiles: the identities of the models whose vectors the file has or had.

One is ``active``. Beside it there is at most one more whose vectors are wanted: ``building`` while
a switch to it runs, or ``previous`` where it was active before and is kept for a rollback. Every
enabled kind has an index under each of them; ``indexes`` says which of these answers.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from fathomdb.store.connection import only_row

if TYPE_CHECKING:
    import apsw

    from fathomdb.identity import EmbedderIdentity

ProfileState = Literal["active", "building", "previous", "retired"]


@dataclass(frozen=True, slots=True)
class Profile:
    """A row; ``dimension`` is None until it is learned, ``plugin`` opens the embedder again.

    ``paused`` is a building one whose building waits; ``keep_previous`` says whether the model that
    it takes the place of is kept. ``chunks_per_second`` is the rate at which it was last seen to
    work, None where it never was.
    """

    profile_id: int
    fingerprint: str
    model_identity: str
    model_version: str
    dimension: int | None
    normalization_policy: str
    state: ProfileState
    plugin: str | None
    paused: bool = False
    keep_previous: bool = True
    chunks_per_second: float | None = None

    @property
    def normalizes(self) -> bool:
        """Whether vectors are scaled to unit length at the border."""
        return self.normalization_policy == "l2"

    def __str__(self) -> str:
        dimension = "?" if self.dimension is None else self.dimension
        return f"{self.model_identity}@{self.model_version} ({dimension} dimensions)"


_COLUMNS = (
    "profile_id, fingerprint, model_identity, model_version, dimension, normalization_policy, "
    "state, plugin, paused, keep_previous, chunks_per_second"
)


def _row(values: tuple[Any, ...]) -> Profile:
    *rest, paused, keep_previous, rate = values
    return Profile(*(*rest, bool(paused), bool(keep_previous), rate))


def active(db: apsw.Connection) -> Profile | None:
    """The profile that serves, or None."""
    return _of_state(db, "active")


def described(db: apsw.Connection) -> dict[str, str | int | None] | None:
    """The identity of the active profile, from a file of any schema version; None without one."""
    names = (
        "fingerprint", "model_identity", "model_version", "dimension", "normalization_policy"
    )  # fmt: skip
    row = db.execute(
        f"SELECT {', '.join(names)} FROM vector_embedding_profiles WHERE state = 'active'"
    ).fetchone()
    return dict(zip(names, row, strict=True)) if row else None


def building(db: apsw.Connection) -> Profile | None:
    """The profile that a switch builds, or None."""
    return _of_state(db, "building")


def previous(db: apsw.Connection) -> Profile | None:
    """The profile that is kept for a rollback, or None."""
    return _of_state(db, "previous")


def _of_state(db: apsw.Connection, state: ProfileState) -> Profile | None:
    row = db.execute(
        f"SELECT {_COLUMNS} FROM vector_embedding_profiles WHERE state = ?", (state,)
    ).fetchone()
    return _row(row) if row else None


def wanted(db: apsw.Connection) -> list[Profile]:
    """The profiles whose vectors are wanted: the active one first, the one kept last."""
    rows = db.execute(
        f"SELECT {_COLUMNS} FROM vector_embedding_profiles WHERE state <> 'retired' ORDER BY state"
    )
    return [_row(row) for row in rows]


def of_fingerprint(db: apsw.Connection, fingerprint: str) -> Profile | None:
    """The profile of a fingerprint that the file knows, or None."""
    row = db.execute(
        f"SELECT {_COLUMNS} FROM vector_embedding_profiles WHERE fingerprint = ?", (fingerprint,)
    ).fetchone()
    return _row(row) if row else None


def get(db: apsw.Connection, profile_id: int) -> Profile:
    """The profile of an id that is known to exist."""
    row = only_row(
        db.execute(
            f"SELECT {_COLUMNS} FROM vector_embedding_profiles WHERE profile_id = ?", (profile_id,)
        )
    )
    return _row(row)


def every(db: apsw.Connection) -> dict[int, Profile]:
    """All profiles, by id."""
    rows = db.execute(f"SELECT {_COLUMNS} FROM vector_embedding_profiles")
    return {row[0]: _row(row) for row in rows}


def add(
    db: apsw.Connection,
    identity: EmbedderIdentity,
    plugin: str | None,
    now_ms: int,
    *,
    state: Literal["active", "building"],
    keep_previous: bool = True,
) -> Profile:
    """Gives the identity's profile this state, which no other may have; makes one where it is new.

    One that comes back keeps its key, its dimension and its rate.
    """
    db.execute(
        "INSERT INTO vector_embedding_profiles (fingerprint, model_identity, model_version, "
        "dimension, normalization_policy, preparation, state, plugin, created_at_ms, "
        "keep_previous) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?) "
        "ON CONFLICT (fingerprint) DO UPDATE SET state = excluded.state, "
        "plugin = excluded.plugin, keep_previous = excluded.keep_previous",
        (
            identity.fingerprint,
            identity.model_identity,
            identity.model_version,
            identity.dimension,
            identity.normalization_policy,
            json.dumps(dict(identity.preparation), sort_keys=True),
            state,
            plugin,
            now_ms,
            keep_previous,
        ),
    )
    profile = _of_state(db, state)
    assert profile is not None
    return profile


def set_state(db: apsw.Connection, profile_id: int, state: ProfileState) -> None:
    """Changes what a profile is; whatever had that state must have left it."""
    db.execute(
        "UPDATE vector_embedding_profiles SET state = ?, paused = 0 WHERE profile_id = ?",
        (state, profile_id),
    )


def set_paused(db: apsw.Connection, profile_id: int, *, paused: bool) -> None:
    """Has the building of a profile wait, or go on."""
    db.execute(
        "UPDATE vector_embedding_profiles SET paused = ? WHERE profile_id = ?", (paused, profile_id)
    )


def note_rate(db: apsw.Connection, profile_id: int, chunks_per_second: float) -> None:
    """Remembers how fast a profile's embedder was last seen to work."""
    db.execute(
        "UPDATE vector_embedding_profiles SET chunks_per_second = ? WHERE profile_id = ?",
        (chunks_per_second, profile_id),
    )


def learn_dimension(db: apsw.Connection, profile_id: int, dimension: int) -> None:
    """Fixes the dimension that the first batch had."""
    db.execute(
        "UPDATE vector_embedding_profiles SET dimension = ? "
        "WHERE profile_id = ? AND dimension IS NULL",
        (dimension, profile_id),
    )


def set_plugin(db: apsw.Connection, profile_id: int, plugin: str | None) -> None:
    """Remembers what builds the profile's embedder."""
    db.execute(
        "UPDATE vector_embedding_profiles SET plugin = ? WHERE profile_id = ? AND plugin IS NOT ?",
        (plugin, profile_id, plugin),
    )
