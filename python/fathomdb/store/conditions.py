"""Conditions over a live node ``n``: the SQL that filters come to, with bound parameters."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from fathomdb.store import keys
from fathomdb.store.connection import literal

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

Order = Literal["<", "<=", ">", ">="]


@dataclass(frozen=True, slots=True)
class Condition:
    """An SQL expression that is true or false (never NULL under ``negate``), and its parameters.

    Nothing in it binds less tightly than AND, so that it can follow one. ``comparisons`` counts the
    properties that are compared in it.
    """

    sql: str = "1"
    parameters: tuple[Any, ...] = ()
    comparisons: int = 0

    def chunk_keys(self) -> Condition:
        """The keys of the chunks of nodes that meet this, as a subquery."""
        return Condition(
            "SELECT c.chunk_key FROM nodes AS n JOIN chunks AS c USING (node_key) "
            f"WHERE n.superseded_cursor IS NULL AND {self.sql}",
            self.parameters,
        )

    def among(self, chunk_keys: Iterable[int]) -> Condition:
        """Those of these chunks whose nodes meet this, as a query: point reads, whatever passes."""
        # CROSS JOIN has SQLite go by the keys.
        return Condition(
            "SELECT c.chunk_key FROM carray(?) AS k CROSS JOIN chunks AS c ON c.chunk_key = k.value "
            "CROSS JOIN nodes AS n ON n.node_key = c.node_key "
            f"WHERE n.superseded_cursor IS NULL AND {self.sql}",
            (keys.ints(chunk_keys), *self.parameters),
        )


EVERYTHING = Condition()


def all_of(parts: Sequence[Condition]) -> Condition:
    """All parts hold."""
    return _join(" AND ", parts) if parts else EVERYTHING


def any_of(parts: Sequence[Condition]) -> Condition:
    """At least one part holds."""
    return _join(" OR ", parts) if parts else Condition("0")


def _join(operator: str, parts: Sequence[Condition]) -> Condition:
    if len(parts) == 1:
        return parts[0]
    # Halved, since SQLite bounds the depth of an expression, and a chain is as deep as it is long.
    middle = len(parts) // 2
    left, right = _join(operator, parts[:middle]), _join(operator, parts[middle:])
    return Condition(
        f"({left.sql}{operator}{right.sql})",
        (*left.parameters, *right.parameters),
        left.comparisons + right.comparisons,
    )


def negate(part: Condition) -> Condition:
    """The part does not hold; a missing property compares as NULL, which does not hold either."""
    return Condition(f"NOT coalesce(({part.sql}), 0)", part.parameters, part.comparisons)


def of_kinds(kinds: Iterable[str]) -> Condition:
    """The node is of one of these kinds; one is a literal, which the indexes of its properties need."""
    named = [*kinds]
    if len(named) == 1:
        return Condition(f"n.kind = {literal(named[0])}")
    return Condition("n.kind IN (SELECT value FROM carray(?))", (keys.texts(named),))


def of_ids(node_ids: Iterable[str]) -> Condition:
    """The node has one of these ids."""
    return Condition("n.logical_id IN (SELECT value FROM carray(?))", (keys.texts(node_ids),))


def of_source(source_ref: str) -> Condition:
    """The node came from this source."""
    return Condition("n.source_ref = ?", (source_ref,))


def property_path(names: Sequence[str]) -> str:
    """The JSON path of a nested property."""
    return "$" + "".join("." + json.dumps(name, ensure_ascii=False) for name in names)


def value_of(path: str, node: str = "n.") -> str:
    """The value of a property, as the index of the property has it: an equal text, or it is not used."""
    return f"json_extract({node}properties, {literal(path)})"


def _type_of(path: str) -> str:
    return f"json_type(n.properties, {literal(path)})"


def _compared(sql: str, *parameters: Any) -> Condition:
    return Condition(sql, parameters, 1)


# json_extract gives true and 1 as the same number, and null and nothing as the same NULL, so the
# type is asked as well.


def is_null(path: str) -> Condition:
    """The property is there and null."""
    return _compared(f"{_type_of(path)} = 'null'")


def is_boolean(path: str, value: bool) -> Condition:
    """The property is this boolean."""
    return _compared(
        f"{value_of(path)} = {int(value)} AND {_type_of(path)} = '{'true' if value else 'false'}'"
    )


def number(path: str, operator: Order | Literal["="], value: float) -> Condition:
    """The property is a number and compares so."""
    return _compared(
        f"{_type_of(path)} IN ('integer', 'real') AND {value_of(path)} {operator} ?", value
    )


def text(path: str, operator: Order | Literal["="], value: str) -> Condition:
    """The property is a string and compares so, by code point."""
    return _compared(f"{_type_of(path)} = 'text' AND {value_of(path)} {operator} ?", value)


def one_of_texts(path: str, values: Iterable[str]) -> Condition:
    """The property is one of these strings."""
    return _compared(
        f"{_type_of(path)} = 'text' AND {value_of(path)} IN (SELECT value FROM carray(?))",
        keys.texts(values),
    )


def one_of_integers(path: str, values: Iterable[int]) -> Condition:
    """The property is a number equal to one of these, which are in the range of 64 bits."""
    return _compared(
        f"{_type_of(path)} IN ('integer', 'real') "
        f"AND {value_of(path)} IN (SELECT value FROM carray(?))",
        keys.ints(values),
    )


def exists(path: str, wanted: bool) -> Condition:
    """The property is there, null included, or is not."""
    return _compared(f"{_type_of(path)} IS {'NOT ' if wanted else ''}NULL")


def further_chunks(
    within: Condition | None, seen_chunks: Iterable[int], full_nodes: Iterable[int]
) -> Condition:
    """Chunk keys, of ``within`` where given, that are not among the seen nor of a full node."""
    sql = (
        "SELECT chunk_key FROM chunks WHERE chunk_key NOT IN (SELECT value FROM carray(?)) "
        "AND node_key NOT IN (SELECT value FROM carray(?))"
    )
    parameters = (keys.ints(seen_chunks), keys.ints(full_nodes))
    if within is None:
        return Condition(sql, parameters)
    return Condition(f"{sql} AND chunk_key IN ({within.sql})", (*parameters, *within.parameters))
