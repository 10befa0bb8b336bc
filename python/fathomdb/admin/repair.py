"""Repair: what a check finds is put right, as far as the file itself has what is needed for it."""

from __future__ import annotations

import contextlib
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fathomdb import _native
from fathomdb.actors.actor import logger
from fathomdb.admin import integrity
from fathomdb.errors import ReadOnlyError, StorageError
from fathomdb.store import fts, indexes, reconcile, repair, reuse
from fathomdb.store.findings import ADVICE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from fathomdb.actors.runtime import Runtime
    from fathomdb.actors.writer import Operation, T
    from fathomdb.admin.integrity import IntegrityReport
    from fathomdb.store.findings import Finding
    from fathomdb.store.transaction import Transaction

BATCH = 256
"""Chunks, nodes or vectors that one transaction puts right: a write never waits for long."""
MOST_PASSES = 6
"""What is wrong with a table hides what is wrong with its rows; deeper than this nothing hangs."""


@dataclass(frozen=True, slots=True)
class Repaired:
    """A finding, and what was done about it, in words."""

    finding: Finding
    done: str


@dataclass(frozen=True, slots=True)
class Remaining:
    """A finding that is still there, and what can be done about it."""

    finding: Finding
    advice: str


@dataclass(frozen=True, slots=True)
class RepairReport:
    """What a repair did; ``ok`` where a check now finds nothing.

    ``found`` counts by code what was wrong at first, ``repaired`` what was put right, which may be
    more: what is wrong with a table hides what is wrong with its rows. ``done`` says of at most 100
    of each code what was done. ``remaining`` are those that a last check, ``integrity``, still
    finds, at most 100 of each code.
    """

    ok: bool
    found: Mapping[str, int]
    repaired: Mapping[str, int]
    done: tuple[Repaired, ...]
    remaining: tuple[Remaining, ...]
    integrity: IntegrityReport
    seconds: float


def run(runtime: Runtime, progress: Callable[[int, int], None] | None) -> RepairReport:
    """Checks and puts right in turns, until a check finds nothing that can be put right."""
    if runtime.read_only:
        raise ReadOnlyError(
            f"{runtime.path} was opened with read_only=True; open it for writing to repair it"
        )
    began = runtime.config.clock.monotonic()
    repairs = _Repairs(runtime)
    found: Mapping[str, int] | None = None
    for _ in range(MOST_PASSES):
        before = repairs.count
        report = integrity.look(runtime, progress, repairs.hear)
        found = report.found if found is None else found
        repairs.finish()
        if repairs.count == before:
            break
    else:
        report = integrity.check(runtime, progress)
    return RepairReport(
        ok=report.ok,
        found=found or {},
        repaired=dict(repairs.repaired),
        done=tuple(repairs.done),
        remaining=tuple(Remaining(found, ADVICE[found.code]) for found in report.findings),
        integrity=report,
        seconds=runtime.config.clock.monotonic() - began,
    )


_OF_CHUNKS = frozenset(
    {
        "chunk_hash",
        "vector_not_owed",
        "work_row",
        "work_hash",
        "work_kind",
        "work_not_wanted",
        "work_attempts",
        "work_due",
        "ledger_hash",
        "ledger_content",
        "ledger_not_wanted",
        "ledger_without_vector",
        "vector_values",
        "vector_length",
    }
)
_OF_NODES = frozenset({"chunk_order", "chunk_offsets"})
_OF_TEXT = frozenset(
    {"text_row_missing", "text_row_orphaned", "text_index", "text_settings", "text_rebuild"}
)


