"""What became of each claimed row, and the sums of it."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Literal, NamedTuple

from fathomdb.pipeline.embed import describe
from fathomdb.records import TickReport

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from collections.abc import Set as AbstractSet

    from fathomdb._native import PackedVectors
    from fathomdb.pipeline.claim import Claim
    from fathomdb.pipeline.embed import EmbedOutcome
    from fathomdb.pipeline.verify import Verified
    from fathomdb.store.work import ClaimedRow

DiscardReason = Literal["no_live_chunk", "hash_changed", "not_wanted", "superseded"]
FailureCause = Literal[
    "embedder_error", "dimension", "not_finite", "zero", "not_numeric", "process_died", "no_vector"
]


NO_VECTOR = (
    "the active model takes ready vectors only and this text came without one; write the chunk "
    "again with its vector"
)


class Stored(NamedTuple):
    """A vector to apply: row ``place`` of a packed batch, and the hash of the text it is of.

    ``reused`` says that it was found, and not embedded for this claim.
    """

    row: ClaimedRow
    packed: PackedVectors
    place: int
    content_hash: bytes
    reused: bool = False


@dataclass(frozen=True, slots=True)
class Columns:
    """Vectors of one kind and one packed batch, by column, as they are bound to statements."""

    kind: str
    packed: PackedVectors
    work_ids: Sequence[int]
    chunk_keys: Sequence[int]
    vectors: memoryview
    """The rows, packed, in this order; no copy of the batch where they lie so in it."""
    canonical_hashes: bytes
    content_hashes: Sequence[bytes]
    reused: int
    """How many cost no embed call: found, or of the same text as another."""

    @classmethod
    def of(cls, stored: Iterable[Stored]) -> list[Columns]:
        """The columns of these vectors, for each kind and packed batch that they are of."""
        parts: dict[tuple[str, int], list[Stored]] = {}
        for item in stored:
            parts.setdefault((item.row.kind, id(item.packed)), []).append(item)
        columns = []
        embedded: set[tuple[int, int]] = set()  # two kinds may share a row of one batch
        for (kind, batch), items in parts.items():
            rows, packed, places, content_hashes, reused = zip(*items, strict=True)
            before = len(embedded)
            embedded.update(
                (batch, place) for place, found in zip(places, reused, strict=True) if not found
            )
            columns.append(
                cls(
                    kind,
                    packed[0],
                    [row.work_id for row in rows],
                    [row.chunk_key for row in rows],
                    _in_order(packed[0], places),
                    b"".join([row.canonical_hash for row in rows]),
                    content_hashes,
                    len(items) - (len(embedded) - before),
                )
            )
        return columns


def _in_order(packed: PackedVectors, places: Sequence[int]) -> memoryview:
    row_bytes = 4 * packed.dimension
    blob = memoryview(packed.blob)
    first = places[0]
    if places == tuple(range(first, first + len(places))):
        return blob[first * row_bytes : (first + len(places)) * row_bytes]
    return memoryview(b"".join([blob[n * row_bytes : (n + 1) * row_bytes] for n in places]))


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
    columns: Sequence[Columns] | None = None
    """``stored`` by column, where it was arranged before it came to the writer."""

    def arrange(self) -> None:
        """Puts what is stored in columns: the writer's time is dearer than anybody else's."""
        self.columns = Columns.of(self.stored)

    def without_vectors(self) -> BatchOutcome:
        """What is to be kept of a claim whose vectors could not be stored: who failed, and how."""
        return replace(self, stored=[], columns=None)

    def without_superseded(self, work_ids: AbstractSet[int]) -> BatchOutcome:
        """The outcome of the rows that are still claimed."""
        return replace(
            self,
            stored=[item for item in self.stored if item.row.work_id in work_ids],
            columns=None,
            discarded=[item for item in self.discarded if item.row.work_id in work_ids],
            charged=[item for item in self.charged if item.row.work_id in work_ids],
            suspected=[item for item in self.suspected if item.row.work_id in work_ids],
            failed=[item for item in self.failed if item.row.work_id in work_ids],
        )


def learned_dimension(embedded: EmbedOutcome) -> int | None:
    """The dimension that an embedder turns out to have; None where its rows do not tell.

    It is for good, so it is what more than half of the good rows have: what is wrong with a bad row
    may be its length, and one text that makes a model answer at another length is one of many.
    """
    bad = _bad_rows(embedded)
    found = Counter(
        packed.dimension for packed, n in embedded.vectors.values() if (id(packed), n) not in bad
    )
    dimension, rows = max(found.items(), key=lambda item: item[1], default=(None, 0))
    return dimension if 2 * rows > found.total() else None


def of_batch(
    claim: Claim, verified: Verified, embedded: EmbedOutcome, dimension: int | None
) -> BatchOutcome:
    """What becomes of each row of a claim."""
    outcome = BatchOutcome(
        claim,
        discarded=[*verified.discarded],
        kinds={row.kind for row in verified.rows},
    )
    bad = _bad_rows(embedded)
    for packed in _packed(embedded):
        if dimension is not None and packed.dimension != dimension:
            detail = f"{packed.dimension} numbers, the model has {dimension}"
            bad.update(((id(packed), n), ("dimension", detail)) for n in range(packed.count))
    for place, row in enumerate(verified.rows):
        if place in embedded.errors:
            outcome.charged.append(Charged(row, embedded.errors[place]))
        elif place in embedded.suspects:
            outcome.suspected.append(Charged(row, embedded.suspects[place]))
        elif place in embedded.missing:
            outcome.failed.append(Failed(row, "no_vector", NO_VECTOR))
        elif place in embedded.vectors:
            packed, n = embedded.vectors[place]
            if bad and (id(packed), n) in bad:
                outcome.failed.append(Failed(row, *bad[id(packed), n]))
            elif dimension is None:
                said = f"{packed.dimension} numbers, and as many rows of the batch have others"
                outcome.charged.append(Charged(row, said))
            else:
                content_hash, reused = verified.content_hashes[place], place in embedded.reused
                outcome.stored.append(Stored(row, packed, n, content_hash, reused))
    messages = [item.message for item in outcome.failed]
    messages.extend(item.message for item in outcome.charged)
    if embedded.outage is not None:
        outcome.error = describe(embedded.outage)
    elif messages:
        outcome.error = messages[0]
    return outcome


def _packed(embedded: EmbedOutcome) -> Iterable[PackedVectors]:
    return {id(packed): packed for packed, _ in embedded.vectors.values()}.values()


def _bad_rows(embedded: EmbedOutcome) -> dict[tuple[int, int], tuple[FailureCause, str]]:
    """Cause and detail of the bad rows of each packed batch, by its id and their place in it."""
    return {
        (id(packed), n): (cause, detail)
        for packed in _packed(embedded)
        for n, _, cause, detail in packed.bad
    }


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
    flipped: int = 0
    """Kinds whose new index answers since."""

    def add(self, other: Tally) -> None:
        """Adds another tally to this one."""
        self.incremental_processed += other.incremental_processed
        self.backfill_processed += other.backfill_processed
        self.failed += other.failed
        self.reverted += other.reverted
        self.discard_reasons.update(other.discard_reasons)
        self.reused += other.reused
        self.unavailable_ticks += other.unavailable_ticks
        self.flipped += other.flipped

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
            reused=self.reused,
            embedder_unavailable=self.unavailable_ticks > 0,
        )
