"""What changes while a text is being embedded: the late result writes nothing."""

from __future__ import annotations

import threading

import pytest

import inside
from fathomdb import Node
from fathomdb.actors.embed_pool import Urgency
from fathomdb.testing import DeterministicEmbedder, RecordingEmbedder

OTHER = DeterministicEmbedder(seed=1)


class Tick(threading.Thread):
    """A tick whose embedder is held; ``finish`` lets it go on and returns the report."""

    def __init__(self, db, embedder):
        super().__init__()
        self._db, self._embedder, self._report = db, embedder, None
        embedder.hold()
        self.start()
        embedder.wait_held()

    def run(self):
        self._report = self._db.admin.run_tick()

    def finish(self):
        self._embedder.release()
        self.join(30)
        assert self._report is not None
        assert inside.adds_up(self._report)
        return self._report


@pytest.fixture
def embedder():
    return RecordingEmbedder(DeterministicEmbedder())


@pytest.fixture
def db(open_db, embedder):
    return open_db(embedder=embedder)


def _write(db, text="the old text", kind="Document", chunks=None):
    node = Node(kind, "n", chunks=chunks) if chunks else Node(kind, "n", text)
    return db.write([node, Node("Document", "bystander", "not touched")])


def test_text_rewritten_while_embedding_gets_its_own_vector_and_the_late_one_is_dropped(
    db, embedder
):
    _write(db)
    tick = Tick(db, embedder)
    _write(db, "the new text")
    report = tick.finish()

    assert report.discard_reasons == {"superseded": 1}
    assert report.incremental_processed == 1
    assert set(inside.vectors(db)) == {"bystander#0"}
    assert inside.work(db)["n#0"].state == "pending"

    report = db.admin.drain_vector_projection(timeout=30)
    assert (report.processed, report.remaining) == (1, 0)
    assert embedder.texts.count("the new text") == 1
    inside.check(db, DeterministicEmbedder())


def test_text_rewritten_there_and_back_while_embedding_still_drops_the_late_vector(db, embedder):
    # The text is the same again, but the row is another claim's: only the fence can tell.
    _write(db)
    tick = Tick(db, embedder)
    _write(db, "the new text")
    _write(db, "the old text")

    assert tick.finish().discard_reasons == {"superseded": 1}
    assert db.admin.drain_vector_projection(timeout=30).processed == 1
    inside.check(db, DeterministicEmbedder())


def test_a_node_retired_while_embedding_leaves_no_vector(db, embedder):
    _write(db)
    tick = Tick(db, embedder)
    db.write(retire="n")

    assert tick.finish().discard_reasons == {"superseded": 1}
    assert set(inside.vectors(db)) == {"bystander#0"}
    assert inside.work(db) == {}
    inside.check(db, DeterministicEmbedder())


def test_a_node_retired_and_written_again_while_embedding_gets_the_vector_of_its_new_text(
    db, embedder
):
    _write(db)
    tick = Tick(db, embedder)
    db.write(retire="n")
    _write(db, "another text under the same id")

    assert tick.finish().discard_reasons == {"superseded": 1}
    db.admin.drain_vector_projection(timeout=30)
    inside.check(db, DeterministicEmbedder())


def test_a_chunk_deleted_while_embedding_leaves_no_vector(db, embedder):
    _write(db, chunks=["first", "second", "third"])
    tick = Tick(db, embedder)
    _write(db, chunks=["first"])

    assert tick.finish().discard_reasons == {"superseded": 2}
    assert set(inside.vectors(db)) == {"n#0", "bystander#0"}
    assert inside.work(db) == {}
    inside.check(db, DeterministicEmbedder())


def test_a_kind_disabled_while_embedding_gets_no_vectors(db, embedder):
    _write(db)
    tick = Tick(db, embedder)
    db.admin.disable_vec("Document")

    assert tick.finish().discard_reasons == {"superseded": 2}
    assert inside.vectors(db) == {}
    assert inside.work(db) == {}


