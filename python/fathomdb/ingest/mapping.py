"""How a record becomes a node: which columns are its id, its text, its properties."""

from __future__ import annotations

import hashlib
import numbers
import uuid
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from fathomdb.errors import InvalidInputError
from fathomdb.records import Chunk, Node, Properties

ColumnOf = str | Iterable[str] | Callable[[Mapping[str, Any]], Any]
"""A column, several, or a function of the record."""
VectorOf = str | Callable[[Mapping[str, Any]], Any]
"""A column of ready vectors, or a function of the record."""
ToNode = Callable[[Mapping[str, Any], str | None], Node]
"""Makes the node of a record; the second argument is the source_ref it has of itself."""

KIND_COLUMN = "kind"
ID_COLUMN = "id"
_ID_TYPES: tuple[type, ...] = (numbers.Integral, uuid.UUID)
MADE_ID_DIGITS = 32
"""Hex digits of an id that is made from kind and text: 128 bits."""


def made_id(kind: str, text: str) -> str:
    """The id of a record that has none: of SHA-256 of kind, one 0x00 byte, text, 32 hex digits."""
    # A lone surrogate is refused by the write, with a better message than here.
    data = f"{kind}\0{text}".encode("utf-8", "surrogatepass")
    return hashlib.sha256(data).hexdigest()[:MADE_ID_DIGITS]


def build(
    *,
    kind: str | None,
    id: ColumnOf | None,  # noqa: A002 - the public name
    text: ColumnOf,
    properties: ColumnOf | None,
    source_ref: str | Callable[[Mapping[str, Any]], str | None] | None,
    vector: VectorOf | None = None,
) -> ToNode:
    """The function that makes nodes of records, as ``Engine.ingest`` describes it.

    Raises:
        InvalidInputError: An argument names nothing. The function itself raises it for a record
            that it cannot make a node of.
    """
    id_of, id_columns = _id_reader(id)
    text_of, text_columns = _text_reader(text)
    vector_of, vector_columns = _vector_reader(vector)
    used = {*id_columns, *text_columns, *vector_columns}
    used.update(() if kind is not None else (KIND_COLUMN,))
    properties_of = _properties_reader(properties, used)
    source_of = _function("source_ref", source_ref) if callable(source_ref) else None

    def to_node(record: Mapping[str, Any], source: str | None) -> Node:
        node_kind = kind if kind is not None else _kind_of(record)
        node_text = text_of(record)
        node_id = id_of(record)
        if node_id is None:
            if node_text is None:
                raise InvalidInputError(
                    "it has neither an id nor a text to make one from; name its column with id="
                )
            node_id = made_id(node_kind, node_text)
        if source_of is not None:
            source = source_of(record)
        elif source_ref is not None:
            source = source_ref  # type: ignore[assignment]
        ready = vector_of(record)
        if ready is None:
            return Node(node_kind, node_id, node_text, properties_of(record), source)
        if node_text is None:
            raise InvalidInputError("it has a vector and no text that it could be of")
        chunks = (Chunk(node_text, vector=ready),)
        return Node(node_kind, node_id, None, properties_of(record), source, chunks)

    return to_node


def _kind_of(record: Mapping[str, Any]) -> str:
    kind = record.get(KIND_COLUMN)
    if not isinstance(kind, str):
        raise InvalidInputError(
            f"it has no kind: pass kind=, or give every record a string in the column "
            f"{KIND_COLUMN!r} (it has {kind!r} there)"
        )
    return kind


# --- columns --------------------------------------------------------------------------------------


def columns(what: str, given: object) -> tuple[str, ...]:
    """The names of columns that an argument gives, one or several."""
    names = (given,) if isinstance(given, str) else given
    if not isinstance(names, Iterable) or isinstance(names, (bytes, Mapping)):
        raise InvalidInputError(
            f"{what} must be a column, a list of columns or a function, got {given!r}"
        )
    names = tuple(names)
    if not names or not all(isinstance(name, str) for name in names):
        raise InvalidInputError(f"{what} must name columns, got {given!r}")
    return names


