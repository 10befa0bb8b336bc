"""What became of each claimed row, and the sums of it."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Literal, NamedTuple

from fathomdb.records import TickReport

if TYPE_CHECKING:
    from collections.abc import Mapping
    from collections.abc import Set as AbstractSet

    from fathomdb._native import PackedVectors
    from fathomdb.pipeline.claim import Claim
    from fathomdb.store.work import ClaimedRow

DiscardReason = Literal["no_live_chunk", "hash_changed", "not_wanted", "superseded"]
FailureCause = Literal["embedder_error", "dimension", "not_finite", "zero", "not_numeric"]


class Stored(NamedTuple):
    """A vector to apply: row ``place`` of a packed batch, and the hash of the text it is of."""

    row: ClaimedRow
    packed: PackedVectors
    place: int
    content_hash: bytes


@dataclass(frozen=True, slots=True)
class Discarded:
    """A row that nobody wants any more; ``current_hash`` is set where the chunk is owed anew."""

    row: ClaimedRow
    reason: DiscardReason
    current_hash: bytes | None = None


@dataclass(frozen=True, slots=True)
class Charged:
    """A row whose text made the embedder raise: tried again later, until its attempts are used."""

    row: ClaimedRow
    message: str


@dataclass(frozen=True, slots=True)
class Failed:
    """A row that can never succeed: the same model would say the same again."""

    row: ClaimedRow
    cause: FailureCause
    message: str


@dataclass(slots=True)
class BatchOutcome:
    """Everything that one claim came to; a claimed row is in one of the lists at most.

    Rows that are still claimed and in none of them go back to pending with their attempt.
    """

    claim: Claim
    stored: list[Stored] = field(default_factory=list)
    discarded: list[Discarded] = field(default_factory=list)
    charged: list[Charged] = field(default_factory=list)
    suspected: list[Charged] = field(default_factory=list)
    """Rows of a call that could not be split: they keep their attempt, and none fails by it."""
    failed: list[Failed] = field(default_factory=list)
    kinds: AbstractSet[str] = frozenset()
    """The kinds of the rows: which ``error`` is noted for."""
    error: str | None = None

    def without_superseded(self, work_ids: AbstractSet[int]) -> BatchOutcome:
        """The outcome of the rows that are still claimed."""
        return replace(
            self,
            stored=[item for item in self.stored if item.row.work_id in work_ids],
            discarded=[item for item in self.discarded if item.row.work_id in work_ids],
            charged=[item for item in self.charged if item.row.work_id in work_ids],
            suspected=[item for item in self.suspected if item.row.work_id in work_ids],
            failed=[item for item in self.failed if item.row.work_id in work_ids],
        )


@dataclass(slots=True)
class Tally:
    """Sums over claims; ``report`` adds up by construction, since each row is counted once."""

    incremental_processed: int = 0
    backfill_processed: int = 0
    failed: int = 0
    reverted: int = 0
    discard_reasons: Counter[str] = field(default_factory=Counter)
    reused: int = 0
    unavailable_ticks: int = 0

    def add(self, other: Tally) -> None:
        """Adds another tally to this one."""
        self.incremental_processed += other.incremental_processed
        self.backfill_processed += other.backfill_processed
        self.failed += other.failed
        self.reverted += other.reverted
        self.discard_reasons.update(other.discard_reasons)
        self.reused += other.reused
        self.unavailable_ticks += other.unavailable_ticks

    @property
    def discarded(self) -> int:
        """Rows discarded for any reason."""
        return sum(self.discard_reasons.values())

    @property
    def processed(self) -> int:
        """Vectors stored, of both lanes."""
        return self.incremental_processed + self.backfill_processed

    @property
    def claimed(self) -> int:
        """All rows that were claimed and settled."""
        return self.processed + self.failed + self.reverted + self.discarded

    def reasons(self) -> Mapping[str, int]:
        """Discards by reason."""
        return dict(sorted(self.discard_reasons.items()))

    def tick_report(self) -> TickReport:
        """This tally as the report of one tick."""
        return TickReport(
            claimed=self.claimed,
            incremental_processed=self.incremental_processed,
            backfill_processed=self.backfill_processed,
            failed=self.failed,
            discarded_stale=self.discarded,
            reverted=self.reverted,
            discard_reasons=self.reasons(),
            embedder_unavailable=self.unavailable_ticks > 0,
        )
