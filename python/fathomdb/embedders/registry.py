"""From what a user passes as ``embedder=`` to an Embedder: objects, and plugins by name."""

from __future__ import annotations

import inspect
from importlib.metadata import EntryPoint, entry_points
from typing import TYPE_CHECKING, Any

from fathomdb.embedders.function import DECORATOR_LINE
from fathomdb.embedders.langchain import WRAPPING_LINE, is_embeddings
from fathomdb.errors import InvalidInputError, MissingExtraError
from fathomdb.identity import EmbedderIdentity

if TYPE_CHECKING:
    from collections.abc import Callable

    from fathomdb.embedders.protocol import Embedder

ENTRY_POINT_GROUP = "fathomdb.embedders"
"""A plugin is an entry point of this group: a factory, called with nothing or ``model=`` a string."""


def resolve(spec: object) -> Embedder:
    """The embedder that ``spec`` means.

    Args:
        spec: An object that follows :class:`~fathomdb.embedders.protocol.Embedder`, returned as it
            is, or the name of an installed plugin: ``"name"`` or ``"name:model"``.

    Raises:
        InvalidInputError: No such plugin (the message lists those there are), a plain function
            or a LangChain object without an identity (the message has the line that gives it one),
            or anything else.
        MissingExtraError: The plugin is known, but what it needs is not installed.
    """
    if isinstance(spec, str):
        return _checked(_build(spec), f"what the embedder plugin {spec!r} made")
    return _checked(spec, "embedder")


def spec_of(embedder: Embedder) -> str | None:
    """The string from which :func:`resolve` builds this embedder again, or None.

    This is what a database file may remember, so it is None for everything that is not a local
    plugin: a remote embedder, one with a URL in its model, a function, an object.
    """
    spec = getattr(embedder, "plugin_spec", None)
    if not isinstance(spec, str) or not is_local(embedder) or "://" in spec:
        return None
    return spec


def is_local(embedder: Embedder) -> bool:
    """Whether the embedder works without a network; one that does not say so does."""
    return bool(getattr(embedder, "local", True))


def available() -> tuple[str, ...]:
    """The names of the installed plugins, sorted."""
    return tuple(sorted({point.name for point in entry_points(group=ENTRY_POINT_GROUP)}))


def _build(spec: str) -> object:
    name, separator, model = spec.partition(":")
    if separator and not model:
        raise InvalidInputError(f"embedder {spec!r} has a colon and no model after it")
    factory = _load(_find(name))
    arguments = {"model": model} if separator else {}
    try:
        inspect.signature(factory).bind(**arguments)
    except TypeError as error:
        wanted = "takes no model" if separator else f'needs a model: "{name}:<model>"'
        raise InvalidInputError(f"the embedder plugin {name!r} {wanted}") from error
    return factory(**arguments)


def _find(name: str) -> EntryPoint:
    found = {point.value: point for point in entry_points(group=ENTRY_POINT_GROUP, name=name)}
    if not found:
        there = ", ".join(available()) or "none"
        raise InvalidInputError(f"no embedder plugin is named {name!r}; there are: {there}")
    if len(found) > 1:
        raise InvalidInputError(
            f"several installed packages have an embedder plugin named {name!r}: "
            f"{', '.join(sorted(found))}; uninstall all but one, or pass the object"
        )
    return next(iter(found.values()))


def _load(point: EntryPoint) -> Callable[..., object]:
    try:
        factory = point.load()
    except MissingExtraError:
        raise
    except (ImportError, AttributeError) as error:
        raise MissingExtraError(
            f"the embedder plugin {point.name!r} ({point.value}) cannot be imported: {error}"
        ) from error
    if not callable(factory):
        raise InvalidInputError(
            f"the embedder plugin {point.name!r} ({point.value}) is not a factory: {factory!r}"
        )
    return factory  # type: ignore[no-any-return]


def _checked(candidate: Any, what: str) -> Embedder:
    if isinstance(candidate, type):
        raise InvalidInputError(
            f"{what} must be an object, got the class {candidate.__name__}; "
            f"write {candidate.__name__}(...)"
        )
    if not callable(getattr(candidate, "batch_embed", None)):
        if is_embeddings(candidate):
            raise InvalidInputError(
                f"{what} is a LangChain {type(candidate).__name__}, which does not say which model "
                f"it is; wrap it: {WRAPPING_LINE}"
            )
        if callable(candidate):
            name = getattr(candidate, "__name__", repr(candidate))
            raise InvalidInputError(
                f"{what} is the function {name}, which does not say which model it is; "
                f"write this line above it: {DECORATOR_LINE}"
            )
        raise InvalidInputError(
            f"{what} must be the name of a plugin or an object with identity() and "
            f"batch_embed(texts), got {candidate!r}"
        )
    if not callable(getattr(candidate, "identity", None)):
        raise InvalidInputError(f"{what} has batch_embed() but no identity(): {candidate!r}")
    identity = candidate.identity()
    if not isinstance(identity, EmbedderIdentity):
        raise InvalidInputError(
            f"identity() of {candidate!r} must return an EmbedderIdentity, got {identity!r}"
        )
    return candidate  # type: ignore[no-any-return]
