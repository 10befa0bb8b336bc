"""``make demo``: ingest 2,013 tool descriptions, ask for tools, measure what is found.

Run from the root of the repository: ``python -m demo [--db FOLDER] [--embedder SPEC] [--svg FILE]``.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.table import Table

import fathomdb
from demo import corpus, measure
from demo.measure import quality, quantile

if TYPE_CHECKING:
    from collections.abc import Sequence

    from demo.corpus import Corpus, Query
    from demo.measure import Quality

Mode = Literal["text", "semantic", "hybrid"]
MODES: tuple[Mode, ...] = ("text", "semantic", "hybrid")

ROOT = Path(__file__).resolve().parent.parent
WHEEL = ROOT / ".cache" / corpus.WHEEL_NAME
DATABASE_NAME = "tools.db"
TOOL, REQUEST = "Tool", "Request"

# Shown with their hits.
ASKED = (
    "What is the function of ATP synthase in mitochondria?",
    "Can you give me the height and width of Empire State building in feet?",
    "Convert 150 Euros to Canadian dollars.",
)
SHOWN_HITS = 3
WRITE_BATCH = 128
FRESH_WRITES = 200
PROJECTION_TIMEOUT_SECONDS = 300.0
SVG_WIDTH = 100


class DemoError(Exception):
    """The demo cannot go on; the message says why."""


@dataclass(frozen=True, slots=True)
class Ingested:
    """How long the main job took, from the first record to the last vector."""

    documents: int
    vectors: int
    write_seconds: float
    total_seconds: float


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the demo; returns the exit status."""
    options = _parser().parse_args(arguments)
    # What is animated is not recorded: a picture has no frames.
    live = Console(stderr=True)
    report = Console(record=options.svg is not None, width=SVG_WIDTH if options.svg else None)
    try:
        _run(options.db, options.embedder, live, report)
    except (corpus.CorpusError, DemoError, fathomdb.FathomError) as error:
        live.print(f"[bold red]error:[/] {error}", highlight=False)
        return 1
    if options.svg is not None:
        options.svg.parent.mkdir(parents=True, exist_ok=True)
        report.save_svg(str(options.svg), title="make demo")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m demo", description=__doc__)
    parser.add_argument(
        "--db",
        type=Path,
        default=Path(".demo") / "data",
        metavar="FOLDER",
        help="where the database goes; made anew (default: %(default)s)",
    )
    parser.add_argument(
        "--embedder",
        default="static",
        metavar="SPEC",
        help="a plugin's name, or name:model, such as onnx:FOLDER (default: %(default)s)",
    )
    parser.add_argument("--svg", type=Path, metavar="FILE", help="save the output as a picture")
    return parser


def _run(folder: Path, embedder: str, live: Console, report: Console) -> None:
    tools = corpus.load(WHEEL)
    path = _fresh_database(folder)
    report.print(
        f"[bold]FathomDB {fathomdb.__version__}:[/] {len(tools.documents):,} tool descriptions and "
        f"{len(tools.queries):,} user requests of bfcl-eval (Apache-2.0)\n",
        highlight=False,
    )
    with fathomdb.open(path, embedder=embedder) as db:
        ingested = _ingest(db, tools, live, report)
        relevant = {query.text: frozenset(query.relevant) for query in tools.queries}
        for text in ASKED:
            report.print(f'[bold]"{text}"[/]', highlight=False)
            report.print(_hits_table(db, text, relevant[text]))
        found = {mode: _quality(db, tools.queries, mode, live) for mode in MODES}
        report.print(
            f"[bold]The right tools found, over {len(tools.queries):,} requests[/]", highlight=False
        )
        report.print(_quality_table(found))
        delays = _freshness(db, tools.queries[:FRESH_WRITES], live)
        report.print("[bold]Rates and freshness[/]")
        report.print(_rates_table(ingested, delays))
    command = Path(sys.executable).with_name("fathomdb")
    shown = command.relative_to(Path.cwd()) if command.is_relative_to(Path.cwd()) else "fathomdb"
    report.print(f"Go on:  {shown} search weather tomorrow --db {path}", highlight=False)


def _fresh_database(folder: Path) -> Path:
    """A path for a new database in ``folder``, which is emptied if it is one of ours."""
    path = folder / DATABASE_NAME
    if folder.exists() and any(folder.iterdir()):
        if not path.exists():
            raise DemoError(f"{folder} has other files in it; choose another with --db")
        shutil.rmtree(folder)
    folder.mkdir(parents=True, exist_ok=True)
    return path


# --- the main job ---------------------------------------------------------------------------------


def _progress(live: Console) -> Progress:
    return Progress(
        TextColumn("{task.description:<11}"),
        BarColumn(bar_width=40),
        MofNCompleteColumn(),
        TextColumn("{task.elapsed:.1f} s"),
        console=live,
        transient=True,
    )