def _function(
    what: str, function: Callable[[Mapping[str, Any]], Any]
) -> Callable[[Mapping[str, Any]], Any]:
    def call(record: Mapping[str, Any]) -> Any:
        try:
            return function(record)
        except Exception as error:
            raise InvalidInputError(f"the function {what}= raised {error!r}") from error

    return call


def _missing(what: str, names: tuple[str, ...], record: Mapping[str, Any]) -> InvalidInputError:
    wanted = " or ".join(repr(name) for name in names)
    return InvalidInputError(
        f"it has no column {wanted}; it has {', '.join(map(repr, record)) or 'none'}; name the "
        f"right one with {what}="
    )


def _id_reader(
    given: ColumnOf | None,
) -> tuple[Callable[[Mapping[str, Any]], str | None], tuple[str, ...]]:
    if given is None:
        return (lambda _: None), ()
    if callable(given):
        function = _function("id", given)

        def called(record: Mapping[str, Any]) -> str | None:
            value = function(record)
            return None if value is None else _id_text(value, "what the function id= returned")

        return called, ()
    names = columns("id", given)
    if names == (ID_COLUMN,):

        def optional(record: Mapping[str, Any]) -> str | None:
            value = record.get(ID_COLUMN)
            return None if value is None else _id_text(value, f"column {ID_COLUMN!r}")

        return optional, names

    def joined(record: Mapping[str, Any]) -> str:
        parts = []
        for name in names:
            if name not in record:
                raise _missing("id", (name,), record)
            parts.append(_id_text(record[name], f"column {name!r}"))
        return "/".join(parts)

    return joined, names


def _id_text(value: object, where: str) -> str:
    if isinstance(value, str) and value:
        return value
    # NumPy's integers are Integral and not int; True is Integral too, and no id.
    if not isinstance(value, bool) and isinstance(value, _ID_TYPES):
        return str(value)
    raise InvalidInputError(f"{where} must be an id, a string or an integer, got {value!r}")


def _text_reader(
    given: ColumnOf,
) -> tuple[Callable[[Mapping[str, Any]], str | None], tuple[str, ...]]:
    if callable(given):
        function = _function("text", given)
        return (lambda record: _text(function(record), "what the function text= returned")), ()
    names = columns("text", given)

    def joined(record: Mapping[str, Any]) -> str | None:
        present = [name for name in names if name in record]
        if not present:
            raise _missing("text", names, record)
        texts = (_text(record[name], f"column {name!r}") for name in present)
        return "\n\n".join(filter(None, texts)) or None

    return joined, names


def _text(value: object, where: str) -> str | None:
    if value is None:
        return None
    if not isinstance(value, str):
        raise InvalidInputError(f"{where} must be a text, got {type(value).__name__}: {value!r}")
    return None if not value or value.isspace() else value


def _vector_reader(
    given: VectorOf | None,
) -> tuple[Callable[[Mapping[str, Any]], Any], tuple[str, ...]]:
    if given is None:
        return (lambda _: None), ()
    if callable(given):
        return _function("vector", given), ()
    if not isinstance(given, str):
        raise InvalidInputError(f"vector must be a column or a function, got {given!r}")

    def column(record: Mapping[str, Any]) -> Any:
        if given not in record:
            raise _missing("vector", (given,), record)
        return record[given]

    return column, (given,)


def _properties_reader(
    given: ColumnOf | None, used: set[str]
) -> Callable[[Mapping[str, Any]], Properties | None]:
    if callable(given):
        return _function("properties", given)
    if given is None:
        return lambda record: {k: v for k, v in record.items() if k not in used} or None
    names = kept_columns(given)
    return lambda record: {name: record[name] for name in names if name in record} or None


def kept_columns(given: object) -> tuple[str, ...]:
    """The columns that are kept as properties, each once; a list of none keeps none."""
    none_wanted = isinstance(given, (list, tuple)) and not given
    return () if none_wanted else tuple(dict.fromkeys(columns("properties", given)))


def check_columns(names: list[str], where: str) -> None:
    """Refuses columns of the same name."""
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise InvalidInputError(
            f"{where} has more than one column named {twice[0]!r}; rename one of them"
        )
