"""The pool behind the asynchronous face: bounded, in order, and gone when it is closed."""

from __future__ import annotations

import threading

import pytest

from fathomdb.actors import calls
from fathomdb.actors.calls import CallPool
from fathomdb.cancellation import CallCancelledError, check, on_cancel
from fathomdb.errors import EngineClosedError, FathomError


@pytest.fixture
def gate():
    event = threading.Event()
    yield event
    event.set()


def test_no_more_threads_than_its_size_and_the_others_queue_in_their_order(gate):
    pool, order, names = CallPool(2), [], set()

    def work(number):
        assert gate.wait(60)
        order.append(number)
        names.add(threading.get_ident())

    blocking = [pool.submit(lambda: gate.wait(60)) for _ in range(2)]
    queued = [pool.submit(lambda number=number: work(number)) for number in range(200)]
    assert len(pool._threads) == 2
    gate.set()
    for call in [*blocking, *queued]:
        call.reply.result(60)
    assert sorted(order) == [*range(200)]
    assert len(names) <= 2
    pool.close()
    assert pool.join(60)


def test_a_cancelled_call_that_waits_is_forgotten_and_never_runs(gate):
    pool, ran = CallPool(1), []
    running = pool.submit(lambda: gate.wait(60))
    waiting = pool.submit(lambda: ran.append(1))
    pool.cancel(waiting)
    while not pool._running:
        threading.Event().wait(0.001)
    assert not pool._waiting
    gate.set()
    assert running.reply.result(60)
    pool.submit(lambda: None).reply.result(60)
    assert ran == []
    pool.close()


def test_a_cancelled_call_that_runs_is_told_wherever_it_waits(gate):
    pool, entered, woken = CallPool(1), threading.Event(), threading.Event()

    def waits():
        with on_cancel(woken.set):
            entered.set()
            woken.wait(60)
            check()

    call = pool.submit(waits)
    assert entered.wait(60)
    pool.cancel(call)
    with pytest.raises(EngineClosedError):
        call.reply.result(60)
    assert pool.submit(lambda: check() or "free").reply.result(60) == "free"
    pool.close()


def test_a_wait_that_begins_after_the_cancellation_is_woken_too():
    call = calls.Call(lambda: None)
    call.cancellation.cancel()
    woken = []
    with call.cancellation.governs():
        with on_cancel(lambda: woken.append(1)):
            assert woken == [1]
        with pytest.raises(CallCancelledError):
            check()
        with pytest.raises(CallCancelledError):
            calls.result(calls.Call(lambda: None).reply)
    check()  # out of the call it means nothing


def test_an_answer_that_is_there_is_given_even_to_a_cancelled_call():
    call = calls.Call(lambda: "answer")
    call.run()
    cancelled = calls.Call(lambda: calls.result(call.reply))
    cancelled.cancellation.cancel()
    cancelled.run()
    assert cancelled.reply.result(0) == "answer"


def test_an_answer_that_does_not_come_in_time_is_a_time_out():
    with pytest.raises(TimeoutError):
        calls.result(calls.Call(lambda: None).reply, 0)


def test_closing_refuses_what_waits_and_what_comes(gate):
    pool = CallPool(1)
    running = pool.submit(lambda: gate.wait(60))
    while not pool._running:
        threading.Event().wait(0.001)
    waiting = pool.submit(lambda: None)
    pool.close()
    with pytest.raises(EngineClosedError):
        waiting.reply.result(60)
    with pytest.raises(EngineClosedError):
        pool.submit(lambda: None)
    assert not pool.join(0)
    gate.set()
    assert running.reply.result(60)
    assert pool.join(60)


def test_a_machine_without_threads_left_says_so_and_serves_again_later(monkeypatch):
    def no_thread(_):
        raise RuntimeError("can't start new thread")

    pool = CallPool(2)
    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", no_thread)
        with pytest.raises(FathomError, match="no thread could be started"):
            pool.submit(lambda: None)
        with pytest.raises(FathomError, match="no thread could be started"):
            calls.alone(lambda: None)
    assert not pool._waiting
    assert pool.submit(lambda: "served").reply.result(60) == "served"
    pool.close()
