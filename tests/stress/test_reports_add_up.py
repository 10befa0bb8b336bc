"""Whatever goes wrong, in whatever order: every claimed row is accounted for, and all ends well."""

from __future__ import annotations

import random
import threading

import pytest

import fathomdb
import inside
from fathomdb import EmbedderUnavailableError, EngineConfig, Node
from fathomdb.embedders.protocol import EmbedderLimits
from fathomdb.testing import DeterministicEmbedder, Fault, FlakyEmbedder, ManualClock

GOOD = DeterministicEmbedder()
EFFECTS = [
    EmbedderUnavailableError("away"),
    ConnectionResetError("reset"),
    ValueError("cannot"),
    "nan",
    "infinity",
    "overflow",
    "zero",
    "too_few",
    "too_many",
    "wrong_dimension",
    "not_numbers",
]


def _script(rng):
    """A few faults: of single texts, of single calls, or of texts in some calls."""
    return [
        Fault(
            rng.choice(EFFECTS),
            texts=rng.choice([None, f"{rng.randrange(10)}", f"text {rng.randrange(5)}"]),
            calls=rng.choice([None, set(rng.sample(range(200), 60))]),
        )
        for _ in range(rng.randrange(4))
    ]


def _change(rng, db, n):
    """One random change of the data: written, rewritten, moved, retired, switched off and on."""
    what = rng.random()
    ids = [f"n{rng.randrange(60)}" for _ in range(rng.randrange(1, 30))]
    if what < 0.7:
        kind = rng.choice(["Document", "Document", "Note"])
        db.write([Node(kind, i, f"text {rng.randrange(8)} of {n} for {i}") for i in set(ids)])
    elif what < 0.9:
        db.write(retire=ids)
    elif what < 0.95:
        db.admin.disable_vec("Note")
    else:
        db.admin.configure_vec("Note")


@pytest.mark.parametrize("seed", range(12))
def test_claimed_is_the_sum_of_what_became_of_it_whatever_goes_wrong(open_db, seed):
    rng = random.Random(seed)
    clock = ManualClock()
    limits = EmbedderLimits(items=rng.choice([None, 1, 7, 50]), concurrency=rng.choice([1, 1, 3]))
    flaky = FlakyEmbedder(DeterministicEmbedder(limits=limits))
    db = open_db(embedder=flaky, config=EngineConfig(clock=clock, max_attempts=3))
    before = db.admin.status().counters
    sums = {"claimed": 0, "applied": 0, "failed": 0, "reverted": 0, "discarded": 0}

    for n in range(40):
        flaky.script = _script(rng)
        flaky.calls = 0
        _change(rng, db, n)
        waiting = db.admin.status().pending
        if rng.random() < 0.5:
            report = db.admin.run_tick()
        else:
            report = db.admin.drain_vector_projection(timeout=rng.choice([0, 20]))
            assert report.remaining == db.admin.status().pending
        assert inside.adds_up(report)
        # But for what was superseded (nothing, here) the report equals the change in the file.
        gone = report.processed + report.failed + report.discarded_stale
        assert db.admin.status().pending == waiting - gone
        sums["claimed"] += report.claimed
        sums["applied"] += report.processed
        sums["failed"] += report.failed
        sums["reverted"] += report.reverted
        sums["discarded"] += report.discarded_stale
        assert "inflight" not in {row.state for row in inside.work(db).values()}
        clock.advance(rng.choice([0.0, 0.5, 60.0]))
    after = db.admin.status().counters
    assert {name: after[name] - before[name] for name in sums} == sums
    inside.check(db, GOOD)

    flaky.script = ()
    clock.advance(1_000.0)
    db.admin.requeue_failed()
    assert db.admin.drain_vector_projection(timeout=60).stopped_by == "idle"
    assert inside.work(db) == {}
    inside.check(db, GOOD)


@pytest.mark.parametrize("seed", range(4))
def test_writers_drains_and_the_background_together_leave_every_text_with_its_own_vector(
    open_db, seed
):
    rng = random.Random(seed)
    flaky = FlakyEmbedder(
        DeterministicEmbedder(limits=EmbedderLimits(items=8, concurrency=rng.choice([1, 3]))),
        [
            Fault(EmbedderUnavailableError("away"), calls=set(rng.sample(range(300), 30))),
            Fault(ValueError("cannot"), calls=set(rng.sample(range(300), 60))),
            Fault("too_few", calls=set(rng.sample(range(300), 30))),
        ],
    )
    config = EngineConfig(
        outage_wait_seconds=0.001,
        outage_wait_max_seconds=0.002,
        retry_wait_seconds=0.001,
        idle_poll_seconds=0.001,
        max_attempts=50,
    )
    db = open_db(embedder=flaky, background=True, config=config)
    stop = threading.Event()
    reports, errors = [], []

    def write(own):
        try:
            for n in range(60):
                _change(own, db, n)
        except Exception as error:
            errors.append(error)

    def drain():
        try:
            while not stop.is_set():
                reports.append(db.admin.drain_vector_projection(timeout=0.05))
                reports.append(db.admin.run_tick())
        except Exception as error:
            errors.append(error)

    drains = [threading.Thread(target=drain) for _ in range(2)]
    writers = [
        threading.Thread(target=write, args=(random.Random(100 * seed + n),)) for n in range(3)
    ]
    for thread in (*drains, *writers):
        thread.start()
    for thread in writers:
        thread.join(120)
    stop.set()
    for thread in drains:
        thread.join(120)

    assert errors == []
    assert reports
    assert all(inside.adds_up(report) for report in reports)
    flaky.script = ()
    while db.admin.status().pending:  # retries fall due within milliseconds
        db.admin.drain_vector_projection(timeout=10)
    inside.check(db, GOOD)
    assert db.admin.failed_work() == ()
    counters = db.admin.status().counters
    assert counters["claimed"] == sum(
        counters[name] for name in ("applied", "failed", "reverted", "discarded")
    )
    db.close()
    with fathomdb.open(db.path, read_only=True) as reader:
        assert reader.admin.status().counters["claimed"] == counters["claimed"]
