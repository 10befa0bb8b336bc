"""Embed pool: every call to an embedder runs here, on as many threads as it declares."""

from __future__ import annotations

import os
import threading
import weakref
from collections import deque
from concurrent.futures import Future
from dataclasses import dataclass, field
from enum import IntEnum
from typing import TYPE_CHECKING, Any

from fathomdb.config import BACKFILL_EVERY
from fathomdb.embedders.protocol import Embedder, limits_of
from fathomdb.errors import (
    EmbedderContractError,
    EmbedderUnavailableError,
    EngineClosedError,
)
from fathomdb.pipeline.embed import type_name

if TYPE_CHECKING:
    from collections.abc import Callable

    from fathomdb.config import Clock

MAX_ABANDONED = 4
"""Threads that may hang in an embedder of higher concurrency before the pool stops replacing them."""


EMBED_THREAD = "fathomdb-embed"
"""The name of the threads that embedders run on."""


class Urgency(IntEnum):
    """Who goes first: somebody waits for a query; a fresh write waits for one slice at most."""

    QUERY = 0
    FRESH = 1
    BACKFILL = 2


class Reply(Future[Any]):
    """What a call comes to; ``began_at`` is the monotonic time when it entered the embedder."""

    began_at: float | None = None


@dataclass(slots=True, eq=False)
class _Call:
    function: Callable[[], Any]
    reply: Reply = field(default_factory=Reply)


@dataclass(slots=True, eq=False)
class _Worker:
    thread: threading.Thread | None = None
    call: _Call | None = None
    abandoned: bool = False


class _Gate:
    """One embedder object's door: one thread at a time enters an embedder of concurrency 1."""

    def __init__(self, embedder: Embedder) -> None:
        self.embedder = embedder  # keeps it, or another object could get its id
        self.inside: threading.Thread | None = None
        self._changed = threading.Condition()

    def enter(self, is_given_up: Callable[[], bool]) -> bool:
        """Waits until nobody is inside; False, and not inside, once the call is given up.

        A call that does not return keeps the door shut: the threads of calls that were given up
        meanwhile leave, so that their number does not grow with those that come.
        """
        with self._changed:
            self._changed.wait_for(lambda: self.inside is None or is_given_up())
            if self.inside is not None:
                return False
            self.inside = threading.current_thread()
            return True

    def leave(self) -> None:
        """Lets the next one in."""
        with self._changed:
            self.inside = None
            self._changed.notify_all()

    def look_again(self) -> None:
        """Has whoever waits ask whether its call was given up."""
        with self._changed:
            self._changed.notify_all()


_gates: weakref.WeakValueDictionary[int, _Gate] = weakref.WeakValueDictionary()
_gates_lock = threading.Lock()


def _gate_of(embedder: Embedder) -> _Gate:
    """The one gate of an object, for all pools of all engines that use it."""
    with _gates_lock:
        gate = _gates.get(id(embedder))
        if gate is None:
            gate = _gates[id(embedder)] = _Gate(embedder)
        return gate


def _after_fork_in_child() -> None:
    # The threads that were inside stayed in the parent: here nobody would ever open their gates.
    global _gates, _gates_lock
    _gates, _gates_lock = weakref.WeakValueDictionary(), threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)


