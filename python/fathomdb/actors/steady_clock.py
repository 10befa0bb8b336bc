"""SteadyClock: the wall clock of an engine, which is never set back."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fathomdb.config import Clock


class SteadyClock:
    """A clock that never goes back: what is due must not wait until one that was set back catches up."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._latest = clock.now()

    def now(self) -> float:
        """Seconds since the epoch; the latest that was said where the clock says less."""
        with self._lock:
            self._latest = max(self._latest, self._clock.now())
            return self._latest

    def monotonic(self) -> float:
        """Seconds that never go back."""
        return self._clock.monotonic()
