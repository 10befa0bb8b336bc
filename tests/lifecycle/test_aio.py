"""Programs that leave their loop, their engine or their process while calls run."""

from __future__ import annotations

import os

import pytest

PRELUDE = """
import asyncio
from fathomdb import aio
embedder = RecordingEmbedder(DeterministicEmbedder(), patience_seconds=600)
"""


def test_a_loop_that_is_closed_while_calls_run_hangs_nothing(run, path):
    out = run(
        PRELUDE
        + """
loop = asyncio.new_event_loop()

async def begin():
    db = await aio.open(path, embedder=embedder)
    await db.write(Node("Doc", "n1", "text"))
    embedder.hold()
    searches = [asyncio.ensure_future(db.search("text")) for _ in range(30)]

    async def records():
        for n in range(1000):
            yield Node("Doc", f"r{n}", "text")
        await asyncio.Event().wait()

    ingesting = asyncio.ensure_future(db.ingest(records(), batch_size=10))
    embedder_held = asyncio.to_thread(embedder.wait_held)
    await embedder_held
    return db, searches, ingesting

db, *tasks = loop.run_until_complete(begin())
loop.close()

async def end():
    embedder.release()
    assert (await db.get("n1")).text == "text"
    await db.close()

asyncio.run(end())
print("closed")
""",
        path,
    )
    assert out == "closed\n"


def test_a_program_that_forgets_to_close_ends_and_keeps_what_was_written(run, path):
    run(
        PRELUDE
        + """
async def main():
    global db
    db = await aio.open(path, embedder=embedder)
    embedder.hold()
    receipt = await db.write([Node("Doc", f"n{n}", "text") for n in range(100)])
    asyncio.ensure_future(db.wait(receipt, timeout=float("inf")))
    asyncio.ensure_future(db.search("text", after=receipt, timeout=float("inf")))
    await asyncio.to_thread(embedder.wait_held)

asyncio.run(main())
""",
        path,
    )
    assert run("with fathomdb.open(path, embedder=False) as db: print(db.count())", path) == "100\n"


def test_ctrl_c_ends_what_waits_and_closes_the_engine(start, path):
    program = start(
        PRELUDE
        + """
async def main():
    async with aio.open(path, embedder=embedder) as db:
        embedder.hold()
        receipt = await db.write(Node("Doc", "n1", "text"))
        await asyncio.to_thread(embedder.wait_held)
        ready()
        await db.wait(receipt, timeout=float("inf"))

try:
    asyncio.run(main())
except KeyboardInterrupt:
    embedder.release()
    with fathomdb.open(path, embedder=False, lock_timeout_seconds=60) as db:
        print(db.count())
""",
        path,
    )
    program.wait_ready()
    os.kill(program.pid, 2)
    code, out, err = program.end()
    assert (code, out) == (0, "1\n"), err


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork")
def test_a_fork_is_told_and_does_not_wait_for_threads_that_it_has_not(run, path):
    run(
        PRELUDE
        + """
import warnings
warnings.simplefilter("ignore", DeprecationWarning)  # that a process with threads forks is the point
db = asyncio.run(aio.open(path, embedder=embedder)._open())
asyncio.run(db.write(Node("Doc", "n1", "text")))

async def use():
    for call in (db.count(), db.search("text"), db.write(), db.admin.status()):
        try:
            await call
        except fathomdb.ForkedProcessError:
            continue
        raise AssertionError("it was used in a fork")
    await db.close()

child = os.fork()
if child == 0:
    try:
        asyncio.run(use())
    except BaseException:
        import traceback
        traceback.print_exc()
        os._exit(1)
    os._exit(0)
_, status = os.waitpid(child, 0)
assert os.waitstatus_to_exitcode(status) == 0, status

async def end():
    assert await db.count() == 1
    await db.close()

asyncio.run(end())
""",
        path,
    )
