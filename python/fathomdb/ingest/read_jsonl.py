"""JSON lines: one JSON object a line, its keys the columns."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from fathomdb.ingest.lines import read_lines
from fathomdb.ingest.stream import Item

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fathomdb.ingest.stream import Position


def read(path: str, position: Position) -> Iterator[Item]:
    """The records of a JSONL file; a bad line is a bad record, and blank lines are none."""
    with open(path, "rb") as file:
        for number, text, problem in read_lines(file, position):
            place = f"line {number}"
            if text is None:
                yield Item(None, place, problem)
            elif not text.isspace():
                yield _parse(text, place)


def _parse(text: str, place: str) -> Item:
    try:
        value = json.loads(text)
    except json.JSONDecodeError as error:
        return Item(None, place, f"not JSON: {error.msg} at column {error.colno}")
    except (ValueError, RecursionError) as error:  # a number too long, or nested too deep
        return Item(None, place, f"not JSON that can be read: {error}")
    if not isinstance(value, dict):
        return Item(None, place, f"a line must be a JSON object, got {type(value).__name__}")
    return Item(value, place)
