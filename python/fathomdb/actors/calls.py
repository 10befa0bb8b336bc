"""Calls: blocking functions on threads of their own, for callers that must not block.

What belongs here: the bounded pool behind ``fathomdb.aio``, and the lone thread that opens and
closes an engine, which must not queue behind its calls.
"""

from __future__ import annotations

import contextvars
import threading
import time
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from fathomdb.cancellation import CallCancelledError, Cancellation, check, on_cancel
from fathomdb.errors import EngineClosedError, FathomError

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")

CALL_THREAD = "fathomdb-call"
"""The name of the threads that calls run on."""


class Call(Generic[T]):
    """A function that is to run, in the context variables of who asks for it; and its answer."""

    def __init__(self, function: Callable[[], T]) -> None:
        self.reply: Future[T] = Future()
        self.cancellation = Cancellation()
        self._function = function
        self._context = contextvars.copy_context()

    def run(self) -> None:
        """Runs and answers, on this thread; does nothing where it was cancelled before."""
        if not self.reply.set_running_or_notify_cancel():
            return
        try:
            with self.cancellation.governs():
                result = self._context.run(self._function)
        except CallCancelledError:
            # Whoever cancelled it has gone; who still waits is told by a pool that was closed.
            self.reply.set_exception(EngineClosedError())
        except StopIteration as error:
            # No coroutine can raise it: asyncio would leave its caller waiting for ever.
            stopped = RuntimeError("the call raised StopIteration")
            stopped.__cause__ = error
            self.reply.set_exception(stopped)
        except BaseException as error:
            self.reply.set_exception(error)
        else:
            self.reply.set_result(result)


class CallPool:
    """Runs calls in their order, on as many threads as ``size`` at most; the others wait.

    Threads start as they are needed and are daemons: a program may end while a call hangs.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._changed = threading.Condition()
        self._waiting: dict[Call[Any], None] = {}  # in their order, and any can be taken out
        self._running: set[Call[Any]] = set()
        self._threads: set[threading.Thread] = set()
        self._idle = 0
        self._closed = False

    def submit(self, function: Callable[[], T]) -> Call[T]:
        """Queues a call.

        Raises:
            EngineClosedError: The pool is closed.
            FathomError: The machine has no thread left to run it on.
        """
        call = Call(function)
        with self._changed:
            if self._closed:
                raise EngineClosedError
            self._waiting[call] = None
            if len(self._waiting) > self._idle and len(self._threads) < self._size:
                try:
                    self._start_thread()
                except RuntimeError as error:
                    if not self._threads:  # otherwise it waits for a thread that is there
                        del self._waiting[call]
                        raise FathomError(
                            f"no thread could be started for the call: {error}; end some of this "
                            "process"
                        ) from error
            self._changed.notify()
        return call

    def cancel(self, call: Call[T]) -> None:
        """Takes back a call that has not begun; one that has is told, and ends where it waits."""
        if call.reply.cancel():
            with self._changed:
                self._waiting.pop(call, None)
        else:
            call.cancellation.cancel()

    def close(self) -> None:
        """Refuses what waits, cancels what runs, and ends each thread as its call returns."""
        with self._changed:
            self._closed = True
            refused, self._waiting = self._waiting, {}
            running = [*self._running]
            self._changed.notify_all()
        for call in refused:
            if call.reply.set_running_or_notify_cancel():
                call.reply.set_exception(EngineClosedError())
        for call in running:
            call.cancellation.cancel()

    def join(self, timeout_seconds: float) -> bool:
        """After ``close``: waits for the threads to end; False where some did not in time."""
        deadline = time.monotonic() + timeout_seconds
        with self._changed:
            threads = [*self._threads]
        for thread in threads:
            if thread is not threading.current_thread():
                thread.join(max(0.0, deadline - time.monotonic()))
        return not any(thread.is_alive() for thread in threads)

    def _start_thread(self) -> None:
        thread = threading.Thread(target=self._work, name=CALL_THREAD, daemon=True)
        self._threads.add(thread)
        try:
            thread.start()
        except RuntimeError:
            self._threads.discard(thread)
            raise

    def _work(self) -> None:
        while True:
            with self._changed:
                self._idle += 1
                self._changed.wait_for(lambda: self._waiting or self._closed)
                self._idle -= 1
                if self._closed:
                    self._threads.discard(threading.current_thread())
                    return
                call = next(iter(self._waiting))
                del self._waiting[call]
                self._running.add(call)
            call.run()
            with self._changed:
                self._running.discard(call)
            del call  # an idle thread keeps no engine, and no answer


def alone(function: Callable[[], T]) -> Call[T]:
    """Runs a call at once on a thread of its own.

    Raises:
        FathomError: The machine has no thread left to run it on.
    """
    call = Call(function)
    try:
        threading.Thread(target=call.run, name=CALL_THREAD, daemon=True).start()
    except RuntimeError as error:
        raise FathomError(
            f"no thread could be started for the call: {error}; end some of this process"
        ) from error
    return call


def result(reply: Future[T], timeout_seconds: float | None = None) -> T:
    """The answer of a future that goes on by itself, whoever stops waiting for it.

    Raises:
        CallCancelledError: The call that this thread runs was cancelled before the answer came.
        TimeoutError: Nor did it come in time.
    """
    answered = threading.Event()
    reply.add_done_callback(lambda _: answered.set())
    with on_cancel(answered.set):
        answered.wait(timeout_seconds)
    if not reply.done():
        check()
    return reply.result(0)
