"""Quotas are kept without ever being met: seen minute by minute on a clock that is moved by hand."""

from __future__ import annotations

import heapq
import random
import threading
from bisect import bisect_left
from concurrent.futures import ThreadPoolExecutor
from itertools import accumulate

import pytest

from fathomdb.config import SystemClock
from fathomdb.embedders.throttle import Pace, Throttle
from fathomdb.errors import EmbedderUnavailableError
from fathomdb.testing import ManualClock

PATIENCE_SECONDS = 30.0


class SteppingClock(ManualClock):
    """Moves on by a little whenever it is read, so that whoever waits by it comes to an end."""

    def monotonic(self):
        self.advance(0.01)
        return super().monotonic()


def most_in(seconds, at, units):
    """The most units in any window of that length, wherever it begins."""
    before = [0, *accumulate(units)]
    return max(
        before[bisect_left(at, start + seconds)] - before[first] for first, start in enumerate(at)
    )


@pytest.mark.parametrize("quota", [1, 3, 20, 60, 600, 6_000])
@pytest.mark.parametrize("late", [0.0, 0.04, 1.0], ids=["punctual", "late", "on a busy machine"])
def test_requests_never_exceed_the_quota_in_any_minute_and_use_nine_tenths_of_it(quota, late):
    pace, rng, now, went = Pace(quota), random.Random(quota), 0.0, []
    while now < 600.0:
        if wait := pace.seconds_left(now):
            now += wait + rng.uniform(0.0, late)
        pace.take(now, 1)
        went.append(now)
    assert most_in(60.0, went, [1] * len(went)) <= quota
    in_nine_minutes = sum(60.0 <= at < 600.0 for at in went)
    assert in_nine_minutes >= 0.9 * 9 * quota


@pytest.mark.parametrize("quota", [1, 20, 600, 6_000])
def test_after_an_idle_hour_or_a_stall_no_more_follow_at_once_than_a_second_brings(quota):
    pace, now, went = Pace(quota), 0.0, []
    for until in (3_600.0, 3_900.0, 7_500.0, 7_800.0):
        while now < until and until in (3_900.0, 7_800.0):
            now += pace.seconds_left(now)
            pace.take(now, 1)
            went.append(now)
        now = max(now, until)
    assert most_in(60.0, went, [1] * len(went)) <= quota
    assert most_in(1.0, went, [1] * len(went)) <= 1 + 2 * quota / 60


def test_a_provider_that_counts_tokens_otherwise_than_we_do_is_not_overrun():
    quota, pace, rng, now, went, used = 100_000, Pace(100_000), random.Random(7), 0.0, [], []
    while now < 600.0:
        now += pace.seconds_left(now)
        estimated = rng.randint(500, 2_000)
        pace.take(now, estimated)
        went.append(now)
        used.append(3 * estimated)  # as for Chinese
        pace.correct(used[-1] - estimated)
    assert most_in(60.0, went, used) <= quota + max(used)
    assert sum(used) >= 0.9 * 10 * quota


def test_one_enormous_text_delays_what_follows_by_a_minute_and_no_more():
    pace = Pace(100)
    pace.take(0.0, 1_000_000)
    assert pace.seconds_left(0.0) <= 64.0


@pytest.mark.parametrize("quota", [60, 600])
@pytest.mark.parametrize("concurrency", [1, 8])
@pytest.mark.parametrize("late", [0.0, 0.5], ids=["punctual", "on a busy machine"])
def test_a_server_with_a_quota_never_says_too_many(quota, concurrency, late):
    """Calls of 32 ms each, on a clock of events: the server counts any 60 seconds."""
    rng = random.Random(quota)
    throttle = Throttle(concurrency, quota, None, clock := ManualClock())
    taken, refused, running = [], 0, []
    while clock.monotonic() < 300.0:
        now = clock.monotonic()
        while running and running[0] <= now:
            heapq.heappop(running)
        if len(running) < concurrency and throttle._requests.seconds_left(now) == 0.0:
            with throttle.request(10, urgent=False):
                if len(taken) - bisect_left(taken, now - 60.0) < quota:
                    taken.append(now)
                else:
                    refused += 1
            heapq.heappush(running, now + 0.032)
        elif wait := throttle._requests.seconds_left(now):
            clock.advance(wait + rng.uniform(0.0, late))
        else:
            clock.advance(max(running[0] - now, 1e-6))
    assert refused == 0
    assert len(taken) >= 0.9 * quota * 5


