"""BM25 as FTS5 counts it, over chunks that are read: the score of a word that did not select them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

K1, B = 1.2, 0.75
LEAST_WEIGHT = 1e-6
"""Of a word that is in half of all chunks or more: it ranks what is equal otherwise."""


def weight(chunks: int, found_in: int) -> float:
    """What a word that is found in so many of all chunks counts: the rarer the more."""
    found_in = min(found_in, chunks)
    return max(math.log((chunks - found_in + 0.5) / (found_in + 0.5)), LEAST_WEIGHT)


@dataclass(frozen=True, slots=True)
class Word:
    """A word of a query: its tokens as the index has them (one, or trigrams), and its weight."""

    tokens: tuple[str, ...]
    weight: float


class Scorer:
    """Scores chunks for one query.

    Args:
        words: Those of the query.
        average_tokens: Of a chunk of the file.
    """

    def __init__(self, words: Sequence[Word], average_tokens: float) -> None:
        self._words = [(word.tokens[0], word) for word in words]
        self._is_first = {first for first, _ in self._words}.__contains__
        self._average_tokens = average_tokens

    def score(self, tokens: Sequence[str]) -> float:
        """The score of a chunk from the tokens of its text; 0 where it has no word of the query."""
        counts: dict[str, int] = {}
        for token in filter(self._is_first, tokens):  # most tokens are none of them
            counts[token] = counts.get(token, 0) + 1
        long = K1 * (1 - B + B * len(tokens) / self._average_tokens)
        total = 0.0
        for first, word in self._words:
            if first in counts:
                several = len(word.tokens) > 1
                times = _times(tokens, word.tokens) if several else counts[first]
                total += word.weight * times * (K1 + 1) / (times + long)
        return total


def _times(tokens: Sequence[str], phrase: tuple[str, ...]) -> int:
    """How often the tokens of a phrase follow each other."""
    first, length = phrase[0], len(phrase)
    return sum(
        token == first and tuple(tokens[n : n + length]) == phrase for n, token in enumerate(tokens)
    )
