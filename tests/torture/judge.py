"""Judging what a killed process left: opened again, compared row by row, drained, compared again."""

from __future__ import annotations

import contextlib
import glob
import itertools
import os
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

import apsw

import fathomdb
import inside
import invariants
from fathomdb.store import schema
from model import RefusedError
from torture import operations

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from fathomdb.store.connection import Connection
    from invariants import Counters
    from model import Model
    from torture.operations import Operation

DRAIN_SECONDS = 120.0


@dataclass(frozen=True, slots=True)
class Verdict:
    """What was found, where nothing was wrong.

    Attributes:
        committed: Which of the operations without an answer are in the file, in their order.
        counters: The file's, to be compared with at the next kill.
        rows: Rows that were compared: nodes of all versions, chunks, vectors, work.
        died: Rows that were failed as ``process_died`` and requeued.
    """

    committed: tuple[bool, ...]
    counters: Counters
    rows: int
    died: int


def judge(
    path: str,
    known: Model,
    unanswered: Sequence[Operation],
    since: Counters | None,
    cursor: int,
    erased: Collection[int],
) -> Verdict:
    """Opens the file and checks everything.

    Args:
        path: The file, which no process has open.
        known: What was acknowledged.
        unanswered: What was begun and not answered: each is there wholly, or not at all.
        since: The counters that the file had before.
        cursor: The greatest commit number of an acknowledged receipt.
        erased: Numbers of texts that were erased and are nowhere else.

    Raises:
        AssertionError: Something is wrong.
    """
    with operations.open_engine(path, background=False) as db:
        with inside.snapshot(db) as connection:
            invariants.check(connection, operations.EMBEDDERS)
            counters = invariants.counters(connection)
            committed, found = _committed(connection, known, unanswered)
            states = dict(
                connection.execute(
                    "SELECT state, count(*) FROM vector_projection_work GROUP BY state"
                )
            )
        assert "inflight" not in states, f"rows are stuck after recovery: {states}"
        assert counters.cursor >= cursor, f"commit {cursor} was acknowledged, last is {counters}"
        if since is not None:
            invariants.check_growth(since, counters)
        died = _requeue_died(db)
        _drained(db, found)
        with inside.snapshot(db) as connection:
            rows = _count(connection)
            counters = invariants.counters(connection)
    _check_erased(path, erased)
    return Verdict(committed, counters, rows, died)


def _check_erased(path: str, erased: Collection[int]) -> None:
    """No text that was erased is in any file; nothing has them open any more."""
    wanted = {operations.mark_of(number).encode(): number for number in erased}
    if not wanted:
        return
    pattern = re.compile(b"|".join(wanted))
    for name in glob.glob(f"{glob.escape(path)}*"):
        if "-backup" not in name:  # an export, which no erasure reaches
            with open(name, "rb") as file:
                found = pattern.search(file.read())
            assert found is None, f"erased, and in {name} at {found.start()}: {found[0].decode()}"


def _committed(
    connection: Connection, known: Model, unanswered: Sequence[Operation]
) -> tuple[tuple[bool, ...], Model]:
    """Finds which of the unanswered operations explain the file; no half of one ever does."""
    found = invariants.content(connection)
    closest: list[str] | None = None
    for chosen in itertools.product((False, True), repeat=len(unanswered)):
        candidate = known.copy()
        try:
            for operation in itertools.compress(unanswered, chosen):
                operations.apply(candidate, operation)
        except RefusedError:
            continue  # the engine would have refused it too: it cannot be there
        said = invariants.differences(found, candidate.content)
        if not said:
            return chosen, candidate
        if closest is None or len(said) < len(closest):
            closest = said
    raise AssertionError(
        f"the file is not what was acknowledged, whichever of {len(unanswered)} unanswered "
        f"operations are in it: {unanswered}\n" + "\n".join(closest or [])
    )


def _requeue_died(db: fathomdb.Engine) -> int:
    failed = db.admin.failed_work()
    others = [row for row in failed if row.cause != "process_died"]
    assert not others, f"rows failed that no process died of: {others}"
    return db.admin.requeue_failed() if failed else 0


def _drained(db: fathomdb.Engine, expected: Model) -> None:
    # A rebuild that was cut off goes on by itself; this one waits behind it and does nothing.
    db._runtime.rebuilder.rebuild_fts(lambda _: False).result(DRAIN_SECONDS)
    report = db.admin.drain_vector_projection(timeout=DRAIN_SECONDS)
    assert inside.adds_up(report), report
    assert (report.stopped_by, report.remaining, report.failed) == ("idle", 0, 0), report
    with inside.snapshot(db) as connection:
        invariants.check(connection, operations.EMBEDDERS)
        invariants.check_model(connection, expected)
    invariants.check_projected(db, expected)
    integrity = db.admin.check_integrity()
    assert integrity.ok, integrity
    assert not integrity.skipped, integrity


def _count(connection: Connection) -> int:
    tables = ("nodes", "chunks", "vector_ledger", "vector_projection_work")
    return sum(connection.execute(f"SELECT count(*) FROM {table}").get for table in tables)


def judge_exports(folder: str, acknowledged: Sequence[int]) -> int:
    """Every export is whole or does not verify; acknowledged ones verify. Removes them.

    Returns how many were whole.
    """
    whole = 0
    for number in acknowledged:
        assert os.path.exists(f"{folder}/{number}.db"), f"export {number} is gone"
    for manifest in glob.glob(f"{folder}/*.db.manifest.json"):
        if ".partial" in manifest:
            continue
        path = manifest.removesuffix(".manifest.json")
        fathomdb.verify_export(path)
        with (
            operations.open_engine(path, background=False) as db,
            inside.snapshot(db) as connection,
        ):
            invariants.check(connection, operations.EMBEDDERS)
        whole += 1
    verified = {f"{folder}/{number}.db.manifest.json" for number in acknowledged}
    assert verified <= set(glob.glob(f"{folder}/*.manifest.json")), "an export has no manifest"
    for name in os.listdir(folder):
        os.unlink(f"{folder}/{name}")
    return whole


def make_older(path: str) -> None:
    """Makes the file what it would be under schema version 1, but for what that could not hold."""
    with operations.open_engine(path, background=False) as engine:
        if engine.admin.status().switch is not None:
            engine.admin.drain_vector_projection(timeout=DRAIN_SECONDS)
        engine.admin.prune_profiles()
    names = (
        "profile_id, fingerprint, model_identity, model_version, dimension, normalization_policy, "
        "preparation, state, plugin, created_at_ms"
    )
    table = re.search(
        r"CREATE TABLE (vector_embedding_profiles) .*?;.*?;", schema.MIGRATIONS[0], re.DOTALL
    )
    db = apsw.Connection(path)
    with contextlib.closing(db), db:
        db.execute("DROP TABLE vector_cache")
        db.execute("DROP VIEW wanted_vectors")
        db.execute(f"CREATE TABLE kept AS SELECT {names} FROM {table[1]}")
        db.execute(f"DROP TABLE {table[1]}")
        db.execute(table[0])
        db.execute(f"INSERT INTO {table[1]} ({names}) SELECT {names} FROM kept")
        db.execute("DROP TABLE kept")
        db.execute("DROP TABLE tombstones")
        db.execute("ALTER TABLE engine_state DROP COLUMN vector_commits")
        db.execute("ALTER TABLE engine_state DROP COLUMN wal_pending")
        db.execute("ALTER TABLE engine_state DROP COLUMN database_id")
        db.execute("PRAGMA user_version = 1")
