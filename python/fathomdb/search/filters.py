"""Filters: ``where``, ``ids``, ``source_ref`` and ``kind``, checked, as one condition on a node."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fathomdb.errors import InvalidInputError
from fathomdb.store import conditions

if TYPE_CHECKING:
    from fathomdb.store.conditions import Condition, Order

_ORDERS: Mapping[str, Order] = {"gt": ">", "gte": ">=", "lt": "<", "lte": "<="}
OPERATORS = ("eq", "ne", *_ORDERS, "in", "exists")
MAX_DEPTH = 64
"""Levels of ``any`` and ``not``: SQLite bounds the depth of an expression."""
MAX_COMPARISONS = 5_000
"""Comparisons of one filter, each with the property's path: SQLite takes 32,766 values of a statement."""


@dataclass(frozen=True, slots=True)
class Filter:
    """A condition, and whether it asks for more than a kind: each kind has an index of its own."""

    condition: Condition
    narrows: bool

    @property
    def narrowing(self) -> Condition | None:
        """The condition, or None where each node of a kind meets it."""
        return self.condition if self.narrows else None

    def chunk_keys(self) -> Condition | None:
        """The chunks that pass, or None where each of a kind does."""
        return self.condition.chunk_keys() if self.narrows else None


def build(
    *,
    kinds: Sequence[str] | None = None,
    where: Mapping[Any, Any] | None = None,
    ids: Iterable[str] | None = None,
    source_ref: str | None = None,
) -> Filter:
    """Checks filters and makes one condition of them, ANDed.

    Raises:
        InvalidInputError: An unknown operator, a key or a value that cannot be compared.
    """
    parts: list[Condition] = []
    if ids is not None:
        if isinstance(ids, (str, bytes)) or not isinstance(ids, Iterable):
            raise InvalidInputError(f"ids must be an iterable of node ids (strings), got {ids!r}")
        parts.append(conditions.of_ids([check_name("a node id in ids", item) for item in ids]))
    if source_ref is not None:
        parts.append(conditions.of_source(check_name("source_ref", source_ref)))
    if where is not None:
        parts.append(_mapping(where, 1))
    narrows = bool(parts)
    if kinds is not None:
        parts.insert(0, conditions.of_kinds([check_name("kind", kind) for kind in kinds]))
    condition = conditions.all_of(parts)
    if condition.comparisons > MAX_COMPARISONS:
        raise InvalidInputError(
            f"the filter compares {condition.comparisons:,} times, more than {MAX_COMPARISONS:,}; "
            "use 'in' with a list for many values of one property"
        )
    return Filter(condition, narrows)


def check_name(what: str, value: object) -> str:
    """Refuses what no id, kind or source_ref can be; a text that merely does not exist is fine."""
    if not isinstance(value, str):
        raise InvalidInputError(f"{what} must be a string, got {type(value).__name__}: {value!r}")
    if "\0" in value:
        raise InvalidInputError(f"{what} must not contain a NUL character, got {value!r}")
    return check_utf8(what, value)


def check_utf8(what: str, value: str) -> str:
    """Refuses a lone surrogate, which cannot be looked for."""
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise InvalidInputError(
            f"{what} has a lone surrogate at character {error.start} ({value[error.start]!r}), "
            "which has no UTF-8"
        ) from None
    return value


def _mapping(where: Any, depth: int) -> Condition:
    if depth > MAX_DEPTH:
        raise InvalidInputError(f"the filter is nested more than {MAX_DEPTH} levels deep")
    if not isinstance(where, Mapping):
        raise InvalidInputError(
            f"where must be a mapping such as {{'lang': 'en'}}, got {type(where).__name__}: "
            f"{where!r}"
        )
    parts: list[Condition] = []
    for key, value in where.items():
        if key == "any":
            if not isinstance(value, (list, tuple)) or not value:
                raise InvalidInputError(
                    f"'any' takes a non-empty list of filters, got {value!r}; to filter a property "
                    "of that name write the key as ('any',)"
                )
            parts.append(conditions.any_of([_mapping(item, depth + 1) for item in value]))
        elif key == "not":
            parts.append(conditions.negate(_mapping(value, depth + 1)))
        else:
            parts.append(_property(key, value))
    return conditions.all_of(parts)


