"""How many texts a provider takes in one request, learned from what it refuses."""

from __future__ import annotations

import re
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fathomdb.embedders.calls import cut_calls, estimated_tokens

if TYPE_CHECKING:
    from collections.abc import Sequence

_MOST = (
    r"max\w*(?:\W+[a-z]\w*){0,5}?\W{1,3}",
    r"limit(?:\W+[a-z]\w*){0,3}?\W{1,3}",
    r"at most\W{1,3}",
    r"up to\W{1,3}",
    r"(?:larger|more|greater|longer|bigger|fewer|less)(?: or equal)? (?:than|to)\W{1,3}",
    r"exceeds?(?:\W+[a-z]\w*){0,3}?\W{1,3}",
)
_NUMBER = re.compile(
    rf"(?:{'|'.join(_MOST)})([0-9]+)\b(?!\W{{0,2}}(?:token|char|byte))", re.IGNORECASE
)
"""The most of something: "maximum allowed batch size 32", "should not be larger than 10"."""

_OF_TEXTS = re.compile(
    r"batch|inputs|array|list|items|texts|documents|instances|requests", re.IGNORECASE
)


def said_limit(message: str, count: int) -> int | None:
    """The most texts that a refusal of ``count`` texts allows; None where it names no number."""
    if _OF_TEXTS.search(message) is None:
        return None
    said = [int(number) for number in _NUMBER.findall(message) if len(number) < 10]
    return max((number for number in said if 0 < number < count), default=None)


@dataclass(frozen=True, slots=True)
class Size:
    """The most texts and estimated tokens of a request; ``tokens`` None is no limit."""

    items: int
    tokens: int | None

    def cut(self, texts: Sequence[str]) -> list[Sequence[str]]:
        """The texts in requests of this size, in order."""
        calls = cut_calls(texts, items=self.items, tokens=self.tokens)
        return [texts[start:stop] for start, stop in calls]


class BatchLimit:
    """The size of requests that a provider is known to take; safe for any thread.

    A refusal says what is wrong in words only. It may be the size, or one of the texts. A size
    that passed once is not what is wrong; with another one the same texts are tried in smaller
    requests, and if those pass, it was the size.
    """

    def __init__(self, size: Size) -> None:
        self._lock = threading.Lock()
        self._size = size
        self._passed_items = 0
        self._passed_tokens = 0

    @property
    def size(self) -> Size:
        """What requests are made by now."""
        return self._size

    def passed(self, texts: Sequence[str]) -> None:
        """These texts were taken in one request."""
        tokens = sum(map(estimated_tokens, texts))
        with self._lock:
            self._passed_items = max(self._passed_items, len(texts))
            self._passed_tokens = max(self._passed_tokens, tokens)

    def smaller(self, size: Size, texts: Sequence[str], message: str) -> Size | None:
        """The size to try after a refusal of these texts; None where it was not their number."""
        count = len(texts)
        if count == 1:
            return None
        said = said_limit(message, count)
        if said is not None:
            return Size(said, size.tokens)
        tokens = sum(map(estimated_tokens, texts))
        with self._lock:
            if count > self._passed_items:
                return Size(-(-count // 2), size.tokens)
            if tokens > self._passed_tokens:
                return Size(size.items, -(-tokens // 2))
        return None

    def learn(self, size: Size) -> None:
        """All that was refused before passed in requests of this size."""
        with self._lock:
            tokens = [most for most in (self._size.tokens, size.tokens) if most is not None]
            self._size = Size(min(self._size.items, size.items), min(tokens, default=None))
