"""``fathomdb ingest``: files and folders into a database, to the last vector."""

from __future__ import annotations

import math
import os
import re
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import click

from fathomdb._extras import install_command
from fathomdb.cli import database, exits, formats
from fathomdb.cli.messages import say
from fathomdb.errors import InvalidInputError
from fathomdb.ingest import files

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fathomdb.cli.bars import Bars
    from fathomdb.cli.projecting import Projecting
    from fathomdb.engine import Engine
    from fathomdb.ingest.report import IngestProgress, IngestReport
    from fathomdb.ingest.stream import RecordStream
    from fathomdb.records import DrainReport

SHOWN_ERRORS = 5


@click.command("ingest", short_help="Write files and folders, and make their vectors.")
@click.argument("paths", metavar="PATH...", nargs=-1, required=True)
@database.db_option
@click.option("--kind", help="The kind of all records. Default: each has it in a column kind.")
@database.embedder_option
@click.option(
    "--id",
    "id_columns",
    metavar="COL",
    multiple=True,
    help="The column of ids; several are joined by a slash. Default: id, and where there is none, "
    "an id made from the text.",
)
@click.option(
    "--text",
    "text_columns",
    metavar="COL",
    multiple=True,
    help="The column of the text; several are joined by a blank line. Default: text.",
)
@click.option(
    "--on-error",
    type=click.Choice(["raise", "collect"]),
    default="raise",
    show_default=True,
    help="At a bad record, stop, or go on and list them at the end.",
)
@click.option(
    "--vector",
    "vector_column",
    metavar="COLUMN",
    help="A column of ready vectors, of the model that the database has.",
)
@click.option("--prune", is_flag=True, help="Retire what came from a PATH before and is gone.")
@click.option("--no-wait", is_flag=True, help="Write only; fathomdb drain makes the vectors.")
@database.json_option
def command(
    *,
    paths: tuple[str, ...],
    path: str,
    kind: str | None,
    embedder: str | None,
    id_columns: tuple[str, ...],
    text_columns: tuple[str, ...],
    vector_column: str | None,
    on_error: Literal["raise", "collect"],
    prune: bool,
    no_wait: bool,
    as_json: bool,
) -> int:
    """Write files and folders into a database, and make their vectors.

    Text and Markdown files are a record each; JSON lines, CSV, TSV and Parquet files have a record
    a line or row. The same input again changes nothing and embeds nothing, so after Ctrl-C, run the
    same command again.
    """
    job = _Job(path=path, inputs=_inputs(paths, prune=prune))
    columns: dict[str, Any] = {
        name: [*given] for name, given in (("id", id_columns), ("text", text_columns)) if given
    }
    if vector_column is not None:
        columns["vector"] = vector_column
    try:
        with database.own(path, embedder, background=not no_wait) as db:
            _run(
                db,
                job,
                columns,
                kind=kind,
                embedder=embedder,
                on_error=on_error,
                wait=not no_wait,
            )
    except InvalidInputError as error:
        raise InvalidInputError(_in_options(str(error))) from error
    except KeyboardInterrupt:
        say(_stopped(job))
        return exits.INTERRUPTED
    if as_json:
        _print_json(job)
    else:
        _print_summary(job, paths)
    _print_messages(job, no_wait=no_wait)
    return exits.PROBLEM if job.count("error_count") or job.failed_now or job.stuck else exits.DONE


@dataclass(slots=True)
class _Job:
    """What is ingested, and what has come of it."""

    path: str
    inputs: list[tuple[str | None, RecordStream]]
    reports: list[IngestReport] = field(default_factory=list)
    # What no report has yet, since an ingest that is stopped returns none.
    records_now: int = 0
    written: bool = False
    write_seconds: float = 0.0
    projected: int = 0
    project_seconds: float = 0.0
    drained: DrainReport | None = None
    pending: int = 0
    failed: int = 0
    failed_now: int = 0
    no_model: str | None = None

    def count(self, name: str) -> int:
        """A count of the reports, summed."""
        return sum(getattr(report, name) for report in self.reports)

    @property
    def stuck(self) -> bool:
        """Whether projecting ended early."""
        return self.drained is not None and self.drained.stopped_by != "idle"


