"""What an embedder is: identity, one method, and a few optional declarations."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from fathomdb.errors import InvalidInputError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fathomdb.identity import EmbedderIdentity


@dataclass(frozen=True, slots=True)
class EmbedderLimits:
    """What an embedder likes in one call; None where it does not care.

    ``items`` is the most texts. ``tokens`` is the most tokens of all texts together, estimated as
    one for every 4 characters, each text rounded up; a text that is longer alone is a call of its
    own. ``concurrency`` is how many calls an engine may run at once; 1 means that the object is
    never entered twice, whatever number of engines share it.
    """

    items: int | None = None
    tokens: int | None = None
    concurrency: int = 1

    def __post_init__(self) -> None:
        for name in ("items", "tokens", "concurrency"):
            value = getattr(self, name)
            if value is not None and (type(value) is not int or value < 1):
                raise InvalidInputError(f"limits.{name} must be 1 or more, got {value!r}")


@runtime_checkable
class Embedder(Protocol):
    """Turns texts into vectors.

    Optional attributes and methods, looked up by name; None counts as absent:

    - ``embed_query(text)``: one vector, shape (dimension,), for models that treat a query unlike a
      document. Without it a query is embedded as a batch of one.
    - ``max_tokens`` and ``count_truncated(texts)``: where the model cuts a text, and how many of
      the texts it cuts.
    - ``limits``: an :class:`EmbedderLimits`.
    - ``local``: True where no network is used; default True.
    - ``plugin_spec``: the ``"name"`` or ``"name:model"`` from which
      :func:`~fathomdb.embedders.registry.resolve` builds the same embedder again.
    - ``interrupt()``: ends what waits inside, for a quota for example. The engine calls it, from
      another thread and with calls inside, before it closes what it built from a name.
    - ``close()``: frees what the embedder holds. The engine calls it, with nothing inside, on what
      it built from a name; an object that was passed in is closed by its owner.
    """

    def identity(self) -> EmbedderIdentity:
        """The model's identity; cheap, and the same for the life of the object."""

    def batch_embed(self, texts: Sequence[str]) -> Any:
        """One vector a text, in order: an (n, dimension) array of f16, f32 or f64, or lists.

        FathomDB calls it with one text or more, never with an empty batch; every text is a
        non-empty string without lone surrogates. A row that is not finite, or all zeros, fails
        alone; a wrong number of rows fails the batch.

        Both methods may be ``async``: the engine awaits what they return on an event loop of its
        own.

        Raise :class:`~fathomdb.errors.EmbedderUnavailableError` for an outage; any other
        exception means that a text of the batch is to blame, and the batch is split to find it.
        """


def limits_of(embedder: Embedder) -> EmbedderLimits:
    """What the embedder declares, or the defaults."""
    declared = getattr(embedder, "limits", None)
    if declared is None:
        return EmbedderLimits()
    if not isinstance(declared, EmbedderLimits):
        raise InvalidInputError(
            f"limits of {embedder.identity()} must be an EmbedderLimits, got {declared!r}"
        )
    return declared
