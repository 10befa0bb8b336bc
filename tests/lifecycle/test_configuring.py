"""Indexes made, dropped and rebuilt under the feet of readers: no schema error to anyone."""

from __future__ import annotations

import threading
from contextlib import contextmanager, suppress

import pytest

import fathomdb
from fathomdb import EmbedderIdentity, Node
from fathomdb.testing import DeterministicEmbedder


@contextmanager
def readers(*engines, threads=4):
    """Searches in every way from many threads until the block ends, then raises what went wrong."""
    stop = threading.Event()
    wrong: list[BaseException] = []
    looked = [threading.Event() for _ in range(threads)]

    def look(number):
        vector = DeterministicEmbedder().batch_embed([f"text {number}"])[0]
        while not stop.is_set():
            for db in engines:
                try:
                    assert len(db.text_search("text", limit=20)) == 20
                    assert len(db.search("text", limit=20)) == 20
                    for search, query in (
                        (db.semantic_search, "text"), (db.raw_vector_search, vector),
                    ):  # fmt: skip
                        with suppress(
                            fathomdb.KindNotVectorIndexedError, fathomdb.DimensionMismatchError
                        ):
                            search(query, kind="Doc", limit=20)
                    assert db.count() >= 60
                    db.admin.status()
                    db.admin.get_vec_index_status("Doc")
                    assert next(db.nodes("Memo")).kind == "Memo"
                except BaseException as error:
                    wrong.append(error)
                    looked[number].set()
                    return
            looked[number].set()

    running = [threading.Thread(target=look, args=(number,)) for number in range(threads)]
    for thread in running:
        thread.start()
    try:
        yield looked
    finally:
        stop.set()
        for thread in running:
            thread.join(120)
    assert not any(thread.is_alive() for thread in running)
    if wrong:
        raise wrong[0]


@pytest.fixture
def filled(open_db):
    db = open_db(background=True)
    receipt = db.write(
        Node("Doc" if n % 2 else "Memo", f"n{n}", f"text {n}", {"n": n}) for n in range(60)
    )
    assert db.wait(receipt).complete
    return db


def until_each_has_looked(looked):
    for event in looked:
        event.clear()
    for event in looked:
        assert event.wait(120), "the readers stand still"


def test_kinds_are_enabled_and_disabled_under_readers(filled, path):
    with (
        fathomdb.open(path, embedder=DeterministicEmbedder(), read_only=True) as second,
        readers(filled, second) as looked,
    ):
        for n in range(15):
            filled.admin.disable_vec("Doc")
            filled.admin.configure_vec("Doc")
            filled.write(Node(f"New{n}", f"new{n}", f"text of a new kind {n}"))
        until_each_has_looked(looked)
    filled.admin.drain_vector_projection()
    assert len(filled.semantic_search("text", kind="Doc", limit=100)) == 30


def test_tokenizers_are_switched_under_readers(filled, path):
    with (
        fathomdb.open(path, embedder=DeterministicEmbedder(), read_only=True) as second,
        readers(filled, second) as looked,
    ):
        for tokenizer in ("trigram", "unicode61", "porter unicode61") * 4:
            filled.admin.configure_fts(tokenizer)
        filled.admin.rebuild("Doc", "fts")
        until_each_has_looked(looked)
    assert len(filled.text_search("text", limit=100)) == 60


def test_models_are_switched_under_readers(filled):
    other = DeterministicEmbedder(48, identity=EmbedderIdentity("test/other", "2", 48), seed=2)
    with readers(filled) as looked:
        for embedder in (other, DeterministicEmbedder()) * 4:
            filled.admin.configure_embedding(embedder, acknowledge_rebuild_impact=True)
        until_each_has_looked(looked)
    filled.admin.drain_vector_projection()
    assert len(filled.semantic_search("text", limit=100)) == 60


def test_writes_and_rebuilds_go_on_under_readers(filled):
    with readers(filled) as looked:
        for n in range(10):
            filled.write(Node("Doc", f"n{2 * n + 1}", f"text {n} written anew"))
            filled.admin.rebuild("Doc", "vec")
            filled.write(Node("Memo", f"more{n}", f"text {n}"), retire=f"more{n - 1}")
        until_each_has_looked(looked)
    filled.admin.drain_vector_projection()
    assert filled.admin.status().pending == 0
