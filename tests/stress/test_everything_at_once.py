"""Everything that a database can be asked, at once: nothing lost, nothing stuck, nothing wrong."""

from __future__ import annotations

import random
import threading
from collections import defaultdict
from contextlib import suppress

import pytest

import crowd
import inside
from crowd import KINDS, MODELS, SEEDS
from fathomdb import (
    EmbedderUnavailableError,
    EngineClosedError,
    EngineConfig,
    KindNotVectorIndexedError,
    Node,
)
from fathomdb.testing import Fault, FlakyEmbedder

WRITES = LOOKS = 14
"""Of each writer, and of each reader."""
WRITERS = READERS = 16
NODES = 5
"""Of each writer."""
IDS = [f"w{writer}-{n}" for writer in range(WRITERS) for n in range(NODES)]
CONFIG = EngineConfig(
    chunk_chars=crowd.CHUNK_CHARS,
    outage_wait_seconds=0.001,
    outage_wait_max_seconds=0.002,
    retry_wait_seconds=0.001,
    idle_poll_seconds=0.01,
    max_attempts=1,
)


def _flaky(rng):
    """Both models: away at times, and never able to embed what is poison."""
    return [
        FlakyEmbedder(
            model,
            [
                Fault(EmbedderUnavailableError("away"), calls={*rng.sample(range(400), 20)}),
                Fault(ValueError("cannot"), texts="poison"),
            ],
        )
        for model in MODELS
    ]


class Writer:
    """Owns some nodes and a counter; knows what each is by the last answer that it had."""

    def __init__(self, db, name, seed):
        self.db = db
        self.name = name
        self.rng = random.Random(seed)
        self.nodes = {f"{name}-{n}": None for n in range(NODES)}
        self.counter = 0
        self.shared = 0
        self.cursors = []

    def step(self, number):
        what = self.rng.random()
        if what < 0.6:
            self._write(number)
        elif what < 0.7:
            some = self.rng.sample([*self.nodes], 2)
            self._took(self.db.write(retire=some))
            self.nodes.update(dict.fromkeys(some))
        elif what < 0.85:
            # Read, add one, write: nobody else has this counter, so what was answered is there.
            record = self.db.get(f"counter of {self.name}")
            assert (0 if record is None else record.properties["n"]) == self.counter
            properties = {"n": self.counter + 1}
            self._took(self.db.write(Node("Count", f"counter of {self.name}", None, properties)))
            self.counter += 1
        else:
            # Sixteen threads patch one node, each its own property.
            self._took(self.db.patch("shared", {self.name: self.shared + 1}))
            self.shared += 1

    def _write(self, number):
        some = [
            crowd.node(
                self.rng.choice(KINDS),
                node_id,
                number,
                self.rng.randrange(1, 4),
                poison=self.rng.random() < 0.2,
            )
            for node_id in self.rng.sample([*self.nodes], 2)
        ]
        receipt = self.db.write(some)
        self._took(receipt)
        assert receipt.written == 2
        self.nodes.update((item.node_id, item) for item in some)
        for record in self.db.get_many([item.node_id for item in some]).values():
            assert record.cursor == receipt.cursor, (record, receipt)
            self.is_as_answered(record)

    def _took(self, receipt):
        self.cursors.append((receipt.cursor, receipt.written + receipt.retired))

    def is_as_answered(self, record):
        item = self.nodes[record.node_id]
        assert item is not None, f"{record.node_id} was retired"
        assert (record.kind, record.text, record.properties, record.source_ref) == (
            item.kind, item.text, item.properties, item.source_ref,
        )  # fmt: skip


def check_nothing_was_lost(db, writers):
    """The file holds what the writers were answered, to the letter."""
    records = {record.node_id: record for record in db.nodes()}
    for writer in writers:
        for node_id, item in writer.nodes.items():
            assert (item is None) == (node_id not in records), node_id
            if item is not None:
                writer.is_as_answered(records[node_id])
        counter = records.get(f"counter of {writer.name}")
        assert (0 if counter is None else counter.properties["n"]) == writer.counter
        assert (records["shared"].properties or {}).get(writer.name, 0) == writer.shared


def check_cursors(first, last, writers):
    """Cursors rise with each write, a commit has one write of a thread, and none is left out."""
    changed = defaultdict(list)
    for writer in writers:
        before = first
        for cursor, changes in writer.cursors:
            assert cursor > before if changes else cursor >= before
            before = cursor
            if changes:
                changed[cursor].append(writer.name)
    assert all(len(names) == len({*names}) for names in changed.values())
    assert {*changed} == {*range(first + 1, last + 1)}


class Sums:
    """The reports of all drains and ticks, added up."""

    NAMES = ("claimed", "processed", "failed", "reverted", "discarded_stale")

    def __init__(self):
        self._lock = threading.Lock()
        self.values = dict.fromkeys(self.NAMES, 0)

    def add(self, report):
        assert inside.adds_up(report), report
        with self._lock:
            for name in self.NAMES:
                self.values[name] += getattr(report, name)

    def equal(self, counters):
        return [*self.values.values()] == [
            counters[name] for name in ("claimed", "applied", "failed", "reverted", "discarded")
        ]


