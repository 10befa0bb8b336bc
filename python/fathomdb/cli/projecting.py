"""Waiting for vectors: the bar, and draining until nothing is left to try."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fathomdb.cli.bars import Bars
    from fathomdb.engine import Engine
    from fathomdb.records import DrainReport

RETRY_POLL_SECONDS = 0.25
"""How often to look whether a chunk whose vector failed is due again."""


class Projecting:
    """The bar of vectors, while the engine makes them on threads of its own."""

    def __init__(self, db: Engine, bars: Bars) -> None:
        self._db = db
        self._bars = bars
        self._before = self._settled()
        self._failed_before = int(db._runtime.counters.values()["failed"])
        self._owed = self._waiting = db.admin.status().pending
        self._bar = bars.begin("Projecting", "vectors")
        bars.poll = self._draw

    @property
    def done(self) -> int:
        """Chunks that were settled since: projected, failed for good, or not wanted any more."""
        return self._settled() - self._before

    @property
    def failed(self) -> int:
        """Chunks whose vector failed for good since."""
        return int(self._db._runtime.counters.values()["failed"]) - self._failed_before

    def owe(self, chunks: int) -> None:
        """So many chunks were enqueued since the beginning."""
        self._owed = self._waiting + chunks

    def end(self) -> None:
        """Stops the bar where it is."""
        self._bars.poll = None
        self._draw()
        self._bars.stop_task(self._bar)

    def _draw(self) -> None:
        done = self.done
        # A text that was written again before its vector was made is owed once and counted twice.
        owed = max(self._owed, done)
        self._bars.update(self._bar, completed=done, total=owed or None)

    def _settled(self) -> int:
        # Not admin.status(), which counts every row of the file.
        counters = self._db._runtime.counters.values()
        return int(counters["applied"] + counters["failed"] + counters["discarded"])


def settle(db: Engine, timeout: float) -> DrainReport:
    """Drains until nothing waits, not even for another try; the report is of all of it.

    Raises:
        EmbedderNotConfiguredError: There is no embedder to drain with.
    """
    began = time.monotonic()
    total = db.admin.drain_vector_projection(timeout)
    while total.stopped_by == "idle" and total.remaining and timeout:
        left = timeout - (time.monotonic() - began)
        if left <= 0:
            return replace(total, stopped_by="timeout")
        time.sleep(min(RETRY_POLL_SECONDS, left))
        total = _sum(total, db.admin.drain_vector_projection(max(left, RETRY_POLL_SECONDS)))
    return total


def _sum(first: DrainReport, then: DrainReport) -> DrainReport:
    return replace(
        then,
        claimed=first.claimed + then.claimed,
        incremental_processed=first.incremental_processed + then.incremental_processed,
        backfill_processed=first.backfill_processed + then.backfill_processed,
        failed=first.failed + then.failed,
        discarded_stale=first.discarded_stale + then.discarded_stale,
        reverted=first.reverted + then.reverted,
        discard_reasons=Counter(first.discard_reasons) + Counter(then.discard_reasons),
        embedder_unavailable_ticks=first.embedder_unavailable_ticks
        + then.embedder_unavailable_ticks,
        reused=first.reused + then.reused,
        seconds=first.seconds + then.seconds,
    )
