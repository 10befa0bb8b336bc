"""An async function as an embedder: awaited on one loop of the engine, cancelled when that closes."""

from __future__ import annotations

import asyncio
import threading

import fathomdb
import inside
from fathomdb import EmbedderUnavailableError, EngineConfig, FathomError, Node
from fathomdb.embedders.function import embedder
from fathomdb.testing import DeterministicEmbedder

PATIENCE = 30
INNER = DeterministicEmbedder(16)


def _nodes(count, prefix="n"):
    return [Node("Document", f"{prefix}{n}", f"text {prefix} {n}") for n in range(count)]


class Calls:
    """What an async function saw: how many calls were awaited at once, where, and of which texts."""

    def __init__(self, together=1):
        self.together = together
        self.inside = self.most = 0
        self.loops = set()
        self.texts = []
        self.begun = threading.Event()
        self.ended = threading.Event()
        self.go = None

    async def embed(self, texts):
        self.loops.add((asyncio.get_running_loop(), threading.get_ident()))
        self.texts += texts
        self.inside += 1
        self.most = max(self.most, self.inside)
        self.begun.set()
        try:
            if self.go is None:
                self.go = asyncio.Event()
            if self.most >= self.together:
                self.go.set()
            await asyncio.wait_for(self.go.wait(), PATIENCE)
            return INNER.batch_embed(texts)
        finally:
            self.inside -= 1
            self.ended.set()


def test_as_many_calls_as_it_declares_are_awaited_at_once_on_one_loop(open_db):
    calls = Calls(together=5)
    embed = embedder("acme/async", dimension=16, items=4, concurrency=5)(calls.embed)
    db = open_db(embedder=embed)
    db.write(_nodes(100))

    report = db.admin.drain_vector_projection(timeout=PATIENCE)

    assert (report.processed, report.stopped_by) == (100, "idle")
    assert calls.most == 5
    assert len(calls.loops) == 1
    assert sorted(calls.texts) == sorted(f"text n {n}" for n in range(100))
    assert db.semantic_search("text n 7", limit=1)[0].node_id == "n7"
    inside.check(db, _Same(embed))


class _Same:
    """The vectors that the async function gives, for the check of the file."""

    def __init__(self, like):
        self.identity = like.identity

    def batch_embed(self, texts):
        return INNER.batch_embed(texts)


def test_one_that_declares_nothing_is_never_entered_twice(open_db):
    calls = Calls()
    db = open_db(embedder=embedder("acme/async", dimension=16, items=4)(calls.embed))
    db.write(_nodes(60))
    assert db.admin.drain_vector_projection(timeout=PATIENCE).processed == 60
    assert calls.most == 1


def test_queries_and_documents_may_be_async_or_plain_each(open_db):
    async def query(text):
        await asyncio.sleep(0)
        return INNER.batch_embed([text])[0]

    @embedder("acme/mixed", dimension=16, query=query)
    def plain(texts):
        return INNER.batch_embed(texts)

    db = open_db(embedder=plain)
    db.write(_nodes(10))
    db.admin.drain_vector_projection(timeout=PATIENCE)
    assert db.semantic_search("text n 7", limit=1)[0].node_id == "n7"


def test_what_it_raises_is_taken_as_a_plain_functions(open_db):
    away = True

    @embedder("acme/async", dimension=16, concurrency=4)
    async def embed(texts):
        await asyncio.sleep(0)
        if away:
            raise EmbedderUnavailableError("the provider is away")
        if any("bad" in text for text in texts):
            raise ValueError("a bad text")
        return INNER.batch_embed(texts)

    db = open_db(embedder=embed, config=EngineConfig(max_attempts=1))
    db.write([*_nodes(30), Node("Document", "bad", "a bad text")])
    report = db.admin.drain_vector_projection(timeout=PATIENCE)
    assert (report.stopped_by, report.failed) == ("unavailable", 0)
    away = False
    report = db.admin.drain_vector_projection(timeout=PATIENCE)
    assert (report.processed, report.failed) == (30, 1)
    assert [row.chunk_id for row in db.admin.failed_work()] == ["bad#0"]