def upkeep(db, seed, sums):
    """What an operator may do meanwhile, a job of each sort; each is asked for step by step."""
    rngs = {name: random.Random(f"{seed} {name}") for name in ("kinds", "rebuild", "tokens")}

    def drain():
        sums.add(db.admin.drain_vector_projection(timeout=0.02))
        sums.add(db.admin.run_tick())

    def kinds():
        kind = rngs["kinds"].choice(KINDS)
        db.admin.disable_vec(kind)
        db.admin.configure_vec_kinds([kind, rngs["kinds"].choice(KINDS)])

    def rebuild():
        kind = rngs["rebuild"].choice(KINDS)
        with suppress(KindNotVectorIndexedError):
            db.admin.rebuild(kind, rngs["rebuild"].choice(["vec", "fts"]))

    def tokens():
        db.admin.configure_fts(rngs["tokens"].choice(["trigram", "unicode61", "porter unicode61"]))

    def requeue():
        db.admin.requeue_failed()
        db.admin.failed_work()

    def check():
        report = db.admin.check_integrity()
        assert report.ok, report.findings

    jobs = (drain, drain, kinds, rebuild, tokens, requeue, check)
    return {f"{job.__name__} {n}": job for n, job in enumerate(jobs)}


class Cast:
    """Who writes and who reads on one engine, and what they were told."""

    def __init__(self, db, seed):
        self.db = db
        self.sums = Sums()
        self.writers = [Writer(db, f"w{n}", f"{seed} {n}") for n in range(WRITERS)]
        self.readers = {
            f"reader {n}": crowd.Reader(db, random.Random(f"{seed} reader {n}"), IDS).look
            for n in range(READERS)
        }
        self._left = threading.Semaphore(0)
        self._ended = threading.Event()

    def jobs(self, **others):
        """All writes and all looks; ``others`` are steps, taken once and as long as those last."""
        found = {name: lambda step=step: self._until_ended(step) for name, step in others.items()}
        found["end"] = self._end
        for writer in self.writers:
            found[writer.name] = lambda writer=writer: self._times(WRITES, writer.step)
        for name, look in self.readers.items():
            found[name] = lambda look=look: self._times(LOOKS, lambda _: look())
        return found

    def _times(self, count, step):
        try:
            for number in range(1, 1 + count):
                step(number)
        finally:
            self._left.release()

    def _until_ended(self, step):
        step()
        while not self._ended.is_set():
            step()

    def _end(self):
        for _ in (*self.writers, *self.readers):
            self._left.acquire()
        self._ended.set()


def ends_well(db, models):
    """With models that do as they should, all that is owed comes, and no row is wrong."""
    for model in models:
        model.script = ()
    db.admin.configure_embedding(models[0], acknowledge_rebuild_impact=True)
    db.admin.configure_vec_kinds(KINDS)
    db.admin.requeue_failed()
    while db.admin.status().pending:  # a wait after an outage is over within milliseconds
        db.admin.drain_vector_projection(timeout=30)
    inside.check(db, *MODELS)
    assert db.admin.failed_work() == ()
    report = db.admin.check_integrity()
    assert report.ok, report.findings


@pytest.mark.parametrize("background", [True, False], ids=["background", "by-hand"])
@pytest.mark.parametrize("seed", SEEDS)
def test_writers_readers_drains_rebuilds_and_configuring_at_once(open_db, path, background, seed):
    rng = random.Random(seed)
    models = _flaky(rng)
    db = open_db(embedder=models[0], background=background, config=CONFIG)
    db.write(Node("Count", "shared"))
    db.admin.configure_vec_kinds(KINDS)
    first = db.admin.status().cursor
    cast = Cast(db, seed)

    def switch():
        db.admin.configure_embedding(rng.choice(models), acknowledge_rebuild_impact=True)

    with crowd.reading_processes(path, IDS, count=2, seed=seed):
        crowd.at_once(cast.jobs(switch=switch, **upkeep(db, seed, cast.sums)))

    check_nothing_was_lost(db, cast.writers)
    check_cursors(first, db.admin.status().cursor, cast.writers)
    if not background:
        assert cast.sums.equal(db.admin.status().counters), cast.sums.values
    ends_well(db, models)


@pytest.mark.parametrize("background", [True, False], ids=["background", "by-hand"])
@pytest.mark.parametrize("seed", SEEDS)
def test_a_close_in_the_middle_answers_everybody_and_loses_nothing(open_db, path, background, seed):
    rng = random.Random(seed)
    models = _flaky(rng)
    db = open_db(embedder=models[0], background=background, config=CONFIG)
    db.write(Node("Count", "shared"))
    db.admin.configure_vec_kinds(KINDS)
    cast = Cast(db, seed)
    closed_at, steps = rng.randrange(WRITERS * WRITES), iter(range(10**9))
    reached = threading.Event()
    closed = []

    def until_closed(job):
        try:
            while True:
                if next(steps) == closed_at:
                    reached.set()
                job()
        except EngineClosedError as error:
            closed.append(error)

    def close():
        assert reached.wait(crowd.HANGS_AFTER_SECONDS)
        db.close()

    numbers = {writer.name: iter(range(1, 10**9)) for writer in cast.writers}
    steps_of = {
        writer.name: lambda writer=writer: writer.step(next(numbers[writer.name]))
        for writer in cast.writers
    }
    steps_of.update(upkeep(db, seed, cast.sums), **cast.readers)
    jobs = {name: lambda job=job: until_closed(job) for name, job in steps_of.items()}
    with crowd.reading_processes(path, IDS, count=2, seed=seed):
        crowd.at_once({**jobs, "close": close})
        assert len(closed) == len(steps_of)
        again = open_db(embedder=models[0], config=CONFIG)
        check_nothing_was_lost(again, cast.writers)
        assert not any(row.state == "inflight" for row in inside.work(again).values())
        ends_well(again, models)
