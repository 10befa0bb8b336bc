"""Integrity: is every row what it must be? A report of what is not, row by row."""

from __future__ import annotations

import contextlib
import itertools
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fathomdb.store import audit, audit_text
from fathomdb.store.connection import open_checker, translating
from fathomdb.store.findings import Limits

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from fathomdb.actors.runtime import Runtime
    from fathomdb.store.findings import Finding
    from fathomdb.store.transaction import Transaction

FINDINGS_PER_CODE = 100
"""Findings of one sort that are kept: a flood of one does not hide the others."""
TEXT_CHECK_SECONDS = 3600.0
"""How long to wait for FTS5's own check: 7 s for a million chunks, on the writer."""


@dataclass(frozen=True, slots=True)
class IntegrityReport:
    """What a check found; ``ok`` where nothing is wrong.

    ``findings`` are at most 100 of each code, ``found`` counts all of them by code. ``counts`` has
    what was looked at: nodes, superseded, chunks, text_rows, vectors, work, failed_work.
    ``skipped`` says what was not looked at, and why.
    """

    ok: bool
    findings: tuple[Finding, ...]
    counts: Mapping[str, int]
    found: Mapping[str, int]
    skipped: tuple[str, ...]
    seconds: float


LATER_THAN_ANY_WAIT_SECONDS = 86_400.0
"""A day beyond the longest wait of a row: clocks differ, and the owner's waits may be longer."""
MORE_THAN_ANY_ATTEMPTS = 1_000
"""Attempts beyond ``max_attempts``: it may have been greater, and a killed process gives none back."""
_MOST = 1 << 62  # what SQLite can still compare with


def check(runtime: Runtime, progress: Callable[[int, int], None] | None) -> IntegrityReport:
    """Looks at every row, in one snapshot, so that what is written meanwhile is no finding."""
    return look(runtime, progress, lambda _: None)


def look(
    runtime: Runtime,
    progress: Callable[[int, int], None] | None,
    hear: Callable[[Finding], None],
) -> IntegrityReport:
    """A check, which has ``hear`` hear of every finding as it is found, however many there are."""
    began = runtime.config.clock.monotonic()
    found: Counter[str] = Counter()
    kept: list[Finding] = []
    skipped: list[str] = []

    def note(finding: Finding) -> None:
        found[finding.code] += 1
        if found[finding.code] <= FINDINGS_PER_CODE:
            kept.append(finding)
        hear(finding)

    with runtime.snapshot() as db:
        counts = audit.count_readable(db)
        total, done = counts["chunks"] + counts["vectors"], 0

        def advance(rows: int) -> None:
            nonlocal done
            done += rows
            if progress is not None:
                progress(done, total)

        if runtime.read_only:
            skipped.append(
                "constraints, which SQLite does not check for a read-only engine; open the file "
                "for writing and check it again"
            )
            found_by_sqlite = audit.sqlite(db)
        else:
            found_by_sqlite = _sqlite(runtime)
        for finding in found_by_sqlite:
            note(finding)
        for finding in audit.run(db, limits(runtime), advance):
            note(finding)
        has_inflight = audit.has_inflight(db)
    # FTS5 compares only on a connection that may write, and says yes or no of the whole index.
    if runtime.read_only:
        skipped.append(
            "the words of the full-text index, which FTS5 does not compare for a read-only engine; "
            "open the file for writing and check it again"
        )
    elif found.keys() & {"text_row_missing", "text_row_orphaned", "chunk_text", "unreadable"}:
        skipped.append(
            "the words of the full-text index, since rows of it are missing already; make it anew "
            "with admin.rebuild(kind, target='fts') and check it again"
        )
    elif (finding_of_words := _compare_words(runtime)) is not None:
        note(finding_of_words)
    if has_inflight and not runtime.read_only:
        for finding in _stuck(runtime):
            note(finding)
    return IntegrityReport(
        ok=not found,
        findings=tuple(kept),
        counts=counts,
        found=dict(found),
        skipped=tuple(skipped),
        seconds=runtime.config.clock.monotonic() - began,
    )


def limits(runtime: Runtime) -> Limits:
    """What a row can be at most, by this engine's clock and numbers."""
    config = runtime.config
    longest = config.longest_retry_seconds + LATER_THAN_ANY_WAIT_SECONDS
    now_ms = runtime.now_ms()
    return Limits(
        now_ms,
        min(now_ms + int(1000 * longest), _MOST),
        min(config.max_attempts + MORE_THAN_ANY_ATTEMPTS, _MOST),
    )


def _stuck(runtime: Runtime) -> list[Finding]:
    """What is inflight though nothing of this engine, which owns the file, has claimed anything.

    Asked on the writer: a claim that is made after this one was there to be seen before.
    """
    projector = runtime.projector

    def operation(tx: Transaction) -> list[Finding]:
        if projector is None or projector.has_claims:
            return []
        return [*itertools.islice(audit.inflight(tx.db), FINDINGS_PER_CODE)]

    return runtime.write(operation, timeout_seconds=TEXT_CHECK_SECONDS)


def _sqlite(runtime: Runtime) -> Iterator[Finding]:
    # Of a later commit than the snapshot, maybe: what SQLite checks holds in every one.
    with (
        translating(runtime.path),
        contextlib.closing(
            open_checker(runtime.path, cache_mib=runtime.config.cache_mib)
        ) as checker,
    ):
        yield from audit.sqlite(checker)


def _compare_words(runtime: Runtime) -> Finding | None:
    def operation(tx: Transaction) -> Finding | Exception | None:
        # What other requests of this commit wrote is indexed at its end; here it must be now.
        tx.fts.flush()
        try:
            return audit_text.words(tx.db)
        except Exception as error:
            # Raised here, it would undo the rows that were just indexed for those requests.
            return error

    outcome = runtime.write(operation, timeout_seconds=TEXT_CHECK_SECONDS)
    if isinstance(outcome, Exception):
        raise outcome
    return outcome
