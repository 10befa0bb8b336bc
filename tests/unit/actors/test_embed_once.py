"""A text is embedded once: in one batch, in two kinds, after an undo, after it was gone."""

from __future__ import annotations

import hashlib
import random

import pytest

import fathomdb
import inside
from fathomdb import Chunk, EmbedderIdentity, EngineConfig, InvalidInputError, Node
from fathomdb.embedders.protocol import EmbedderLimits
from fathomdb.store import reuse
from fathomdb.testing import DeterministicEmbedder, Fault, FlakyEmbedder, RecordingEmbedder

SEED = 20260705
MODEL = DeterministicEmbedder()


def sha(text):
    return hashlib.sha256(text.encode()).hexdigest()


@pytest.fixture
def embedder():
    return RecordingEmbedder(DeterministicEmbedder())


@pytest.fixture
def db(open_db, embedder):
    return open_db(embedder=embedder)


def corpus(count, seed=SEED):
    """Nodes of two kinds, of whose texts 30 % are texts of others, far apart or side by side."""
    print(f"seed {seed}")  # noqa: T201
    rng = random.Random(seed)
    texts = [f"text number {n}" for n in range(count * 7 // 10)]
    texts += [rng.choice(texts) for _ in range(count - len(texts))]
    rng.shuffle(texts)
    return [Node(rng.choice(("Doc", "Note")), f"n{n}", text) for n, text in enumerate(texts)]


def settle(db, how):
    """Brings every vector about: by a drain, tick by tick, or by waiting for the background."""
    if how == "drain":
        return db.admin.drain_vector_projection(timeout=60)
    if how == "ticks":
        while db.admin.run_tick().claimed:
            pass
        return None
    assert db.wait(db.write(Node("Doc", "last", "the last of all")), 60).complete
    report = db.admin.drain_vector_projection(timeout=60)
    assert report.remaining == 0
    return report


def drain(db):
    report = db.admin.drain_vector_projection(timeout=60)
    assert inside.adds_up(report)
    return report


# --- figures --------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["drain", "ticks", "background"])
@pytest.mark.parametrize("concurrency", [1, 4])
def test_a_corpus_with_30_percent_duplicates_costs_one_embedding_a_distinct_text(
    open_db, how, concurrency
):
    limits = EmbedderLimits(items=16, concurrency=concurrency)
    embedder = RecordingEmbedder(DeterministicEmbedder(limits=limits))
    db = open_db(embedder=embedder, background=how == "background")
    nodes = corpus(1000)
    distinct = {node.text for node in nodes}

    for first in range(0, len(nodes), 250):
        db.write(nodes[first : first + 250])
        if how == "ticks":
            db.admin.run_tick()
    report = settle(db, how)

    if how == "drain":
        assert (report.processed, report.reverted) == (1000, 0)
    if how == "background":
        distinct |= {"the last of all"}
    assert len(embedder.texts) == len(distinct) == len(set(embedder.texts))
    status = db.admin.status()
    assert status.counters["reused"] == 1000 + (how == "background") - len(distinct)
    inside.check(db, MODEL)


@pytest.mark.parametrize("how", ["drain", "ticks", "background"])
def test_ingest_edit_and_undo_cost_one_embedding_a_distinct_text(open_db, embedder, how):
    db = open_db(embedder=embedder, background=how == "background")
    nodes = corpus(300)
    edited = [Node(node.kind, node.node_id, f"{node.text}, edited") for node in nodes]
    for step in (nodes, edited, nodes, edited[::2], nodes):
        db.write(step)
        settle(db, how)
        inside.check(db, MODEL)

    distinct = {node.text for node in (*nodes, *edited)}
    distinct |= {"the last of all"} if how == "background" else set()
    assert sorted(embedder.texts) == sorted(distinct)


# --- where a text comes from ----------------------------------------------------------------------


def test_the_same_text_in_two_kinds_is_embedded_once_and_each_has_its_own_row(db, embedder):
    db.write(Node("Doc", "a", "the same"))
    assert drain(db).reused == 0
    db.write(Node("Note", "b", "the same"))
    report = drain(db)

    assert (report.claimed, report.processed, report.reused) == (1, 1, 1)
    assert embedder.texts == ["the same"]
    blobs = inside.blobs(db)
    assert blobs["a#0"][1] == blobs["b#0"][1]
    assert inside.cached(db) == {}


def test_a_tick_reports_what_it_reused(db):
    db.write(Node("Doc", "a", "the same"))
    db.admin.run_tick()
    db.write(Node("Doc", "b", "the same"))
    assert db.admin.run_tick() == fathomdb.TickReport(claimed=1, incremental_processed=1, reused=1)


def test_a_text_in_two_batches_in_flight_is_embedded_once(open_db):
    embedder = RecordingEmbedder(
        DeterministicEmbedder(limits=EmbedderLimits(items=1, concurrency=4))
    )
    db = open_db(embedder=embedder, background=True)
    embedder.hold()
    receipt = db.write([Node("Doc", f"n{n}", f"text {n % 2}") for n in range(6)])
    embedder.wait_held(2)
    embedder.release()

    assert db.wait(receipt, 30).complete
    assert sorted(embedder.texts) == ["text 0", "text 1"]
    # Who shares a text waits for it, and does not go back to the queue.
    assert db.admin.status().counters["reverted"] == 0
    inside.check(db, MODEL)


def test_who_shares_the_text_of_a_batch_that_fails_is_tried_again_with_it(open_db):
    limits = EmbedderLimits(items=1, concurrency=2)
    flaky = FlakyEmbedder(
        DeterministicEmbedder(limits=limits), [Fault(ValueError("no"), texts="bad")]
    )
    db = open_db(embedder=flaky, config=EngineConfig(max_attempts=1))
    db.write([Node("Doc", f"n{n}", "bad one" if n % 2 else f"good {n}") for n in range(6)])
    report = drain(db)

    assert (report.processed, report.failed) == (3, 3)
    assert {row.cause for row in inside.work(db).values()} == {"embedder_error"}


def test_an_outage_charges_nothing_to_who_shares_a_text(open_db):
    limits = EmbedderLimits(items=1)
    away = Fault(fathomdb.EmbedderUnavailableError("away"), calls=range(100))
    db = open_db(embedder=FlakyEmbedder(DeterministicEmbedder(limits=limits), [away]))
    db.write([Node("Doc", f"n{n}", "the same") for n in range(5)])
    report = drain(db)

    assert report.stopped_by == "unavailable"
    assert report.reverted == report.claimed
    assert {(row.state, row.attempts) for row in inside.work(db).values()} == {("pending", 0)}


def test_a_rewrite_that_is_undone_costs_nothing_and_the_vector_is_the_same(db, embedder):
    db.write(Node("Doc", "a", "first"))
    drain(db)
    before = inside.blobs(db)
    db.write(Node("Doc", "a", "second"))
    assert [*inside.cached(db)] == [sha("first")]
    drain(db)
    db.write(Node("Doc", "a", "first"))
    assert drain(db).reused == 1

    assert embedder.texts == ["first", "second"]
    assert inside.blobs(db) == before
    assert [*inside.cached(db)] == [sha("second")]


def test_a_retired_node_that_is_written_again_costs_nothing(db, embedder):
    db.write(Node("Doc", "a", "here, gone, here"))
    drain(db)
    db.write(retire="a")
    drain(db)
    db.write(Node("Note", "other", "here, gone, here"))

    assert drain(db).reused == 1
    assert len(embedder.texts) == 1
    assert inside.cached(db) == {}


def test_a_text_is_found_though_the_newest_chunks_that_had_it_are_gone(db, embedder):
    newest = [f"n{n}" for n in range(1, 9)]
    db.write(Node("Doc", name, "one text") for name in ("n0", *newest))
    drain(db)
    db.write(retire=newest)
    db.write(Node("Doc", "again", "one text"))
    assert drain(db).reused == 1
    assert embedder.texts == ["one text"]


def test_a_node_that_changes_kind_takes_its_vector_along(db, embedder):
    db.write(Node("Doc", "a", "a text that moves"))
    drain(db)
    db.write(Node("Note", "a", "a text that moves"))

    assert drain(db).reused == 1
    assert len(embedder.texts) == 1
    inside.check(db, MODEL)


def test_a_kind_that_is_disabled_and_enabled_again_costs_nothing(db, embedder):
    db.write(corpus(300))
    drain(db)
    calls = len(embedder.texts)
    before = inside.blobs(db)
    db.admin.disable_vec("Doc")
    inside.check(db, MODEL)
    assert inside.cached(db)
    db.admin.configure_vec("Doc")
    drain(db)

    assert len(embedder.texts) == calls
    assert inside.blobs(db) == before
    assert inside.cached(db) == {}


def test_what_was_ingested_is_reused_by_the_next_process(open_db, embedder):
    with open_db(embedder=embedder) as db:
        db.write(Node("Doc", "a", "old"))
        drain(db)
        db.write(Node("Doc", "a", "new"))
        drain(db)
    db = open_db(embedder=embedder)
    db.write(Node("Doc", "b", "old"))
    assert drain(db).reused == 1
    assert embedder.texts == ["old", "new"]


def test_a_rebuild_embeds_anew_and_copies_nothing(db, embedder):
    db.write([Node("Doc", "a", "one"), Node("Note", "b", "one"), Node("Doc", "c", "two")])
    drain(db)
    db.admin.rebuild("Doc", target="vec")
    assert drain(db).reused == 0
    assert sorted(embedder.texts) == ["one", "one", "two", "two"]


def test_what_failed_once_is_not_reused(open_db):
    flaky = FlakyEmbedder(DeterministicEmbedder(), [Fault("nan", texts="poison")])
    db = open_db(embedder=flaky)
    db.write(Node("Doc", "a", "poison"))
    assert drain(db).failed == 1
    db.write(Node("Doc", "b", "poison"))
    assert drain(db).failed == 1


def test_a_vector_that_is_damaged_in_the_file_is_embedded_anew_and_not_copied(db, embedder):
    db.write([Node("Doc", "a", "damaged"), Node("Doc", "b", "scaled")])
    drain(db)
    table = "vec_doc_" + hashlib.sha256(b"Doc").hexdigest()[:10] + "_p1"

    def damage(tx):
        for chunk_id, blob in (("a#0", b"\0\0\xc0\x7f" * 32), ("b#0", b"\0\0\x80\x3f" * 32)):
            (key,) = tx.db.execute(
                "SELECT chunk_key FROM chunks WHERE chunk_id = ?", (chunk_id,)
            ).fetchone()
            tx.db.execute(f"DELETE FROM {table} WHERE chunk_key = ?", (key,))
            tx.db.execute(f"INSERT INTO {table} (chunk_key, embedding) VALUES (?, ?)", (key, blob))

    inside.in_writer(db, damage)
    db.write([Node("Doc", "c", "damaged"), Node("Doc", "d", "scaled")])
    assert drain(db).reused == 0
    expected = DeterministicEmbedder().batch_embed(["damaged", "scaled"])
    found = inside.vectors(db)
    assert found["c#0"] == pytest.approx(expected[0])
    assert found["d#0"] == pytest.approx(expected[1])
    assert db.admin.repair().ok
    drain(db)
    assert db.admin.check_integrity().ok
    inside.check(db, MODEL)


@pytest.mark.parametrize("others", [0, 3], ids=["alone", "among others"])
def test_a_cached_vector_of_another_length_is_embedded_anew(db, embedder, others):
    names = ["cut", *(f"whole {n}" for n in range(others))]
    db.write([Node("Doc", name, name) for name in names])
    drain(db)
    db.write(retire=names)
    inside.in_writer(
        db,
        lambda tx: tx.db.execute(
            "UPDATE vector_cache SET embedding = substr(embedding, 1, 8) WHERE content_hash = ?",
            (bytes.fromhex(sha("cut")),),
        ),
    )
    calls = len(embedder.batches)

    db.write([Node("Doc", name, name) for name in names])
    assert drain(db).reused == others

    assert embedder.batches[calls:] == [("cut",)]
    inside.check(db, embedder.inner)


def test_hashes_that_begin_alike_are_told_apart(db, embedder):
    db.write(Node("Doc", "a", "one"))
    drain(db)
    twin = bytes.fromhex(sha("two"))[:8] + bytes(24)
    # A row whose hash begins as that of another text, planted: nobody can find such a text.
    inside.in_writer(
        db, lambda tx: tx.db.execute("UPDATE vector_ledger SET content_hash = ?", (twin,))
    )
    db.write(Node("Doc", "b", "two"))
    assert drain(db).reused == 0
    assert embedder.texts == ["one", "two"]


def test_a_vector_of_another_model_is_not_that_of_the_text(db):
    db.write(Node("Doc", "a", "one"))
    drain(db)

    def under_another(tx):
        tx.db.execute(
            "INSERT INTO vector_embedding_profiles (profile_id, fingerprint, model_identity, "
            "model_version, dimension, normalization_policy, preparation, state, created_at_ms) "
            "SELECT 2, 'another', model_identity, '2', dimension, normalization_policy, "
            "preparation, 'retired', 0 FROM vector_embedding_profiles"
        )
        tx.db.execute("UPDATE vector_ledger SET profile_id = 2")
        wanted = [bytes.fromhex(sha("one"))]
        known = tx.contents
        found = reuse.live(tx.db, known, 1, wanted), reuse.without_live(tx.db, known, 1, wanted)
        tx.db.execute("UPDATE vector_ledger SET profile_id = 1")
        tx.db.execute("DELETE FROM vector_embedding_profiles WHERE profile_id = 2")
        return found

    assert inside.in_writer(db, under_another) == ({}, {bytes.fromhex(sha("one"))})


def test_a_text_whose_hash_only_begins_like_another_is_embedded(db):
    db.write(Node("Doc", "a", "one"))
    drain(db)
    alike = bytes.fromhex(sha("one"))[:8] + bytes(24)

    def of_another(tx):
        found = reuse.live(tx.db, tx.contents, 1, [alike])
        return found, reuse.without_live(tx.db, tx.contents, 1, [alike])

    assert inside.in_writer(db, of_another) == ({}, {alike})


# --- the cache ------------------------------------------------------------------------------------


def test_the_cache_has_only_what_no_live_chunk_has(db, embedder):
    db.write([Node("Doc", "a", "shared"), Node("Note", "b", "shared")])
    drain(db)
    db.write(Node("Doc", "a", "something else"))
    assert inside.cached(db) == {}
    db.write(retire="b")
    assert [*inside.cached(db)] == [sha("shared")]
    inside.check(db, MODEL)


def test_a_write_that_is_refused_moves_nothing_to_the_cache(db):
    db.write([Node("Doc", "a", "first"), Node("Doc", "b", "other")])
    drain(db)
    with pytest.raises(fathomdb.InvalidInputError):
        db.write(
            [Node("Doc", "a", "second"), Node("Doc", "c", chunks=[fathomdb.Chunk("x", "b#0")])]
        )
    assert inside.cached(db) == {}


def test_the_cache_is_bounded_and_the_oldest_go_first(open_db):
    embedder = RecordingEmbedder(DeterministicEmbedder(1024))
    db = open_db(embedder=embedder, config=EngineConfig(vector_cache_mib=1))
    room = (1 << 20) // (4 * 1024 + reuse.ROW_BYTES)
    texts = [f"text {n}" for n in range(2 * room)]
    db.write([Node("Doc", f"n{n}", text) for n, text in enumerate(texts)])
    drain(db)
    for n in range(len(texts)):
        db.write(retire=f"n{n}")

    assert [*inside.cached(db)] == [sha(text) for text in texts[-room:]]
    db.write([Node("Doc", f"n{n}", text) for n, text in enumerate(texts)])
    assert drain(db).reused == room
    assert inside.cached(db) == {}
    db.admin.disable_vec("Doc")
    assert [*inside.cached(db)] == [sha(text) for text in texts[-room:]]


def test_what_was_used_and_is_gone_again_is_the_newest(open_db):
    embedder = RecordingEmbedder(DeterministicEmbedder(1024))
    db = open_db(embedder=embedder, config=EngineConfig(vector_cache_mib=1))
    db.write([Node("Doc", name, name) for name in ("one", "two", "three")])
    drain(db)
    for name in ("one", "two", "three"):
        db.write(retire=name)
    db.write(Node("Doc", "one", "one"))
    drain(db)
    db.write(retire="one")
    assert [*inside.cached(db)] == [sha("two"), sha("three"), sha("one")]


def test_a_cache_of_0_mib_keeps_nothing(open_db, embedder):
    db = open_db(embedder=embedder, config=EngineConfig(vector_cache_mib=0))
    db.write([Node("Doc", "a", "first"), Node("Note", "b", "other")])
    drain(db)
    db.write(Node("Doc", "a", "second"), retire="b")
    db.admin.disable_vec("Doc")
    assert inside.cached(db) == {}
    with pytest.raises(fathomdb.InvalidInputError, match="vector_cache_mib must be a whole number"):
        EngineConfig(vector_cache_mib=-1)


def test_a_refused_write_after_an_open_hides_no_live_chunk(db, open_db):
    db.write([Node("Doc", "a", "shared"), Node("Doc", "b", "shared")])
    drain(db)
    db.close()
    db = open_db(embedder=DeterministicEmbedder())  # who has which text is not known yet
    stolen = Node("Doc", "c", chunks=[Chunk("text", chunk_id="b#0")])
    with pytest.raises(InvalidInputError, match="belongs to node"):
        db.write([Node("Doc", "a", "other"), stolen])
    db.write(Node("Doc", "b", "different"))
    assert inside.cached(db) == {}  # a has it still
    assert db.admin.check_integrity().ok


@pytest.mark.parametrize("how", ["prune", "cancel", "keep_previous=False", "a third model"])
def test_the_vectors_of_a_model_that_is_dropped_are_found_when_it_comes_back(db, embedder, how):
    other = RecordingEmbedder(
        DeterministicEmbedder(
            48,
            identity=EmbedderIdentity("test/other", "1", 48),
            seed=1,
            limits=EmbedderLimits(items=1),
        )
    )
    third = DeterministicEmbedder(24, identity=EmbedderIdentity("test/third", "1", 24), seed=2)

    def switch(to, **options):
        db.admin.configure_embedding(to, acknowledge_rebuild_impact=True, **options)

    db.write([Node("Doc", "a", "one"), Node("Note", "b", "one"), Node("Note", "c", "two")])
    drain(db)
    dropped = other if how == "cancel" else embedder
    switch(other, keep_previous=how != "keep_previous=False")
    if how == "cancel":
        db.admin.run_tick()  # one text
        db.admin.cancel_switch()
    else:
        drain(db)
        if how == "prune":
            db.admin.prune_profiles()
        if how == "a third model":
            switch(third)
    assert set(inside.cached(db)) == {sha(text) for text in dropped.texts}
    inside.check(db, embedder.inner, other.inner, third)

    switch(dropped)
    drain(db)

    assert db.admin.status().active_profile == str(dropped.identity())
    assert sorted(dropped.texts) == ["one", "two"]  # each once, over both times
    inside.check(db, embedder.inner, other.inner, third)


def test_of_a_model_that_is_dropped_the_newest_vectors_are_kept_of_all_kinds_together(open_db):
    db = open_db(embedder=DeterministicEmbedder(1024), config=EngineConfig(vector_cache_mib=1))
    room = (1 << 20) // (4 * 1024 + reuse.ROW_BYTES)
    texts = [f"text {n}" for n in range(2 * room)]
    kinds = ("Doc", "Memo", "Note")
    db.write([Node(kinds[n % 3], f"n{n}", text) for n, text in enumerate(texts)])
    drain(db)
    other = DeterministicEmbedder(8, identity=EmbedderIdentity("test/other", "1", 8))
    db.admin.configure_embedding(other, acknowledge_rebuild_impact=True, keep_previous=False)
    drain(db)
    assert set(inside.cached(db)) == {sha(text) for text in texts[-room:]}
    inside.check(db, other)


def test_the_digest_does_not_know_of_the_cache_and_an_export_keeps_it(db, open_db, tmp_path):
    db.write(Node("Doc", "a", "first"))
    drain(db)
    digest = db.admin.projection_digest("Doc")
    db.write(Node("Doc", "a", "second"))
    drain(db)
    db.write(Node("Doc", "a", "first"))
    drain(db)
    assert db.admin.projection_digest("Doc") == digest
    db.admin.safe_export(str(tmp_path / "copy.db"))
    with fathomdb.open(str(tmp_path / "copy.db"), embedder=False, background=False) as copy:
        assert inside.cached(copy) == inside.cached(db) != {}
        assert copy.admin.check_integrity().ok
