"""Tables of Arrow, a piece at a time: by column where all of a piece can be read so, else by row."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fathomdb import _extras
from fathomdb.errors import InvalidInputError
from fathomdb.ingest import mapping
from fathomdb.records import Columns

if TYPE_CHECKING:
    from fathomdb.ingest.mapping import ColumnOf, VectorOf

ROWS_AT_ONCE = 1024
"""Rows that are gathered of an input that comes in smaller pieces."""
BYTES_AT_ONCE = 16 << 20
"""Bytes at most of what is gathered."""
DEEPEST = 64
"""Levels of a nested column that is read by column; of more, each value is looked at."""


@dataclass(frozen=True, slots=True)
class Table:
    """Rows of a pyarrow RecordBatch; ``before`` is how many rows of the input came before them."""

    batch: Any
    before: int = 0

    def __len__(self) -> int:
        return int(self.batch.num_rows)

    def piece(self, first: int, count: int) -> Table:
        """Some of the rows, without a copy."""
        return Table(self.batch.slice(first, count), self.before + first)

    def by_row(self) -> list[Mapping[str, Any]]:
        """The rows as mappings.

        Raises:
            InvalidInputError: A column has values that Python has no object for.
        """
        try:
            rows: list[Mapping[str, Any]] = self.batch.to_pylist()
        except (ValueError, OverflowError, NotImplementedError) as error:
            columns = ", ".join(f"{field.name!r}: {field.type}" for field in self.batch.schema)
            raise InvalidInputError(
                f"the rows of the table cannot be read: {error}; its columns are {columns}"
            ) from error
        return rows


# --- opening --------------------------------------------------------------------------------------


def is_arrow(records: Any) -> bool:
    """Whether an object exports a table or a stream of them, as those of many libraries do."""
    return not isinstance(records, type) and (
        hasattr(records, "__arrow_c_stream__") or hasattr(records, "__arrow_c_array__")
    )


def read(records: Any) -> Iterator[Table]:
    """The tables of whatever exports some.

    Raises:
        MissingExtraError: pyarrow, which reads them, is not installed.
        InvalidInputError: What is exported is no table, two of its columns have the same name, or the
            rows after those that were given cannot be read.
    """
    arrow = _extras.require("pyarrow", "parquet")
    _check_nul(records)
    try:
        # What is pyarrow's own need not leave it: on the way a name ends at a NUL.
        if isinstance(records, arrow.RecordBatchReader):
            reader = records
        elif isinstance(records, arrow.Table):
            reader = records.to_reader()
        elif isinstance(records, arrow.RecordBatch):
            reader = arrow.RecordBatchReader.from_batches(records.schema, [records])
        elif hasattr(records, "__arrow_c_stream__"):
            reader = arrow.RecordBatchReader.from_stream(records)
        else:
            batch = arrow.record_batch(records)
            reader = arrow.RecordBatchReader.from_batches(batch.schema, [batch])
    except (TypeError, arrow.ArrowException) as error:
        raise InvalidInputError(
            f"records is no table: {type(records).__name__} exports something else ({error})"
        ) from error
    mapping.check_columns(reader.schema.names, "the table")
    return _gathered(arrow, reader)


def _check_nul(records: Any) -> None:
    """Refuses a name that would arrive as another, where the library tells its names."""
    names = getattr(records, "columns", ())
    for name in names if isinstance(names, Iterable) else ():
        if isinstance(name, str) and "\0" in name:
            raise InvalidInputError(
                f"a column of the table is named {name!r}; a NUL character ends a name on its way "
                "here: rename the column"
            )


def _gathered(arrow: Any, reader: Any) -> Iterator[Table]:
    waiting: list[Any] = []
    rows = size = before = 0
    failure: Exception | None = None
    batches = iter(reader)
    while True:
        try:
            if (batch := next(batches, None)) is None:
                break
            if not batch.schema.equals(reader.schema):
                raise arrow.ArrowInvalid(
                    f"its columns are not those of the table but {batch.schema}"
                )
            # All of it: where an offset or an index leads outside, so would whoever follows it.
            batch.validate(full=True)
        except (arrow.ArrowException, OSError) as error:
            failure = error  # said after the rows that came before it
            break
        if not batch.num_rows:  # pyarrow cannot join every batch of no rows with others
            continue
        waiting.append(batch)
        rows, size = rows + batch.num_rows, size + batch.nbytes
        if rows >= ROWS_AT_ONCE or size >= BYTES_AT_ONCE:
            yield from _joined(arrow, waiting, before)
            before, rows, size, waiting = before + rows, 0, 0, []
    if waiting:
        yield from _joined(arrow, waiting, before)
    if failure is not None:
        raise InvalidInputError(
            f"the piece of the table that begins with row {before + rows + 1} cannot be read: "
            f"{failure}; what follows was not read"
        ) from failure


def _joined(arrow: Any, batches: list[Any], before: int) -> Iterator[Table]:
    if len(batches) > 1:
        batches = arrow.Table.from_batches(batches).combine_chunks().to_batches()
    for batch in batches:
        yield Table(batch, before)
        before += batch.num_rows


# --- by column ------------------------------------------------------------------------------------

ToColumns = Callable[[Table, str | None], Columns | None]
"""Says which columns are what of a record; None where the table is to be read by row.

