"""Embedders that misbehave, by a script."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np

from fathomdb.embedders.protocol import Embedder, limits_of
from fathomdb.embedders.registry import is_local
from fathomdb.errors import InvalidInputError
from fathomdb.testing.embedders import embed_query

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Iterable, Sequence

    from numpy.typing import NDArray

    from fathomdb.identity import EmbedderIdentity

Damage = Literal[
    "nan", "infinity", "overflow", "zero", "too_few", "too_many", "wrong_dimension", "not_numbers"
]
"""What can be wrong with a result. The first four are in the rows of the texts that a fault names;
``overflow`` is finite as a 64-bit float and infinite as a 32-bit one. The others are in the shape."""

_ROW_DAMAGE = {"nan": np.nan, "infinity": np.inf, "overflow": 1e300, "zero": 0.0}


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that goes wrong, and when: every condition that is given must hold.

    Args:
        effect: An exception, raised; the name of a damage, done to the result; or a function of
            the good result (a float64 array), and the numbers of the rows meant, which returns
            what the embedder is to return.
        texts: The texts that are poison: those with this substring, or that satisfy this function.
        calls: The numbers of the calls that go wrong, the first one being 1.
    """

    effect: BaseException | Damage | Callable[[NDArray[np.float64], list[int]], Any]
    texts: str | Callable[[str], bool] | None = None
    calls: Container[int] | None = None

    def __post_init__(self) -> None:
        known = isinstance(self.effect, BaseException) or callable(self.effect)
        if not known and self.effect not in get_args(Damage):
            raise InvalidInputError(
                f"effect must be an exception, a function or one of {get_args(Damage)}, "
                f"got {self.effect!r}"
            )

    def rows(self, call: int, texts: Sequence[str]) -> list[int]:
        """The rows it strikes in this call; empty where it does not strike."""
        if self.calls is not None and call not in self.calls:
            return []
        if self.texts is None:
            return list(range(len(texts)))
        if isinstance(self.texts, str):
            poison = self.texts
            return [row for row, text in enumerate(texts) if poison in text]
        return [row for row, text in enumerate(texts) if self.texts(text)]


class FlakyEmbedder:
    """Goes wrong by a script, and is ``inner`` otherwise.

    ``script`` may be changed between calls (an outage ends with ``flaky.script = ()``). ``calls``
    counts every call, queries and probes included.

    Example:
        >>> flaky = FlakyEmbedder(
        ...     DeterministicEmbedder(),
        ...     [
        ...         Fault(EmbedderUnavailableError("down"), calls=range(1, 4)),
        ...         Fault("nan", texts="poison"),
        ...     ],
        ... )
    """

    def __init__(self, inner: Embedder, script: Iterable[Fault] = ()) -> None:
        self.inner = inner
        self.script: Sequence[Fault] = tuple(script)
        self.calls = 0
        self.limits = limits_of(inner)
        self.local = is_local(inner)
        self._counting = threading.Lock()

    def identity(self) -> EmbedderIdentity:
        """The identity of ``inner``."""
        return self.inner.identity()

    def batch_embed(self, texts: Sequence[str]) -> Any:
        """What ``inner`` returns, after the first fault of the script that strikes."""
        return self._suffer(texts, lambda: self.inner.batch_embed(texts))

    def embed_query(self, text: str) -> Any:
        """The same for a query: a result of one row, less the batch."""
        result = self._suffer([text], lambda: [embed_query(self.inner, text)])
        return result[0] if len(result) else result

    def _suffer(self, texts: Sequence[str], embed: Callable[[], Any]) -> Any:
        with self._counting:
            self.calls += 1
            call = self.calls
        for fault in self.script:
            rows = fault.rows(call, texts)
            if not rows:
                continue
            if isinstance(fault.effect, BaseException):
                raise fault.effect
            good = np.array(embed(), dtype=np.float64)
            if callable(fault.effect):
                return fault.effect(good, rows)
            return _damaged(fault.effect, good, rows)
        return embed()


def _damaged(damage: Damage, good: NDArray[np.float64], rows: list[int]) -> Any:
    if damage in _ROW_DAMAGE:
        # NaN, infinity and the like in one column are enough; a zero vector is zero in all.
        columns = slice(None) if damage == "zero" else good.shape[1] - 1
        good[rows, columns] = _ROW_DAMAGE[damage]
        return good
    if damage == "too_few":
        return good[:-1]
    if damage == "too_many":
        return np.concatenate([good, good[:1]])
    if damage == "wrong_dimension":
        return good[:, :-1]
    return [["not", "numbers"]] * len(good)