def test_a_kind_disabled_and_enabled_while_embedding_is_owed_anew(db, embedder):
    _write(db)
    tick = Tick(db, embedder)
    db.admin.disable_vec("Document")
    assert db.admin.configure_vec("Document").enqueued_backfill_rows == 2

    assert tick.finish().discard_reasons == {"superseded": 2}
    assert db.admin.drain_vector_projection(timeout=30).backfill_processed == 2
    inside.check(db, DeterministicEmbedder())


def test_a_node_that_changes_kind_while_embedding_gets_its_vector_in_the_new_index(db, embedder):
    _write(db)
    tick = Tick(db, embedder)
    _write(db, kind="Note")

    assert tick.finish().discard_reasons == {"superseded": 1}
    db.admin.drain_vector_projection(timeout=30)
    inside.check(db, DeterministicEmbedder())


def _switch(db):
    """Begins the switch to a model that can be held."""
    building = RecordingEmbedder(OTHER)
    outcome = db.admin.configure_embedding(building, acknowledge_rebuild_impact=True)
    assert outcome.outcome == "replaced"
    return building


def test_a_switch_that_is_cancelled_while_embedding_gets_no_vector_of_its_model(db):
    _write(db)
    db.admin.drain_vector_projection(timeout=30)
    tick = Tick(db, _switch(db))
    db.admin.cancel_switch()

    assert tick.finish().discard_reasons == {"superseded": 2}
    inside.check(db, DeterministicEmbedder())


def test_a_switch_under_the_background_waits_for_what_the_old_model_is_owed_and_is_made(open_db):
    embedder = RecordingEmbedder(DeterministicEmbedder())
    embedder.hold()
    db = open_db(embedder=embedder, background=True)
    receipt = db.write([Node("Document", f"n{i}", f"text {i}") for i in range(200)])
    embedder.wait_held()  # a batch is in the embedder, and the next one waits behind it

    db.admin.configure_embedding(OTHER, acknowledge_rebuild_impact=True)
    embedder.release()

    # In less than the time that the background rests after a run that the store made fail.
    assert db.wait(receipt, timeout=4.0).complete
    assert db.admin.drain_vector_projection(timeout=30).stopped_by == "idle"
    assert db.admin.status().switch is None
    inside.check(db, DeterministicEmbedder(), OTHER)


def test_a_drain_does_not_wait_for_the_model_of_a_switch_that_is_cancelled(db):
    db.write([Node("Document", f"n{i}", f"text {i}") for i in range(200)])
    building = _switch(db)
    reports = []
    drain = threading.Thread(
        target=lambda: reports.append(db.admin.drain_vector_projection(timeout=30))
    )
    building.hold()
    drain.start()
    building.wait_held()
    db.admin.cancel_switch()
    drain.join(30)
    building.release()

    (report,) = reports
    assert inside.adds_up(report)
    assert (report.processed, report.stopped_by) == (200, "cancelled")
    assert db.admin.drain_vector_projection(timeout=30).processed == 0
    inside.check(db, DeterministicEmbedder())


def test_a_query_that_waits_for_a_model_that_goes_is_embedded_by_the_one_that_answers(db, embedder):
    _write(db)
    db.admin.drain_vector_projection(timeout=30)
    other = _switch(db)
    db.admin.drain_vector_projection(timeout=30)
    db.write(Node("Document", "more", "more text"))
    tick = Tick(db, other)
    results = []
    search = threading.Thread(target=lambda: results.append(db.search("text", mode="hybrid")))
    search.start()
    waiting = db._runtime.model.pool._waiting[Urgency.QUERY]
    while not waiting:  # behind the batch that is held
        search.join(0.001)

    db.admin.rollback()
    db.admin.prune_profiles()
    search.join(30)
    tick.finish()

    (result,) = results
    assert result.degraded is None
    assert (embedder.queries, other.queries) == (["text"], [])