def test_a_call_that_hangs_is_cancelled_and_the_others_of_its_batch_are_stored(open_db):
    cancelled = []

    @embedder("acme/async", dimension=16)
    async def embed(texts):
        if any("hang" in text for text in texts):
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                cancelled.append(len(texts))
                raise
        return INNER.batch_embed(texts)

    config = EngineConfig(embed_timeout_seconds=0.05, max_attempts=1)
    db = open_db(embedder=embed, config=config)
    db.write([*_nodes(7), Node("Document", "hangs", "this would hang")])
    while db.admin.drain_vector_projection(timeout=PATIENCE).remaining:
        pass
    assert [row.chunk_id for row in db.admin.failed_work()] == ["hangs#0"]
    assert len(inside.blobs(db)) == 7
    assert cancelled[-1] == 1


def test_close_cancels_what_is_awaited_and_gives_its_rows_back(open_db, path):
    before = set(threading.enumerate())  # the contract's suites have a loop of their own
    calls = Calls(together=99)
    db = open_db(
        embedder=embedder("acme/async", dimension=16, concurrency=4, items=4)(calls.embed),
        background=True,
    )
    db.write(_nodes(40))
    assert calls.begun.wait(PATIENCE)

    db.close()

    assert calls.ended.wait(PATIENCE)
    assert calls.inside == 0
    assert db._runtime.event_loop.crash is None
    left = set(threading.enumerate()) - before
    assert not [thread for thread in left if thread.name == "fathomdb-event-loop"]
    again = open_db(embedder=embedder("acme/async", dimension=16)(Calls().embed))
    assert {(row.state, row.attempts) for row in inside.work(again).values()} == {("pending", 0)}
    assert again.admin.drain_vector_projection(timeout=PATIENCE).processed == 40


def test_close_ends_a_search_that_awaits_its_query(open_db):
    calls = Calls(together=99)
    db = open_db(embedder=embedder("acme/async", dimension=16)(calls.embed))
    raised = []

    def search():
        try:
            db.semantic_search("text")
        except FathomError as error:
            raised.append(type(error))

    thread = threading.Thread(target=search)
    thread.start()
    assert calls.begun.wait(PATIENCE)
    db.close()
    thread.join(PATIENCE)
    assert not thread.is_alive()
    assert raised == [fathomdb.EngineClosedError]


def test_a_search_by_meaning_on_the_loop_is_refused_and_not_waited_for(open_db):
    asked = []

    @embedder("acme/async", dimension=16, concurrency=4)
    async def embed(texts):
        asked.append(db.search("text").reason)
        return INNER.batch_embed(texts)

    db = open_db(embedder=embed)
    db.write(_nodes(1))
    db.admin.drain_vector_projection(timeout=PATIENCE)
    assert asked == []
    assert "asked its own engine" in db.admin.get_vec_index_status("Document").last_error


def test_two_models_of_one_engine_share_its_loop(open_db):
    first, second = Calls(), Calls()
    second.go = first.go
    db = open_db(embedder=embedder("acme/one", dimension=16)(first.embed))
    db.write(_nodes(5))
    db.admin.drain_vector_projection(timeout=PATIENCE)
    db.admin.configure_embedding(
        embedder("acme/two", dimension=16)(second.embed), acknowledge_rebuild_impact=True
    )
    db.admin.drain_vector_projection(timeout=PATIENCE)
    assert first.loops == second.loops


def test_a_program_that_forgets_to_close_ends_while_a_call_is_awaited(run, path):
    out = run(
        """
        import asyncio
        began = threading.Event()

        @fathomdb.embedder("acme/async", dimension=16, concurrency=4)
        async def embed(texts):
            began.set()
            await asyncio.Event().wait()

        db = fathomdb.open(path, embedder=embed)
        db.write(Node("Document", "a", "text"))
        assert began.wait(30)
        print("ends")
        """,
        path,
    )
    assert out == "ends\n"
