"""Event loop: one thread with one asyncio loop, on which an engine awaits async embedders."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import CancelledError, Future
from typing import TYPE_CHECKING, Any

from fathomdb.actors.actor import Actor, logger
from fathomdb.errors import EmbedderContractError, EmbedderUnavailableError
from fathomdb.pipeline.embed import EmbedTimeoutError, type_name

if TYPE_CHECKING:
    from collections.abc import Awaitable


class EventLoop(Actor):
    """Awaits what embedders return, for the threads of their pools; started when first needed.

    One for all models of an engine: clients of HTTP belong to the loop that they were first used
    on. An await that takes longer than its time is cancelled, and so is what still runs at the end.
    """

    def __init__(self) -> None:
        super().__init__("event-loop")
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._ending = asyncio.Event()
        self._closed = False

    def run(self, awaitable: Awaitable[Any], timeout_seconds: float) -> Any:
        """What ``awaitable`` comes to; not to be called on the loop's own thread.

        Raises:
            EmbedTimeoutError: It took longer than ``timeout_seconds``, and was cancelled.
            CancelledError: The loop was closed (the one of ``concurrent.futures``).
            EmbedderContractError: It was cancelled, and not by us.
            EmbedderUnavailableError: The machine has no thread left to run the loop on.
        """
        reply: Future[Any] = Future()
        try:
            with self._lock:
                if self._closed:
                    reply.cancel()
                else:
                    self._started().call_soon_threadsafe(
                        self._begin, awaitable, reply, timeout_seconds
                    )
            return reply.result()
        except CancelledError:
            if self._closed:
                raise
            raise EmbedderContractError("the embedder cancelled its own call") from None
        finally:
            if asyncio.iscoroutine(awaitable):
                awaitable.close()  # where it never began, Python would warn that nobody awaited it

    def runs_here(self) -> bool:
        """Whether the caller is on the loop's own thread, which must not wait for itself."""
        return threading.current_thread() is self._thread

    def close(self) -> None:
        """Cancels what runs and ends the loop; idempotent, and waits for nothing."""
        with self._lock:
            self._closed = True
            if self._loop is not None and not self._loop.is_closed():
                self._loop.call_soon_threadsafe(self._ending.set)

    def _started(self) -> asyncio.AbstractEventLoop:
        if self._loop is None:
            loop = asyncio.new_event_loop()
            try:
                self._loop = loop
                self.start()
            except RuntimeError as error:
                self._loop = None
                loop.close()
                raise EmbedderUnavailableError(
                    f"no thread could be started for the event loop: {error}; end some of this "
                    "process"
                ) from error
        return self._loop

    def _begin(self, awaitable: Awaitable[Any], reply: Future[Any], timeout_seconds: float) -> None:
        assert self._loop is not None
        task = self._loop.create_task(_answer(awaitable, reply, timeout_seconds))
        self._tasks.add(task)  # the loop alone would not keep it

        def ended(task: asyncio.Task[None]) -> None:
            self._tasks.discard(task)
            reply.cancel()  # where it was cancelled before its first step; else it is answered

        task.add_done_callback(ended)

    async def _until_closed(self) -> None:
        await self._ending.wait()

    def _run(self) -> None:
        loop = self._loop
        assert loop is not None
        try:
            ending = loop.create_task(self._until_closed())
            while not ending.done():
                try:
                    loop.run_until_complete(ending)
                except (KeyboardInterrupt, SystemExit) as error:
                    # Of a task that an embedder left behind: those of others go on.
                    logger.warning("a task of an embedder raised %s", type_name(error))
            # What was given to the loop before it was told to end has begun by now.
            loop.run_until_complete(_cancel_all())
            loop.run_until_complete(loop.shutdown_asyncgens())
        finally:
            with self._lock:
                self._closed = True
                loop.close()


async def _cancel_all() -> None:
    """Cancels every other task of the loop, and returns once they have ended."""
    tasks = asyncio.all_tasks() - {asyncio.current_task()}
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def _answer(awaitable: Awaitable[Any], reply: Future[Any], timeout_seconds: float) -> None:
    """Awaits and answers; nothing that is raised ends the loop."""
    limit = asyncio.timeout(timeout_seconds)
    try:
        async with limit:
            result = await awaitable
    except asyncio.CancelledError:
        reply.cancel()
        raise
    except Exception as error:
        if isinstance(error, TimeoutError) and limit.expired():
            error = EmbedTimeoutError(
                f"the embedder did not return within {timeout_seconds:g} s and was cancelled"
            )
        reply.set_exception(error)
    except BaseException as error:
        reply.set_exception(
            EmbedderContractError(
                f"the embedder raised {type_name(error)}, which is not an Exception"
            )
        )
    else:
        reply.set_result(result)
