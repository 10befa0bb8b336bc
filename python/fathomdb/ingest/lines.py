"""Lines of a UTF-8 file, in bounded memory whatever the file is."""

from __future__ import annotations

import codecs
from typing import TYPE_CHECKING, NamedTuple

from fathomdb.errors import InvalidInputError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import BinaryIO

    from fathomdb.ingest.stream import Position

MAX_RECORD_BYTES = 64 * 1024 * 1024
"""The longest line or text file that is read: a record is held in memory, some times over."""


class Line(NamedTuple):
    """A line with its end, or in its place what is wrong with it; numbers count from 1."""

    number: int
    text: str | None
    problem: str | None = None


def read_lines(file: BinaryIO, position: Position) -> Iterator[Line]:
    """The lines of a binary file; a byte order mark is dropped."""
    number = offset = 0
    while data := file.readline(MAX_RECORD_BYTES):
        number += 1
        length = len(data)
        if length == MAX_RECORD_BYTES and not data.endswith(b"\n"):
            while rest := file.readline(MAX_RECORD_BYTES):
                length += len(rest)
                if rest.endswith(b"\n"):
                    break
            line = Line(
                number,
                None,
                f"the line is {length:,} bytes long and the limit is {MAX_RECORD_BYTES:,}; is the "
                "file really one record a line?",
            )
        else:
            try:
                line = Line(number, decode(data, offset))
            except InvalidInputError as error:
                line = Line(number, None, str(error))
        offset += length
        position.bytes_read += length
        yield line


def decode(data: bytes, offset: int = 0) -> str:
    """Bytes of a file, from ``offset`` on, as text.

    Raises:
        InvalidInputError: They are not UTF-8; it names the byte and where in the file it is.
    """
    # Not the codec utf-8-sig: its errors count from behind the mark.
    start = len(codecs.BOM_UTF8) if offset == 0 and data.startswith(codecs.BOM_UTF8) else 0
    try:
        return data[start:].decode()
    except UnicodeDecodeError as error:
        at = start + error.start
        raise InvalidInputError(
            f"not UTF-8: byte {data[at]:#04x} at offset {offset + at} of the file "
            f"({error.reason}); convert the file to UTF-8"
        ) from None
