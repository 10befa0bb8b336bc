"""Cancelling an await ends what waits and frees its thread; it never undoes or halves a commit.

One thread a lane: that a later call of the lane is answered shows that the thread is free.
"""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING

import pytest

import fathomdb
import inside
from fathomdb import Node, aio
from fathomdb.actors.calls import Call
from fathomdb.actors.embed_pool import Urgency
from fathomdb.actors.runtime import Runtime
from fathomdb.testing import DeterministicEmbedder

if TYPE_CHECKING:
    from collections.abc import Callable

FOREVER = float("inf")


async def cancelled(task: asyncio.Task) -> None:
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


def begun(coroutine) -> asyncio.Task:
    return asyncio.create_task(coroutine)


async def becomes(condition: Callable[[], object]) -> None:
    """Returns once it is so; what is asked for is inside, where nothing signals it."""

    def poll() -> None:
        while not condition():
            threading.Event().wait(0.001)

    await asyncio.to_thread(poll)


async def waits_for_progress(db: aio.AsyncEngine) -> None:
    """Returns once a thread sleeps until something is settled."""
    await becomes(lambda: db._blocking._runtime.progress._changed._waiters)


async def happens(event: threading.Event) -> None:
    assert await asyncio.to_thread(event.wait, 60)


def test_a_cancelled_wait_frees_its_thread_at_once(opening, run, embedder):
    async def main():
        async with opening(threads=1) as db:
            embedder.hold()
            receipt = await db.write(Node("Note", "n1", "text"))
            await asyncio.to_thread(embedder.wait_held)
            waiting = begun(db.wait(receipt, timeout=FOREVER))
            # The second one runs once the first has ended, and not before.
            second = begun(db.wait(receipt, timeout=0))
            await waits_for_progress(db)
            assert not second.done()
            await cancelled(waiting)
            assert (await second).reason == "timeout"
            embedder.release()
            assert (await db.wait(receipt)).complete

    run(main())


def test_a_search_that_is_cancelled_while_it_waits_for_a_write_frees_its_thread(
    opening, run, embedder
):
    async def main():
        async with opening(threads=1) as db:
            embedder.hold()
            receipt = await db.write(Node("Note", "n1", "text"))
            await asyncio.to_thread(embedder.wait_held)
            searching = begun(db.semantic_search("text", after=receipt, timeout=FOREVER))
            await waits_for_progress(db)
            await cancelled(searching)
            assert (await db.wait(receipt, timeout=0)).reason == "timeout"
            embedder.release()

    run(main())


def test_a_search_that_is_cancelled_while_its_query_is_embedded_frees_its_thread(
    opening, run, embedder
):
    async def main():
        async with opening(threads=1) as db:
            receipt = await db.write(Node("Note", "n1", "text"))
            await db.wait(receipt)
            embedder.hold()
            searching = begun(db.search("text"))
            await asyncio.to_thread(embedder.wait_held)
            await cancelled(searching)
            assert len(await db.search("text", mode="text")) == 1
            behind = begun(db.search("never asked"))  # waits for the embedder, and not inside it
            await becomes(lambda: db._blocking._runtime.model.pool._waiting[Urgency.QUERY])
            await cancelled(behind)
            assert len(await db.search("text", mode="text")) == 1
            embedder.release()
            assert (await db.search("text")).degraded is None
            assert "never asked" not in embedder.queries

    run(main())


def test_a_cancelled_drain_gives_its_rows_back_and_frees_its_thread(opening, run, embedder):
    async def main():
        async with opening(threads=1, background=False) as db:
            receipt = await db.write([Node("Note", f"n{n}", f"text {n}") for n in range(10)])
            embedder.hold()
            draining = begun(db.admin.drain_vector_projection(timeout=FOREVER))
            await asyncio.to_thread(embedder.wait_held)
            assert {row.state for row in inside.work(db._blocking).values()} == {"inflight"}
            await cancelled(draining)
            report = await db.wait(receipt, timeout=0)
            assert report.pending == 10
            rows = inside.work(db._blocking).values()
            assert {(row.state, row.attempts) for row in rows} == {("pending", 0)}
            embedder.release()
            assert (await db.admin.drain_vector_projection()).stopped_by == "idle"
            assert (await db.wait(receipt)).complete

    run(main())


def test_a_drain_that_is_cancelled_before_its_turn_does_not_wait_for_it(opening, run, embedder):
    async def main():
        async with opening(threads=2, background=False) as db:
            receipt = await db.write(Node("Note", "n1", "text"))
            embedder.hold()
            first = begun(db.admin.drain_vector_projection())
            await asyncio.to_thread(embedder.wait_held)
            second = begun(db.admin.drain_vector_projection())
            await becomes(lambda: db._blocking._runtime.projector._jobs)
            await cancelled(second)
            assert not db._blocking._runtime.projector._jobs
            assert (await db.wait(receipt, timeout=0)).pending == 1
            assert not first.done()
            embedder.release()
            assert (await first).incremental_processed == 1

    run(main())


