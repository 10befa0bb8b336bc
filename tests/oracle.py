"""What the kernels must answer, in plain Python: slow, obvious, used by tests and benches alike."""

from __future__ import annotations

import hashlib
import math
import struct
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence


def canonical_hash(chunk_id: str, text: str) -> bytes:
    return hashlib.sha256(chunk_id.encode() + b"\0" + text.encode()).digest()


def content_hash(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()


def as_f32(number: float) -> float:
    """The nearest 32-bit float, infinite where that overflows."""
    try:
        return struct.unpack("<f", struct.pack("<f", number))[0]
    except OverflowError:
        return math.copysign(math.inf, number)


def fault_of(row: Sequence[float], dimension: int) -> tuple[str, int | None] | None:
    """(cause, column) of the first fault of a row, or None."""
    if len(row) != dimension:
        return "dimension", None
    cast = [as_f32(number) for number in row]
    for column, number in enumerate(cast):
        if not math.isfinite(number):
            return "not_finite", column
    if not any(cast):
        return "zero", None
    return None


def packed(rows: Iterable[Sequence[float]], dimension: int) -> bytes:
    """The blob without normalization: bad rows are zeros."""
    zeros = [0.0] * dimension
    good = (zeros if fault_of(row, dimension) else [as_f32(x) for x in row] for row in rows)
    return b"".join(struct.pack(f"<{dimension}f", *row) for row in good)


def unit(row: Sequence[float]) -> list[float]:
    """The row as f32, scaled to unit length, rounded to f32 once more."""
    cast = [as_f32(number) for number in row]
    norm = math.sqrt(math.fsum(number * number for number in cast))
    return [as_f32(number / norm) for number in cast]


def is_blank(text: str) -> bool:
    """White space alone by Unicode; Python counts four control characters that Unicode does not."""
    return all(letter.isspace() and letter not in "\x1c\x1d\x1e\x1f" for letter in text)


def fault_of_split(
    text: str, chunk_chars: int, pieces: Sequence[tuple[int, int, str]]
) -> str | None:
    """What a split promises and this one breaks, or None. Where to cut is not said here."""
    utf8, end = text.encode(), 0
    for index, (start, stop, piece) in enumerate(pieces):
        if start != end or utf8[start:stop] != piece.encode():
            return f"piece {index} is not the text from where the piece before it ends"
        end = stop
        if is_blank(piece) and len(pieces) > 1:
            return f"piece {index} is white space alone"
        leading = 0
        while index == 0 and leading < len(piece) and is_blank(piece[leading]):
            leading += 1
        trailing = len(piece)
        while trailing > chunk_chars and is_blank(piece[trailing - 1]):
            trailing -= 1
        if trailing - leading > chunk_chars:
            return f"piece {index} is too long by more than its white space"
    return None if end == len(utf8) else "the end of the text is missing"
