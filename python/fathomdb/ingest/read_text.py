"""Text files: one file, one record, with the columns ``id`` and ``path`` (set by ``files.py``)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fathomdb.errors import InvalidInputError
from fathomdb.ingest.lines import MAX_RECORD_BYTES, decode
from fathomdb.ingest.stream import Item

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fathomdb.ingest.stream import Position


def read(path: str, position: Position) -> Iterator[Item]:
    """The one record of a text file, with the column ``text``: its text as it is."""
    with open(path, "rb") as file:
        data = file.read(MAX_RECORD_BYTES + 1)
    position.bytes_read += len(data)
    if len(data) > MAX_RECORD_BYTES:
        yield Item(
            None,
            problem=f"the file is longer than {MAX_RECORD_BYTES:,} bytes; split it, or bring it as "
            "JSON lines",
        )
        return
    try:
        yield Item({"text": decode(data)})
    except InvalidInputError as error:
        yield Item(None, problem=str(error))
