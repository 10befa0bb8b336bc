from __future__ import annotations

import asyncio
import threading
from concurrent.futures import CancelledError, ThreadPoolExecutor

import pytest

from fathomdb.actors.event_loop import EventLoop
from fathomdb.errors import EmbedderContractError
from fathomdb.pipeline.embed import EmbedTimeoutError
from fathomdb.pipeline.outage import is_outage

PATIENCE = 30


@pytest.fixture
def loop():
    loop = EventLoop()
    yield loop
    loop.close()
    assert loop.join(PATIENCE)
    assert loop.crash is None


async def value(given):
    await asyncio.sleep(0)
    return given


async def failing(error):
    await asyncio.sleep(0)
    raise error


def test_all_calls_of_all_threads_run_on_one_loop_and_one_thread(loop):
    async def where():
        await asyncio.sleep(0)
        return asyncio.get_running_loop(), threading.get_ident()

    with ThreadPoolExecutor(8) as pool:
        seen = set(pool.map(lambda _: loop.run(where(), PATIENCE), range(64)))
    assert len(seen) == 1
    assert threading.get_ident() not in {thread for _, thread in seen}


def test_it_has_no_thread_before_it_is_needed():
    before = threading.active_count()
    loop = EventLoop()
    assert threading.active_count() == before
    loop.close()
    assert loop.join(0)


def test_any_awaitable_is_awaited(loop):
    class Later:
        def __await__(self):
            yield
            return 7

    assert loop.run(value(5), PATIENCE) == 5
    assert loop.run(Later(), PATIENCE) == 7


def test_what_is_raised_is_raised(loop):
    with pytest.raises(KeyError, match="a text"):
        loop.run(failing(KeyError("a text")), PATIENCE)


def test_a_time_out_of_the_transport_is_not_one_of_ours(loop):
    with pytest.raises(TimeoutError, match="the socket") as caught:
        loop.run(failing(TimeoutError("the socket")), PATIENCE)
    assert is_outage(caught.value)


@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt()], ids=repr)
def test_what_would_end_the_loop_is_an_error_of_that_call_alone(loop, error):
    with pytest.raises(EmbedderContractError, match=type(error).__name__):
        loop.run(failing(error), PATIENCE)
    assert loop.run(value(5), PATIENCE) == 5


def test_a_task_that_is_left_behind_does_not_end_the_loop_for_others(loop, caplog):
    left = []

    async def leaves_a_task():
        left.append(asyncio.ensure_future(failing(SystemExit(3))))

    loop.run(leaves_a_task(), PATIENCE)
    assert loop.run(value(5), PATIENCE) == 5
    assert "SystemExit" in caplog.text
    assert isinstance(left[0].exception(), SystemExit)


def test_a_call_that_takes_too_long_is_cancelled(loop):
    cancelled = threading.Event()

    async def hangs():
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()

    with pytest.raises(EmbedTimeoutError, match="cancelled") as caught:
        loop.run(hangs(), 0.01)
    assert cancelled.wait(PATIENCE)
    assert not is_outage(caught.value)


def test_a_call_that_cancels_itself_says_so(loop):
    with pytest.raises(EmbedderContractError, match="cancelled its own call"):
        loop.run(failing(asyncio.CancelledError()), PATIENCE)


def test_close_cancels_what_runs_and_what_comes_later(loop):
    began, cancelled = threading.Event(), threading.Event()

    async def hangs():
        began.set()
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()

    with ThreadPoolExecutor(1) as pool:
        reply = pool.submit(loop.run, hangs(), PATIENCE)
        assert began.wait(PATIENCE)
        loop.close()
        loop.close()
        with pytest.raises(CancelledError):
            reply.result(PATIENCE)
    assert cancelled.is_set()
    assert loop.join(PATIENCE)
    with pytest.raises(CancelledError):
        loop.run(value(5), PATIENCE)


def test_close_at_any_moment_leaves_nobody_waiting():
    for _ in range(100):
        loop = EventLoop()

        def ask(loop=loop):
            try:
                return loop.run(value(5), PATIENCE)
            except CancelledError:
                return None

        with ThreadPoolExecutor(4) as pool:
            replies = [pool.submit(ask) for _ in range(8)]
            for _ in range(3):
                loop.close()
            assert {reply.result(PATIENCE) for reply in replies} <= {5, None}
        assert loop.join(PATIENCE)
        assert loop.crash is None


def test_it_knows_its_own_thread(loop):
    async def here():
        return loop.runs_here()

    assert loop.run(here(), PATIENCE)
    assert not loop.runs_here()
