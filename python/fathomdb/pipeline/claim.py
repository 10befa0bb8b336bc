"""Stage 2, claim: pending and due rows of one profile become inflight, fresh work first."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from fathomdb.config import BACKFILL_SLICE, INCREMENTAL_BATCH
from fathomdb.store import erasure, work

if TYPE_CHECKING:
    from fathomdb.embedders.protocol import EmbedderLimits
    from fathomdb.store.transaction import Transaction


@dataclass(frozen=True, slots=True)
class BatchSizes:
    """Items in a claim, by lane."""

    incremental: int
    backfill: int

    @classmethod
    def of(cls, limits: EmbedderLimits) -> BatchSizes:
        """What the embedder declares, or the engine's defaults: what its batches begin with."""
        if limits.items is None:
            return cls(INCREMENTAL_BATCH, BACKFILL_SLICE)
        return cls(limits.items, limits.items)


@dataclass(frozen=True, slots=True)
class Claim:
    """Rows that are inflight under one fence, all of one lane; how many there were.

    ``may_wait`` is backfill that was claimed when nothing fresh was due: fresh work that comes
    before it is embedded goes first. Backfill whose turn it was beside fresh work keeps its turn.
    ``erasures`` is how many there were: after another, what is said of the rows may quote too much.
    """

    fence: int
    profile_id: int
    incremental: bool
    count: int
    may_wait: bool = False
    erasures: int = 0


ALONE_AFTER = 2
"""Attempts after which a row is claimed alone."""

Lanes = tuple[bool, ...]
"""The lanes that are looked at, in order: True is incremental, False backfill."""
FRESH_FIRST: Lanes = (True, False)
BACKFILL_FIRST: Lanes = (False, True)
FRESH_ONLY: Lanes = (True,)


def claim(
    tx: Transaction, profile_id: int, sizes: BatchSizes, now_ms: int, lanes: Lanes = FRESH_FIRST
) -> Claim:
    """Claims from the first of the lanes that has due work, and from that one alone.

    So a tick never makes fresh work wait for more than one slice of old. Rows that were tried
    before are claimed apart from the others and in ever smaller batches, so that whoever hangs or
    dies of one of them is soon known to do so of that one alone. Of those with which a process died
    the last such batch, a single row, is the only one inflight: at the next open it is known for
    certain which one was being embedded. So a claim may find nothing until what is inflight is
    settled.
    """
    inflight = work.inflight(tx.db)
    if len(inflight) == 1 and _must_be_alone(inflight[0].attempts - 1, died=inflight[0].died):
        return Claim(0, profile_id, True, 0)
    for incremental in lanes:
        # A look first: an idle queue must not cost a fence, and with it a write, every poll.
        due = work.first_due(tx.db, profile_id, incremental=incremental, now_ms=now_ms)
        if due is None:
            continue
        attempts = due.attempts
        tx.contents.read(tx.db)  # before anyone asks what has a vector already
        if inflight and _must_be_alone(attempts, died=due.died):
            # Nothing else either, or what must be alone would wait for ever.
            return Claim(0, profile_id, True, 0)
        fence = tx.fence()
        count = work.claim(
            tx.db,
            profile_id,
            incremental=incremental,
            limit=_smaller(sizes.incremental if incremental else sizes.backfill, attempts),
            attempts=attempts,
            fence=fence,
            now_ms=now_ms,
        )
        may_wait = not incremental and not work.has_due(
            tx.db, profile_id, incremental=True, now_ms=now_ms
        )
        return Claim(fence, profile_id, incremental, count, may_wait, erasure.count(tx.db))
    return Claim(0, profile_id, True, 0)


def _smaller(size: int, attempts: int) -> int:
    """Items in a claim of rows that were tried so often already: alone from the third time."""
    return (size, max(1, size // 8), 1)[min(attempts, ALONE_AFTER)]


def _must_be_alone(attempts: int, *, died: bool) -> bool:
    """Whether a row that was tried so often already is claimed with nothing else inflight."""
    return died and attempts >= ALONE_AFTER