class _Repairs:
    """Hears findings one by one and puts them right in batches; memory does not grow with them."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._limits = integrity.limits(runtime)
        self._chunks: list[Finding] = []
        self._nodes: list[Finding] = []
        self._strays: list[Finding] = []
        self._cached: list[Finding] = []
        self._text: list[Finding] = []
        self._text_found: Counter[str] = Counter()
        # What one operation puts right as a whole is done once a pass, whoever asks.
        self._wholes: dict[tuple[str, str], str | None] = {}
        self.repaired: Counter[str] = Counter()
        self.done: list[Repaired] = []

    @property
    def count(self) -> int:
        """Findings that were put right so far."""
        return self.repaired.total()

    def hear(self, finding: Finding) -> None:
        """Puts a finding right, now or with others of its sort."""
        if finding.code in _OF_TEXT or _is_of_text(finding):
            self._text_found[finding.code] += 1
            if self._text_found[finding.code] <= integrity.FINDINGS_PER_CODE:
                self._text.append(finding)
        elif finding.code in _OF_CHUNKS:
            self._gather(self._chunks, finding, self._flush_chunks)
        elif finding.code in _OF_NODES:
            self._gather(self._nodes, finding, self._flush_nodes)
        elif finding.code == "vector_without_ledger":
            self._gather(self._strays, finding, self._flush_strays)
        elif finding.code in ("cache_vector", "cache_live"):
            self._gather(self._cached, finding, self._flush_cached)
        elif (done := self._whole(finding)) is not None:
            self._note(finding, done)
        elif finding.code == "work_fence":  # not even a number that a fence can be
            self._gather(self._chunks, finding, self._flush_chunks)

    def finish(self) -> None:
        """Puts right what still waits for others of its sort, and the full-text index at last."""
        self._flush_chunks()
        self._flush_nodes()
        self._flush_strays()
        self._flush_cached()
        if self._text:
            self._make_text_again()
        self._wholes.clear()

    def _gather(self, batch: list[Finding], finding: Finding, flush: Callable[[], None]) -> None:
        batch.append(finding)
        if len(batch) >= BATCH:
            flush()

    def _note(self, finding: Finding, done: str) -> None:
        self.repaired[finding.code] += 1
        if self.repaired[finding.code] <= integrity.FINDINGS_PER_CODE:
            self.done.append(Repaired(finding, done))

    # --- rows -------------------------------------------------------------------------------------

    def _flush_chunks(self) -> None:
        batch, self._chunks[:] = [*self._chunks], []
        chunk_ids = {finding.chunk_id for finding in batch if finding.chunk_id is not None}

        def operation(tx: Transaction) -> dict[str, list[str]]:
            keys = reconcile.keys_of(tx.db, chunk_ids)
            done = reconcile.reconcile(tx, [*keys.values()], self._limits)
            return {name: done[key] for name, key in keys.items() if key in done}

        with self._unless_damaged():
            done = self._write(operation, len(batch))
            for finding in batch:
                # One that is gone was rewritten or retired since: nothing of it is wrong any more.
                if finding.chunk_id is not None and finding.chunk_id in done:
                    said = "; ".join(dict.fromkeys(done[finding.chunk_id]))
                    self._note(finding, said or repair.RIGHT_ALREADY)

    def _flush_nodes(self) -> None:
        batch, self._nodes[:] = [*self._nodes], []
        node_ids = {finding.node_id for finding in batch if finding.node_id is not None}
        with self._unless_damaged():
            done = self._write(lambda tx: repair.places(tx, node_ids), len(batch))
            for finding in batch:
                if finding.node_id in done:
                    self._note(finding, done[finding.node_id])

    def _flush_strays(self) -> None:
        batch, self._strays[:] = [*self._strays], []
        of_table: dict[str, list[Finding]] = {}
        for finding in batch:
            of_table.setdefault(finding.table, []).append(finding)
        for table, findings in of_table.items():

            def operation(
                tx: Transaction, table: str = table, findings: list[Finding] = findings
            ) -> list[int]:
                index = indexes.of_table(tx.db, table)
                if index is None:
                    return []
                keys = [finding.key for finding in findings if finding.key is not None]
                strays = reconcile.remove_strays(tx, *index, keys)
                # A chunk whose vector that was may be owed one.
                reconcile.reconcile(tx, strays, self._limits)
                return strays

            with self._unless_damaged():
                removed = set(self._write(operation, len(findings)))
                for finding in findings:
                    if finding.key in removed:
                        self._note(finding, "the vector was removed")

    def _flush_cached(self) -> None:
        batch, self._cached[:] = [*self._cached], []
        positions = [finding.key for finding in batch if finding.key is not None]
        with self._unless_damaged():
            self._write(lambda tx: reuse.forget_positions(tx.db, positions), len(batch))
            for finding in batch:
                self._note(finding, "the cached vector was removed")

    # --- what is put right as a whole -------------------------------------------------------------

    def _whole(self, finding: Finding) -> str | None:
        work = self._work_for(finding)
        if work is None:
            return None
        sort, operation = work
        # There is one count of commits, whatever table says that it is behind.
        what = {"sqlite": finding.message, "cursor": ""}.get(sort, finding.table)
        key = (sort, what)
        if key not in self._wholes:
            self._wholes[key] = None
            with self._unless_damaged():
                self._wholes[key] = operation()
        return self._wholes[key]

    def _work_for(self, finding: Finding) -> tuple[str, Callable[[], str | None]] | None:
        table, now_ms = finding.table, self._limits.now_ms
        match finding.code:
            case "sqlite" if (index := repair.index_of(finding.message)) is not None:
                return "sqlite", lambda: self._write(lambda tx: repair.reindex(tx, index))
            case "foreign_key" if table in (
                "vector_projection_work",
                "vector_ledger",
                "vector_cache",
            ):
                return "orphans", lambda: self._orphans(table)
            case "foreign_key" if table in ("nodes", "vector_index_schemas"):
                return "kinds", self._kinds_and_schemas
            case "schema_object":
                return "object", lambda: self._write(lambda tx: repair.schema_object(tx, table))
            case "vector_commits":
                return "vector_commits", lambda: self._write(repair.vector_commits)
            case "status_value":
                return "statuses", lambda: self._write(repair.statuses)
            case "node_cursor" | "tombstone_cursor":
                return "cursor", lambda: self._write(repair.cursor)
            case "work_fence":
                return "fence", lambda: self._write(repair.fence)
            case "work_stuck":
                return "stuck", self._stuck
            case "index_profile" | "index_disabled":
                return "schemas", lambda: self._write(lambda tx: repair.schemas(tx, now_ms))
            case "profile_identity":
                return "identities", lambda: self._write(repair.identities)
            case "vector_table_missing" | "vector_table_definition" | "vector_table_unknown":
                return "table", lambda: self._table(table, if_wrong=True)
            case "vector_block" | "unreadable" if table.startswith("vec_"):
                return "blocks", lambda: self._table(table, if_wrong=False)
        return None

    def _table(self, table: str, *, if_wrong: bool) -> str | None:
        def operation(tx: Transaction) -> str | None:
            # Where the model is described wrongly, its tables are right.
            return repair.identities(tx) or repair.vector_table(
                tx, table, self._limits.now_ms, if_wrong=if_wrong
            )

        return self._write(operation)

    def _orphans(self, table: str) -> str | None:
        total = 0
        while rows := self._write(lambda tx: repair.orphans(tx, table), repair.ORPHANS):
            total += rows
        return f"{total} rows of {table} that belong to nothing were removed" if total else None

    def _kinds_and_schemas(self) -> str | None:
        def operation(tx: Transaction) -> str | None:
            chars = self._runtime.config.chunk_chars
            done = [
                repair.missing_kinds(tx, chars, _native.SPLITTER_VERSION),
                repair.schemas(tx, self._limits.now_ms),
            ]
            return "; ".join(said for said in done if said) or None

        return self._write(operation)

    def _stuck(self) -> str | None:
        projector = self._runtime.projector
        return self._write(
            lambda tx: None if projector is None or projector.has_claims else repair.stuck(tx)
        )

    # --- full text --------------------------------------------------------------------------------

    def _make_text_again(self) -> None:
        findings, self._text = self._text, []
        found, self._text_found = self._text_found, Counter()
        rebuilder = self._runtime.rebuilder
        if rebuilder is None:
            return
        with self._unless_damaged():
            rows = rebuilder.rebuild_fts(repair.begin_text).result()
            for finding in findings:
                self._note(finding, f"the full-text index was made again of {rows} chunks")
            self.repaired += found - Counter(finding.code for finding in findings)

    # --- writing ----------------------------------------------------------------------------------

    def _write(self, operation: Operation[T], weight: int = 1) -> T:
        def woken(tx: Transaction) -> T:
            if self._runtime.projector is not None:
                tx.on_commit(self._runtime.projector.wake)
            return operation(tx)

        return self._runtime.write(
            woken, timeout_seconds=integrity.TEXT_CHECK_SECONDS, weight=weight
        )

    @contextlib.contextmanager
    def _unless_damaged(self) -> Iterator[None]:
        """What cannot be put right for damage stays a finding, and the rest is put right."""
        try:
            yield
        except StorageError as error:
            logger.warning("a repair of %s stopped: %s", self._runtime.path, error)


def _is_of_text(finding: Finding) -> bool:
    """Whether a damaged part of the file is the full-text index, which can be made again."""
    if finding.code in ("unreadable", "schema_object"):
        return finding.table.startswith(fts.MAIN)
    return finding.code == "sqlite" and fts.MAIN in finding.message
