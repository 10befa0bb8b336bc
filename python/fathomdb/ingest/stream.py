"""RecordStream: what every input is turned into, read once, in order, never held as a whole."""

from __future__ import annotations

import sys
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sized
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from fathomdb.errors import InvalidInputError
from fathomdb.records import Node

ROWS_AT_ONCE = 1024
"""Rows of a table that are Python objects at one time."""

Record = Mapping[str, Any] | Node


class Item(NamedTuple):
    """One record as it was read, or in its place what is wrong with it.

    ``place`` says where it is, for messages; empty where the record's number says all.
    """

    record: Record | None
    place: str = ""
    problem: str | None = None
    source_ref: str | None = None


@dataclass(slots=True)
class Position:
    """How many bytes of the input were read; readers move it."""

    bytes_read: int = 0


@dataclass(slots=True)
class RecordStream:
    """Records and how many there are, as far as that is known; can be read once.

    ``skipped`` counts files of a folder that are not read, by reason.
    """

    items: Generator[Item]
    total_bytes: int | None = None
    total_records: int | None = None
    skipped: Mapping[str, int] = field(default_factory=dict)
    position: Position | None = None

    @property
    def bytes_read(self) -> int | None:
        """How many of ``total_bytes`` were read so far."""
        return None if self.position is None else self.position.bytes_read


def of_records(records: Any) -> RecordStream:
    """The stream of an iterable of mappings or Nodes, or of a table of pyarrow.

    Raises:
        InvalidInputError: It is not iterable, or it is one record instead of many.
    """
    arrow = _arrow_stream(records)
    if arrow is not None:
        return arrow
    if isinstance(records, (Mapping, Node)):
        raise InvalidInputError(
            f"records is one {type(records).__name__}; put it in a list to ingest it"
        )
    if isinstance(records, (bytes, bytearray)) or not isinstance(records, Iterable):
        raise InvalidInputError(
            "records must be an iterable of mappings or Nodes, a path or a pyarrow table, got "
            f"{type(records).__name__}"
        )
    total = len(records) if isinstance(records, Sized) else None
    return RecordStream(_items(iter(records)), total_records=total)


def _items(records: Iterator[Any]) -> Generator[Item]:
    for record in records:
        if isinstance(record, (Mapping, Node)):
            yield Item(record)
        else:
            yield Item(
                None,
                problem=f"a record must be a mapping or a Node, got {type(record).__name__}"
                + (
                    "; for several paths use fathomdb.ingest.files.open_records"
                    if isinstance(record, str)
                    else ""
                ),
            )


def _arrow_stream(records: Any) -> RecordStream | None:
    # An object of pyarrow cannot exist where pyarrow was not imported, so we need not import it.
    arrow = sys.modules.get("pyarrow")
    if arrow is None:
        return None
    if isinstance(records, (arrow.Table, arrow.RecordBatch)):
        return RecordStream(_rows([records]), total_records=records.num_rows)
    if isinstance(records, arrow.RecordBatchReader):
        return RecordStream(_rows(records))
    return None


def _rows(tables: Iterable[Any]) -> Generator[Item]:
    for table in tables:
        yield from (Item(row) for row in rows_of(table))


def rows_of(table: Any) -> Iterator[dict[str, Any]]:
    """The rows of a pyarrow Table or RecordBatch, a slice at a time.

    Raises:
        InvalidInputError: Two columns have the same name, so that a row would lose one.
    """
    check_columns(table.schema.names, "the table")
    for start in range(0, table.num_rows, ROWS_AT_ONCE):
        yield from table.slice(start, ROWS_AT_ONCE).to_pylist()


def check_columns(names: list[str], where: str) -> None:
    """Refuses columns of the same name."""
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise InvalidInputError(
            f"{where} has more than one column named {twice[0]!r}; rename one of them"
        )


Reader = Callable[[str, Position], Iterator[Item]]
"""Reads a file of one format: its path, and the position to move while reading."""