def _property(key: Any, value: Any) -> Condition:
    path = conditions.property_path(property_names("a key of where", key))
    if not isinstance(value, Mapping):
        return _equal(path, key, value)
    if not value:
        raise InvalidInputError(
            f"the filter of {key!r} is empty; use one of {', '.join(OPERATORS)}"
        )
    parts: list[Condition] = []
    for operator, operand in value.items():
        make = _OPERATORS.get(operator)
        if make is None:
            raise InvalidInputError(
                f"unknown operator {operator!r} in the filter of {key!r}; use one of "
                f"{', '.join(OPERATORS)}"
            )
        parts.append(make(path, key, operand))
    return conditions.all_of(parts)


def property_names(what: str, key: object) -> tuple[str, ...]:
    """The names on the way to a property: one, or a tuple of them for a nested one."""
    names = key if isinstance(key, tuple) else (key,)
    if not names or not all(isinstance(name, str) for name in names):
        raise InvalidInputError(f"{what} must be a property name or a tuple of names, got {key!r}")
    if any("\0" in name for name in names):
        raise InvalidInputError(f"{what} must not contain a NUL character, got {key!r}")
    return tuple(check_utf8(what, name) for name in names)


def _equal(path: str, key: Any, value: Any) -> Condition:
    if value is None:
        return conditions.is_null(path)
    if isinstance(value, bool):
        return conditions.is_boolean(path, value)
    if isinstance(value, (int, float)):
        return conditions.number(path, "=", _number(key, value))
    if isinstance(value, str):
        return conditions.text(path, "=", _text(key, value))
    raise InvalidInputError(
        f"the filter of {key!r} compares with {value!r}, a {type(value).__name__}; use a string, a "
        f"number, a boolean, None, or one of the operators {', '.join(OPERATORS)}"
    )


def _not_equal(path: str, key: Any, value: Any) -> Condition:
    return conditions.negate(_equal(path, key, value))


def _ordered(order: Order) -> Callable[[str, Any, Any], Condition]:
    def make(path: str, key: Any, value: Any) -> Condition:
        if isinstance(value, str):
            return conditions.text(path, order, _text(key, value))
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            return conditions.number(path, order, _number(key, value))
        raise InvalidInputError(
            f"the filter of {key!r} orders by {value!r}; only numbers and strings have an order"
        )

    return make


def _in(path: str, key: Any, values: Any) -> Condition:
    if isinstance(values, (str, bytes, Mapping)) or not isinstance(values, Iterable):
        raise InvalidInputError(f"'in' of {key!r} takes a list of values, got {values!r}")
    parts: list[Condition] = []
    texts: list[str] = []
    integers: list[int] = []
    for value in values:
        # Long lists are of strings or of whole numbers; each is one parameter, however long.
        if isinstance(value, str) and "\0" not in value:
            texts.append(_text(key, value))
        elif isinstance(value, int) and not isinstance(value, bool) and _is_64_bit(value):
            integers.append(value)
        else:
            parts.append(_equal(path, key, value))
    if texts:
        parts.append(conditions.one_of_texts(path, texts))
    if integers:
        parts.append(conditions.one_of_integers(path, integers))
    return conditions.any_of(parts)


def _exists(path: str, key: Any, value: Any) -> Condition:
    if not isinstance(value, bool):
        raise InvalidInputError(f"'exists' of {key!r} takes True or False, got {value!r}")
    return conditions.exists(path, value)


def _number(key: Any, value: float) -> float:
    if isinstance(value, int):
        if _is_64_bit(value):
            return value
        try:
            return float(value)
        except OverflowError:
            raise InvalidInputError(
                f"the filter of {key!r} compares with a number of {value.bit_length()} bits, more "
                "than a 64-bit float can hold"
            ) from None
    if not math.isfinite(value):
        raise InvalidInputError(f"the filter of {key!r} compares with {value!r}, which JSON lacks")
    return value


def _is_64_bit(value: int) -> bool:
    return -(1 << 63) <= value < 1 << 63


def _text(key: Any, value: str) -> str:
    return check_utf8(f"the filter of {key!r}", value)


_OPERATORS: Mapping[Any, Callable[[str, Any, Any], Condition]] = {
    "eq": _equal,
    "ne": _not_equal,
    **{name: _ordered(order) for name, order in _ORDERS.items()},
    "in": _in,
    "exists": _exists,
}
