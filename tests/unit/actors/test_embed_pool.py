"""EmbedPool: the one place where embedders are called, and never more often than they declare."""

from __future__ import annotations

import threading
import time

import pytest

from fathomdb import EmbedderContractError, EmbedderUnavailableError, EngineClosedError
from fathomdb.actors.embed_pool import MAX_ABANDONED, EmbedPool, Urgency
from fathomdb.config import SystemClock
from fathomdb.embedders.protocol import EmbedderLimits
from fathomdb.testing import DeterministicEmbedder


@pytest.fixture
def make_pool():
    pools = []

    def make(concurrency=1):
        limits = EmbedderLimits(concurrency=concurrency)
        pool = EmbedPool(DeterministicEmbedder(limits=limits), SystemClock())
        pools.append(pool)
        return pool

    yield make
    for pool in pools:
        pool.close()


class Call:
    """A call that runs until it is let go."""

    def __init__(self, result=None):
        self.begun, self.go = threading.Event(), threading.Event()
        self._result = result

    def __call__(self):
        self.begun.set()
        assert self.go.wait(30)
        return self._result


def _held(pool, result=None, **options):
    call = Call(result)
    return call, pool.submit(call, **options)


def test_queries_go_before_batches_that_wait_and_each_kind_keeps_its_order(make_pool):
    pool = make_pool()
    first, _ = _held(pool)
    assert first.begun.wait(30)
    ran = []
    batches = [pool.submit(lambda n=n: ran.append(("batch", n))) for n in range(3)]
    queries = [pool.submit(lambda n=n: ran.append(("query", n)), Urgency.QUERY) for n in range(3)]
    first.go.set()
    for reply in (*batches, *queries):
        reply.result(30)

    assert ran == [*(("query", n) for n in range(3)), *(("batch", n) for n in range(3))]