class EmbedPool:
    """Runs an embedder's calls, the most urgent first; a concurrency of 1 is never entered twice.

    Not by several pools over the same object either: engines may share one.

    A call that is abandoned keeps its thread until it returns, and its result is dropped. With a
    concurrency of 1 nothing else is called until then (``stuck``); otherwise another thread takes
    the place, at most MAX_ABANDONED times.
    """

    def __init__(self, embedder: Embedder, clock: Clock) -> None:
        self.embedder = embedder
        self.concurrency = limits_of(embedder).concurrency
        self._clock = clock
        self._gate = _gate_of(embedder)
        self._changed = threading.Condition()
        self._waiting: tuple[deque[_Call], ...] = tuple(deque() for _ in Urgency)
        self._workers: set[_Worker] = set()
        self._idle = 0
        self._passed_by = 0
        self._closed = False

    def submit(self, function: Callable[[], Any], urgency: Urgency = Urgency.BACKFILL) -> Reply:
        """Queues a call; whatever it raises is in the future.

        Raises:
            EngineClosedError: The pool takes no more calls.
            EmbedderUnavailableError: The machine has no thread left to run it on.
        """
        call = _Call(function)
        with self._changed:
            if self._closed:
                raise EngineClosedError
            self._waiting[urgency].append(call)
            # An idle thread may have been told of a call before this one and not woken yet.
            waiting = sum(map(len, self._waiting))
            if waiting > self._idle and self._usable() < self.concurrency and not self._is_stuck():
                try:
                    self._start_worker()
                except EmbedderUnavailableError:
                    if not self._usable():  # otherwise it waits for a thread that is there
                        self._waiting[urgency].remove(call)
                        raise
            self._changed.notify()
        return call.reply

    def withdraw(self, reply: Future[Any]) -> bool:
        """Takes back a call that has not begun; False where it has."""
        # Not under the lock: a cancelled future calls who waits for it, who may have another lock.
        if not reply.cancel():
            return False
        self._gate.look_again()
        with self._changed:
            for waiting in self._waiting:
                for call in waiting:
                    if call.reply is reply:
                        waiting.remove(call)
                        return True
        return True

    def abandon(self, reply: Future[Any]) -> None:
        """Gives up on a call: not yet begun it never will, running its result is dropped.

        Where the machine has no thread left to take its place, what waits is answered so.
        """
        if self.withdraw(reply):
            return
        refused: list[_Call] = []
        with self._changed:
            for worker in self._workers:
                if worker.call is not None and worker.call.reply is reply:
                    worker.abandoned = True
            has_its_threads = self._usable() >= self.concurrency
            if not any(self._waiting) or has_its_threads or self._is_stuck():
                return
            try:
                self._start_worker()
            except EmbedderUnavailableError as error:
                no_thread = error
                if not self._usable():  # otherwise it waits for a thread that is there
                    refused = self._take_waiting()
        # Not under the lock, as in ``withdraw``.
        for call in refused:
            if call.reply.set_running_or_notify_cancel():
                call.reply.set_exception(no_thread)

    @property
    def stuck(self) -> bool:
        """Whether no call can begin until an abandoned one returns."""
        with self._changed:
            return self._is_stuck()

    @property
    def closed(self) -> bool:
        """Whether it takes no more calls."""
        return self._closed

    def close(self) -> None:
        """Ends the threads that are idle, and the others as their calls return; waits for none."""
        with self._changed:
            self._closed = True
            never = self._take_waiting()
            # Those that have begun do not let themselves be cancelled.
            never.extend(worker.call for worker in self._workers if worker.call is not None)
            self._changed.notify_all()
        for call in never:
            call.reply.cancel()
        self._gate.look_again()

    def wait_idle(self) -> None:
        """After ``close``: returns once no call is inside the embedder, however long that takes."""
        with self._changed:
            self._changed.wait_for(lambda: not any(worker.call for worker in self._workers))

    def runs_here(self) -> bool:
        """Whether the caller is inside a call of this pool, or of its embedder of concurrency 1."""
        here = threading.current_thread()
        if self._gate.inside is here:
            return True
        with self._changed:
            return any(worker.thread is here for worker in self._workers)

    def _take_waiting(self) -> list[_Call]:
        never = [call for waiting in self._waiting for call in waiting]
        for waiting in self._waiting:
            waiting.clear()
        return never

    def _usable(self) -> int:
        return sum(not worker.abandoned for worker in self._workers)

    def _is_stuck(self) -> bool:
        # From the moment of its answer on, so that who hears of that finds the pool free.
        abandoned = sum(
            worker.abandoned and worker.call is not None and not worker.call.reply.done()
            for worker in self._workers
        )
        return abandoned >= (1 if self.concurrency == 1 else MAX_ABANDONED)

    def _next_call(self) -> _Call:
        """The most urgent call, but no call is passed by for ever."""
        urgency = next(urgency for urgency in Urgency if self._waiting[urgency])
        if urgency is Urgency.FRESH and self._waiting[Urgency.BACKFILL]:
            self._passed_by += 1
            if self._passed_by == BACKFILL_EVERY:
                urgency = Urgency.BACKFILL
        if urgency is Urgency.BACKFILL:
            self._passed_by = 0
        return self._waiting[urgency].popleft()

    def _enter(self, call: _Call) -> None:
        """Runs a call, unless it was withdrawn while it waited, and answers it."""
        if not call.reply.set_running_or_notify_cancel():
            return
        call.reply.began_at = self._clock.monotonic()
        try:
            result = call.function()
        except Exception as error:
            call.reply.set_exception(error)
        except BaseException as error:
            call.reply.set_exception(
                EmbedderContractError(
                    f"the embedder raised {type_name(error)}, which is not an Exception"
                )
            )
        else:
            call.reply.set_result(result)

    def _start_worker(self) -> None:
        worker = _Worker()
        self._workers.add(worker)
        worker.thread = threading.Thread(
            target=self._work, args=(worker,), name=EMBED_THREAD, daemon=True
        )
        try:
            worker.thread.start()
        except RuntimeError as error:
            # A worker without a thread would be counted on for ever.
            self._workers.discard(worker)
            raise EmbedderUnavailableError(
                f"no thread could be started for the embedder: {error}; end some of this process"
            ) from error

    def _work(self, worker: _Worker) -> None:
        while True:
            with self._changed:
                worker.call = None
                if self._closed:
                    self._changed.notify_all()  # for who waits until it is idle
                if worker.abandoned and self._usable() >= self.concurrency:
                    self._workers.discard(worker)  # another thread has its place
                    return
                worker.abandoned = False
                self._idle += 1
                while not (any(self._waiting) or self._closed):
                    self._changed.wait()
                self._idle -= 1
                if self._closed:
                    self._workers.discard(worker)
                    return
                call = self._next_call()
                worker.call = call
            if self.concurrency > 1:
                self._enter(call)
            elif self._gate.enter(call.reply.cancelled):
                try:
                    self._enter(call)
                finally:
                    self._gate.leave()
            del call
