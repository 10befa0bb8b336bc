"""How many texts go into one call of an embedder, by number and by estimated tokens."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

CHARS_PER_TOKEN = 4
"""What a token is estimated to hold, where nobody counts them: about right for English."""


def estimated_tokens(text: str) -> int:
    """About how many tokens a text has, rounded up."""
    return -(-len(text) // CHARS_PER_TOKEN)


def cut_calls(
    texts: Sequence[str], *, items: int | None = None, tokens: int | None = None
) -> list[tuple[int, int]]:
    """Cuts texts into calls, (start, stop) each, of so many texts and estimated tokens at most.

    None is no limit. A text that has more tokens alone is a call of its own.
    """
    if items is None and tokens is None:
        return [(0, len(texts))] if texts else []
    calls: list[tuple[int, int]] = []
    start = filled = 0
    for n, text in enumerate(texts):
        more = estimated_tokens(text)
        full = (items is not None and n - start >= items) or (
            tokens is not None and filled + more > tokens
        )
        if n > start and full:
            calls.append((start, n))
            start, filled = n, 0
        filled += more
    return [*calls, (start, len(texts))] if texts else []