The second argument is the source_ref that the records have of themselves.
"""


def build(
    *,
    kind: str | None,
    id: ColumnOf | None,  # noqa: A002 - the public name
    text: ColumnOf,
    properties: ColumnOf | None,
    source_ref: object,
    vector: VectorOf | None,
) -> ToColumns | None:
    """What reads tables by column, or None where a function is to see each record.

    What it makes must be what ``mapping.build`` makes of the rows. Whatever is not plain, down to a
    record that is wrong, is left to that: it knows what to say, and of which record.
    """
    if any(callable(given) for given in (id, text, properties, source_ref, vector)):
        return None
    ids = () if id is None else mapping.columns("id", id)
    texts = mapping.columns("text", text)
    kept = None if properties is None else mapping.kept_columns(properties)

    def to_columns(table: Table, source: str | None) -> Columns | None:
        batch, names = table.batch, set(table.batch.schema.names)
        optional = ids == (mapping.ID_COLUMN,)
        present = [name for name in texts if name in names]
        if not present or (not optional and not names.issuperset(ids)):
            return None
        if vector is not None and vector not in names:
            return None
        the_kind = kind if kind is not None else _only(batch, mapping.KIND_COLUMN)
        if the_kind is None:
            return None
        used = {*ids, *texts, vector, *(() if kind is not None else (mapping.KIND_COLUMN,))}
        wanted = [name for name in batch.schema.names if name not in used] if kept is None else kept
        given = [(name, _plain(batch.column(name))) for name in wanted if name in names]
        id_arrays = [_plain(batch.column(name)) for name in ids if name in names]
        text_arrays = [_plain(batch.column(name)) for name in present]
        arrays = [*id_arrays, *text_arrays, *(plain for _, plain in given)]
        if any(plain is None for plain in arrays) or any(
            plain.is_json for plain in [*id_arrays, *text_arrays] if plain is not None
        ):
            return None
        if any("\0" in str(batch.schema.field(name)) for name, _ in given):
            return None  # no name of a property
        vectors = None if vector is None else _vectors(batch.column(vector))
        if vector is not None and vectors is None:
            return None
        return Columns(
            rows=len(table),
            kind=the_kind,
            source_ref=source if source_ref is None else source_ref,  # type: ignore[arg-type]
            ids=[plain.array for plain in id_arrays if plain is not None],
            id_is_optional=optional,
            texts=[plain.array for plain in text_arrays if plain is not None],
            text_bytes=sum(plain.array.nbytes for plain in text_arrays if plain is not None),
            keys=[_json(name) for name, _ in given],
            properties=[plain.array for _, plain in given if plain is not None],
            are_json=[plain.is_json for _, plain in given if plain is not None],
            vectors=None if vectors is None else vectors[0],
            vector_rows=[] if vectors is None else vectors[1],
        )

    return to_columns


def _only(batch: Any, name: str) -> str | None:
    """The one text that a column has in every row."""
    found = set(batch.column(name).to_pylist()) if name in batch.schema.names else set()
    value = found.pop() if len(found) == 1 else None
    return value if isinstance(value, str) else None


@dataclass(frozen=True, slots=True)
class _Plain:
    """An array of one of the few types that are read by column; ``is_json``: texts are JSON."""

    array: Any
    is_json: bool = False


def _plain(column: Any) -> _Plain | None:
    arrow = _extras.require("pyarrow", "parquet")
    try:
        return _as_plain(arrow, column)
    except (TypeError, ValueError, OverflowError, NotImplementedError, arrow.ArrowException):
        return None  # JSON has no such value, which by row is said of its record; or pyarrow is old


def _as_plain(arrow: Any, column: Any) -> _Plain | None:
    types = arrow.types
    if types.is_dictionary(column.type):
        column = column.dictionary_decode()
    of = column.type
    if types.is_null(of) or types.is_boolean(of) or types.is_uint64(of):
        return _Plain(column)
    if types.is_integer(of):
        return _Plain(column.cast(arrow.int64()))
    if types.is_floating(of):
        return _Plain(column.cast(arrow.float64()))
    if types.is_string(of) or types.is_large_string(of) or types.is_string_view(of):
        return _Plain(column.cast(arrow.large_string()))
    if _depth(of) > DEEPEST:
        return None
    # Nested, or a type whose values may be no JSON: objects for this column's cells, not for all.
    texts = [None if value is None else _json(value) for value in column.to_pylist()]
    return _Plain(arrow.array(texts, arrow.large_string()), is_json=True)


def _depth(of: Any) -> int:
    return 1 + max((_depth(of.field(n).type) for n in range(of.num_fields)), default=0)


_json = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode
"""JSON as the properties of a record are written."""


def _vectors(column: Any) -> tuple[Any, list[int]] | None:
    """A column of vectors as one NumPy array, without a copy, and the rows that they are of."""
    types = _extras.require("pyarrow", "parquet").types
    of = column.type
    if types.is_fixed_size_list(of):
        dimension = of.list_size
    elif types.is_list(of) or types.is_large_list(of):
        sizes = [size for size in column.value_lengths().unique().to_pylist() if size is not None]
        if len(sizes) != 1:
            return None
        dimension = sizes[0]
    else:
        return None
    values = column.flatten()
    if not dimension or not types.is_floating(of.value_type) or values.null_count:
        return None
    valid = column.is_valid().to_pylist() if column.null_count else [True] * len(column)
    return values.to_numpy().reshape(-1, dimension), [n for n, there in enumerate(valid) if there]