def _inputs(paths: Sequence[str], *, prune: bool) -> list[tuple[str | None, RecordStream]]:
    """Streams with the source to prune: of one path each, since each is a source of its own."""
    if not prune:
        return [(None, files.open_records(paths))]
    sources = dict.fromkeys(os.path.normpath(path) for path in paths)
    return [(source, files.open_records(source)) for source in sources]


def _run(
    db: Engine,
    job: _Job,
    columns: dict[str, Any],
    *,
    kind: str | None,
    embedder: str | None,
    on_error: Literal["raise", "collect"],
    wait: bool,
) -> None:
    from fathomdb.cli.bars import Bars
    from fathomdb.cli.projecting import Projecting, settle

    runtime = db._runtime
    has_model = runtime.model is not None
    if not has_model and embedder != database.NO_EMBEDDER:
        job.no_model = (
            "no embedding model is configured; to find by meaning too, run the same command with "
            f"--embedder static (needs {install_command('static')}) or --embedder hashing"
            if db.admin.status().active_profile is None
            else runtime.no_model.reason
        )
    with Bars() as bars:
        began = time.monotonic()
        writing = bars.begin("Writing", "records", _total_bytes(job))
        projecting = Projecting(db, bars) if wait and has_model else None
        for source, stream in job.inputs:
            report = db.ingest(
                stream,
                kind=kind,
                on_error=on_error,
                prune_source=source,
                progress=_Progress(job, bars, writing, projecting),
                **columns,
            )
            job.records_now = 0
            job.reports.append(report)
        job.written = True
        job.write_seconds = time.monotonic() - began
        bars.end(writing)
        if projecting is not None:
            projecting.owe(job.count("enqueued"))
            job.drained = settle(db, math.inf)
            projecting.end()
            job.projected = projecting.done - projecting.failed
            job.failed_now = projecting.failed
            job.project_seconds = time.monotonic() - began
    status = db.admin.status()
    job.pending, job.failed = status.pending, status.failed


def _total_bytes(job: _Job) -> int | None:
    return sum(stream.total_bytes or 0 for _, stream in job.inputs) or None


class _Progress:
    """Moves the bars after each batch."""

    def __init__(self, job: _Job, bars: Bars, bar: Any, projecting: Projecting | None) -> None:
        self._job = job
        self._bars = bars
        self._bar = bar
        self._projecting = projecting
        self._records = job.count("records")
        self._enqueued = job.count("enqueued")
        streams = [stream for _, stream in job.inputs[: len(job.reports)]]
        self._bytes = sum(stream.total_bytes or 0 for stream in streams)

    def __call__(self, progress: IngestProgress) -> None:
        self._job.records_now = progress.records
        self._bars.update(
            self._bar,
            completed=self._bytes + (progress.bytes_read or 0),
            count=self._records + progress.records,
        )
        if self._projecting is not None:
            self._projecting.owe(self._enqueued + progress.chunks)


# --- what is said at the end ----------------------------------------------------------------------


def _stopped(job: _Job) -> str:
    again = "run the same command again to go on"
    if not job.written:
        read = job.count("records") + job.records_now
        return f"Stopped; what is written stays ({formats.counted(read, 'record')} read); {again}."
    return (
        f"Stopped; all records are written, and not all vectors are made: {again}, or "
        f"fathomdb drain --db {job.path}"
    )


def _skipped(job: _Job) -> dict[str, int]:
    total: Counter[str] = Counter()
    for report in job.reports:
        total.update(report.skipped)
    return dict(total)


