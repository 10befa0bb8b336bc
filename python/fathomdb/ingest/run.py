"""The loop of an ingest: read, map, write in batches, count, and prune at the end."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, closing
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import TYPE_CHECKING, Literal, NamedTuple

from fathomdb import cancellation
from fathomdb.errors import InvalidInputError
from fathomdb.ingest.report import (
    MAX_KEPT_ERRORS,
    IngestError,
    IngestProgress,
    IngestReport,
    Progress,
)
from fathomdb.records import Chunk, Node, WriteReceipt
from fathomdb.store import nodes

if TYPE_CHECKING:
    from fathomdb.ingest.mapping import ToNode
    from fathomdb.ingest.stream import Item, RecordStream
    from fathomdb.store.connection import Connection

OnError = Literal["raise", "collect"]

MAX_BATCH_CHARS = 4 * 1024 * 1024
"""Text in a batch at most, so that memory and the time of a commit are bounded for long texts."""
RETIRED_AT_ONCE = 1024


@dataclass(frozen=True, slots=True)
class Target:
    """What an ingest needs of an engine."""

    write: Callable[[list[Node]], WriteReceipt]
    retire: Callable[[Callable[[Connection], list[str]]], WriteReceipt]
    snapshot: Callable[[], AbstractContextManager[Connection]]
    monotonic: Callable[[], float]


@dataclass(frozen=True, slots=True)
class Options:
    """How an ingest goes; checked when made.

    ``kind`` narrows what is pruned.
    """

    kind: str | None
    on_error: OnError
    prune_source: str | None
    batch_size: int
    progress: Progress | None

    def __post_init__(self) -> None:
        if self.on_error not in ("raise", "collect"):
            raise InvalidInputError(f"on_error must be 'raise' or 'collect', got {self.on_error!r}")
        if (
            not isinstance(self.batch_size, int)
            or isinstance(self.batch_size, bool)
            or self.batch_size < 1
        ):
            raise InvalidInputError(
                f"batch_size must be an integer of 1 or more, got {self.batch_size!r}"
            )


def run(stream: RecordStream, to_node: ToNode, target: Target, options: Options) -> IngestReport:
    """Ingests a stream, as ``Engine.ingest`` describes it."""
    with closing(stream.items):
        return _Run(stream, to_node, target, options).run()


class _Pending(NamedTuple):
    """A node that waits for its batch, and the record it came from."""

    number: int
    place: str
    node: Node


@dataclass(slots=True)
class _Run:
    stream: RecordStream
    to_node: ToNode
    target: Target
    options: Options
    records: int = 0
    written: int = 0
    unchanged: int = 0
    duplicates: int = 0
    without_text: int = 0
    retired: int = 0
    chunks: int = 0
    enqueued: int = 0
    cursor: int = 0
    error_count: int = 0
    errors: list[IngestError] = field(default_factory=list)
    # Hashes, since ids may be long: two ids of one hash leave a node live that should have gone,
    # and never the other way round.
    seen: set[int] = field(default_factory=set)

    def run(self) -> IngestReport:
        started = self.target.monotonic()
        # Finds out before anything is read whether this engine can write at all.
        self._count(self.target.write([]))
        batch: dict[str, _Pending] = {}
        chars = 0
        for item in self.stream.items:
            self.records += 1
            pending = self._map(item, batch)
            if pending is None:
                continue
            node = pending.node
            # Last one wins, in the place of the last one.
            if batch.pop(node.node_id, None) is not None:
                self.duplicates += 1
            batch[node.node_id] = pending
            chars += _chars(node)
            if len(batch) >= self.options.batch_size or chars >= MAX_BATCH_CHARS:
                self._flush(batch)
                chars = 0
        self._flush(batch)
        if self.options.prune_source is not None and not self.error_count:
            self._prune(self.options.prune_source)
        return self._report(self.target.monotonic() - started)

    def _map(self, item: Item, batch: dict[str, _Pending]) -> _Pending | None:
        cause: InvalidInputError | None = None
        if item.problem is not None:
            problem = item.problem
        else:
            try:
                node = self._node(item)
            except InvalidInputError as error:
                problem, cause = str(error), error
            else:
                return _Pending(self.records, item.place, node)
        if self.options.on_error == "raise":
            self._flush(batch)
        self._refuse(self.records, item.place, problem, cause)
        return None

    def _node(self, item: Item) -> Node:
        kind = self.options.kind
        if isinstance(item.record, Node):
            node = _repeatable(item.record)
            if kind is not None and node.kind != kind:
                raise InvalidInputError(
                    f"node {node.node_id!r} is of kind {node.kind!r}, and kind={kind!r} was passed"
                )
        else:
            assert isinstance(item.record, Mapping)
            node = self.to_node(item.record, item.source_ref)
        if not isinstance(node.node_id, str):
            raise InvalidInputError(f"node_id must be a string, got {node.node_id!r}")
        if node.text is None and node.chunks is None:
            self.without_text += 1
        if self.options.prune_source is not None:
            self.seen.add(hash(node.node_id))
        return node

    # --- batches ----------------------------------------------------------------------------------

    def _flush(self, batch: dict[str, _Pending]) -> None:
        if batch:
            waiting = [*batch.values()]
            batch.clear()
            self._write(waiting)
        if self.options.progress is not None:
            self.options.progress(self._progress())

    def _write(self, batch: list[_Pending]) -> None:
        """Writes a batch; where it is refused, in halves, until the bad records stand alone."""
        cancellation.check()  # between two commits, never in one
        try:
            receipt = self.target.write([pending.node for pending in batch])
        except InvalidInputError as error:
            refused = error
        else:
            self._count(receipt)
            return
        if len(batch) == 1:
            self._refuse(batch[0].number, batch[0].place, str(refused), refused)
            return
        middle = len(batch) // 2
        self._write(batch[:middle])
        self._write(batch[middle:])

    def _refuse(
        self, number: int, place: str, problem: str, cause: InvalidInputError | None
    ) -> None:
        message = f"{place}: {problem}" if place else problem
        if self.options.on_error == "raise":
            raise InvalidInputError(
                f"record {number}: {message} (the records before it are stored; correct it and "
                "ingest again, or go on past bad records with on_error='collect')"
            ) from cause
        self.error_count += 1
        if len(self.errors) < MAX_KEPT_ERRORS:
            self.errors.append(IngestError(number, message))

    # --- the end ----------------------------------------------------------------------------------

    def _prune(self, source_ref: str) -> None:
        kind = self.options.kind
        with self.target.snapshot() as db:
            ids = nodes.live_ids_of_source(db, source_ref, kind)
            unseen = (node_id for node_id in ids if hash(node_id) not in self.seen)
            for page in _pages(unseen):
                cancellation.check()

                def still_there(db: Connection, page: list[str] = page) -> list[str]:
                    # Another thread may have written it since, as something else.
                    return [
                        row.node_id
                        for row in nodes.live(db, page).values()
                        if row.source_ref == source_ref and kind in (None, row.kind)
                    ]

                self._count(self.target.retire(still_there))

    # --- counting ---------------------------------------------------------------------------------

    def _count(self, receipt: WriteReceipt) -> None:
        self.written += receipt.written
        self.unchanged += receipt.unchanged
        self.retired += receipt.retired
        self.chunks += receipt.chunks
        self.enqueued += receipt.enqueued
        self.cursor = receipt.cursor

    def _progress(self) -> IngestProgress:
        return IngestProgress(
            records=self.records,
            written=self.written,
            unchanged=self.unchanged,
            chunks=self.chunks,
            errors=self.error_count,
            bytes_read=self.stream.bytes_read,
            total_bytes=self.stream.total_bytes,
            total_records=self.stream.total_records,
        )

    def _report(self, seconds: float) -> IngestReport:
        return IngestReport(
            records=self.records,
            written=self.written,
            unchanged=self.unchanged,
            duplicates=self.duplicates,
            without_text=self.without_text,
            retired=self.retired,
            chunks=self.chunks,
            enqueued=self.enqueued,
            error_count=self.error_count,
            errors=tuple(self.errors),
            skipped=self.stream.skipped,
            seconds=seconds,
            cursor=self.cursor,
        )


def _chars(node: Node) -> int:
    """Characters of a node's text, as far as they can be counted before it is written."""
    if isinstance(node.chunks, (list, tuple)):
        return sum(len(chunk.text) for chunk in node.chunks if isinstance(chunk, Chunk))
    return len(node.text or "")


def _repeatable(node: Node) -> Node:
    """The same node, its chunks such that they can be read again where a batch is halved."""
    if isinstance(node.chunks, Iterator):
        return replace(node, chunks=tuple(node.chunks))
    return node


def _pages(ids: Iterator[str]) -> Iterator[list[str]]:
    while page := [*islice(ids, RETIRED_AT_ONCE)]:
        yield page
