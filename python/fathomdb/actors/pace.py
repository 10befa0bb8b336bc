"""Pace: how many texts the next claim takes, by the time that calls of the embedder took of late."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from fathomdb.config import SLICE_SECONDS, WIDEST_BATCH
from fathomdb.pipeline.claim import BatchSizes

if TYPE_CHECKING:
    from fathomdb.embedders.protocol import EmbedderLimits

FORGETS = 0.75
"""What a call still counts for at the next one: after eight, a tenth."""
SPREAD = 0.25
"""How much the sizes of calls differ, as a share of their mean, before the fixed cost is told from them."""


class Pace:
    """Fits batches to an embedder, so that a slice of backfill takes ``SLICE_SECONDS``; for any thread.

    A call takes a fixed time and a time for each text. The two are told apart where calls differ in
    size; until they do, all of it is taken to be for the texts. A batch is never so small that a
    call is mostly its fixed part, since then even smaller ones would hardly be faster (a network's
    round trip does not shrink), and never larger than declared. It shrinks at once, and grows to at
    most twice its size, by calls of at least half of it: what a fresh text alone takes, times
    hundreds, is a guess.
    """

    def __init__(self, limits: EmbedderLimits) -> None:
        self._lock = threading.Lock()
        self._first = self._sizes = BatchSizes.of(limits)
        self._most = WIDEST_BATCH if limits.items is None else limits.items
        self._fixed_share = 0.0
        # Weighted sums over calls: weight, n, n * n, seconds, n * seconds.
        self._sums = (0.0, 0.0, 0.0, 0.0, 0.0)

    @property
    def sizes(self) -> BatchSizes:
        """Items in the next claim, by lane."""
        return self._sizes

    def note(self, texts: int, seconds: float) -> None:
        """Learns from a call that went well."""
        with self._lock:
            terms = (1.0, texts, texts * texts, seconds, texts * seconds)
            self._sums = tuple(  # type: ignore[assignment]
                FORGETS * before + term for before, term in zip(self._sums, terms, strict=True)
            )
            wanted = self._fitting()
            now = self._sizes.backfill
            widest = 2 * now if 2 * texts >= now else now
            backfill = max(1, min(wanted, widest, self._most))
            # The two lanes keep the ratio that they begin with.
            ratio = self._first.incremental / self._first.backfill
            incremental = min(int(backfill * ratio), self._most)
            self._sizes = BatchSizes(incremental, backfill)

    def _fitting(self) -> int:
        """How many texts a call of ``SLICE_SECONDS`` has."""
        _, n, nn, t, nt = (value / self._sums[0] for value in self._sums)
        variance = nn - n * n
        if t <= 0:
            return self._most
        if variance > (SPREAD * n) ** 2:
            each = min(max((nt - n * t) / variance, 0.0), t / n)
            self._fixed_share = 1 - each * n / t
        fixed = self._fixed_share * t
        each = (t - fixed) / n
        seconds = max(SLICE_SECONDS - fixed, fixed)
        # Where a text costs next to nothing the quotient is no number to make an int of.
        return self._most if seconds >= each * self._most else int(seconds / each)
