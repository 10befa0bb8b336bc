"""An embedder that does anything at all: no wrong binding, no stuck row, no lost report.

Each call of a batch draws what it does from a seed. What a model shuffles nobody can see; what can
be known is that a text has a vector that the embedder returned in the place of that very text.
"""

from __future__ import annotations

import builtins
import contextlib
import faulthandler
import random
import threading

import numpy as np
import pytest

import inside
from fathomdb import (
    EmbedderIdentity,
    EmbedderUnavailableError,
    EngineClosedError,
    EngineConfig,
    FathomError,
    Node,
)
from fathomdb.embedders.protocol import EmbedderLimits
from fathomdb.pipeline.embed import PROBE_TEXT
from fathomdb.testing import DeterministicEmbedder, ManualClock

DIMENSION = 16
TIMEOUT_SECONDS = 10.0
PATIENCE_SECONDS = 120.0
GOOD = DeterministicEmbedder(DIMENSION)


def watched(work):
    """Runs a function; one that does not come back fails the test, with the stacks of all threads."""
    came_to = []

    def run():
        try:
            came_to.append((work(), None))
        except BaseException as error:
            came_to.append((None, error))

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(PATIENCE_SECONDS)
    if not came_to:
        faulthandler.dump_traceback(all_threads=True)
        pytest.fail("a deadlock: the stacks of all threads are above")
    result, error = came_to[0]
    if error is not None:
        raise error
    return result


# --- what it may raise ----------------------------------------------------------------------------


class NoWordsError(Exception):
    def __str__(self):
        raise RuntimeError("an error that cannot be printed")


class NotAnException(BaseException):
    pass


class EndsWhenPrintedError(Exception):
    def __str__(self):
        raise SystemExit("printing it ends the thread")


class _Nameless(type):
    @property
    def __name__(cls):
        raise NotAnException("a class that has no name")


class NamelessError(Exception, metaclass=_Nameless):
    pass


class NamelessNoExceptionError(BaseException, metaclass=_Nameless):
    pass


class EndsWhenLookedAtError(Exception):
    @property
    def retry_after_seconds(self):
        raise SystemExit("looking at it ends the thread")

    status_code = response = reason = headers = retry_after_seconds


def _instances():
    """One of each class of exception that Python has, and some that it has not."""
    made = [
        NoWordsError(),
        NotAnException("of its own"),
        EndsWhenPrintedError(),
        NamelessError("of a class without a name"),
        NamelessNoExceptionError(),
        EndsWhenLookedAtError(),
        ValueError("\ud800 cannot be stored"),
        ValueError("long " * 100_000),
        EmbedderUnavailableError("away", retry_after_seconds=-1),
        EmbedderUnavailableError("away", retry_after_seconds=5),
    ]
    arguments = (
        (),
        ("said",),
        ("utf-8", b"x", 0, 1, "said"),
        ("x", 0, 1, "said"),
        ("s", [OSError()]),
    )
    for name in sorted(dir(builtins)):
        one = getattr(builtins, name)
        if isinstance(one, type) and issubclass(one, BaseException):
            for given in arguments:
                try:
                    made.append(one(*given))
                except TypeError:
                    continue
                break
    return made


ERRORS = _instances()


# --- what it may return ---------------------------------------------------------------------------


class LiesAboutItsLength(list):
    """What counts is what is in the list."""

    def __len__(self):
        return super().__len__() + 1


class LiesAboutItsItems(list):
    def __iter__(self):
        return iter(())

    def __getitem__(self, place):
        raise IndexError(place)


class SaysOtherLengths:
    """One more each time it is asked."""

    def __init__(self, good):
        self._good = good
        self._said = len(good)

    def __len__(self):
        self._said += 1
        return self._said

    def __getitem__(self, place):
        return self._good[place % len(self._good)]


class RaisesOnTheWay:
    def __init__(self, count):
        self._count = count

    def __len__(self):
        return self._count

    def __getitem__(self, place):
        raise KeyboardInterrupt


class SaysItIsAnArray:
    def __init__(self, error):
        self._error = error

    def __array__(self, dtype=None, copy=None):
        raise self._error


def _itself():
    rows = []
    rows.append(rows)
    return rows


def _ragged(good):
    rows = good.tolist()
    rows[-1] = rows[-1][:-1]
    return rows


def _structured(good):
    return np.zeros(len(good), dtype=[("x", "f4", DIMENSION)])


