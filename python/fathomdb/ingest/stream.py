"""RecordStream: what every input is turned into, read once, in order, never held as a whole."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sized
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from fathomdb.errors import InvalidInputError
from fathomdb.ingest import table
from fathomdb.records import Node

if TYPE_CHECKING:
    from fathomdb.ingest.table import Table

Record = Mapping[str, Any] | Node


class Item(NamedTuple):
    """One record as it was read, or many as a table, or in its place what is wrong with it.

    ``place`` says where it is, for messages; empty where the record's number says all.
    """

    record: Record | Table | None
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
    """The stream of an iterable of mappings or Nodes, or of what exports tables of Arrow.

    Raises:
        MissingExtraError: It exports tables, and pyarrow is not installed.
        InvalidInputError: It is not iterable, or it is one record instead of many.
    """
    if table.is_arrow(records):
        tables = table.read(records)
        total = len(records) if isinstance(records, Sized) else None
        return RecordStream(_tables(tables), total_records=total)
    if isinstance(records, (Mapping, Node)):
        raise InvalidInputError(
            f"records is one {type(records).__name__}; put it in a list to ingest it"
        )
    if isinstance(records, (bytes, bytearray)) or not isinstance(records, Iterable):
        raise InvalidInputError(
            "records must be an iterable of mappings or Nodes, a path or a table of Arrow, got "
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


def _tables(tables: Iterator[Table]) -> Generator[Item]:
    try:
        for each in tables:
            yield Item(each)
    except InvalidInputError as error:
        yield Item(None, problem=str(error))


Reader = Callable[[str, Position], Iterator[Item]]
"""Reads a file of one format: its path, and the position to move while reading."""
