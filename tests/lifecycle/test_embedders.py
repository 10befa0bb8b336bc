"""Whose an embedder is: what a name built is closed by the engine, an object is its owner's."""

from __future__ import annotations

import logging
import sys
import threading
from types import ModuleType

import pytest

import fathomdb
from fathomdb import (
    EmbedderIdentity,
    EmbedderUnavailableError,
    EngineConfig,
    FathomError,
    InvalidInputError,
    Node,
)
from fathomdb.admin.embedding import Given
from fathomdb.embedders.protocol import EmbedderLimits
from fathomdb.testing import DeterministicEmbedder, Fault, FlakyEmbedder

PATIENCE = 30


class Closable(DeterministicEmbedder):
    """Refuses to work once it is closed; remembers that, and what was inside it then."""

    def __init__(self, model="0"):
        super().__init__(identity=EmbedderIdentity("test/closable", model, 32))
        self.closed = threading.Event()
        self.closes = 0
        self.inside = 0
        self.inside_at_close = 0
        self.begun, self.go = threading.Event(), threading.Event()
        self.go.set()

    def batch_embed(self, texts):
        assert not self.closed.is_set(), "used after close"
        self.inside += 1
        self.begun.set()
        assert self.go.wait(PATIENCE)
        try:
            return super().batch_embed(texts)
        finally:
            self.inside -= 1

    def close(self):
        self.inside_at_close = self.inside
        self.closes += 1
        self.closed.set()


class Broken(Closable):
    def close(self):
        super().close()
        raise RuntimeError("the key is s3cret")


class Hanging(Closable):
    def __init__(self, model="0"):
        super().__init__(model)
        self.let_go = threading.Event()

    def close(self):
        self.let_go.wait(PATIENCE)
        super().close()


@pytest.fixture
def plugins(tmp_path, monkeypatch):
    """Installs the plugins ``closable``, ``broken`` and ``hanging``; lists what was built of them."""
    built = []

    def factory(kind):
        def build(model="0"):
            built.append(kind(model))
            return built[-1]

        return build

    module = ModuleType("closable_plugins")
    kinds = {"closable": Closable, "broken": Broken, "hanging": Hanging}
    for name, kind in kinds.items():
        setattr(module, name, factory(kind))
    monkeypatch.setitem(sys.modules, "closable_plugins", module)
    described = tmp_path / "site" / "closable_plugins-1.0.dist-info"
    described.mkdir(parents=True)
    (described / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: closable-plugins\nVersion: 1.0\n"
    )
    entries = "".join(f"{name} = closable_plugins:{name}\n" for name in kinds)
    (described / "entry_points.txt").write_text(f"[fathomdb.embedders]\n{entries}")
    monkeypatch.syspath_prepend(described.parent)
    return built


def replace(db, embedder):
    """Switches, and keeps nothing of the model before."""
    return db.admin.configure_embedding(
        embedder, acknowledge_rebuild_impact=True, keep_previous=False
    )


# --- built from a name ----------------------------------------------------------------------------


def test_what_a_name_built_is_closed_with_the_engine(plugins, open_db):
    db = open_db(embedder="closable")
    db.write(Node("Doc", "a", "text"))
    db.admin.drain_vector_projection()
    db.close()
    (embedder,) = plugins
    assert embedder.closed.is_set()
    assert embedder.closes == 1


def test_what_a_name_built_is_closed_when_another_takes_its_place(plugins, open_db):
    db = open_db(embedder="closable:one")
    replace(db, "closable:two")
    first, second = plugins
    assert first.closed.wait(PATIENCE)
    assert not second.closed.is_set()
    db.write(Node("Doc", "a", "text"))
    assert db.admin.drain_vector_projection().processed == 1


def test_it_is_never_closed_while_it_embeds(plugins, open_db):
    db = open_db(embedder="closable:one", background=True)
    (first,) = plugins
    first.go.clear()
    db.write(Node("Doc", "a", "text"))
    assert first.begun.wait(PATIENCE)
    replace(db, "closable:two")
    assert not first.closed.is_set()
    first.go.set()
    assert first.closed.wait(PATIENCE)
    assert first.inside_at_close == 0