# Each gives every row that is there: what is bound to a text is what was said in its place.
GOOD_FORMS = [
    lambda good: good,
    lambda good: good.astype(np.float32),
    lambda good: good.astype(np.float16),
    lambda good: good.tolist(),
    lambda good: tuple(map(tuple, good)),
    list,
    np.asfortranarray,
    lambda good: memoryview(np.ascontiguousarray(good)),
    lambda good: np.repeat(good, 2, axis=0)[::2],
    lambda good: LiesAboutItsLength(good.tolist()),
    lambda good: LiesAboutItsItems(good.tolist()),
]
# No row of these can be bound to a text.
NO_BATCHES = [
    lambda good: good[:-1],
    lambda good: good[:0],
    lambda good: np.concatenate([good, good]),
    lambda good: (row for row in good),
    lambda good: iter(good.tolist()),
    lambda good: np.ma.masked_array(good, mask=good > 0),
    lambda good: good.ravel(),
    lambda good: good[None],
    lambda good: good.astype(np.int32),
    lambda good: good.astype(complex),
    lambda good: good.astype(object),
    lambda good: good.astype(str),
    lambda good: good > 0,
    _structured,
    lambda good: dict(enumerate(good)),
    lambda good: {tuple(row) for row in good},
    SaysOtherLengths,
    lambda good: RaisesOnTheWay(len(good)),
    lambda good: SaysItIsAnArray(SystemExit(1)),
    lambda good: SaysItIsAnArray(TypeError("cuda:0")),
    lambda good: _itself(),
    lambda good: None,
    lambda good: 0.5,
    lambda good: "0.5" * len(good),
    lambda good: good.tobytes(),
    lambda good: object(),
    lambda good: type,
]
BAD_NUMBERS = [np.nan, np.inf, -np.inf, 1e300, -1e39]


class Fuzzed:
    """Draws for each call what it does; ``told`` has each vector that it returned, by its text."""

    local = True

    def __init__(self, seed, concurrency, *, honest):
        self.limits = EmbedderLimits(items=8, concurrency=concurrency)
        self.clock = ManualClock()
        self.db = None
        self.healed = False
        self.texts = {}
        self.told = {}
        self.did = {}
        self._honest = honest
        self._chance = random.Random(seed)
        self._lock = threading.Lock()

    def identity(self):
        return EmbedderIdentity("test/fuzzed", "1", DIMENSION)

    def batch_embed(self, texts):
        good = GOOD.batch_embed(texts).astype(np.float64)
        if self.healed:
            self._tell(texts, good)
            return good
        with self._lock:
            act = self._chance.choices(
                [self._good, self._raise, self._no_batch, self._bad_row, self._reenter, self._slow]
                + [self._shuffle, self._repeat] * (not self._honest),
                [10, 3, 3, 3, 1, 0.4] + [2, 2] * (not self._honest),
            )[0]
            self.did[act.__name__] = self.did.get(act.__name__, 0) + 1
            chance = random.Random(self._chance.random())
        return act(texts, good, chance)

    def _tell(self, texts, rows, bad=()):
        with self._lock:
            for n, text in enumerate(texts):
                if n not in bad:
                    self.told.setdefault(text, []).append(np.array(rows[n], dtype=np.float64))

    def _good(self, texts, good, chance):
        made = chance.choice(GOOD_FORMS)(good)
        self._tell(texts, made if isinstance(made, np.ndarray) else good)
        return made

    def _raise(self, texts, good, chance):
        raise chance.choice(ERRORS)

    def _no_batch(self, texts, good, chance):
        return chance.choice(NO_BATCHES)(good)

    def _bad_row(self, texts, good, chance):
        bad = chance.sample(range(len(texts)), chance.randint(1, len(texts)))
        what = chance.randrange(4)
        made = good.copy()
        if what == 0:
            made[bad] = 0.0
        elif what < 3:
            made[bad, chance.randrange(DIMENSION)] = chance.choice(BAD_NUMBERS)
        else:
            made = made.tolist()
            for n in bad:
                made[n] = chance.choice([None, "row", [], made[n][:-1], [*made[n], 0.5], [[0.5]]])
        self._tell(texts, good, bad)
        return made

    def _shuffle(self, texts, good, chance):
        made = good[chance.sample(range(len(good)), len(good))]
        self._tell(texts, made)
        return made

    def _repeat(self, texts, good, chance):
        made = good[[chance.randrange(len(good))] * len(good)]
        self._tell(texts, made)
        return made

    def _reenter(self, texts, good, chance):
        """Asks its own engine for something; what is refused is refused with a typed error."""
        db = self.db
        asked = chance.choice(
            [
                lambda: db.write(Node("Log", f"log {chance.random()}", text=None)),
                lambda: db.text_search("text"),
                lambda: db.search("a query"),
                lambda: db.semantic_search("a query"),
                lambda: db.admin.drain_vector_projection(timeout=10),
                db.admin.run_tick,
                db.admin.status,
                db.admin.failed_work,
                lambda: db.admin.requeue_failed("Document"),
                lambda: db.admin.projection_digest("Document"),
            ]
        )
        with contextlib.suppress(FathomError):
            asked()
        return self._good(texts, good, chance)

    def _slow(self, texts, good, chance):
        """Returns after its time; what it returns then is nobody's."""
        pool = self.db._runtime.model.pool
        here = threading.current_thread()
        self.clock.advance(TIMEOUT_SECONDS)
        for _ in range(int(PATIENCE_SECONDS * 1000)):
            self.db._runtime.projector.wake()  # nobody else tells the actor of a test's clock
            with pool._changed:
                if any(worker.thread is here and worker.abandoned for worker in pool._workers):
                    return np.roll(good, 1, axis=1)
            threading.Event().wait(0.001)
        raise AssertionError("nobody gave up on the call")


