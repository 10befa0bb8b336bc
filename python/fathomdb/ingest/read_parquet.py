"""Parquet files, where pyarrow is installed: a row is a record, in tables of some rows."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from fathomdb import _extras
from fathomdb.errors import InvalidInputError
from fathomdb.ingest.mapping import check_columns
from fathomdb.ingest.stream import Item
from fathomdb.ingest.table import ROWS_AT_ONCE, Table

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fathomdb.ingest.stream import Position


def check_installed() -> None:
    """Finds out before anything is written.

    Raises:
        MissingExtraError: pyarrow is not installed.
    """
    _modules()


def _modules() -> tuple[Any, Any]:
    return _extras.require("pyarrow", "parquet"), _extras.require("pyarrow.parquet", "parquet")


def read(path: str, position: Position) -> Iterator[Item]:
    """The rows of a Parquet file."""
    arrow, parquet = _modules()
    number = 0
    try:
        with parquet.ParquetFile(path) as file:
            check_columns(file.schema_arrow.names, "the file")
            rows, size = file.metadata.num_rows, os.path.getsize(path)
            start = position.bytes_read
            for batch in file.iter_batches(batch_size=ROWS_AT_ONCE):
                yield Item(Table(batch, number))
                number += batch.num_rows
                position.bytes_read = start + size * number // rows
            position.bytes_read = start + size
    except InvalidInputError as error:
        yield Item(None, problem=str(error))
    except arrow.ArrowException as error:
        problem = f"not Parquet that can be read: {error}; the rest of the file was not read"
        yield Item(None, f"row {number + 1}" if number else "", problem)