def test_a_cancelled_write_that_had_begun_commits_and_one_that_had_not_never_does(opening, run):
    entered, gate, touched = threading.Event(), threading.Event(), threading.Event()

    def slow_nodes():
        entered.set()
        assert gate.wait(60)
        yield Node("Note", "begun", "text")

    def never_read():
        touched.set()
        yield Node("Note", "queued", "text")

    async def main():
        async with opening(threads=1) as db:
            writing = begun(db.write(slow_nodes()))
            await happens(entered)
            queued = begun(db.write(never_read()))
            await asyncio.sleep(0)
            await cancelled(writing)
            await cancelled(queued)
            gate.set()
            # One thread: this is read after what was begun has ended.
            assert [*await db.get_many(["begun", "queued"])] == ["begun"]
        assert not touched.is_set()

    run(main())


def test_a_cancelled_ingest_of_an_async_iterable_ends_between_two_batches(opening, run):
    closed = []

    async def main():
        async with opening(threads=1) as db:
            await db.ingest([{"id": "old", "text": "text"}], kind="Note", prune_source="feed")
            written, enough = asyncio.get_running_loop(), asyncio.Event()

            def progress(now):
                if now.written >= 60:
                    written.call_soon_threadsafe(enough.set)

            async def records():
                try:
                    for number in range(105):
                        yield {"id": f"n{number}", "text": "text"}
                    await asyncio.Event().wait()
                finally:
                    closed.append(True)

            ingesting = begun(
                db.ingest(
                    records(), kind="Note", prune_source="feed", batch_size=10, progress=progress
                )
            )
            await enough.wait()
            await cancelled(ingesting)
            assert closed == [True]
            receipt = await db.write()
            await db.wait(receipt, timeout=0)  # the thread is free, so nothing comes after this
            assert await db.count() == 61
            assert await db.get("old") is not None

    run(main())


def test_a_cancelled_ingest_of_a_blocking_iterable_writes_no_further_batch(opening, run):
    entered, gate = threading.Event(), threading.Event()

    def records():
        for number in range(100):
            if number == 25:
                entered.set()
                assert gate.wait(60)
            yield {"id": f"n{number}", "text": "text"}

    async def main():
        async with opening(threads=1) as db:
            ingesting = begun(db.ingest(records(), kind="Note", batch_size=10))
            await happens(entered)
            await cancelled(ingesting)
            gate.set()
            await db.wait(await db.write(), timeout=0)
            assert await db.count() == 20

    run(main())


def test_a_cancelled_rebuild_goes_on_and_frees_its_thread(opening, run):
    entered, gate = threading.Event(), threading.Event()

    def progress(_):
        entered.set()
        assert gate.wait(60)

    async def main():
        async with opening(threads=1) as db:
            receipt = await db.write(Node("Note", "n1", "a parrot"))
            rebuilding = begun(db.admin.configure_fts("trigram", progress))
            await happens(entered)
            await cancelled(rebuilding)
            await db.wait(receipt)
            gate.set()
            assert await db.admin.configure_fts("trigram") is None  # it is done already
            assert len(await db.text_search("arro")) == 1

    run(main())


def test_a_cancelled_open_stops_waiting_for_the_lock(path, run):
    async def main():
        with fathomdb.open(path, embedder=False) as owner:
            opening = begun(aio.open(path, lock_timeout_seconds=FOREVER)._open())
            await asyncio.sleep(0)
            await cancelled(opening)
            assert owner.count() == 0
            for thread in threading.enumerate():
                if thread.name == "fathomdb-call":
                    await asyncio.to_thread(thread.join, 60)
                    assert not thread.is_alive()

    run(main())


def test_an_engine_that_opens_after_its_open_was_cancelled_is_closed_beside_the_loop(
    path, run, monkeypatch
):
    entered, gate, closers = threading.Event(), threading.Event(), []
    close = Runtime.close

    def closing(self):
        closers.append(threading.current_thread())
        close(self)

    monkeypatch.setattr(Runtime, "close", closing)

    class Slow(DeterministicEmbedder):
        def identity(self):
            entered.set()
            assert gate.wait(60)
            return super().identity()

    async def main():
        opening = begun(aio.open(path, embedder=Slow())._open())
        await happens(entered)
        await cancelled(opening)
        gate.set()
        async with aio.open(path, embedder=False, lock_timeout_seconds=60) as db:
            assert await db.count() == 0
        assert threading.main_thread() not in closers

    run(main())


def test_a_close_that_is_cancelled_before_its_thread_runs_goes_on_to_its_end(
    opening, run, path, monkeypatch
):
    gate, call = threading.Event(), Call.run

    def later(self):
        assert gate.wait(60)
        call(self)

    async def main():
        db = await opening()
        with monkeypatch.context() as patched:
            patched.setattr(Call, "run", later)
            closing = begun(db.close())
            await asyncio.sleep(0)
            await cancelled(closing)
            gate.set()
        async with aio.open(path, embedder=False, lock_timeout_seconds=60) as again:
            assert await again.count() == 0

    run(main())


def test_a_cancelled_stream_of_nodes_leaves_the_engine_as_it_was(opening, run):
    async def main():
        async with opening(threads=1) as db:
            await db.write([Node("Note", f"n{n}") for n in range(600)])

            async def read():
                async for _ in db.nodes():
                    await asyncio.Event().wait()

            reading = begun(read())
            await db.count()
            await cancelled(reading)
            assert len([record async for record in db.nodes()]) == 600

    run(main())
