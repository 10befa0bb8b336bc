"""Outages: which errors say that the embedder is away, and how long it asks to be left alone."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, Any

from fathomdb.embedders.retry_after import seconds_asked
from fathomdb.errors import EmbedderUnavailableError

if TYPE_CHECKING:
    from collections.abc import Iterator

MAX_RETRY_AFTER_SECONDS = 3600.0
"""The longest wait that a provider can ask for: a wrong header must not end the work for days."""

_TRANSPORT = (EmbedderUnavailableError, ConnectionError, TimeoutError, socket.gaierror)
_AWAY_STATUS = frozenset({408, 429, *range(500, 600)})


def is_outage(error: BaseException) -> bool:
    """Whether an error blames the embedder, or the way to it, and not a text.

    That is an EmbedderUnavailableError, an error of the transport, an answer of HTTP with the
    status 408, 429 or 5xx, as the clients of HTTP carry it, and what was raised ``from`` one.
    """
    return any(
        isinstance(one, _TRANSPORT) or not _AWAY_STATUS.isdisjoint(_statuses(one))
        for one in _causes(error)
    )


def asked_seconds(error: BaseException, now: float) -> float | None:
    """The wait that an outage asks for; None where it asks for none that can be meant.

    Args:
        error: Its ``retry_after_seconds``, or the header ``Retry-After`` of the answer that it or
            its cause carries: seconds, or a date of HTTP.
        now: Seconds since the epoch, for a date.
    """
    for one in _causes(error):
        asked = _get(one, "retry_after_seconds")
        if asked is None:
            asked = _retry_after(one, now)
        # Not an error: an embedder that reports its outage badly is away all the same.
        if not isinstance(asked, bool) and isinstance(asked, (int, float)) and asked > 0:
            return min(asked, MAX_RETRY_AFTER_SECONDS)
    return None


def _causes(error: BaseException) -> Iterator[BaseException]:
    """The error and what it was raised from, not what was merely being handled meanwhile."""
    seen: set[int] = set()
    one: object = error
    while isinstance(one, BaseException) and id(one) not in seen:
        seen.add(id(one))
        yield one
        reason = _get(one, "reason")  # of urllib's URLError
        one = reason if isinstance(reason, BaseException) else one.__cause__


def _statuses(error: BaseException) -> Iterator[int]:
    for carrier in (error, _get(error, "response")):
        for name in ("status_code", "status"):
            status = _get(carrier, name)
            if isinstance(status, int):
                yield status


def _retry_after(error: BaseException, now: float) -> float | None:
    for carrier in (error, _get(error, "response")):
        get = _get(_get(carrier, "headers"), "get")
        if not callable(get):
            continue
        for name in ("Retry-After", "retry-after"):
            try:
                asked = seconds_asked(str(get(name) or ""), now)
                if asked is not None:
                    return asked
            except Exception:  # noqa: S112 - a header that cannot be read asks for nothing
                continue
    return None


def _get(carrier: object, name: str) -> Any:
    """An attribute of somebody else's exception: one that cannot be had is as good as none."""
    try:
        return getattr(carrier, name, None)
    except BaseException:  # or it would be told instead of the error itself
        return None
