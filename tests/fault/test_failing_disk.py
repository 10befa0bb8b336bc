"""A disk that fails at any one operation: a typed error or success, and nothing acknowledged lost.

Each run is a scripted life of a file (made, written, rewritten, projected, retired, rebuilt,
exported, closed, opened again) in which the n-th opening, read, write, sync or truncation of
SQLite's fails. The suite runs every n of a short life and a few of the long one; ``make faults``
runs every n of both.
"""

from __future__ import annotations

import os
import shutil
import sys
import threading
import traceback
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

import pytest

import fathomdb
import inside
from fathomdb import (
    DiskFullError,
    EngineConfig,
    FathomError,
    InvalidInputError,
    KindNotVectorIndexedError,
    Node,
)
from fathomdb.engine.engine import _context
from fathomdb.errors import StorageError
from fathomdb.pipeline import prepare
from fathomdb.pipeline import write as writes
from fathomdb.testing import DeterministicEmbedder
from faulty_disk import FAULTS, Fault, FaultyDisk, faulty_disk

if TYPE_CHECKING:
    from collections.abc import Callable

EVERY = os.environ.get("FATHOMDB_EVERY_FAULT") == "1"
SHORT_STRIDES = {"at-once": 1, "when-seen": 1 if EVERY else 13, "never": 1 if EVERY else 13}
LONG_STRIDE = 1 if EVERY else 149
CONFIG = EngineConfig(write_timeout_seconds=30, close_timeout_seconds=30, cache_mib=1)

Ends = Literal["at-once", "when-seen", "never"]
"""When a fault ends: after one operation, with the first error that is raised, or not at all."""
ENDS: tuple[Ends, ...] = ("at-once", "when-seen", "never")

# What follows from a write that failed: its kind was never made.
CONSEQUENCES = (InvalidInputError, KindNotVectorIndexedError)


@dataclass
class Life:
    """The life of one file, and what each node may be by now: one state, or either of two."""

    folder: str
    disk: FaultyDisk
    ends: Ends = "at-once"
    possible: dict[str, set[str | None]] = field(default_factory=dict)
    errors: list[FathomError] = field(default_factory=list)

    @property
    def path(self) -> str:
        return os.path.join(self.folder, "life.db")

    def open(self) -> fathomdb.Engine:
        db = fathomdb.open(
            self.path, embedder=DeterministicEmbedder(), background=False, config=CONFIG
        )
        try:
            # Often, so that the file itself is written in the middle of a life too.
            inside.in_writer(db, lambda tx: tx.db.execute("PRAGMA wal_autocheckpoint = 20"))
        except FathomError:
            db.close()
            raise
        return db

    def live(self, *parts: Callable[[Life, fathomdb.Engine], None]) -> None:
        """One part an engine; what a step raises must be one of our errors."""
        for part in parts:
            db = self.attempt(self.open)
            if db is None:
                continue
            try:
                part(self, db)
            finally:
                self.attempt(db.close)

    def is_over(self) -> bool:
        return self.ends == "at-once" and bool(self.disk.fired)

    def attempt(self, step, *, began_after_fault: bool | None = None):
        was_over = self.is_over() if began_after_fault is None else began_after_fault
        try:
            return step()
        except CONSEQUENCES as error:
            self.errors.append(error)
        except (StorageError, DiskFullError) as error:
            if was_over:
                raise AssertionError("the fault is over, and it did not go on") from error
            self.errors.append(error)
        if self.ends == "when-seen":
            self.disk.heal()
            self.ends = "at-once"
        return None

    def write(self, db, texts, kind="Doc") -> None:
        """Writes nodes, and retires those whose text is None."""
        self._may_become(texts)
        nodes = [Node(kind, key, text) for key, text in texts.items() if text is not None]
        retired = [key for key, text in texts.items() if text is None]
        if self.attempt(lambda: db.write(nodes, retire=retired)) is not None:
            self._have_become(texts)

    def write_as_a_group(self, db, requests) -> None:
        """Several requests that wait for the writer together, each answered for itself."""
        began = self.is_over()  # of all of them: the first error may end the fault
        writer, go = db._runtime._owned.writer, threading.Event()
        held = writer.submit(lambda tx: go.wait(30), timeout_seconds=30)
        replies = []
        for texts in requests:
            self._may_become(texts)
            nodes = prepare.prepare(
                [Node("Doc", *item) for item in texts.items()], db._runtime.chunk_chars
            )
            replies.append(
                writer.submit(
                    lambda tx, nodes=nodes: writes.commit(tx, nodes, [], _context(db._runtime)),
                    timeout_seconds=30,
                )
            )
        go.set()
        self.attempt(lambda: held.result(30), began_after_fault=began)
        for texts, reply in zip(requests, replies, strict=True):
            answer = self.attempt(lambda reply=reply: reply.result(30), began_after_fault=began)
            if answer is not None:
                self._have_become(texts)

    def drain(self, db) -> None:
        report = self.attempt(lambda: db.admin.drain_vector_projection(timeout=30))
        assert report is None or inside.adds_up(report)

    def _may_become(self, texts) -> None:
        for node_id, text in texts.items():
            self.possible.setdefault(node_id, {None}).add(text)

    def _have_become(self, texts) -> None:
        self.possible.update({node_id: {text} for node_id, text in texts.items()})

    def check(self) -> None:
        """Nothing acknowledged is lost, nothing is half there, and the file goes on."""
        with self.open() as db:
            for node_id, states in self.possible.items():
                found = db.get(node_id)
                assert (None if found is None else found.text) in states, node_id
            db.write(Node("Doc", "after", "written after the fault"))
            db.admin.drain_vector_projection(timeout=30)
            assert inside.work(db) == {}
            inside.check(db, DeterministicEmbedder())
            report = db.admin.check_integrity()
            assert report.ok, report.findings
            assert "after" in {hit.node_id for hit in db.text_search("fault", limit=100)}