@pytest.mark.parametrize("concurrency", [1, 3])
def test_it_is_never_entered_more_often_than_it_declares(make_pool, concurrency):
    pool = make_pool(concurrency)
    lock, inside, most = threading.Lock(), [0], [0]
    replies = []

    def call():
        with lock:
            inside[0] += 1
            most[0] = max(most[0], inside[0])
        time.sleep(0)  # lets the other threads run while this one is inside
        with lock:
            inside[0] -= 1

    def submit(thread):
        replies.extend(
            pool.submit(call, Urgency.QUERY if (n + thread) % 3 == 0 else Urgency.BACKFILL)
            for n in range(100)
        )

    threads = [threading.Thread(target=submit, args=(n,)) for n in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    for reply in replies:
        reply.result(30)

    assert len(replies) == 600
    assert most[0] <= concurrency


def test_as_many_calls_run_at_once_as_it_declares_also_after_its_threads_were_idle(make_pool):
    pool = make_pool(4)
    for together in (1, 2, 4, 4, 3):
        held = [_held(pool) for _ in range(together)]
        for call, _ in held:
            assert call.begun.wait(30), "a call waits though a thread could run it"
        for call, reply in held:
            call.go.set()
            reply.result(30)


def test_an_exception_reaches_the_caller_and_the_thread_goes_on(make_pool):
    pool = make_pool()

    with pytest.raises(ZeroDivisionError):
        pool.submit(lambda: 1 // 0).result(30)

    assert pool.submit(lambda: 7).result(30) == 7


@pytest.mark.parametrize("error", [SystemExit, KeyboardInterrupt, GeneratorExit])
def test_what_is_not_an_exception_is_a_broken_contract_and_the_thread_goes_on(make_pool, error):
    pool = make_pool()

    def call():
        raise error

    with pytest.raises(EmbedderContractError, match=error.__name__):
        pool.submit(call).result(30)
    assert pool.submit(lambda: 7).result(30) == 7


def test_an_abandoned_call_that_has_not_begun_never_begins(make_pool):
    pool = make_pool()
    first, _ = _held(pool)
    assert first.begun.wait(30)
    second, reply = _held(pool)

    pool.abandon(reply)
    first.go.set()
    pool.submit(lambda: None).result(30)

    assert reply.cancelled()
    assert not second.begun.is_set()
    assert not pool.stuck


def test_with_a_concurrency_of_one_nothing_is_called_until_an_abandoned_call_returns(make_pool):
    pool = make_pool()
    hung, hung_reply = _held(pool)
    assert hung.begun.wait(30)
    pool.abandon(hung_reply)
    assert pool.stuck
    next_call, next_reply = _held(pool, "next")
    assert not next_call.begun.is_set()

    hung.go.set()
    assert next_call.begun.wait(30)
    assert not pool.stuck
    next_call.go.set()
    assert next_reply.result(30) == "next"


def test_whoever_hears_that_an_abandoned_call_returned_finds_the_pool_free(make_pool):
    pool = make_pool()
    hung, reply = _held(pool)
    assert hung.begun.wait(30)
    pool.abandon(reply)
    assert pool.stuck
    heard = []
    reply.add_done_callback(lambda _: heard.append(pool.stuck))

    hung.go.set()
    reply.result(30)
    pool.submit(lambda: None).result(30)

    assert heard == [False]


def test_with_a_higher_concurrency_another_thread_takes_the_place_of_an_abandoned_call(make_pool):
    pool = make_pool(2)
    hung = []
    for _ in range(MAX_ABANDONED):
        assert not pool.stuck
        call, reply = _held(pool)
        assert call.begun.wait(30)
        pool.abandon(reply)
        hung.append((call, reply))

    assert pool.stuck  # their number is bounded
    waiting, reply = _held(pool, "at last")
    waiting.go.set()
    hung[0][0].go.set()
    assert reply.result(30) == "at last"
    assert not pool.stuck
    for call, _ in hung:
        call.go.set()


def test_close_cancels_what_waits_refuses_what_comes_and_waits_for_nobody(make_pool):
    pool = make_pool()
    running, running_reply = _held(pool, "done")
    assert running.begun.wait(30)
    _, waiting = _held(pool)

    pool.close()

    assert waiting.cancelled()
    with pytest.raises(EngineClosedError):
        pool.submit(lambda: None)
    running.go.set()
    assert running_reply.result(30) == "done"


def _threads_of(pool):
    with pool._changed:
        return len(pool._workers)


def test_threads_do_not_pile_up_behind_a_call_of_the_same_object_that_never_returns():
    # Each drain with an embedder of its own makes a pool; all of them stand at one door.
    embedder = DeterministicEmbedder()
    first = EmbedPool(embedder, SystemClock())
    hung, hung_reply = _held(first)
    assert hung.begun.wait(30)
    first.abandon(hung_reply)
    others = [EmbedPool(embedder, SystemClock()) for _ in range(5)]
    given_up = [pool.submit(lambda: None) for pool in others]
    for pool, reply in zip(others, given_up, strict=True):
        pool.abandon(reply)
        pool.close()
    for pool in others:
        pool.wait_idle()
        while _threads_of(pool):  # on their way out, though the call has not returned
            time.sleep(0)

    assert all(reply.cancelled() for reply in given_up)
    hung.go.set()
    last = EmbedPool(embedder, SystemClock())
    assert last.submit(lambda: "free again").result(30) == "free again"
    first.close()
    last.close()


def test_close_cancels_a_call_that_waits_for_another_pool_of_the_same_object():
    embedder = DeterministicEmbedder()
    first, second = (EmbedPool(embedder, SystemClock()) for _ in range(2))
    running, reply = _held(first, "done")
    assert running.begun.wait(30)
    waiting = second.submit(lambda: None)

    second.close()

    second.wait_idle()
    assert waiting.cancelled()
    running.go.set()
    assert reply.result(30) == "done"
    first.close()


def test_a_call_knows_that_it_runs_inside_another_pool_of_the_same_object():
    embedder = DeterministicEmbedder()
    first, second = (EmbedPool(embedder, SystemClock()) for _ in range(2))

    assert first.submit(second.runs_here).result(30)
    assert not second.runs_here()
    first.close()
    second.close()


@pytest.fixture
def no_thread_can_start():
    before = threading.stack_size(1 << 46)  # no address space has room for such a stack
    yield
    threading.stack_size(before)


def test_a_thread_that_cannot_be_started_is_a_typed_error_and_is_not_counted_on(
    make_pool, no_thread_can_start
):
    pool = make_pool()
    with pytest.raises(EmbedderUnavailableError, match="no thread could be started"):
        pool.submit(lambda: None)

    threading.stack_size(0)

    assert pool.submit(lambda: 7).result(30) == 7


def test_what_waits_for_a_thread_that_cannot_be_started_is_told_so_once_no_other_can_run_it(
    make_pool, no_thread_can_start
):
    threading.stack_size(0)
    pool = make_pool(2)
    hung = [_held(pool) for _ in range(2)]
    for call, _ in hung:
        assert call.begun.wait(30)
    waiting = [pool.submit(lambda: 7, urgency) for urgency in Urgency]
    threading.stack_size(1 << 46)

    pool.abandon(hung[0][1])
    assert not any(reply.done() for reply in waiting), "the other thread is still to return"
    pool.abandon(hung[1][1])

    for reply in waiting:
        with pytest.raises(EmbedderUnavailableError, match="no thread could be started"):
            reply.result(30)
    threading.stack_size(0)
    assert pool.submit(lambda: 7).result(30) == 7
    for call, _ in hung:
        call.go.set()


def test_a_call_that_is_abandoned_twice_has_one_thread_take_its_place(make_pool):
    pool = make_pool(2)
    held = [_held(pool) for _ in range(4)]
    for call, _ in held[:2]:
        assert call.begun.wait(30)

    for _ in range(2):
        pool.abandon(held[0][1])

    assert held[2][0].begun.wait(30)
    assert _threads_of(pool) == 3
    for call, _ in held:
        call.go.set()
