"""Calls through a loop answer as the blocking ones do, on a bounded number of threads."""

from __future__ import annotations

import asyncio
import contextvars
import threading

import pytest

import fathomdb
from fathomdb import EngineConfig, Node, aio
from fathomdb.actors.calls import CALL_THREAD
from fathomdb.testing import DeterministicEmbedder


def call_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == CALL_THREAD]


@pytest.fixture(autouse=True)
def _every_thread_ends():
    yield
    for thread in call_threads():
        thread.join(60)
    assert call_threads() == []


def test_a_document_is_written_awaited_found_and_read(opening, run, path):
    async def main():
        async with opening() as db:
            receipt = await db.write(Node("Note", "n1", "a parrot", {"lang": "en"}))
            assert (await db.wait(receipt)).complete
            assert [hit.node_id for hit in await db.search("parrot")] == ["n1"]
            assert (await db.semantic_search("a parrot", after=receipt))[0].node_id == "n1"
            assert (await db.text_search("parrot"))[0].node_id == "n1"
            vector = DeterministicEmbedder().batch_embed(["a parrot"])[0]
            assert (await db.raw_vector_search(vector))[0].node_id == "n1"
            await db.patch("n1", {"lang": "fr"})
            assert (await db.get("n1")).properties == {"lang": "fr"}
            assert [*await db.get_many(["n1", "n2"])] == ["n1"]
            assert await db.count(where={"lang": "fr"}) == 1
            assert (await db.admin.status()).pending == 0
            assert (await db.admin.inspect("n1")).verdict
            assert db.path == path
            assert path in repr(db)

    run(main())


def test_an_engine_can_be_awaited_and_closed_by_hand(opening, run):
    async def main():
        db = await opening()
        assert await db.count() == 0
        await db.close()
        await db.close()
        async with await opening() as again:
            assert await again.count() == 0

    run(main())


def test_nodes_stream_over_more_than_one_page(opening, run):
    ids = [f"n{number:04}" for number in range(1100)]

    async def main():
        async with opening() as db:
            await db.write([Node("Note", node_id) for node_id in ids])
            assert [record.node_id async for record in db.nodes("Note")] == ids
            assert [record.node_id async for record in db.nodes(where={"a": 1})] == []

    run(main())


def test_errors_are_those_of_the_blocking_engine(opening, run, path):
    async def main():
        async with opening() as db:
            with pytest.raises(fathomdb.InvalidInputError, match="limit"):
                await db.search("x", limit=0)
            await db.write(Node("Plain", "p"))
            await db.admin.disable_vec("Plain")
            with pytest.raises(fathomdb.KindNotVectorIndexedError):
                await db.admin.projection_digest("Plain")
            with pytest.raises(fathomdb.InvalidInputError):
                db.nodes(where={"a": {"nope": 1}})
            with pytest.raises(TypeError, match="limi"):
                await db.search("x", limi=1)
            with pytest.raises(fathomdb.DatabaseLockedError):
                await aio.open(path)
        for use in (db.count(), db.admin.status(), db.write()):
            with pytest.raises(fathomdb.EngineClosedError, match="closed"):
                await use
        with pytest.raises(fathomdb.EngineClosedError):
            db.nodes()
        with pytest.raises(fathomdb.InvalidInputError, match="memory"):
            await aio.open(":memory:")

    run(main())


def test_a_call_that_raises_stop_iteration_ends_all_the_same(opening, run):
    def stop(_):
        raise StopIteration

    async def main():
        async with opening() as db:
            with pytest.raises(RuntimeError, match="StopIteration"):
                await db.ingest([Node("Note", "a")], progress=stop)

    run(main())


def test_200_searches_queue_for_a_few_threads_while_the_loop_keeps_time(opening, run, embedder):
    async def main():
        async with opening(threads=3) as db:
            receipt = await db.write([Node("Note", f"n{n}", f"text {n}") for n in range(20)])
            await db.wait(receipt)
            beats = 0
            beaten = asyncio.Condition()

            async def beat():
                nonlocal beats
                while True:
                    await asyncio.sleep(0.005)
                    async with beaten:
                        beats += 1
                        beaten.notify_all()

            heart = asyncio.create_task(beat())
            embedder.hold()
            searches = [asyncio.create_task(db.search(f"text {n % 20}")) for n in range(200)]
            await asyncio.to_thread(embedder.wait_held)
            async with beaten:
                begun = beats
                await beaten.wait_for(lambda: beats >= begun + 20)
            assert not any(search.done() for search in searches)
            # Three of the query lane; the lane of the writes has its own, at most as many.
            assert len(call_threads()) <= 3 + 3 + 3
            assert await db.count() == 20  # what needs no embedder is answered meanwhile
            receipt = await db.write(Node("Note", "fresh", "meanwhile"))
            assert receipt.written == 1
            embedder.release()
            results = await asyncio.gather(*searches)
            assert [result[0].node_id for result in results] == [f"n{n % 20}" for n in range(200)]
            assert {result.degraded for result in results} == {None}
            heart.cancel()

    run(main())