_COUNTS = (
    "records",
    "written",
    "unchanged",
    "duplicates",
    "without_text",
    "retired",
    "chunks",
    "enqueued",
    "error_count",
)


def _print_json(job: _Job) -> None:
    from fathomdb.cli import terminal
    from fathomdb.records import to_plain

    terminal.print_json(
        {
            **{name: job.count(name) for name in _COUNTS},
            "errors": [to_plain(error) for report in job.reports for error in report.errors],
            "skipped": _skipped(job),
            "write_seconds": job.write_seconds,
            "projected": job.projected,
            "project_seconds": job.project_seconds,
            "pending": job.pending,
            "failed": job.failed,
        }
    )


def _print_summary(job: _Job, paths: Sequence[str]) -> None:
    from fathomdb.cli import terminal

    console = terminal.out()
    what = formats.printable(paths[0]) if len(paths) == 1 else f"{len(paths)} paths"
    seconds = formats.duration(max(job.write_seconds, job.project_seconds))
    console.print(f"Ingested {what} into {formats.printable(job.path)} in {seconds}")
    grid = terminal.facts()
    grid.add_column(style="dim")
    records, chunks = job.count("records"), job.count("chunks")
    rows = [
        ("records", records, formats.rate(records, job.write_seconds)),
        ("  written", job.count("written"), "new or changed"),
        ("  unchanged", job.count("unchanged"), ""),
        ("  the same id", job.count("duplicates"), "the last one of them is written"),
        ("  with errors", job.count("error_count"), "not written"),
        ("without text", job.count("without_text"), "found by id and properties only"),
        ("retired", job.count("retired"), "not in the input any more"),
        ("chunks", chunks, formats.rate(chunks, job.write_seconds) if chunks else "none changed"),
    ]
    if job.drained is not None:
        rows.append(("vectors", job.projected, formats.rate(job.projected, job.project_seconds)))
    rows += [
        ("vectors waiting", job.pending, ""),
        ("vectors failed", job.failed, ""),
        *((f"skipped: {reason}", files_, "") for reason, files_ in sorted(_skipped(job).items())),
    ]
    grid.columns[1].justify = "right"
    for name, number, note in rows:
        if number or name in ("records", "chunks", "vectors"):
            grid.add_row(name, f"{number:,}", note)
    console.print(grid)


def _in_options(message: str) -> str:
    """What the library says of its parameters, said of this command's options."""
    message = re.sub(r"\b(pass|with) (kind|id|text)=(?=[ ,;)]|$)", r"\1 --\2", message)
    return message.replace("on_error='collect'", "--on-error collect")


def _print_messages(job: _Job, *, no_wait: bool) -> None:
    for line in _messages(job, no_wait=no_wait):
        say(line)


def _messages(job: _Job, *, no_wait: bool) -> list[str]:
    lines = []
    total = job.count("error_count")
    errors = [error for report in job.reports for error in report.errors][:SHOWN_ERRORS]
    if total:
        lines.append(f"{formats.counted(total, 'record was', 'records were')} not written:")
        lines += [
            f"  record {error.record_number:,}: {formats.printable(_in_options(error.message))}"
            for error in errors
        ]
        if total > len(errors):
            lines.append(f"  and {total - len(errors):,} more (--json lists the first 1,000)")
    if job.no_model is not None:
        lines.append(f"Found by words only: {job.no_model}.")
    elif job.stuck:
        lines.append(
            f"The embedder is away, so {formats.counted(job.pending, 'vector')} are still to be "
            f"made; when it is back: fathomdb drain --db {job.path}"
        )
    elif no_wait and job.pending:
        lines.append(
            f"{formats.counted(job.pending, 'vector')} still to be made: "
            f"fathomdb drain --db {job.path}"
        )
    if job.failed:
        lines.append(
            f"{formats.counted(job.failed, 'vector')} could not be made; see "
            f"fathomdb status --db {job.path}"
        )
    return lines
