"""Property indexes: an index of one property of one kind's live nodes, which filters on it use.

They are the one part of the schema that a user chooses. SQLite keeps them current; what an index is
of is read from its own definition, so that no table can say anything else.
"""

from __future__ import annotations

import hashlib
import json
import re
from typing import TYPE_CHECKING, NamedTuple

from fathomdb.store.conditions import property_path, value_of
from fathomdb.store.connection import literal, quote

if TYPE_CHECKING:
    import apsw

PREFIX = "property_"

_DEFINITION = re.compile(
    r"CREATE INDEX \S+ ON nodes \(kind, json_extract\(properties, '((?:[^']|'')*)'\)\) "
    r"WHERE superseded_cursor IS NULL AND kind = '((?:[^']|'')*)'",
    re.DOTALL,
)


class PropertyIndex(NamedTuple):
    """An index of a property, by the names on the way to it, of the nodes of a kind."""

    kind: str
    names: tuple[str, ...]

    @property
    def name(self) -> str:
        """Of the index in the file."""
        asked = f"{self.kind}\0{property_path(self.names)}"
        return PREFIX + hashlib.sha256(asked.encode()).hexdigest()[:20]

    @property
    def definition(self) -> str:
        """The statement that makes it.

        The kind comes first, though it is the same in all rows: SQLite then takes this index and not
        that of the kind alone.
        """
        value = value_of(property_path(self.names), node="")
        return (
            f"CREATE INDEX {quote(self.name)} ON nodes (kind, {value}) "
            f"WHERE superseded_cursor IS NULL AND kind = {literal(self.kind)}"
        )


def every(db: apsw.Connection) -> list[PropertyIndex]:
    """The property indexes of the file, by kind and property."""
    rows = db.execute(
        "SELECT name, sql FROM sqlite_master WHERE type = 'index' AND name GLOB ?", (PREFIX + "*",)
    )
    read = (of_definition(name, sql) for name, sql in rows)
    return sorted(index for index in read if index is not None)


def of_definition(name: str, sql: str) -> PropertyIndex | None:
    """What an index of this name and definition is of; None where we did not make it so."""
    found = _DEFINITION.fullmatch(sql)
    if found is None:
        return None
    path, kind = (group.replace("''", "'") for group in found.groups())
    names = _names(path)
    index = PropertyIndex(kind, names) if names else None
    return index if index and (index.name, index.definition) == (name, sql) else None


def _names(path: str) -> tuple[str, ...] | None:
    """The names of a JSON path of ours; None where it is none."""
    names: list[str] = []
    at, decoder = 1, json.JSONDecoder()
    while at < len(path):
        try:
            name, at = decoder.raw_decode(path, at + 1)
        except ValueError:
            return None
        names.append(str(name))
    return tuple(names)


def create(db: apsw.Connection, index: PropertyIndex) -> None:
    """Makes an index; reads every node of its kind."""
    db.execute(index.definition)


def drop(db: apsw.Connection, index: PropertyIndex) -> None:
    """Drops an index."""
    db.execute(f"DROP INDEX {quote(index.name)}")
