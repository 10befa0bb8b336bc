"""Ready vectors: what a caller brings is checked like an embedder's, and stored with its text."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn

from fathomdb import _native
from fathomdb.errors import (
    DimensionMismatchError,
    EmbedderContractError,
    EmbedderNotConfiguredError,
    InvalidInputError,
    KindNotVectorIndexedError,
    NonFiniteVectorError,
)
from fathomdb.store import indexes, profiles, vectors, work

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from fathomdb.store.profiles import Profile
    from fathomdb.store.transaction import Transaction

PAGE_ROWS = 1 << 16
"""Vectors that one statement stores at most."""


class ReadyVector(NamedTuple):
    """A vector that was checked, as it is stored, and the hash of its text."""

    blob: memoryview
    profile: Profile
    content_hash: bytes


class GivenVector(NamedTuple):
    """A vector as it was given, its text, and whose it is, for messages."""

    where: str
    text: str
    vector: Any


class Owed(NamedTuple):
    """A ready vector on its way to a chunk that is stored."""

    kind: str
    chunk_key: int
    canonical_hash: bytes
    vector: ReadyVector


def check(given: Sequence[GivenVector], profile: Profile | None) -> list[ReadyVector]:
    """Copies vectors into one private buffer of f32 and checks that, as those of an embedder.

    Raises:
        EmbedderNotConfiguredError: The file has no active profile.
        DimensionMismatchError: One does not have the profile's dimension; this and what follows
            name whose it is.
        NonFiniteVectorError: One contains NaN or infinity, also after the cast to f32.
        InvalidInputError: One is no vector of numbers, or all zeros; or the profile does not know
            its dimension yet.
    """
    if profile is None:
        raise EmbedderNotConfiguredError(
            f"{given[0].where} has a ready vector, and the file has no active model that it could "
            "be of; call admin.configure_embedding first, with fathomdb.ready_vectors where there "
            "is no model to call"
        )
    if profile.dimension is None:
        raise InvalidInputError(
            f"{given[0].where} has a ready vector, and the dimension of {profile} is not known "
            "yet; declare it in the identity of the embedder, or have one text embedded first"
        )
    rows = [item.vector for item in given]
    try:
        packed = _native.pack_vectors(rows, profile.dimension, normalize=profile.normalizes)
    except EmbedderContractError:
        for item in given:
            _check_alone(item, profile, profile.dimension)
        raise
    for n, column, cause, detail in packed.bad:
        _refuse(given[n].where, profile, column, cause, detail)
    blob, size = memoryview(packed.blob), 4 * packed.dimension
    return [
        ReadyVector(
            blob[n * size : (n + 1) * size], profile, hashlib.sha256(item.text.encode()).digest()
        )
        for n, item in enumerate(given)
    ]


def _check_alone(item: GivenVector, profile: Profile, dimension: int) -> None:
    try:
        _native.pack_vectors([item.vector], dimension, normalize=profile.normalizes)
    except EmbedderContractError:
        raise InvalidInputError(
            f"the vector of {item.where} is of type {type(item.vector).__name__}; give a list of "
            f"{dimension} numbers, or an array of that shape and of f16, f32 or f64"
        ) from None


def _refuse(where: str, profile: Profile, column: int | None, cause: str, detail: str) -> NoReturn:
    if cause == "dimension":
        raise DimensionMismatchError(
            f"the vector of {where} does not fit {profile}: {detail}; give vectors of the model "
            "that the file has"
        )
    if cause == "not_finite":
        raise NonFiniteVectorError(
            f"the vector of {where} has a value that is not finite as f32 in column {column}: "
            f"{detail}"
        )
    raise InvalidInputError(f"the vector of {where} cannot be compared with others: {detail}")


def store(
    tx: Transaction,
    ready: Sequence[Owed],
    wanted: Mapping[str, Sequence[indexes.Owed]],
    now_ms: int,
) -> None:
    """Stores ready vectors for chunks that are there, and ends the work that owed them.

    What the same chunks are owed under another model, while one is switched to or kept, is enqueued.

    Raises:
        InvalidInputError: The active model is another than the vectors were checked for.
        KindNotVectorIndexedError: A kind of theirs has no vector index.
    """
    given_for, active = ready[0].vector.profile, profiles.active(tx.db)
    if active is None or active.profile_id != given_for.profile_id:
        raise InvalidInputError(
            f"the ready vectors were given for {given_for}, and the active model is {active} now; "
            "give vectors of that one"
        )
    by_kind: dict[str, list[Owed]] = {}
    for item in ready:
        if active.profile_id not in (profile_id for profile_id, _ in wanted.get(item.kind, ())):
            raise KindNotVectorIndexedError(
                f"ready vectors were given for kind {item.kind!r}, which has no vector index; "
                "enable it with admin.configure_vec(kind), or leave the vectors out"
            )
        by_kind.setdefault(item.kind, []).append(item)
    for kind, items in by_kind.items():
        for first in range(0, len(items), PAGE_ROWS):
            _store(tx, kind, active, items[first : first + PAGE_ROWS])
        chunk_keys = [item.chunk_key for item in items]
        for profile_id, priority in wanted[kind]:
            there = vectors.ledger(tx.db, profile_id, chunk_keys)
            if missing := [key for key in chunk_keys if key not in there]:
                work.enqueue(
                    tx.db,
                    kind,
                    profile_id,
                    missing,
                    priority=priority,
                    fence=tx.fence(),
                    now_ms=now_ms,
                )
    indexes.note_completed(tx.db, by_kind, now_ms)


def _store(tx: Transaction, kind: str, profile: Profile, items: Sequence[Owed]) -> None:
    work.delete_of_profile(tx.db, [item.chunk_key for item in items], profile.profile_id)
    there = vectors.ledger(tx.db, profile.profile_id, [item.chunk_key for item in items])
    stored = vectors.read(tx.db, kind, profile.profile_id, there)
    # The same input again writes nothing.
    new = [item for item in items if stored.get(item.chunk_key) != bytes(item.vector.blob)]
    if new:
        vectors.insert(
            tx.db,
            kind,
            profile.profile_id,
            len(new[0].vector.blob) // 4,
            memoryview(b"".join([item.vector.blob for item in new])),
            [item.chunk_key for item in new],
            canonical_hashes=b"".join([item.canonical_hash for item in new]),
            content_hashes=[item.vector.content_hash for item in new],
            contents=tx.contents,
            changes=tx.vectors,
        )