class AsTold:
    """Of all that the embedder returned for a text, what is nearest to what is stored for it."""

    def __init__(self, fuzzed, stored):
        self.identity = fuzzed.identity
        self._told, self._stored = fuzzed.told, stored

    def batch_embed(self, texts):
        (text,) = texts
        assert text in self._told, f"a vector of {text!r} is stored, and none was ever returned"
        stored = self._stored[text]
        unit = [row / np.linalg.norm(row) for row in self._told[text]]
        return [min(unit, key=lambda row: float(np.abs(row - stored).max()))]


def _check(db, fuzzed, texts):
    stored = {texts[chunk_id]: vector for chunk_id, vector in inside.vectors(db).items()}
    inside.check(db, AsTold(fuzzed, stored))


def _live(open_db, seed, concurrency, *, honest):
    chance = random.Random(seed)
    fuzzed = Fuzzed(seed, concurrency, honest=honest)
    config = EngineConfig(
        clock=fuzzed.clock,
        embed_timeout_seconds=TIMEOUT_SECONDS,
        max_attempts=3,
        jitter=random.Random(seed).uniform,
    )
    db = fuzzed.db = open_db(embedder=fuzzed, config=config, durability="normal")
    texts, reports = fuzzed.texts, []
    for n in range(40):
        ids = {f"n{chance.randrange(120)}" for _ in range(chance.randrange(1, 60))}
        texts.update({f"{node_id}#0": f"text {n} of {node_id}" for node_id in ids})
        db.write([Node("Document", node_id, f"text {n} of {node_id}") for node_id in ids])
        if chance.random() < 0.2:
            reports.append(db.admin.run_tick())
        else:
            reports.append(db.admin.drain_vector_projection(timeout=100_000))
        assert db.admin.get_vec_index_status("Document").inflight == 0
        fuzzed.clock.advance(chance.choice([0.0, 0.1, 1.0, 60.0]))
        _check(db, fuzzed, texts)

    counters = db.admin.status().counters
    fuzzed.healed = True
    while db.admin.requeue_failed("Document") or inside.work(db):
        fuzzed.clock.advance(4_000.0)
        reports.append(db.admin.drain_vector_projection(timeout=100_000))
        assert reports[-1].stopped_by in {"idle", "unavailable"}
    assert set(inside.blobs(db)) == set(texts)
    _check(db, fuzzed, texts)

    assert all(inside.adds_up(report) for report in reports)
    totals = db.admin.status().counters
    for total, parts in {
        "claimed": ("claimed",),
        "applied": ("incremental_processed", "backfill_processed"),
        "failed": ("failed",),
        "discarded": ("discarded_stale",),
        "reverted": ("reverted",),
    }.items():
        assert totals[total] == sum(getattr(one, part) for one in reports for part in parts)
    return fuzzed, counters


@pytest.mark.parametrize("concurrency", [1, 3])
@pytest.mark.parametrize("seed", range(3))
def test_no_wrong_binding_no_stuck_row_and_no_lost_report_whatever_an_embedder_does(
    open_db, seed, concurrency
):
    fuzzed, counters = watched(lambda: _live(open_db, seed, concurrency, honest=True))

    assert set(fuzzed.did) == {"_good", "_raise", "_no_batch", "_bad_row", "_reenter", "_slow"}
    assert sum(fuzzed.did.values()) > 200
    assert counters["applied"] > 0 < counters["failed"]
    # Nothing was shuffled: each text has its own vector, but for what half precision rounds off.
    for chunk_id, vector in inside.vectors(fuzzed.db).items():
        (own,) = GOOD.batch_embed([fuzzed.texts[chunk_id]])
        np.testing.assert_allclose(vector, own, atol=1e-3, err_msg=chunk_id)


