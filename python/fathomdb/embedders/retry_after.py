"""What a provider asks for when it says how long to wait: the header ``Retry-After``."""

from __future__ import annotations

import re
from email.utils import parsedate_to_datetime

_SECONDS = re.compile(r"[0-9]+(\.[0-9]+)?")


def seconds_asked(header: str, now: float) -> float | None:
    """The wait that ``Retry-After`` asks for; None where it cannot be read.

    Args:
        header: Seconds, or a date of HTTP.
        now: Seconds since the epoch, for a date; one that is past gives a negative wait.
    """
    said = header.strip()
    if _SECONDS.fullmatch(said):
        return float(said)
    try:
        return parsedate_to_datetime(said).timestamp() - now
    except (ValueError, OverflowError):
        return None