def _ingest(db: fathomdb.Engine, tools: Corpus, live: Console, report: Console) -> Ingested:
    progress = _progress(live)
    writing = progress.add_task("writing", total=len(tools.documents))
    projecting = progress.add_task("projecting", total=None)

    def on_batch(sofar: fathomdb.IngestProgress) -> None:
        progress.update(writing, completed=sofar.records)

    started = time.perf_counter()
    with progress:
        written = db.ingest(
            map(asdict, tools.documents),
            kind=TOOL,
            id="key",
            batch_size=WRITE_BATCH,
            progress=on_batch,
        )
        write_seconds = time.perf_counter() - started
        progress.update(projecting, total=written.chunks)
        deadline = started + PROJECTION_TIMEOUT_SECONDS
        while (waiting := _waiting(db)) > 0:
            if time.perf_counter() > deadline:
                raise DemoError(f"{waiting} vectors are still missing; see `fathomdb status`")
            progress.update(projecting, completed=written.chunks - waiting)
            time.sleep(0.02)
        progress.update(projecting, completed=written.chunks)
        total_seconds = time.perf_counter() - started
    report.print(progress.get_renderable())
    report.print()
    return Ingested(len(tools.documents), written.chunks, write_seconds, total_seconds)


def _waiting(db: fathomdb.Engine) -> int:
    """Chunks of tools that have no vector yet.

    Raises:
        DemoError: Some never will.
    """
    status = db.admin.get_vec_index_status(TOOL)
    if status.failed:
        raise DemoError(f"{status.failed} texts could not be embedded: {status.last_error}")
    return status.pending_incremental + status.pending_backfill + status.inflight


def _hits_table(db: fathomdb.Engine, text: str, relevant: frozenset[str]) -> Table:
    table = Table(box=box.SIMPLE, show_header=False, padding=(0, 1), expand=True)
    table.add_column(width=1, style="bold green")  # the right ones
    table.add_column(justify="right", no_wrap=True)
    table.add_column(no_wrap=True, style="cyan")
    table.add_column(no_wrap=True, overflow="ellipsis", ratio=1)
    table.add_column(no_wrap=True, style="dim")
    for hit in db.search(text, kind=TOOL, limit=SHOWN_HITS):
        tool = hit.properties or {}
        table.add_row(
            "✓" if hit.node_id in relevant else "",
            f"{hit.score:.3f}",
            escape(tool["name"]),
            escape(tool["description"]),
            " + ".join(hit.arms),
        )
    return table


# --- how good, how fast, how fresh ----------------------------------------------------------------


def _quality(
    db: fathomdb.Engine, queries: Sequence[Query], mode: Mode, live: Console
) -> tuple[Quality, float]:
    """The quality of one mode over all queries, and the median milliseconds of a search."""
    rankings: dict[str, list[str]] = {}
    seconds: list[float] = []
    with _progress(live) as progress:
        for query in progress.track(queries, description=mode):
            started = time.perf_counter()
            result = db.search(query.text, kind=TOOL, limit=measure.DEPTH, mode=mode)
            seconds.append(time.perf_counter() - started)
            if result.degraded is not None:
                raise DemoError(f"a {mode} search was degraded: {result.degraded}")
            rankings[query.query_id] = [hit.node_id for hit in result]
    return quality(queries, rankings), 1000 * quantile(seconds, 0.5)


def _quality_table(found: dict[Mode, tuple[Quality, float]]) -> Table:
    table = Table(box=box.SIMPLE, header_style="dim")
    table.add_column("search", style="cyan")
    for heading in ("nDCG@10", "recall@100", f"median ms for {measure.DEPTH} hits"):
        table.add_column(heading, justify="right")
    for mode, (means, milliseconds) in found.items():
        table.add_row(
            mode,
            f"{means.ndcg_at_10:.3f}",
            f"{means.recall_at_100:.3f}",
            f"{milliseconds:.1f}",
        )
    return table


def _freshness(db: fathomdb.Engine, queries: Sequence[Query], live: Console) -> list[float]:
    """Seconds from a write's return to the text being found by its meaning, one write at a time."""
    delays = []
    with _progress(live) as progress:
        for number, query in enumerate(progress.track(queries, description="freshness")):
            node_id = f"request-{number}"
            receipt = db.write(fathomdb.Node(REQUEST, node_id, query.text))
            started = time.perf_counter()
            waited = db.wait(receipt)
            delays.append(time.perf_counter() - started)
            seen = db.semantic_search(query.text, kind=REQUEST, ids=[node_id], limit=1)
            if not waited.complete or [hit.node_id for hit in seen] != [node_id]:
                raise DemoError(f"{node_id} is not visible: {waited.reason or 'not found'}")
    return delays


def _rates_table(ingested: Ingested, delays: Sequence[float]) -> Table:
    table = Table(box=box.SIMPLE, show_header=False)
    table.add_column(style="cyan")
    table.add_column(justify="right")
    table.add_row(
        "written, findable by words",
        f"{ingested.documents / ingested.write_seconds:,.0f} documents/s",
    )
    table.add_row(
        "written and projected, findable by meaning",
        f"{ingested.vectors / ingested.total_seconds:,.0f} vectors/s",
    )
    for fraction in (0.5, 0.99):
        table.add_row(
            f"a single write found by meaning, p{100 * fraction:.0f} of {len(delays)}",
            f"{1000 * quantile(delays, fraction):.1f} ms",
        )
    return table


if __name__ == "__main__":
    sys.exit(main())