@pytest.mark.parametrize("error", ERRORS[:10], ids=lambda error: type.__repr__(type(error)))
def test_whatever_is_raised_for_a_text_that_text_alone_fails_and_says_why(open_db, error):
    class Raises(DeterministicEmbedder):
        def batch_embed(self, texts):
            if PROBE_TEXT not in texts and (is_away or "bad" in "".join(texts)):
                raise error
            return super().batch_embed(texts)

    is_away = isinstance(error, EmbedderUnavailableError)
    db = open_db(embedder=Raises(), config=EngineConfig(max_attempts=1, clock=ManualClock()))
    db.write([Node("Document", f"n{i}", f"text {i}") for i in range(5)])
    db.write(Node("Document", "bad", "bad text"))

    report = watched(lambda: db.admin.drain_vector_projection(timeout=30))

    assert inside.adds_up(report)
    assert (report.processed, report.failed) == ((0, 0) if is_away else (5, 1))
    name = type.__dict__["__name__"].__get__(type(error))
    said = db.admin.get_vec_index_status("Document").last_error
    assert name in said or (name.startswith("Nameless") and "has no name" in said)


@pytest.mark.parametrize("seed", range(2))
def test_a_vector_is_bound_to_the_text_in_whose_place_it_was_returned(open_db, seed):
    fuzzed, _ = watched(lambda: _live(open_db, seed, 1, honest=False))

    assert {"_shuffle", "_repeat"} <= set(fuzzed.did)


# --- what it may do to its own engine -------------------------------------------------------------


class Reenters(DeterministicEmbedder):
    """Asks something of its own engine in the first call of rows; ``said`` is what it was told."""

    def __init__(self, concurrency=1):
        super().__init__(DIMENSION, limits=EmbedderLimits(concurrency=concurrency))
        self.ask = None
        self.said = None
        self.answered = threading.Event()

    def batch_embed(self, texts):
        if self.said is None and PROBE_TEXT not in texts:
            try:
                self.said = self.ask()
            except FathomError as error:
                self.said = error
            self.answered.set()
        return super().batch_embed(texts)


REFUSED = {
    "drain": lambda db: db.admin.drain_vector_projection(timeout=1000),
    "tick": lambda db: db.admin.run_tick(),
    "search": lambda db: db.search("words"),
    "semantic_search": lambda db: db.semantic_search("words"),
}
ALLOWED = {
    "write": lambda db: db.write(Node("Document", "more", "written by the embedder")),
    "retire": lambda db: db.write(retire="n0"),
    "text_search": lambda db: db.text_search("text"),
    "mode_text": lambda db: db.search("text", mode="text"),
    "wait": lambda db: db.wait(db.write(Node("Document", "more", "waited for")), timeout=1000),
    "status": lambda db: db.admin.status(),
    "disable": lambda db: db.admin.disable_vec("Document") or "done",
    "check": lambda db: db.admin.check_integrity(),
    "replace": lambda db: db.admin.configure_embedding(
        DeterministicEmbedder(DIMENSION, seed=1), acknowledge_rebuild_impact=True
    ),
    "close": lambda db: db.close() or "done",
}


def _ask(open_db, ask, concurrency, *, background):
    embedder = Reenters(concurrency)
    db = open_db(embedder=embedder, background=background)
    embedder.ask = lambda: ask(db)
    receipt = db.write([Node("Document", f"n{i}", f"text {i}") for i in range(3)])
    try:
        if not background:
            db.admin.drain_vector_projection(timeout=1000)
        assert embedder.answered.wait(PATIENCE_SECONDS)
        db.wait(receipt, timeout=1)
    except EngineClosedError:
        assert embedder.answered.wait(PATIENCE_SECONDS)  # by the embedder
    db.close()
    return embedder.said


@pytest.mark.parametrize("background", [False, True])
@pytest.mark.parametrize("concurrency", [1, 2])
@pytest.mark.parametrize("ask", REFUSED.values(), ids=REFUSED)
def test_what_would_wait_for_itself_is_refused_inside_an_embedder(
    open_db, ask, concurrency, background
):
    said = watched(lambda: _ask(open_db, ask, concurrency, background=background))

    assert isinstance(said, FathomError)
    assert "would wait for itself" in str(said)


@pytest.mark.parametrize("background", [False, True])
@pytest.mark.parametrize("ask", ALLOWED.values(), ids=ALLOWED)
def test_everything_else_works_inside_an_embedder_and_nothing_is_lost(open_db, ask, background):
    said = watched(lambda: _ask(open_db, ask, 1, background=background))

    assert said is not None
    assert not isinstance(said, FathomError)
    db = open_db(embedder=[GOOD, DeterministicEmbedder(DIMENSION, seed=1)])
    if db.admin.get_vec_index_status("Document").enabled:
        db.admin.drain_vector_projection(timeout=30)
        inside.check(db, *(model.embedder for model in db._runtime.models.every()))
    assert inside.work(db) == {}
