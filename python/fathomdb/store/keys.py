"""Lists of keys as one bound parameter, so that a batch is one statement whatever its size."""

from __future__ import annotations

from array import array
from typing import TYPE_CHECKING, Any

import apsw

if TYPE_CHECKING:
    from collections.abc import Iterable


def ints(values: Iterable[int]) -> Any:
    """Integers for ``carray(?)``; an empty list becomes NULL, which is an empty table."""
    packed = array("q", values)
    return apsw.carray(packed) if packed else None


def blobs(values: Iterable[bytes]) -> Any:
    """Byte strings for ``carray(?)``; an empty list becomes NULL, which is an empty table."""
    packed = tuple(values)
    return apsw.carray(packed) if packed else None


def texts(values: Iterable[str]) -> Any:
    """Strings for ``carray(?)``; an empty list becomes NULL, which is an empty table."""
    packed = tuple(values)
    return apsw.carray(packed) if packed else None