def test_waits_for_vectors_do_not_hold_up_searches_and_writes(opening, run):
    async def main():
        async with opening(threads=1, index_kinds="all") as db:
            await db.admin.disable_vec("Plain")
            gate = asyncio.Event()

            async def records():
                await gate.wait()
                yield {"id": "late", "text": "text"}

            waiting = asyncio.create_task(db.ingest(records(), kind="Plain"))
            await asyncio.sleep(0)
            assert (await db.write(Node("Plain", "n1", "a parrot"))).written == 1
            assert len(await db.search("parrot")) == 1
            assert not waiting.done()
            gate.set()
            assert (await waiting).written == 1

    run(main())


def test_two_engines_share_a_loop(opening, run, tmp_path, embedder):
    async def main():
        async with opening() as one, aio.open(tmp_path / "two.db", embedder=embedder) as two:
            await asyncio.gather(
                *(one.write(Node("Note", f"a{n}", "one")) for n in range(20)),
                *(two.write(Node("Note", f"b{n}", "two")) for n in range(10)),
            )
            assert (await one.count(), await two.count()) == (20, 10)

    run(main())


def test_an_engine_outlives_the_loop_that_opened_it(opening, run):
    async def begin():
        db = await opening()
        await db.write(Node("Note", "n1", "text"))
        return db

    async def go_on(db):
        async with db:
            receipt = await db.write(Node("Note", "n2", "text"))
            assert (await db.wait(receipt)).complete

            async def records():
                yield {"id": "n3", "text": "text"}

            await db.ingest(records(), kind="Note")
            return [record.node_id async for record in db.nodes()]

    db = run(begin())
    assert run(go_on(db)) == ["n1", "n2", "n3"]


def test_a_task_group_ends_with_the_error_of_one_and_cancels_the_others(opening, run, embedder):
    async def main():
        async with opening() as db:
            receipt = await db.write(Node("Note", "n1", "text"))
            await db.wait(receipt)
            embedder.hold()

            async def together():
                async with asyncio.TaskGroup() as group:
                    for _ in range(5):
                        group.create_task(db.search("text"))
                    await asyncio.to_thread(embedder.wait_held)
                    group.create_task(db.patch("missing", {"a": 1}))

            with pytest.raises(ExceptionGroup) as caught:
                await together()
            (error,) = caught.value.exceptions
            assert isinstance(error, fathomdb.InvalidInputError)
            embedder.release()
            assert len(await db.search("text")) == 1

    run(main())


def test_functions_of_the_caller_see_the_context_variables_of_their_call(opening, run):
    request = contextvars.ContextVar("request", default="none")
    seen = []

    async def main():
        async with opening() as db:

            async def handle(name):
                request.set(name)
                await db.ingest(
                    [{"id": name, "text": "text"}],
                    kind="Note",
                    progress=lambda _: seen.append(request.get()),
                )

            await asyncio.gather(handle("a"), handle("b"))
            await db.ingest(
                [{"id": "c", "text": "text"}],
                kind="Note",
                progress=lambda _: seen.append(request.get()),
            )

    run(main())
    assert sorted(set(seen)) == ["a", "b", "none"]


def test_closing_refuses_what_waits_and_ends_what_runs(opening, run, embedder):
    async def main():
        db = await opening(threads=1)
        receipt = await db.write(Node("Note", "n1", "text"))
        await db.wait(receipt)
        embedder.hold()
        calls = [asyncio.create_task(db.search("text"))]
        await asyncio.to_thread(embedder.wait_held)  # the query is inside the embedder
        late = await db.write(Node("Note", "n2", "more text"))
        forever = float("inf")
        others = (db.search("text"), db.wait(late, forever), db.wait(late, forever))
        calls.extend(map(asyncio.create_task, others))
        await asyncio.sleep(0)
        closing = asyncio.create_task(db.close())
        ends = await asyncio.gather(*calls, return_exceptions=True)
        closed, running = fathomdb.EngineClosedError, ends.pop(2)
        assert [type(end) for end in ends] == [closed, closed, closed]
        # It may have looked just before, and found that the embedder was being given up.
        assert isinstance(running, closed) or not running.complete
        embedder.release()
        await closing

    run(main())


def test_a_forgotten_engine_closes_and_its_threads_end(path):
    async def forget():
        db = await aio.open(path, embedder=DeterministicEmbedder())
        await db.write(Node("Note", "n1", "text"))

    asyncio.run(forget())
    with fathomdb.open(path, lock_timeout_seconds=60) as db:
        assert db.count() == 1


def test_who_holds_the_admin_holds_the_engine(path, run):
    async def main():
        db = await aio.open(path, embedder=DeterministicEmbedder())
        admin = db.admin
        del db
        assert (await admin.status()).pending == 0

    run(main())


def test_the_number_of_threads_is_checked():
    with pytest.raises(fathomdb.InvalidInputError, match="async_threads"):
        EngineConfig(async_threads=0)
