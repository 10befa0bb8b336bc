"""asyncio: ``fathomdb.aio.open`` gives an engine whose methods are awaited.

What belongs here: the table of the engine's and the admin's methods, and the bridge from an event
loop to the threads that run them. What a method does, and its documentation, is the engine's own.

Each call runs on one of a bounded number of threads (``EngineConfig.async_threads``) of its lane, so
that a write never queues behind searches that wait for their embedder, nor a search behind those
that wait for vectors. Functions that are passed to a call, such as ``progress``, run on its thread.

Cancelling an await takes back a call that has not begun. Of those that have, it ends a wait, a tick
or a drain, a search that waits for its embedder, an ingest before its next batch, and the wait for a
rebuild, which itself goes on. Everything else runs to its end unheard: a write that was cancelled
was never begun, or commits.
"""

from __future__ import annotations

import asyncio
import functools
import inspect
import queue
import time
import weakref
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Iterator
from contextlib import AbstractAsyncContextManager
from itertools import islice
from typing import (
    TYPE_CHECKING,
    Any,
    Concatenate,
    Generic,
    Literal,
    ParamSpec,
    Protocol,
    Self,
    TypeVar,
    cast,
)

from fathomdb import cancellation
from fathomdb import engine as sync
from fathomdb.actors import calls
from fathomdb.actors.calls import CallPool
from fathomdb.admin.service import AdminService
from fathomdb.engine import Engine
from fathomdb.search.lookup import PAGE_NODES

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Generator
    from types import TracebackType

    from fathomdb.actors.calls import Call
    from fathomdb.ingest.job import Records
    from fathomdb.ingest.stream import Record

P = ParamSpec("P")
T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)
S = TypeVar("S")

Lane = Literal["file", "query", "wait"]
"""What a call needs: the file alone, a query's vector too, or for vectors, records or work to come."""

SLICE_RECORDS = 64
"""Records that go from an async iterable to the thread of its ingest at once."""


class _Face(Generic[S]):
    """The asynchronous face of an object whose methods block."""

    def __init__(self, blocking: S, pools: _Pools) -> None:
        self._blocking = blocking
        self._pools = pools

    async def _run(self, function: Callable[[], T], lane: Lane = "file") -> T:
        pool = self._pools.lanes[lane]
        self._pools.check()  # before a thread is asked for, which a fork does not have
        call = pool.submit(function)
        try:
            return await asyncio.wrap_future(call.reply)
        except asyncio.CancelledError:
            pool.cancel(call)
            raise


class _Pools:
    """The threads of one engine, by lane."""

    def __init__(self, engine: Engine) -> None:
        runtime = engine._runtime
        self.check = runtime.check
        size = runtime.config.async_threads
        self.lanes: dict[Lane, CallPool] = {
            "file": CallPool(size),
            "query": CallPool(size),
            "wait": CallPool(size),
        }
        self._join_seconds = runtime.config.close_timeout_seconds

    def close(self) -> None:
        """Refuses what waits and cancels what runs."""
        for pool in self.lanes.values():
            pool.close()

    def join(self) -> None:
        """Waits for the threads, but not for ever: one may be in a function of the caller's."""
        deadline = time.monotonic() + self._join_seconds
        for pool in self.lanes.values():
            pool.join(max(0.0, deadline - time.monotonic()))


def _awaited(
    method: Callable[Concatenate[S, P], T], lane: Lane = "file"
) -> Callable[Concatenate[_Face[S], P], Coroutine[Any, Any, T]]:
    """A method of the blocking object as a coroutine function."""

    @functools.wraps(method)
    async def call(self: _Face[S], /, *args: P.args, **kwargs: P.kwargs) -> T:
        function = functools.partial(method, self._blocking, *args, **kwargs)
        # Every ``after`` waits for vectors, whoever searches.
        return await self._run(function, lane if kwargs.get("after") is None else "wait")

    return _named(call, f"Async{method.__qualname__}")


