"""Counters of an engine's work, and the signal that tells waiters of progress."""

from __future__ import annotations

import threading
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fathomdb.pipeline.outcome import Tally


@dataclass(slots=True)
class _Totals:
    claimed: int = 0
    applied: int = 0
    discarded: int = 0
    failed: int = 0
    reverted: int = 0
    reused: int = 0
    truncated: int = 0
    embed_calls: int = 0
    embed_seconds: float = 0.0
    outages: int = 0
    outage_seconds: float = 0.0


class Counters:
    """What was done since the file was made; begins at what the file remembers."""

    def __init__(self, stored: dict[str, int | float | str | None]) -> None:
        self._lock = threading.Lock()
        # What is no number cannot be added to; an audit says so, and it begins anew.
        known = {
            name: value
            for name in _Totals.__slots__
            if isinstance(value := stored.get(name), (int, float))
        }
        self._totals = _Totals(**known)  # type: ignore[arg-type]

    def add_tally(self, tally: Tally) -> None:
        """Adds what became of the rows of one claim."""
        with self._lock:
            totals = self._totals
            totals.claimed += tally.claimed
            totals.applied += tally.processed
            totals.discarded += tally.discarded
            totals.failed += tally.failed
            totals.reverted += tally.reverted
            totals.reused += tally.reused

    def add_call(self, seconds: float) -> None:
        """Adds one call of the embedder."""
        with self._lock:
            self._totals.embed_calls += 1
            self._totals.embed_seconds += seconds

    def add_truncated(self, texts: int) -> None:
        """Adds texts that the embedder cut before it embedded them."""
        with self._lock:
            self._totals.truncated += texts

    def add_outage(self) -> None:
        """Counts the beginning of an outage."""
        with self._lock:
            self._totals.outages += 1

    def add_outage_seconds(self, seconds: float) -> None:
        """Adds time that a profile was paused."""
        with self._lock:
            self._totals.outage_seconds += seconds

    def values(self) -> dict[str, int | float]:
        """The counters by name."""
        with self._lock:
            return asdict(self._totals)


class Progress:
    """Wakes who waits whenever something settled or an embedder came or went."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._generation = 0

    def bump(self) -> None:
        """Something changed."""
        with self._changed:
            self._generation += 1
            self._changed.notify_all()

    @property
    def generation(self) -> int:
        """Take it before looking; ``wait`` then misses nothing."""
        with self._changed:
            return self._generation

    def wait(self, generation: int, timeout_seconds: float) -> bool:
        """Waits until something changed after ``generation``; False where time ran out."""
        with self._changed:
            return self._changed.wait_for(
                lambda: self._generation != generation, max(0.0, timeout_seconds)
            )
