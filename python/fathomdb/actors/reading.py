"""Reading: whether callers read just now, for whose sake backfill gives way."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from fathomdb.config import Clock

LULL_SECONDS = 0.02
"""How long after a read the next one is still expected: a search asks its embedder before it reads."""


class Reading:
    """The gets and searches that are under way, as a context for each; for any thread.

    ``rests_until`` is when backfill need not rest for them any more, in monotonic seconds; the
    projector's. It is here and not in a run, which may end before its rest does.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._open = 0
        self._ended_at = float("-inf")
        self.rests_until = float("-inf")

    def rest(self, seconds: float) -> None:
        """Has backfill rest so much longer, from now or from the end of its rest on."""
        self.rests_until = max(self._clock.monotonic(), self.rests_until) + seconds

    def __enter__(self) -> Self:
        with self._lock:
            self._open += 1
        return self

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._open -= 1
            self._ended_at = self._clock.monotonic()

    @property
    def is_on(self) -> bool:
        """Whether someone reads, or did a moment ago."""
        return self._open > 0 or self._clock.monotonic() - self._ended_at < LULL_SECONDS
