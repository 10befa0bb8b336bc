"""Frozen dataclasses that three rooms or more share: what goes in, and what comes back.

What belongs here: values without behaviour, with the units in their names.
What does not: checking them (``pipeline/prepare.py``) and storing them (``store``).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

Properties = Mapping[str, Any]
DrainProgress = Callable[[int, int], None]
"""Called with (processed, remaining) chunks after each batch of a drain."""
StoppedBy = Literal["idle", "timeout", "unavailable", "cancelled"]


@dataclass(frozen=True, slots=True)
class Chunk:
    """A piece of a node's text that the caller cut; ``chunk_id`` defaults to ``<node_id>#<n>``.

    ``vector`` is a ready vector of the active model's dimension, shape (dimension,): numbers in a
    list or an array of f16, f32 or f64. It is stored with the text, and nothing is embedded.
    """

    text: str
    chunk_id: str | None = None
    vector: Any = field(default=None, repr=False, compare=False)


@dataclass(frozen=True, slots=True)
class Node:
    """A canonical record to write.

    Give ``text`` and it is cut into chunks of the kind's ``chunk_chars``; give ``chunks`` and they
    are taken as they are; give neither and it is a record without text. ``properties`` is a JSON
    object, ``source_ref`` names where the record came from.
    """

    kind: str
    node_id: str
    text: str | None = None
    properties: Properties | None = None
    source_ref: str | None = None
    chunks: Iterable[Chunk | str] | None = None


@dataclass(frozen=True, slots=True)
class Columns:
    """Records of one kind, by column: arrays of Arrow, of ``rows`` rows each.

    An id is its columns joined by ``/``, or is made of kind and text: where there is no column, and
    where it ``is_optional`` and the row has no value. A text is its columns joined by a blank line.
    ``keys`` are the names of ``properties`` as JSON; the texts of a column that ``are_json`` are
    values and no strings. ``vectors``, shape (len(vector_rows), dimension), are ready ones of those
    rows. Arrays are null, boolean, int64, uint64, float64 or large_string.
    """

    rows: int
    kind: str
    source_ref: str | None
    ids: list[Any]
    id_is_optional: bool
    texts: list[Any]
    text_bytes: int
    keys: list[str]
    properties: list[Any]
    are_json: list[bool]
    vectors: Any = None
    vector_rows: list[int] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class ChunkRecord:
    """A live chunk; ``byte_start`` and ``byte_end`` are UTF-8 offsets in the node's text.

    They are None where the caller cut the chunks. ``canonical_hash`` is lowercase hex.
    """

    chunk_id: str
    text: str
    canonical_hash: str
    byte_start: int | None
    byte_end: int | None


@dataclass(frozen=True, slots=True)
class NodeRecord:
    """A live node as it is stored; ``text`` is None where the caller cut the chunks."""

    kind: str
    node_id: str
    text: str | None
    properties: dict[str, Any] | None
    source_ref: str | None
    chunks: tuple[ChunkRecord, ...]
    cursor: int


@dataclass(frozen=True, slots=True)
class WriteReceipt:
    """What one write did; it is durable when this is returned.

    ``written``, ``unchanged`` and ``retired`` count nodes, ``chunks`` those that were stored new or
    changed, ``enqueued`` the vectors now owed for them. ``chunk_ids`` are the live chunks of the
    nodes in the request, unchanged ones included: what ``wait`` waits for.
    """

    cursor: int
    written: int
    unchanged: int
    retired: int
    chunks: int
    enqueued: int
    chunk_ids: tuple[str, ...] = field(repr=False)


@dataclass(frozen=True, slots=True)
class ErasureReceipt:
    """What an erasure removed, in rows; durable when this is returned.

    ``sha256`` has the SHA-256 (lowercase hex) of each node_id or source_ref that was asked for, as
    the tombstones have it. ``nodes`` were live, ``versions`` counts all rows of nodes. All numbers
    are 0 where nothing was there. ``cached`` vectors of texts that were gone before went too: all
    that were kept, since whose they were is not known. ``shared`` is how many vectors stay because
    another node or source has the very same text. ``erased_at`` is in seconds since 1970. Where ``wal_pending`` is
    True a reader still needs pages from before in the write-ahead log: the next commit, or open for
    writing, after it has finished removes them, and ``admin.status().erasure_pending`` says whether
    it has. ``out_of_reach`` says what no erasure reaches, and ``upgrade_exports`` names those
    exports that an upgrade left beside the file.
    """

    what: Literal["node", "source"]
    sha256: tuple[str, ...]
    nodes: int
    versions: int
    chunks: int
    vectors: int
    work: int
    cursor: int
    erased_at: float
    wal_pending: bool
    cached: int = 0
    shared: int = 0
    out_of_reach: str = (
        "exports, backups and copies made before, results that programs hold, and what the file "
        "system or the disk keeps of overwritten blocks"
    )
    upgrade_exports: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class TickReport:
    """One claim-to-apply round, in rows; ``claimed`` is always the sum of the other counts.

    ``reverted`` rows went back to pending: by an outage, or to be tried again later.
    ``discard_reasons`` breaks ``discarded_stale`` down. ``reused`` is how many of the processed rows
    cost no embed call, as in a DrainReport.
    """

    claimed: int = 0
    incremental_processed: int = 0
    backfill_processed: int = 0
    failed: int = 0
    discarded_stale: int = 0
    reverted: int = 0
    discard_reasons: Mapping[str, int] = field(default_factory=dict)
    embedder_unavailable: bool = False
    reused: int = 0

    @property
    def processed(self) -> int:
        """Vectors stored, of both lanes."""
        return self.incremental_processed + self.backfill_processed


@dataclass(frozen=True, slots=True)
class DrainReport:
    """What a drain did; ``claimed`` is always the sum of the five counts that follow it.

    ``reused`` is how many of the processed rows needed no embed call of their own: an identical text
    has a vector, had one not long ago, or was just being embedded. ``remaining`` rows are not failed and not yet projected.
    """

    claimed: int
    incremental_processed: int
    backfill_processed: int
    failed: int
    discarded_stale: int
    reverted: int
    discard_reasons: Mapping[str, int]
    embedder_unavailable_ticks: int
    reused: int
    remaining: int
    stopped_by: StoppedBy
    seconds: float

    @property
    def processed(self) -> int:
        """Vectors stored, of both lanes."""
        return self.incremental_processed + self.backfill_processed


@dataclass(frozen=True, slots=True)
class WaitReport:
    """How far the vectors of a write are; ``reason`` says why nothing can make progress."""

    complete: bool
    projected: int
    failed: int
    pending: int
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class Freshness:
    """What a search could not see yet, inside its filter.

    ``cursor`` is the canonical commit that the search saw. ``pending`` and ``failed`` count the
    chunks that matched the filter and had no vector; ``exact`` is False where more work waits than
    a search counts, and ``pending`` is then the least that it can be.
    """

    cursor: int
    pending: int
    failed: int
    exact: bool = True


def to_plain(record: Any) -> dict[str, Any]:
    """A record as plain JSON values."""
    plain: dict[str, Any] = _plain(asdict(record))
    return plain


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return value