def test_what_a_name_built_in_vain_is_closed_too(plugins, open_db):
    with open_db(embedder=Closable("one")) as db:
        db.write(Node("Doc", "a", "text"))
        with pytest.raises(fathomdb.EmbeddingChangeRequiresAckError):
            db.admin.configure_embedding("closable:two")
        with pytest.raises(InvalidInputError, match="never mixed"):
            db.admin.drain_vector_projection(embedder="closable:three")
        assert db.admin.drain_vector_projection(embedder="closable:one").processed == 1
    with open_db(embedder=["closable:four", "closable:one"]):
        pass
    with pytest.raises(InvalidInputError):
        open_db(embedder=["closable:five", 5])
    assert len(plugins) == 6
    for embedder in plugins:
        assert embedder.closed.wait(PATIENCE), embedder.identity()
        assert embedder.closes == 1


def test_a_close_that_raises_is_logged_without_its_message_and_the_file_is_free(
    plugins, open_db, caplog
):
    db = open_db(embedder="broken")
    with caplog.at_level(logging.WARNING, "fathomdb"):
        db.close()
    assert "close() of the embedder Broken raised RuntimeError" in caplog.text
    assert "s3cret" not in caplog.text
    open_db(embedder=False).close()


def test_a_close_that_raises_does_not_make_a_committed_change_fail(plugins, open_db):
    db = open_db(embedder="broken:one")
    db.write(Node("Doc", "a", "text"))
    assert replace(db, "closable:two").outcome == "replaced"
    assert db.admin.drain_vector_projection().processed == 2
    assert plugins[0].closed.wait(PATIENCE)
    assert db.admin.status().switch is None


def test_a_close_that_hangs_does_not_keep_the_engine_from_closing(plugins, open_db, caplog):
    db = open_db(embedder="hanging", config=EngineConfig(close_timeout_seconds=0.05))
    (embedder,) = plugins
    closing = threading.Thread(target=db.close)
    closing.start()
    closing.join(PATIENCE / 2)
    try:
        assert not closing.is_alive()
        assert not embedder.closed.is_set()
        assert "did not close within 0.05 s" in caplog.text
        open_db(embedder=False).close()
    finally:
        embedder.let_go.set()


def test_what_a_name_built_too_late_for_the_engine_is_closed_too(plugins, open_db):
    db = open_db(embedder="closable:one")
    runtime = db._runtime
    profile = runtime.model.profile
    db.close()
    runtime.models.put(Given.of("closable:one").model(runtime.models.parts, profile))
    assert all(embedder.closed.wait(PATIENCE) for embedder in plugins)
    assert len(plugins) == 2


# --- an object of the caller's --------------------------------------------------------------------


def test_an_object_is_not_closed_and_serves_again_after_another(open_db):
    first, second = Closable("one"), Closable("two")
    with open_db(embedder=first) as db:
        db.write(Node("Doc", "a", "text"))
        assert db.admin.drain_vector_projection().processed == 1
        for embedder in (second, first, second, first):
            replace(db, embedder)
            assert db.admin.drain_vector_projection().processed == 1
        assert db.admin.drain_vector_projection(embedder=Closable("one")).processed == 0
        assert db.semantic_search("text")[0].node_id == "a"
    assert (first.closes, second.closes) == (0, 0)


def test_two_engines_share_an_object_and_the_first_that_closes_leaves_it_to_the_other(
    open_db, tmp_path
):
    shared = Closable()
    with fathomdb.open(tmp_path / "other.db", embedder=shared, background=False) as other:
        with open_db(embedder=shared) as db:
            db.write(Node("Doc", "a", "text"))
            assert db.admin.drain_vector_projection().processed == 1
        other.write(Node("Doc", "a", "text"))
        assert other.admin.drain_vector_projection().processed == 1
    assert shared.closes == 0


# --- never entered twice --------------------------------------------------------------------------


class Alone(DeterministicEmbedder):
    """Waits in each call for a second caller, and notes whether one came."""

    def __init__(self):
        super().__init__(limits=EmbedderLimits(concurrency=1))
        self.entered_twice = False
        self._both = threading.Barrier(2)

    def batch_embed(self, texts):
        try:
            self._both.wait(0.3)
            self.entered_twice = True
        except threading.BrokenBarrierError:
            self._both.reset()
        return super().batch_embed(texts)


