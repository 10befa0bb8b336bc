"""A LangChain ``Embeddings`` object as an embedder: its methods, and the identity that it lacks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fathomdb.embedders.protocol import EmbedderLimits
from fathomdb.errors import InvalidInputError
from fathomdb.identity import EmbedderIdentity, NormalizationPolicy

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

METHODS = ("embed_documents", "embed_query")
"""What makes an object an ``Embeddings``: it is known by these, so that LangChain is not imported."""

WRAPPING_LINE = 'fathomdb.from_langchain(embeddings, "acme/e5", version="3", dimension=384)'
"""What to write in place of the object itself, for errors about one that has no identity."""


class LangChainEmbedder:
    """Documents by ``embed_documents``, queries by ``embed_query``; made by :func:`from_langchain`."""

    def __init__(
        self,
        embeddings: Any,
        identity: EmbedderIdentity,
        *,
        max_tokens: int | None = None,
        limits: EmbedderLimits | None = None,
        local: bool = False,
    ) -> None:
        if isinstance(embeddings, type) or not is_embeddings(embeddings):
            # Never the object itself, which may show a key.
            got = embeddings if isinstance(embeddings, type) else type(embeddings)
            raise InvalidInputError(
                "a LangChain Embeddings object with the methods embed_documents(texts) and "
                f"embed_query(text) is needed, got {'the class' if got is embeddings else 'a'} "
                f"{got.__name__}"
            )
        self._embeddings = embeddings
        self._identity = identity
        self.max_tokens = max_tokens
        self.limits = limits if limits is not None else EmbedderLimits()
        self.local = local

    def identity(self) -> EmbedderIdentity:
        """The identity given to :func:`from_langchain`."""
        return self._identity

    def batch_embed(self, texts: Sequence[str]) -> Any:
        """What ``embed_documents`` returns for a list of the texts, unchanged."""
        return self._embeddings.embed_documents(list(texts))

    def embed_query(self, text: str) -> Any:
        """What ``embed_query`` returns, unchanged."""
        return self._embeddings.embed_query(text)

    def __repr__(self) -> str:
        return f"<LangChainEmbedder {self._identity}>"


def from_langchain(
    embeddings: Any,
    model_identity: str,
    version: str = "1",
    dimension: int | None = None,
    normalization: NormalizationPolicy = "l2",
    *,
    max_tokens: int | None = None,
    items: int | None = None,
    concurrency: int = 1,
    local: bool = False,
    preparation: Mapping[str, str] | None = None,
) -> LangChainEmbedder:
    """Turn a LangChain ``Embeddings`` object into an embedder.

    The object does not say which model it is, so that is said here. It stays its owner's: FathomDB
    neither closes it nor shows it, since it may hold a key.

    Args:
        embeddings: Any object with ``embed_documents(texts)`` and ``embed_query(text)``.
        model_identity: The model's name. Vectors of two identities never meet.
        version: The model's version; a new one means new vectors for everything.
        dimension: Numbers in a vector; None learns it from the first batch.
        normalization: ``"l2"`` scales every vector to unit length, ``"none"`` stores it as it is.
        max_tokens: Where the model cuts a text.
        items: How many texts the object likes in one call.
        concurrency: How many calls may run at once; 1 means that it is never entered twice.
        local: True where the object does not use the network.
        preparation: Whatever else changes the vectors: prefixes, pooling, truncation.

    Raises:
        InvalidInputError: The identity is not valid, or the object has not both methods.
    """
    identity = EmbedderIdentity(
        model_identity=model_identity,
        model_version=version,
        dimension=dimension,
        normalization_policy=normalization,
        preparation={} if preparation is None else preparation,
    )
    limits = EmbedderLimits(items=items, concurrency=concurrency)
    return LangChainEmbedder(
        embeddings, identity, max_tokens=max_tokens, limits=limits, local=local
    )


def is_embeddings(candidate: object) -> bool:
    """Whether an object has the methods of LangChain's ``Embeddings``."""
    return all(callable(getattr(candidate, method, None)) for method in METHODS)
