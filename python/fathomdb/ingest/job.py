"""One ingest from its arguments: the input opened, the mapping built, what contradicts refused."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

from fathomdb.errors import InvalidInputError
from fathomdb.ingest import files, mapping, run, stream, table
from fathomdb.ingest.stream import Record, RecordStream

if TYPE_CHECKING:
    from fathomdb.ingest.mapping import ColumnOf, VectorOf
    from fathomdb.ingest.report import IngestReport, Progress
    from fathomdb.ingest.run import OnError, Target

Records = Iterable[Record] | str | os.PathLike[str] | RecordStream
"""What can be ingested; whatever exports tables of Arrow too."""
SourceOf = str | Callable[[Mapping[str, Any]], str | None]
"""A source_ref for all records, or a function of the record."""


def ingest(
    records: Records,
    target: Target,
    *,
    kind: str | None,
    id: ColumnOf | None,  # noqa: A002 - the public name
    text: ColumnOf,
    properties: ColumnOf | None,
    source_ref: SourceOf | None,
    vector: VectorOf | None,
    on_error: OnError,
    prune_source: str | None,
    batch_size: int,
    progress: Progress | None,
) -> IngestReport:
    """Ingests records, as ``Engine.ingest`` describes it."""
    if kind is not None:
        _check_name("kind", kind)
    if source_ref is not None and not callable(source_ref):
        _check_name("source_ref", source_ref)
    if prune_source is not None:
        _check_name("prune_source", prune_source)
        if source_ref is None:
            source_ref = prune_source
        elif not callable(source_ref) and source_ref != prune_source:
            raise InvalidInputError(
                f"prune_source={prune_source!r} would retire all of that source, since these "
                f"records are of source_ref={source_ref!r}; pass the same for both"
            )
    to_node = mapping.build(
        kind=kind, id=id, text=text, properties=properties, source_ref=source_ref, vector=vector
    )
    to_columns = table.build(
        kind=kind, id=id, text=text, properties=properties, source_ref=source_ref, vector=vector
    )
    options = run.Options(kind, on_error, prune_source, batch_size, progress)
    return run.run(_opened(records), to_node, to_columns, target, options)


def _check_name(what: str, value: object) -> None:
    if not isinstance(value, str) or not value:
        raise InvalidInputError(f"{what} must be a string that is not empty, got {value!r}")


def _opened(records: Records) -> RecordStream:
    if isinstance(records, RecordStream):
        return records
    if isinstance(records, (str, os.PathLike)):
        return files.open_records(records)
    return stream.of_records(records)
