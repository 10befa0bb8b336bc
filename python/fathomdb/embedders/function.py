"""Any Python function as an embedder: the decorator gives it the identity that it lacks."""

from __future__ import annotations

import functools
import inspect
from typing import TYPE_CHECKING, Any

from fathomdb.embedders.protocol import EmbedderLimits
from fathomdb.errors import InvalidInputError
from fathomdb.identity import EmbedderIdentity, NormalizationPolicy

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

DECORATOR_LINE = '@fathomdb.embedder("acme/e5", version="3", dimension=384, normalization="l2")'
"""The line to write above a function, for errors about a function that has no identity."""


class FunctionEmbedder:
    """A function from texts to vectors, with its identity; made by :func:`embedder`.

    What an async function returns is awaited by the engine, on its own event loop. Calling the object calls the function, so that decorating it changes nothing for its own code.
    """

    def __init__(
        self,
        function: Callable[[Sequence[str]], Any],
        identity: EmbedderIdentity,
        *,
        query: Callable[[str], Any] | None = None,
        max_tokens: int | None = None,
        limits: EmbedderLimits | None = None,
        local: bool = True,
    ) -> None:
        self._function = _checked(function, "the embedding function")
        self._identity = identity
        self.embed_query = None if query is None else _checked(query, "query")
        self.max_tokens = max_tokens
        self.limits = limits if limits is not None else EmbedderLimits()
        self.local = local
        functools.update_wrapper(self, function)

    def identity(self) -> EmbedderIdentity:
        """The identity given to the decorator."""
        return self._identity

    def batch_embed(self, texts: Sequence[str]) -> Any:
        """What the function returns for ``texts``, unchanged: a coroutine, if it is async."""
        return self._function(texts)

    def __call__(self, texts: Sequence[str]) -> Any:
        """What the function returns for ``texts``: the object can be used as the function."""
        return self._function(texts)

    def __repr__(self) -> str:
        return f"<FunctionEmbedder {self._identity}>"


def embedder(
    model_identity: str,
    version: str = "1",
    dimension: int | None = None,
    normalization: NormalizationPolicy = "l2",
    *,
    query: Callable[[str], Any] | None = None,
    max_tokens: int | None = None,
    items: int | None = None,
    tokens: int | None = None,
    concurrency: int = 1,
    local: bool = True,
    preparation: Mapping[str, str] | None = None,
) -> Callable[[Callable[[Sequence[str]], Any]], FunctionEmbedder]:
    """Turn a function of a sequence of texts, plain or async, into an embedder.

    The function returns one vector a text, in order: an (n, dimension) array of f16, f32 or f64,
    or lists. It raises :class:`~fathomdb.errors.EmbedderUnavailableError` for an outage.

    An async function is awaited on one event loop, which the engine owns: all calls share it, so a
    client that is made in the first of them serves them all. Its ``concurrency`` is how many are
    awaited at once; a call that takes too long, and what still runs at close, is cancelled.

    Args:
        model_identity: The model's name. Vectors of two identities never meet.
        version: The model's version; a new one means new vectors for everything.
        dimension: Numbers in a vector; None learns it from the first batch.
        normalization: ``"l2"`` scales every vector to unit length, ``"none"`` stores it as it is.
        query: A function of one text, plain or async, for models that treat a query unlike a
            document.
        max_tokens: Where the model cuts a text.
        items: How many texts the function likes in one call.
        tokens: How many tokens of all texts together it likes in one call, estimated as one for
            every 4 characters.
        concurrency: How many calls may run at once; 1 means that it is never entered twice.
        local: False where the function uses the network.
        preparation: Whatever else changes the vectors: prefixes, pooling, truncation.

    Returns:
        A decorator that makes a :class:`FunctionEmbedder`.

    Raises:
        InvalidInputError: The identity is not valid, or what is decorated is not a function.
    """
    if callable(model_identity):
        raise InvalidInputError(f"the decorator needs the model's identity: {DECORATOR_LINE}")
    identity = EmbedderIdentity(
        model_identity=model_identity,
        model_version=version,
        dimension=dimension,
        normalization_policy=normalization,
        preparation={} if preparation is None else preparation,
    )
    limits = EmbedderLimits(items=items, tokens=tokens, concurrency=concurrency)

    def decorate(function: Callable[[Sequence[str]], Any]) -> FunctionEmbedder:
        return FunctionEmbedder(
            function, identity, query=query, max_tokens=max_tokens, limits=limits, local=local
        )

    return decorate


def _checked(function: Callable[..., Any], name: str) -> Callable[..., Any]:
    if not callable(function) or inspect.isasyncgenfunction(function):
        raise InvalidInputError(
            f"{name} must be a function, plain or async, that returns, got {function!r}"
        )
    return function
