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