def test_engines_that_share_an_embedder_enter_it_once_at_a_time(open_db, tmp_path):
    shared = Alone()
    with fathomdb.open(tmp_path / "other.db", embedder=shared) as other:
        db = open_db(embedder=shared, background=True)
        receipts = [(engine, engine.write(Node("Doc", "a", "text"))) for engine in (db, other)]
        assert all(engine.wait(receipt).complete for engine, receipt in receipts)
    assert not shared.entered_twice


def test_a_model_that_comes_back_is_not_entered_before_its_last_call_has_returned(open_db):
    embedder = Closable("one")
    db = open_db(embedder=embedder, background=True)
    embedder.go.clear()
    db.write(Node("Doc", "a", "text"))
    assert embedder.begun.wait(PATIENCE)
    replace(db, Closable("two"))
    replace(db, embedder)
    assert db.search("text", timeout=0.1).degraded == "outage"
    assert embedder.inside == 1
    embedder.go.set()
    assert db.admin.drain_vector_projection(timeout=PATIENCE).stopped_by == "idle"
    assert db.semantic_search("text")[0].node_id == "a"


def test_a_drain_with_the_embedder_that_serves_is_one_of_the_model_that_serves(open_db):
    away = FlakyEmbedder(DeterministicEmbedder(), [Fault(EmbedderUnavailableError("said 503"))])
    db = open_db(embedder=away)
    db.write(Node("Doc", "a", "text"))
    assert db.admin.drain_vector_projection(embedder=away).stopped_by == "unavailable"
    assert "said 503" in db.admin.status().outage


# --- two at once, and calls from the wrong place --------------------------------------------------


def test_of_two_models_configured_at_once_the_active_one_serves(open_db, path):
    db = open_db(embedder="hashing:8", durability="normal")
    db.write(Node("Doc", "a", "text"))
    for n in range(30):
        begin = threading.Barrier(2)

        def configure(embedder, begin=begin):
            begin.wait(PATIENCE)
            replace(db, embedder)

        threads = [
            threading.Thread(target=configure, args=(f"hashing:{16 * n + more}",))
            for more in (16, 24)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(PATIENCE)
        assert str(db._runtime.model.profile) == db.admin.status().active_profile
    # One for the model that serves, and one for that which takes its place.
    assert db.admin.drain_vector_projection().processed == 2


@pytest.mark.parametrize("ask", ["run_tick", "drain_vector_projection"])
def test_a_progress_callback_that_asks_for_a_drain_is_refused_and_nothing_hangs(open_db, ask):
    db = open_db()
    db.write(Node("Doc", "a", "text"))
    caught = []

    def progress(done, remaining):
        getattr(db.admin, ask)()

    def drain():
        try:
            db.admin.drain_vector_projection(progress=progress)
        except FathomError as error:
            caught.append(str(error))

    draining = threading.Thread(target=drain, daemon=True)
    draining.start()
    draining.join(PATIENCE)
    assert not draining.is_alive()
    assert "progress callback asked its own engine" in caught[0]
    assert db.admin.get_vec_index_status("Doc").inflight == 0


def test_an_embedder_may_drain_another_engine_but_not_its_own(open_db, tmp_path):
    asked = []

    class Asking(DeterministicEmbedder):
        def batch_embed(self, texts):
            for engine in asked:
                engine.admin.drain_vector_projection()
            return super().batch_embed(texts)

    with fathomdb.open(tmp_path / "other.db", embedder="hashing", background=False) as other:
        other.write(Node("Doc", "b", "text"))
        db = open_db(embedder=Asking())
        db.write(Node("Doc", "a", "text"))
        asked[:] = [other]
        assert db.admin.drain_vector_projection().processed == 1
        assert other.admin.status().pending == 0
        asked[:] = [db]
        db.write(Node("Doc", "c", "more text"))
        refused = db.search("more text")
        assert refused.degraded == "outage"
        assert "asked its own engine" in refused.reason
