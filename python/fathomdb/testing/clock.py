"""A clock for tests, moved by hand."""

from __future__ import annotations

import threading


class ManualClock:
    """A clock that stands still until it is told: ``EngineConfig(clock=ManualClock())``.

    Rows fall due and pauses end by ``advance`` alone; it may go back, as a machine's clock does,
    for ``now`` but not for ``monotonic``. Actors look at it when they are woken and at every idle
    poll, which is in real time.
    """

    def __init__(self, now: float = 1_700_000_000.0) -> None:
        self._lock = threading.Lock()
        self._now = now
        self._monotonic = 0.0

    def now(self) -> float:
        """Seconds since the epoch, as it was set."""
        with self._lock:
            return self._now

    def monotonic(self) -> float:
        """Seconds that were advanced in all."""
        with self._lock:
            return self._monotonic

    def advance(self, seconds: float) -> None:
        """Moves the time; a negative number moves ``now`` alone."""
        with self._lock:
            self._now += seconds
            self._monotonic += max(0.0, seconds)