def _streamed(
    method: Callable[Concatenate[S, P], Iterator[T]],
) -> Callable[Concatenate[_Face[S], P], AsyncIterator[T]]:
    """A method that streams nodes as one that gives an async iterator of them."""

    @functools.wraps(method)
    def stream(self: _Face[S], /, *args: P.args, **kwargs: P.kwargs) -> AsyncIterator[T]:
        # Nothing is read yet, only the arguments are checked.
        return pages(self, method(self._blocking, *args, **kwargs))

    async def pages(self: _Face[S], records: Iterator[T]) -> AsyncIterator[T]:
        while page := await self._run(lambda: [*islice(records, PAGE_NODES)]):
            for record in page:
                yield record

    return _named(stream, f"Async{method.__qualname__}", returns="AsyncIterator[NodeRecord]")


class _Ingest(Protocol[P, T_co]):
    """A bound ingest, for the type checker: ``Concatenate`` has no name for ``records``."""

    def __call__(
        self, records: Records | AsyncIterable[Record], *args: P.args, **kwargs: P.kwargs
    ) -> Coroutine[Any, Any, T_co]: ...


def _fed(method: Callable[Concatenate[Engine, Records, P], T]) -> _Ingest[P, T]:
    """An ingest, which takes async iterables too: they are read in a task on the caller's loop."""
    ingest = _awaited(method, "wait")

    @functools.wraps(method)
    async def call(
        self: _Face[Engine],
        records: Records | AsyncIterable[Record],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> T:
        if not isinstance(records, AsyncIterable):
            return await ingest(self, records, *args, **kwargs)
        feed = _Feed()
        reading = asyncio.create_task(feed.read(records))
        try:
            return await ingest(self, feed, *args, **kwargs)
        finally:
            reading.cancel()
            await asyncio.wait({reading})

    _named(call, f"Async{method.__qualname__}", records="Records | AsyncIterable[Record]")
    return cast("_Ingest[P, T]", call)


def _named(function: T, qualname: str, *, returns: Any = None, **annotations: str) -> T:
    """Says in a wrapper's name and signature, which ``help`` shows, what differs from the wrapped."""
    signature = inspect.signature(function)  # type: ignore[arg-type]
    parameters = [
        parameter.replace(annotation=annotations.get(name, parameter.annotation))
        for name, parameter in signature.parameters.items()
    ]
    changed: Any = function
    changed.__signature__ = signature.replace(
        parameters=parameters, return_annotation=returns or signature.return_annotation
    )
    changed.__qualname__, changed.__module__ = qualname, __name__
    return function


class _Feed:
    """Records on their way from a loop to the thread of their ingest, a few slices at a time."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._room = asyncio.Semaphore(2)  # one slice is written while the next is read
        self._slices: queue.SimpleQueue[list[Record] | BaseException | None] = queue.SimpleQueue()

    async def read(self, records: AsyncIterable[Record]) -> None:
        """Reads to the end; what the iterable raises is raised where its records are taken."""
        end: Exception | None = None
        waiting: list[Record] = []
        try:
            async for record in records:
                waiting.append(record)
                if len(waiting) == SLICE_RECORDS:
                    await self._room.acquire()
                    self._slices.put(waiting)
                    waiting = []
        except Exception as error:
            end = error
        self._slices.put(waiting)
        self._slices.put(end)

    def __iter__(self) -> Iterator[Record]:
        with cancellation.on_cancel(lambda: self._slices.put(cancellation.CallCancelledError())):
            while (taken := self._slices.get()) is not None:
                if isinstance(taken, BaseException):
                    raise taken
                self._loop.call_soon_threadsafe(self._room.release)
                yield from taken


class AsyncAdminService(_Face[AdminService]):
    """:class:`AdminService`, awaited: what an operator does with a database."""

    def __init__(self, engine: AsyncEngine) -> None:
        super().__init__(engine._blocking.admin, engine._pools)
        self._engine = engine  # who holds an engine's admin holds the engine

    configure_embedding = _awaited(AdminService.configure_embedding)
    preview_projection_impact = _awaited(AdminService.preview_projection_impact)
    pause_switch = _awaited(AdminService.pause_switch)
    resume_switch = _awaited(AdminService.resume_switch)
    cancel_switch = _awaited(AdminService.cancel_switch)
    rollback = _awaited(AdminService.rollback)
    prune_profiles = _awaited(AdminService.prune_profiles)
    configure_vec = _awaited(AdminService.configure_vec)
    configure_vec_kinds = _awaited(AdminService.configure_vec_kinds)
    disable_vec = _awaited(AdminService.disable_vec)
    configure_fts = _awaited(AdminService.configure_fts, "wait")
    index_property = _awaited(AdminService.index_property, "wait")
    drop_property_index = _awaited(AdminService.drop_property_index)
    get_vec_index_status = _awaited(AdminService.get_vec_index_status)
    status = _awaited(AdminService.status)
    inspect = _awaited(AdminService.inspect, "query")
    trace_source = _awaited(AdminService.trace_source)
    check_integrity = _awaited(AdminService.check_integrity, "wait")
    repair = _awaited(AdminService.repair, "wait")
    projection_digest = _awaited(AdminService.projection_digest, "wait")
    safe_export = _awaited(AdminService.safe_export, "wait")
    erase = _awaited(AdminService.erase)
    erase_source = _awaited(AdminService.erase_source)
    drain_vector_projection = _awaited(AdminService.drain_vector_projection, "wait")
    run_tick = _awaited(AdminService.run_tick, "wait")
    failed_work = _awaited(AdminService.failed_work)
    requeue_failed = _awaited(AdminService.requeue_failed)
    rebuild = _awaited(AdminService.rebuild, "wait")


class AsyncEngine(_Face[Engine]):
    """:class:`Engine`, awaited; of any loop, and of several one after the other."""

    def __init__(self, engine: Engine) -> None:
        super().__init__(engine, _Pools(engine))
        # Forgotten, it is closed as the engine is, and its threads end.
        weakref.finalize(self, self._pools.close).atexit = False

    write = _awaited(Engine.write)
    patch = _awaited(Engine.patch)
    ingest = _fed(Engine.ingest)
    get = _awaited(Engine.get)
    get_many = _awaited(Engine.get_many)
    nodes = _streamed(Engine.nodes)
    count = _awaited(Engine.count)
    search = _awaited(Engine.search, "query")
    semantic_search = _awaited(Engine.semantic_search, "query")
    raw_vector_search = _awaited(Engine.raw_vector_search)
    text_search = _awaited(Engine.text_search)
    wait = _awaited(Engine.wait, "wait")

    @property
    def path(self) -> str:
        """The file, resolved."""
        return self._blocking.path

    @property
    def admin(self) -> AsyncAdminService:
        """Configuring, draining, rebuilding, looking inside."""
        return AsyncAdminService(self)

    async def close(self) -> None:
        """Stops the actors in order and lets go of the file; idempotent, bounded in time.

        Calls that wait are refused with EngineClosedError. Cancelled, it goes on to its end.
        """
        engine, pools = self._blocking, self._pools

        def close() -> None:
            pools.close()
            engine.close()
            pools.join()

        await asyncio.shield(asyncio.wrap_future(calls.alone(close).reply))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    def __repr__(self) -> str:
        return f"<fathomdb.aio.AsyncEngine on {self.path}>"


class Opening(Awaitable[AsyncEngine], AbstractAsyncContextManager[AsyncEngine]):
    """What ``open`` returns: awaited it is the engine, in ``async with`` it closes it too."""

    def __init__(self, opener: Callable[[], Engine]) -> None:
        self._opener = opener
        self._engine: AsyncEngine | None = None

    def __await__(self) -> Generator[Any, Any, AsyncEngine]:
        return self._open().__await__()

    async def __aenter__(self) -> AsyncEngine:
        self._engine = await self
        return self._engine

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        assert self._engine is not None
        await self._engine.close()

    async def _open(self) -> AsyncEngine:
        call = calls.alone(self._opener)
        try:
            return AsyncEngine(await asyncio.wrap_future(call.reply))
        except asyncio.CancelledError:
            call.cancellation.cancel()
            # It may have been opened all the same, and nobody else would close it.
            calls.alone(functools.partial(_close_opened, call))
            raise


def _close_opened(call: Call[Engine]) -> None:
    if not call.reply.cancelled() and call.reply.exception() is None:
        call.reply.result().close()


def _opening(opener: Callable[P, Engine]) -> Callable[P, Opening]:
    @functools.wraps(opener)
    def open(*args: P.args, **kwargs: P.kwargs) -> Opening:  # noqa: A001 - as in fathomdb.engine
        return Opening(functools.partial(opener, *args, **kwargs))

    return _named(open, "open", returns="Opening")


open = _opening(sync.open)  # noqa: A001 - as in fathomdb.engine
