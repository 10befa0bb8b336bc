"""Embedding profiles: the identities of the models whose vectors the file has or had."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fathomdb.store.connection import only_row

if TYPE_CHECKING:
    import apsw

    from fathomdb.identity import EmbedderIdentity


@dataclass(frozen=True, slots=True)
class Profile:
    """A row; ``dimension`` is None until it is learned, ``plugin`` opens the embedder again."""

    profile_id: int
    fingerprint: str
    model_identity: str
    model_version: str
    dimension: int | None
    normalization_policy: str
    state: str
    plugin: str | None

    @property
    def normalizes(self) -> bool:
        """Whether vectors are scaled to unit length at the border."""
        return self.normalization_policy == "l2"

    def __str__(self) -> str:
        dimension = "?" if self.dimension is None else self.dimension
        return f"{self.model_identity}@{self.model_version} ({dimension} dimensions)"


_COLUMNS = (
    "profile_id, fingerprint, model_identity, model_version, dimension, normalization_policy, "
    "state, plugin"
)


def active(db: apsw.Connection) -> Profile | None:
    """The profile that serves, or None."""
    row = db.execute(
        f"SELECT {_COLUMNS} FROM vector_embedding_profiles WHERE state = 'active'"
    ).fetchone()
    return Profile(*row) if row else None


def get(db: apsw.Connection, profile_id: int) -> Profile:
    """The profile of an id that is known to exist."""
    row = only_row(
        db.execute(
            f"SELECT {_COLUMNS} FROM vector_embedding_profiles WHERE profile_id = ?", (profile_id,)
        )
    )
    return Profile(*row)


def every(db: apsw.Connection) -> dict[int, Profile]:
    """All profiles, by id."""
    rows = db.execute(f"SELECT {_COLUMNS} FROM vector_embedding_profiles")
    return {row[0]: Profile(*row) for row in rows}


def activate(
    db: apsw.Connection, identity: EmbedderIdentity, plugin: str | None, now_ms: int
) -> Profile:
    """Makes the identity's profile the active one; the one that was active is retired."""
    db.execute("UPDATE vector_embedding_profiles SET state = 'retired' WHERE state = 'active'")
    db.execute(
        "INSERT INTO vector_embedding_profiles (fingerprint, model_identity, model_version, "
        "dimension, normalization_policy, preparation, state, plugin, created_at_ms) "
        "VALUES (?, ?, ?, ?, ?, ?, 'active', ?, ?) "
        "ON CONFLICT (fingerprint) DO UPDATE SET state = 'active', plugin = excluded.plugin",
        (
            identity.fingerprint,
            identity.model_identity,
            identity.model_version,
            identity.dimension,
            identity.normalization_policy,
            json.dumps(dict(identity.preparation), sort_keys=True),
            plugin,
            now_ms,
        ),
    )
    profile = active(db)
    assert profile is not None
    return profile


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
