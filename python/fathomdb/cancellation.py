"""Cancellation: how a thread that waits hears that nobody wants its answer any more.

What belongs here: the signal. A wait asks :func:`check`, or is woken by
:func:`on_cancel`. A transaction never asks: what has been given to the writer commits or fails.
"""

from __future__ import annotations

import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


class CallCancelledError(BaseException):
    """The call was cancelled. As asyncio's own, it passes every ``except Exception``."""


class Cancellation:
    """One call's signal; set once, from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._callbacks: list[Callable[[], None]] = []
        self.cancelled = False

    def cancel(self) -> None:
        """Wakes whatever the call waits for; idempotent, and waits for nothing."""
        with self._lock:
            self.cancelled = True
            callbacks, self._callbacks = self._callbacks, []
        for callback in callbacks:
            callback()

    @contextmanager
    def governs(self) -> Iterator[None]:
        """What this thread does inside belongs to the call."""
        before = getattr(_here, "cancellation", None)
        _here.cancellation = self
        try:
            yield
        finally:
            _here.cancellation = before

    def _add(self, callback: Callable[[], None]) -> None:
        with self._lock:
            if not self.cancelled:
                self._callbacks.append(callback)
                return
        callback()

    def _remove(self, callback: Callable[[], None]) -> None:
        with self._lock:
            if callback in self._callbacks:
                self._callbacks.remove(callback)


_here = threading.local()


def check() -> None:
    """Ends the call that this thread runs where it was cancelled; elsewhere it does nothing.

    Raises:
        CallCancelledError: It was cancelled.
    """
    current: Cancellation | None = getattr(_here, "cancellation", None)
    if current is not None and current.cancelled:
        raise CallCancelledError


@contextmanager
def on_cancel(callback: Callable[[], None]) -> Iterator[None]:
    """Inside, a cancellation of this thread's call calls back: at once, and on any thread.

    It may still be on its way when the block is left.
    """
    current: Cancellation | None = getattr(_here, "cancellation", None)
    if current is None:
        yield
        return
    current._add(callback)
    try:
        yield
    finally:
        current._remove(callback)