def test_too_many_halves_the_calls_at_once_and_successes_bring_them_back():
    throttle = Throttle(8, None, None, SteppingClock())
    seen = []
    for _ in range(4):
        with throttle.request(1, urgent=False) as sent_at:
            pass
        throttle.too_many(sent_at)
        seen.append(throttle.allowed)
    assert seen == [4, 2, 1, 1]
    grew = []
    for _ in range(60):
        throttle.succeeded(1, None)
        grew.append(throttle.allowed)
    assert grew == sorted(grew)
    assert grew[-1] == 8
    assert grew.index(2) < 3 < grew.index(8), "by about one for as many successes"


def test_what_was_on_its_way_when_the_provider_said_too_many_halves_only_once():
    throttle = Throttle(8, None, None, SteppingClock())
    with throttle.request(1, urgent=False) as one, throttle.request(1, urgent=False) as other:
        throttle.too_many(one)
        throttle.too_many(other)
    assert throttle.allowed == 4


def test_no_more_requests_are_on_their_way_than_are_allowed():
    throttle = Throttle(3, None, None, SystemClock())
    most, inside, lock, together = 0, 0, threading.Lock(), threading.Barrier(3)

    def work(_):
        nonlocal most, inside
        with throttle.request(1, urgent=False):
            with lock:
                inside += 1
                most = max(most, inside)
            together.wait(PATIENCE_SECONDS)
            with lock:
                inside -= 1

    with ThreadPoolExecutor(9) as pool:
        list(pool.map(work, range(9)))
    assert most == 3


def test_a_query_goes_before_documents_that_waited_longer():
    throttle = Throttle(1, None, None, SystemClock())
    order = []

    def go(name, *, urgent):
        with throttle.request(1, urgent=urgent):
            order.append(name)

    with throttle.request(1, urgent=False):
        threads = [
            threading.Thread(target=go, args=(f"document {n}",), kwargs={"urgent": False})
            for n in range(4)
        ]
        threads.append(threading.Thread(target=go, args=("query",), kwargs={"urgent": True}))
        for thread in threads:
            thread.start()
        while throttle._urgent == 0:
            threading.Event().wait(0.001)
    for thread in threads:
        thread.join(PATIENCE_SECONDS)
    assert order[0] == "query"
    assert len(order) == 5


def test_a_pause_holds_everybody_and_a_long_one_is_an_outage():
    throttle = Throttle(8, None, None, clock := ManualClock())
    throttle.pause(600.0)
    with (
        pytest.raises(EmbedderUnavailableError, match="another 600 s") as caught,
        throttle.request(1, urgent=True),
    ):
        pass
    assert caught.value.retry_after_seconds == 600.0
    clock.advance(600.0)
    with throttle.request(1, urgent=False):
        pass


@pytest.mark.parametrize("how", ["quota", "pause", "full", "sleep"])
def test_close_ends_every_wait(how):
    throttle = Throttle(1, 1, None, ManualClock())
    failed = threading.Event()

    def ask():
        with throttle.request(1, urgent=False):
            pass

    def work():
        wait = {"sleep": lambda: throttle.sleep(60.0)}.get(how, ask)
        with pytest.raises(EmbedderUnavailableError, match="closed"):
            wait()
        failed.set()

    if how == "pause":
        throttle.pause(10.0)
    first = throttle.request(1, urgent=False)
    if how in {"quota", "full"}:
        first.__enter__()
    if how == "quota":
        first.__exit__(None, None, None)
    thread = threading.Thread(target=work)
    thread.start()
    throttle.close()
    assert failed.wait(PATIENCE_SECONDS)
    thread.join()
    with (
        pytest.raises(EmbedderUnavailableError, match="closed"),
        throttle.request(1, urgent=False),
    ):
        pass
