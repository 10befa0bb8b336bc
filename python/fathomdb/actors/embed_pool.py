"""Embed pool: every call to an embedder runs here, on as many threads as it declares."""

from __future__ import annotations

import threading
from collections import deque
from concurrent.futures import Future
from dataclasses import dataclass, field
from enum import IntEnum
from typing import TYPE_CHECKING, Any

from fathomdb.config import BACKFILL_EVERY
from fathomdb.embedders.protocol import Embedder, limits_of
from fathomdb.errors import EmbedderContractError, EngineClosedError

if TYPE_CHECKING:
    from collections.abc import Callable

MAX_ABANDONED = 4
"""Threads that may hang in an embedder of higher concurrency before the pool stops replacing them."""


EMBED_THREAD = "fathomdb-embed"
"""The name of the threads that embedders run on."""


class EmbedTimeoutError(Exception):
    """A call took longer than ``embed_timeout_seconds``; the text is suspected, not the network."""


class Urgency(IntEnum):
    """Who goes first: somebody waits for a query; a fresh write waits for one slice at most."""

    QUERY = 0
    FRESH = 1
    BACKFILL = 2


@dataclass(slots=True, eq=False)
class _Call:
    function: Callable[[], Any]
    reply: Future[Any] = field(default_factory=Future)


@dataclass(slots=True, eq=False)
class _Worker:
    call: _Call | None = None
    abandoned: bool = False


class EmbedPool:
    """Runs an embedder's calls, the most urgent first; a concurrency of 1 is never entered twice.

    A call that is abandoned keeps its thread until it returns, and its result is dropped. With a
    concurrency of 1 nothing else is called until then (``stuck``); otherwise another thread takes
    the place, at most MAX_ABANDONED times.
    """

    def __init__(self, embedder: Embedder) -> None:
        self.embedder = embedder
        self.concurrency = limits_of(embedder).concurrency
        self._changed = threading.Condition()
        self._waiting: tuple[deque[_Call], ...] = tuple(deque() for _ in Urgency)
        self._workers: set[_Worker] = set()
        self._idle = 0
        self._passed_by = 0
        self._closed = False

    def submit(
        self, function: Callable[[], Any], urgency: Urgency = Urgency.BACKFILL
    ) -> Future[Any]:
        """Queues a call; whatever it raises is in the future."""
        call = _Call(function)
        with self._changed:
            if self._closed:
                raise EngineClosedError
            self._waiting[urgency].append(call)
            # An idle thread may have been told of a call before this one and not woken yet.
            waiting = sum(map(len, self._waiting))
            if waiting > self._idle and self._usable() < self.concurrency and not self._is_stuck():
                self._start_worker()
            self._changed.notify()
        return call.reply

    def withdraw(self, reply: Future[Any]) -> bool:
        """Takes back a call that has not begun; False where it has."""
        with self._changed:
            for waiting in self._waiting:
                for call in waiting:
                    if call.reply is reply:
                        waiting.remove(call)
                        reply.cancel()
                        return True
        return False

    def abandon(self, reply: Future[Any]) -> None:
        """Gives up on a call: not yet begun it never will, running its result is dropped."""
        if self.withdraw(reply):
            return
        with self._changed:
            for worker in self._workers:
                if worker.call is not None and worker.call.reply is reply:
                    worker.abandoned = True
                    if any(self._waiting) and not self._is_stuck():
                        self._start_worker()
                    return

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
            for waiting in self._waiting:
                for call in waiting:
                    call.reply.cancel()
                waiting.clear()
            self._changed.notify_all()

    def _usable(self) -> int:
        return sum(not worker.abandoned for worker in self._workers)

    def _is_stuck(self) -> bool:
        abandoned = sum(worker.abandoned for worker in self._workers)
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

    def _start_worker(self) -> None:
        worker = _Worker()
        self._workers.add(worker)
        threading.Thread(target=self._work, args=(worker,), name=EMBED_THREAD, daemon=True).start()

    def _work(self, worker: _Worker) -> None:
        while True:
            with self._changed:
                worker.call = None
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
            if not call.reply.set_running_or_notify_cancel():
                continue
            try:
                result = call.function()
            except Exception as error:
                call.reply.set_exception(error)
            except BaseException as error:
                call.reply.set_exception(
                    EmbedderContractError(
                        f"the embedder raised {type(error).__name__}, which is not an Exception"
                    )
                )
            else:
                call.reply.set_result(result)
            del call
