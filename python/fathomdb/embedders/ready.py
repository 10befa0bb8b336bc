"""Ready vectors: a model that is somewhere else, whose vectors the caller brings."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NoReturn

from fathomdb.embedders.protocol import EmbedderLimits
from fathomdb.errors import EmbedderUnavailableError, InvalidInputError
from fathomdb.identity import EmbedderIdentity

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from fathomdb.identity import NormalizationPolicy


class ReadyVectors:
    """An embedder that makes no vectors; made by :func:`ready_vectors`."""

    local = True
    limits = EmbedderLimits()

    def __init__(self, identity: EmbedderIdentity) -> None:
        self._identity = identity

    def identity(self) -> EmbedderIdentity:
        """The identity of the model that the vectors are of."""
        return self._identity

    def batch_embed(self, texts: Sequence[str]) -> Any:  # noqa: ARG002 - the protocol's
        """Raises EmbedderUnavailableError: the engine never calls it."""
        self._refuse()

    def embed_query(self, text: str) -> Any:  # noqa: ARG002 - the protocol's
        """Raises EmbedderUnavailableError: the engine never calls it."""
        self._refuse()

    def why_not(self) -> str:
        """Why it embeds nothing, and what to do."""
        return (
            f"{self._identity} takes ready vectors only and embeds no text; search with "
            "raw_vector_search or text_search"
        )

    def _refuse(self) -> NoReturn:
        raise EmbedderUnavailableError(self.why_not())

    def __repr__(self) -> str:
        return f"<ReadyVectors {self._identity}>"


def ready_vectors(
    model_identity: str,
    version: str = "1",
    dimension: int | None = None,
    normalization: NormalizationPolicy = "l2",
    *,
    preparation: Mapping[str, str] | None = None,
) -> ReadyVectors:
    """An embedder for vectors that are made elsewhere and written with their texts.

    ``Chunk(text, vector=...)`` and ``ingest(..., vector="column")`` bring them. A text without a
    vector is found by its words, and its work fails with the cause ``no_vector``, unless the same
    text has a vector already. ``semantic_search`` raises EmbedderNotConfiguredError, ``search``
    goes by words and says so, ``raw_vector_search`` works.

    Args:
        model_identity: The name of the model that makes the vectors.
        version: Its version; vectors of two versions never meet.
        dimension: Numbers in a vector.
        normalization: ``"l2"`` scales every vector to unit length, ``"none"`` stores it as it is.
        preparation: Whatever else changes the vectors: prefixes, pooling, truncation.

    Raises:
        InvalidInputError: The identity is not valid, or has no dimension.
    """
    if dimension is None:
        raise InvalidInputError(
            "ready_vectors needs dimension=, the numbers in a vector: no model is called that it "
            "could be learned from"
        )
    return ReadyVectors(
        EmbedderIdentity(
            model_identity,
            version,
            dimension,
            normalization,
            {} if preparation is None else preparation,
        )
    )
