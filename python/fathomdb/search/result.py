"""What a search returns: hits, what was not visible, and why it was less than asked for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, overload

from fathomdb.records import Freshness, to_plain

Arm = Literal["text", "vector"]
Degraded = Literal["no_embedder", "outage", "building", "change_pending", "kind_not_indexed"]


@dataclass(frozen=True, slots=True)
class Hit:
    """A chunk that was found, with its node.

    ``score`` ranks within one result only: higher is better. ``distance`` is 1 - cosine where the
    vector arm found the chunk, else None. ``arms`` says which arms found it.
    """

    node_id: str
    chunk_id: str
    kind: str
    text: str
    score: float
    distance: float | None
    properties: dict[str, Any] | None
    source_ref: str | None
    arms: tuple[Arm, ...]


@dataclass(frozen=True, slots=True)
class SearchResult(Sequence[Hit]):
    """Hits, best first; a sequence.

    ``degraded`` is None, or why the vector arm saw less than it should have: ``no_embedder``,
    ``outage``, ``building`` (vectors are still owed for what was asked), ``change_pending`` (the
    engine was opened with another model than the file's), ``kind_not_indexed`` (a kind that was
    named, or that has chunks inside the filter, has no vector index). ``reason`` says the same in a
    sentence. ``explanation`` is there where ``explain=True`` asked for it.
    """

    hits: tuple[Hit, ...]
    freshness: Freshness
    degraded: Degraded | None = None
    reason: str | None = None
    explanation: Mapping[str, Any] | None = field(default=None, repr=False)

    @overload
    def __getitem__(self, index: int) -> Hit: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Hit]: ...
    def __getitem__(self, index: int | slice) -> Hit | Sequence[Hit]:
        return self.hits[index]

    def __len__(self) -> int:
        return len(self.hits)

    def __iter__(self) -> Iterator[Hit]:
        return iter(self.hits)

    def to_dicts(self) -> list[dict[str, Any]]:
        """The hits as plain JSON values."""
        return [to_plain(hit) for hit in self.hits]
