"""Stage 5, validate: an embedder's array to checked f32 blobs; a bad row fails alone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fathomdb import _native
from fathomdb.errors import DimensionMismatchError, EmbedderContractError, NonFiniteVectorError
from fathomdb.identity import MAX_DIMENSION

if TYPE_CHECKING:
    from fathomdb._native import PackedVectors
    from fathomdb.store.profiles import Profile


def validate(array: Any, count: int, profile: Profile) -> PackedVectors:
    """Copies ``count`` vectors into one private buffer of f32, checks that copy, and packs it.

    Bad rows are in ``bad`` of the result; the rest is good whatever happens to ``array`` later.

    Raises:
        EmbedderContractError: Not vectors at all, or not one for each text: then none of them can
            be bound to a text; or more dimensions than can be stored; or several, where the model
            has none yet.
    """
    packed = _native.pack_vectors(array, profile.dimension, normalize=profile.normalizes)
    if packed.dimension > MAX_DIMENSION:
        raise EmbedderContractError(
            f"{profile.model_identity} returned vectors of {packed.dimension} dimensions, and a "
            f"vector can have {MAX_DIMENSION} at most; use a model, or a cut of it, that has fewer"
        )
    if profile.dimension is None and any(cause == "dimension" for _, _, cause, _ in packed.bad):
        # The first row is as likely to be the wrong one as any other; alone each shows itself.
        raise EmbedderContractError(
            f"{profile.model_identity} returned vectors of several dimensions in one batch, and "
            "does not declare which is its own; declare it in the identity"
        )
    if packed.count != count:
        raise EmbedderContractError(
            f"{profile.model_identity} returned {packed.count} vectors for {count} texts; "
            "batch_embed must return one vector a text, in order"
        )
    return packed


def query_blob(vector: Any, profile: Profile) -> bytes:
    """One query vector, checked as stored vectors are.

    Raises:
        DimensionMismatchError: It does not have the profile's dimension.
        NonFiniteVectorError: It contains NaN or infinity, also after the cast to f32.
        EmbedderContractError: It is not a vector of numbers, or it is all zeros.
    """
    packed = _native.pack_vectors([vector], profile.dimension, normalize=profile.normalizes)
    for _, column, cause, detail in packed.bad:
        if cause == "dimension":
            raise DimensionMismatchError(
                f"the query vector does not fit {profile}: {detail}; embed the query with the "
                "model that made the index"
            )
        if cause == "not_finite":
            raise NonFiniteVectorError(
                f"the query vector has a value that is not finite as f32 in column {column}: "
                f"{detail}"
            )
        raise EmbedderContractError(f"the query vector cannot be compared: {detail}")
    return bytes(packed.blob)
