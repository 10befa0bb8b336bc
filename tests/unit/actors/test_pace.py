"""How many texts a claim takes: by what calls of the embedder took, within what it declares."""

from __future__ import annotations

import random

import pytest

import fathomdb
from fathomdb import BACKFILL_SLICE, INCREMENTAL_BATCH, EmbedderLimits, Node
from fathomdb.actors.pace import Pace
from fathomdb.config import SLICE_SECONDS, WIDEST_BATCH, EngineConfig
from fathomdb.pipeline.claim import BatchSizes
from fathomdb.testing import DeterministicEmbedder, ManualClock, RecordingEmbedder

UNDECLARED = EmbedderLimits()


def backfill(pace, seconds_of, calls=20):
    """The sizes of so many slices, each a call that takes what ``seconds_of`` its size says."""
    taken = []
    for _ in range(calls):
        size = pace.sizes.backfill
        pace.note(size, seconds_of(size))
        taken.append(size)
    return taken


def test_who_declares_nothing_begins_with_the_defaults_and_who_declares_with_that():
    assert Pace(UNDECLARED).sizes == BatchSizes(INCREMENTAL_BATCH, BACKFILL_SLICE)
    assert Pace(EmbedderLimits(items=100)).sizes == BatchSizes(100, 100)


def test_batches_of_an_embedder_that_costs_nothing_grow_to_the_widest():
    taken = backfill(Pace(UNDECLARED), lambda n: n * 1e-6)

    assert taken[:5] == [32, 64, 128, 256, 512]
    assert set(taken[4:]) == {WIDEST_BATCH}


def test_a_slow_embedder_gets_slices_of_a_quarter_of_a_second_after_one_call():
    pace = Pace(UNDECLARED)

    assert backfill(pace, lambda n: n * 0.1)[1:] == [2] * 19
    assert pace.sizes == BatchSizes(4, 2)


def test_one_text_that_takes_longer_than_a_slice_is_a_slice():
    assert backfill(Pace(UNDECLARED), lambda n: n * 3.0)[1:] == [1] * 19


@pytest.mark.parametrize(
    ("fixed", "each"), [(0.0, 0.004), (0.02, 0.003), (0.1, 0.01), (0.001, 0.02)]
)
def test_a_slice_takes_what_is_aimed_at_however_the_time_of_a_call_is_made_up(fixed, each):
    size = backfill(Pace(UNDECLARED), lambda n: fixed + each * n)[-1]

    assert SLICE_SECONDS - 2 * each <= fixed + each * size <= SLICE_SECONDS


def test_where_a_call_takes_long_for_any_number_of_texts_smaller_batches_are_no_answer():
    assert backfill(Pace(UNDECLARED), lambda _: 1.0)[-1] == WIDEST_BATCH
    assert backfill(Pace(EmbedderLimits(items=64)), lambda n: 1.0 + 0.005 * n)[-1] == 64


def test_no_claim_has_more_than_is_declared():
    pace = Pace(EmbedderLimits(items=100))

    assert set(backfill(pace, lambda _: 1e-6)) == {100}
    assert pace.sizes == BatchSizes(100, 100)


def test_slices_of_who_declares_much_and_is_slow_are_short_too():
    assert backfill(Pace(EmbedderLimits(items=256)), lambda n: n * 0.01)[-1] == 25


def test_one_slow_call_is_forgotten():
    pace = Pace(UNDECLARED)
    pace.note(BACKFILL_SLICE, 5.0)  # it loaded its model
    assert pace.sizes.backfill < BACKFILL_SLICE

    assert backfill(pace, lambda n: n * 0.001, calls=40)[-1] >= 200


def test_what_a_text_alone_takes_makes_no_batch_larger():
    pace = Pace(UNDECLARED)
    for _ in range(100):
        pace.note(1, 1e-6)

    assert pace.sizes == BatchSizes(INCREMENTAL_BATCH, BACKFILL_SLICE)


@pytest.mark.parametrize("seed", range(20))
def test_slices_stay_short_beside_fresh_texts_that_take_oddly_long(seed):
    rng = random.Random(seed)
    pace = Pace(UNDECLARED)
    for _ in range(300):
        size = pace.sizes.backfill
        pace.note(size, size * SLICE_SECONDS / 32)
        assert size <= 64
        for _ in range(rng.randint(0, 20)):
            pace.note(1, 0.008 + rng.expovariate(100))


def test_a_clock_that_stands_still_tells_nothing_bad():
    assert backfill(Pace(UNDECLARED), lambda _: 0.0)[-1] == WIDEST_BATCH


@pytest.mark.parametrize("seed", range(20))
def test_noise_never_makes_a_batch_that_is_no_batch(seed):
    rng = random.Random(seed)
    pace = Pace(UNDECLARED)
    for _ in range(300):
        pace.note(rng.randint(1, 600), rng.choice((0.0, 1e-9, rng.expovariate(5), 100.0)))
        sizes = pace.sizes
        assert 1 <= sizes.backfill <= sizes.incremental <= WIDEST_BATCH


class Timed(RecordingEmbedder):
    """Takes a tenth of a second of the clock for each text."""

    def __init__(self, clock):
        super().__init__(DeterministicEmbedder())
        self._clock = clock

    def batch_embed(self, texts):
        self._clock.advance(0.1 * len(texts))
        return super().batch_embed(texts)


def test_a_drain_of_a_slow_embedder_has_ever_smaller_slices(open_db):
    clock = ManualClock()
    embedder = Timed(clock)
    db = open_db(embedder=embedder, background=False, config=EngineConfig(clock=clock))
    db.write(Node("Note", f"n{n}", f"text {n}") for n in range(600))

    assert db.admin.drain_vector_projection(timeout=1e6).processed == 600

    sizes = [len(batch) for batch in embedder.batches]
    assert sizes[0] == INCREMENTAL_BATCH
    assert set(sizes[10:-1]) == {4}
    assert db.admin.status().batch_items == 4


def test_ticks_keep_the_size_of_the_contract_at_any_pace(open_db):
    clock = ManualClock()
    embedder = Timed(clock)
    db = open_db(embedder=embedder, background=False, config=EngineConfig(clock=clock))
    db.write(Node("Note", f"n{n}", f"text {n}") for n in range(200))

    taken = [db.admin.run_tick().claimed for _ in range(4)]

    assert taken == [fathomdb.INCREMENTAL_BATCH] * 3 + [200 - 3 * fathomdb.INCREMENTAL_BATCH]
