"""CSV and TSV files: a header line, then records; every value is a string."""

from __future__ import annotations

import csv
from typing import TYPE_CHECKING

from fathomdb.errors import InvalidInputError
from fathomdb.ingest.lines import MAX_RECORD_BYTES, read_lines
from fathomdb.ingest.mapping import check_columns
from fathomdb.ingest.stream import Item

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import BinaryIO

    from fathomdb.ingest.stream import Position


def read(path: str, position: Position) -> Iterator[Item]:
    """The records of a CSV file, or of a TSV file, by its suffix.

    A line whose fields do not match the header is a bad record. Where a line cannot be read as text
    nobody can say where the next record starts, so the rest of the file is one bad record.
    """
    # Process-wide, the module knows no other way. Only ever raised, so that no other reader in the
    # process begins to fail; the default refuses a text of 128 KiB.
    csv.field_size_limit(max(csv.field_size_limit(), MAX_RECORD_BYTES))
    dialect = csv.excel_tab if path.lower().endswith(".tsv") else csv.excel
    with open(path, "rb") as file:
        rows = csv.reader(_text(file, position), dialect, strict=True)
        header: list[str] | None = None
        while True:
            try:
                row = next(rows, None)
                if row is None:
                    return
                if not row:  # a blank line
                    continue
                if header is None:
                    check_columns(row, "the header")
                    header = row
                    continue
            except csv.Error as error:
                yield Item(None, f"line {rows.line_num}", f"not CSV: {error}")
                if header is None:
                    return
                continue
            except InvalidInputError as error:
                yield Item(None, "", f"{error}; the rest of the file was not read")
                return
            place = f"line {rows.line_num}"
            if len(row) == len(header):
                yield Item(dict(zip(header, row, strict=True)), place)
            else:
                problem = f"it has {len(row)} fields and the header has {len(header)}"
                yield Item(None, place, problem)


def _text(file: BinaryIO, position: Position) -> Iterator[str]:
    for number, text, problem in read_lines(file, position):
        if text is None:
            raise InvalidInputError(f"line {number}: {problem}")
        yield text
