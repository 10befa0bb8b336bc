"""Markdown files: as text files, and the first heading as the column ``title``."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING

from fathomdb.ingest import read_text

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fathomdb.ingest.stream import Item, Position

_FENCE = re.compile(r" {0,3}(```+|~~~+)")
_HEADING = re.compile(r" {0,3}#{1,6}[ \t]+(.+?)(?:[ \t]+#+)?[ \t]*$")


def read(path: str, position: Position) -> Iterator[Item]:
    """The one record of a Markdown file: ``text`` as it is, and ``title`` where it has one."""
    for item in read_text.read(path, position):
        if isinstance(item.record, Mapping):
            title = title_of(item.record["text"])
            if title is not None:
                yield item._replace(record={**item.record, "title": title})
                continue
        yield item


def title_of(text: str) -> str | None:
    """The first ``#`` heading that is not in a fenced code block."""
    fence: str | None = None
    for line in text.splitlines():
        mark = _FENCE.match(line)
        if mark and fence is None:
            fence = mark[1]
        elif fence is not None:
            if mark and mark[1].startswith(fence):
                fence = None
        elif heading := _HEADING.match(line):
            return heading[1]
    return None
