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


@dataclass(frozen=True, slots=True)
class Filter:
    """A condition, and whether it asks for more than a kind: each kind has an index of its own."""

    condition: Condition
    narrows: bool

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
        wanted = [] if isinstance(ids, str) else [*ids]
        if isinstance(ids, str) or not all(isinstance(item, str) for item in wanted):
            raise InvalidInputError(f"ids must be an iterable of node ids (strings), got {ids!r}")
        parts.append(conditions.of_ids(_text("ids", item) for item in wanted))
    if source_ref is not None:
        if not isinstance(source_ref, str):
            raise InvalidInputError(f"source_ref must be a string, got {source_ref!r}")
        parts.append(conditions.of_source(_text("source_ref", source_ref)))
    if where is not None:
        parts.append(_mapping(where))
    narrows = bool(parts)
    if kinds is not None:
        parts.insert(0, conditions.of_kinds(kinds))
    return Filter(conditions.all_of(parts), narrows)


def _mapping(where: Any) -> Condition:
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
            parts.append(conditions.any_of([_mapping(item) for item in value]))
        elif key == "not":
            parts.append(conditions.negate(_mapping(value)))
        else:
            parts.append(_property(key, value))
    return conditions.all_of(parts)


def _property(key: Any, value: Any) -> Condition:
    names = key if isinstance(key, tuple) else (key,)
    if not names or not all(isinstance(name, str) for name in names):
        raise InvalidInputError(
            f"a key of where must be a property name or a tuple of names, got {key!r}"
        )
    path = conditions.property_path([_text("where", name) for name in names])
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
    return conditions.any_of([_equal(path, key, value) for value in values])


def _exists(path: str, key: Any, value: Any) -> Condition:
    if not isinstance(value, bool):
        raise InvalidInputError(f"'exists' of {key!r} takes True or False, got {value!r}")
    return conditions.exists(path, value)


def _number(key: Any, value: float) -> float:
    if not math.isfinite(value):
        raise InvalidInputError(f"the filter of {key!r} compares with {value!r}, which JSON lacks")
    if isinstance(value, int) and not -(1 << 63) <= value < 1 << 63:
        return float(value)
    return value


def _text(key: Any, value: str) -> str:
    try:
        value.encode()
    except UnicodeEncodeError:
        raise InvalidInputError(f"the filter of {key!r} has a lone surrogate: {value!r}") from None
    return value


_OPERATORS: Mapping[Any, Callable[[str, Any, Any], Condition]] = {
    "eq": _equal,
    "ne": _not_equal,
    **{name: _ordered(order) for name, order in _ORDERS.items()},
    "in": _in,
    "exists": _exists,
}