# --- the script -----------------------------------------------------------------------------------


def first_days(life: Life, db) -> None:
    life.write(db, {f"n{n}": f"the first text of {n} {'long ' * 60 * n}" for n in range(6)})
    life.drain(db)
    life.write(db, {"n1": "the second text of 1", "n2": None, "m0": "a memo"}, kind="Memo")
    life.write_as_a_group(db, [{"g0": "one of a group"}, {"g1": "another"}, {"n3": "the second"}])
    life.attempt(lambda: db.search("text", limit=5))
    life.drain(db)


def later_days(life: Life, db) -> None:
    life.write(db, {"n3": "the third text of 3", "n4": None, "n6": "new"})
    life.attempt(lambda: db.admin.rebuild("Doc", "vec"))
    life.drain(db)
    life.attempt(lambda: db.admin.configure_fts("trigram"))
    life.attempt(lambda: db.admin.disable_vec("Memo"))
    life.attempt(db.admin.check_integrity)
    life.attempt(lambda: db.admin.safe_export(os.path.join(life.folder, "copy.db")))


def one_day(life: Life, db) -> None:
    life.write_as_a_group(db, [{"n0": "the second text of 0"}, {"n7": "new"}])
    life.write(db, {"n1": None})
    life.drain(db)


# --- every place ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def begun(tmp_path_factory) -> Life:
    """A life to go on from: a file with a past."""
    with faulty_disk() as disk:
        life = Life(str(tmp_path_factory.mktemp("begun")), disk)
        life.live(first_days)
    assert life.errors == []
    return life


class Runs:
    """The same life again and again, with the fault one operation further each time."""

    def __init__(self, folder, parts, begun: Life | None = None) -> None:
        self._folder = str(folder)
        self._parts = parts
        self._begun = begun

    def one(self, fault: Fault, nth: int, ends: Ends) -> FaultyDisk:
        with faulty_disk() as disk:
            life = self._life(disk, ends)
            before = set(threading.enumerate())
            disk.fail(fault, nth, lasting=ends != "at-once")
            life.live(*self._parts)
            disk.heal()
            for thread in set(threading.enumerate()) - before:
                thread.join(30)
                assert not thread.is_alive(), f"{thread.name} was left behind"
            if fault is FAULTS["disk-full"]:
                assert all(isinstance(e, (DiskFullError, *CONSEQUENCES)) for e in life.errors)
            life.check()
            return disk

    def count(self, fault: Fault) -> int:
        """How often the fault's operation happens in a life without one."""
        with faulty_disk() as disk:
            life = self._life(disk, "at-once")
            life.live(*self._parts)
            assert life.errors == []
            return disk.counts[fault.operation]

    def every(self, name: str, ends: Ends, stride: int) -> None:
        lost: dict[int, str] = {}
        places = range(1, self.count(FAULTS[name]) + 1, stride)
        for nth in places:
            try:
                self.one(FAULTS[name], nth, ends)
            except Exception:
                lost[nth] = traceback.format_exc()
        sys.stdout.write(f"{name}, ends {ends}: {len(places)} places, {len(lost)} went wrong\n")
        assert not lost, f"of {len(places)} places, wrong at {[*lost]}; {lost[min(lost)]}"

    def _life(self, disk: FaultyDisk, ends: Ends) -> Life:
        shutil.rmtree(self._folder, ignore_errors=True)
        if self._begun is None:
            os.mkdir(self._folder)
            return Life(self._folder, disk, ends)
        shutil.copytree(self._begun.folder, self._folder)
        possible = {node_id: {*states} for node_id, states in self._begun.possible.items()}
        return Life(self._folder, disk, ends, possible)


@pytest.mark.parametrize("ends", ENDS)
@pytest.mark.parametrize("name", FAULTS)
def test_no_operation_of_the_disk_loses_anything_by_failing(tmp_path, begun, name, ends):
    Runs(tmp_path / "life", [one_day], begun).every(name, ends, SHORT_STRIDES[ends])


@pytest.mark.timeout(3600 if EVERY else 300)
@pytest.mark.parametrize("ends", ENDS)
@pytest.mark.parametrize("name", FAULTS)
def test_no_operation_of_a_long_life_loses_anything_by_failing(tmp_path, name, ends):
    Runs(tmp_path / "life", [first_days, later_days]).every(name, ends, LONG_STRIDE)
