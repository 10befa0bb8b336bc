"""What is too large is refused by its size and the limit, and nothing of the request is stored."""

from __future__ import annotations

import os

import pytest

import fathomdb
from fathomdb import Chunk, InvalidInputError, Node
from fathomdb.pipeline import prepare
from fathomdb.search import filters, searcher

GOOD = Node("Doc", "good", "a good node")


@pytest.fixture(autouse=True)
def _small(monkeypatch):
    monkeypatch.setattr(prepare, "MAX_TEXT_CHARS", 1_000)
    monkeypatch.setattr(prepare, "MAX_PROPERTIES_CHARS", 500)
    monkeypatch.setattr(prepare, "MAX_REQUEST_NODES", 20)
    monkeypatch.setattr(searcher, "MAX_QUERY_CHARS", 2_000)


def deep(levels):
    where = {"n": 1}
    for _ in range(levels):
        where = {"not": where}
    return where


TOO_LARGE = {
    "text": (lambda db: db.write([GOOD, Node("Doc", "x", "t" * 1_001)]), "1,001", "1,000"),
    "chunk": (lambda db: db.write([GOOD, Node("Doc", "x", chunks=["t" * 1_001])]), "1,001", "1,000"),
    "properties": (lambda db: db.write([GOOD, Node("Doc", "x", "t", {"a": "é" * 600})]), "608", "500"),
    "patch": (lambda db: db.patch("there", {"a": "b" * 600}), "608", "500"),
    "nodes": (lambda db: db.write(Node("Doc", f"n{n}", "t") for n in range(10**9)), "21", "20"),
    "retired": (lambda db: db.write(GOOD, retire=[f"n{n}" for n in range(20)]), "21", "20"),
    "kind": (lambda db: db.write([GOOD, Node("é" * 513, "x", "t")]), "1026", "1024"),
    "node-id": (lambda db: db.write([GOOD, Node("Doc", "x" * 1_025, "t")]), "1025", "1024"),
    "source-ref": (lambda db: db.write([GOOD, Node("Doc", "x", source_ref="s" * 1_025)]), "1025", "1024"),
    "chunk-id": (lambda db: db.write([GOOD, Node("Doc", "x", chunks=[Chunk("t", "c" * 1_049)])]), "1049", "1048"),
    "query": (lambda db: db.search("q" * 2_001), "2,001", "2,000"),
    "limit": (lambda db: db.search("q", limit=4_097), "4097", "4096"),
    "filter-depth": (lambda db: db.search("q", where=deep(filters.MAX_DEPTH)), "64", "64"),
    "filter-values": (lambda db: db.count(where={"any": [{"n": n} for n in range(9_000)]}), "9,000", "5,000"),
}  # fmt: skip


@pytest.mark.parametrize(("use", "size", "limit"), TOO_LARGE.values(), ids=TOO_LARGE)
def test_what_is_too_large_is_named_with_its_size_and_the_limit(db, use, size, limit):
    db.write(Node("Doc", "there", "text"))
    with pytest.raises(InvalidInputError) as caught:
        use(db)
    assert size in str(caught.value)
    assert limit in str(caught.value)
    assert len(str(caught.value)) < 500
    assert [(node.node_id, node.properties) for node in db.nodes()] == [("there", None)]


def test_what_is_just_small_enough_is_stored(db):
    db.write([Node("Doc", f"n{n}", "t" * 1_000, {"a": "b" * 490}) for n in range(20)])
    assert db.count() == 20
    db.search("q" * 2_000)


@pytest.mark.skipif(os.name != "posix", reason="other systems have no umask")
@pytest.mark.parametrize(("umask", "allowed"), [(0o077, 0o600), (0o027, 0o640), (0o022, 0o644)])
def test_every_file_that_is_made_respects_the_umask(tmp_path, umask, allowed):
    before = os.umask(umask)
    try:
        with fathomdb.open(tmp_path / "x.db", background=False) as db:
            db.write(GOOD)
            db.admin.safe_export(tmp_path / "copy.db")
            modes = {
                name: os.stat(tmp_path / name).st_mode & 0o777 for name in os.listdir(tmp_path)
            }
    finally:
        os.umask(before)
    assert {"x.db", "x.db-wal", "x.db-shm", "x.db.lock", "copy.db", "copy.db.manifest.json"} == {
        *modes
    }
    assert {name: oct(mode) for name, mode in modes.items() if mode & ~allowed} == {}
