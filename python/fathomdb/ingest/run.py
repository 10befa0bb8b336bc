"""The loop of an ingest: read, map, write in batches, count, and prune at the end."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, closing
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol

from fathomdb import cancellation
from fathomdb.errors import InvalidInputError
from fathomdb.ingest.report import (
    MAX_KEPT_ERRORS,
    IngestError,
    IngestProgress,
    IngestReport,
    Progress,
)
from fathomdb.ingest.table import Table
from fathomdb.records import Chunk, Columns, Node, WriteReceipt
from fathomdb.store import nodes

if TYPE_CHECKING:
    from fathomdb.ingest.mapping import ToNode
    from fathomdb.ingest.stream import Item, RecordStream
    from fathomdb.ingest.table import ToColumns
    from fathomdb.store.connection import Connection

OnError = Literal["raise", "collect"]

MAX_BATCH_CHARS = 4 * 1024 * 1024
"""Text in a batch at most, so that memory and the time of a commit are bounded for long texts."""
RETIRED_AT_ONCE = 1024


class Prepared(Protocol):
    """What an ingest sees of a record that is ready to be stored."""

    node_id: str
    chunks: Any


@dataclass(frozen=True, slots=True)
class Target:
    """What an ingest needs of an engine.

    ``prepare_columns`` returns None for records that must be looked at one by one.
    """

    prepare: Callable[[list[Node]], Sequence[Prepared]]
    prepare_columns: Callable[[Columns], Sequence[Prepared] | None]
    store: Callable[[Any], WriteReceipt]
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
        if self.progress is not None and not callable(self.progress):
            raise InvalidInputError(
                f"progress must be a function that takes an IngestProgress, got {self.progress!r}"
            )


def run(
    stream: RecordStream,
    to_node: ToNode,
    to_columns: ToColumns | None,
    target: Target,
    options: Options,
) -> IngestReport:
    """Ingests a stream, as ``Engine.ingest`` describes it."""
    with closing(stream.items):
        return _Run(stream, to_node, to_columns, target, options).run()


class _Pending(NamedTuple):
    """A node that waits for its batch, and the record it came from."""

    number: int
    place: str
    node: Node


@dataclass(slots=True)
class _Run:
    stream: RecordStream
    to_node: ToNode
    to_columns: ToColumns | None
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
    batch: dict[str, _Pending] = field(default_factory=dict)
    chars: int = 0

    def run(self) -> IngestReport:
        started = self.target.monotonic()
        # Finds out before anything is read whether this engine can write at all.
        self._count(self.target.store([]))
        for item in self.stream.items:
            if isinstance(item.record, Table):
                self._take_table(item, item.record)
            else:
                self._take(item)
        self._flush()
        if self.options.prune_source is not None and not self.error_count:
            self._prune(self.options.prune_source)
        return self._report(self.target.monotonic() - started)

    # --- records ----------------------------------------------------------------------------------

    def _take(self, item: Item) -> None:
        self.records += 1
        pending = self._map(item)
        if pending is None:
            return
        node = pending.node
        # Last one wins, in the place of the last one.
        if self.batch.pop(node.node_id, None) is not None:
            self.duplicates += 1
        self.batch[node.node_id] = pending
        self.chars += _chars(node)
        if len(self.batch) >= self.options.batch_size or self.chars >= MAX_BATCH_CHARS:
            self._flush()

    def _map(self, item: Item) -> _Pending | None:
        cause: InvalidInputError | None = None
        if item.problem is not None:
            problem = item.problem
        else:
            try:
                node = self._node(item)
            except InvalidInputError as error:
                problem, cause = str(error), error
            else:
                self._note(node.node_id, has_text=(node.text, node.chunks) != (None, None))
                return _Pending(self.records, item.place, node)
        if self.options.on_error == "raise":
            self._flush()
        self._refuse(self.records, item.place, problem, cause)
        return None

    def _note(self, node_id: str, *, has_text: bool) -> None:
        if not has_text:
            self.without_text += 1
        if self.options.prune_source is not None:
            self.seen.add(hash(node_id))

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
        return node

    # --- tables -----------------------------------------------------------------------------------

    def _take_table(self, item: Item, table: Table) -> None:
        for first in range(0, len(table), self.options.batch_size):
            self._take_piece(item, table.piece(first, self.options.batch_size))

    def _take_piece(self, item: Item, piece: Table) -> None:
        columns = None if self.to_columns is None else self.to_columns(piece, item.source_ref)
        if columns is not None and columns.text_bytes > MAX_BATCH_CHARS and len(piece) > 1:
            half = len(piece) // 2
            self._take_piece(item, piece.piece(0, half))
            self._take_piece(item, piece.piece(half, len(piece) - half))
            return
        prepared = None if columns is None else self.target.prepare_columns(columns)
        if prepared is None:
            for row in _rows(item, piece):
                self._take(row)
            return
        if self.batch:  # what was read by row before it
            self._flush()
        try:
            receipt = self._store(prepared)
        except InvalidInputError:
            for row in _rows(item, piece):
                self._take(row)
            self._flush()
            return
        self.records += len(prepared)
        for record in prepared:
            self._note(record.node_id, has_text=bool(record.chunks))
        self._count(receipt)
        self._tell()

    # --- batches ----------------------------------------------------------------------------------

    def _flush(self) -> None:
        batch = [*self.batch.values()]
        self.batch.clear()
        self.chars = 0
        if batch:
            self._write(batch)
        self._tell()

    def _store(self, prepared: Sequence[Prepared]) -> WriteReceipt:
        cancellation.check()  # between two commits, never in one
        return self.target.store(prepared)

    def _write(self, batch: list[_Pending]) -> None:
        """Writes a batch; where it is refused, in halves, until the bad records stand alone."""
        try:
            receipt = self._store(self.target.prepare([pending.node for pending in batch]))
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

    def _tell(self) -> None:
        if self.options.progress is not None:
            self.options.progress(self._progress())

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


def _rows(item: Item, table: Table) -> Iterator[Item]:
    """The rows of a table as records; where they cannot be read, what is wrong in place of each."""
    place = f"{item.place}, row " if item.place else ""
    try:
        rows: list[Any] = table.by_row()
    except InvalidInputError as error:
        for _ in range(len(table)):
            yield item._replace(record=None, problem=str(error))
        return
    for number, row in enumerate(rows, table.before + 1):
        yield item._replace(record=row, place=f"{place}{number}" if place else "")


def _repeatable(node: Node) -> Node:
    """The same node, its chunks such that they can be read again where a batch is halved."""
    if isinstance(node.chunks, Iterator):
        return replace(node, chunks=tuple(node.chunks))
    return node


def _pages(ids: Iterator[str]) -> Iterator[list[str]]:
    while page := [*islice(ids, RETIRED_AT_ONCE)]:
        yield page
