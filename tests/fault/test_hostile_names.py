"""No text that a caller passes, by any way in, becomes SQL, a path, a format or anybody's row.

Every parameter of every public method is here: a new one fails ``test_every_way_in_is_tried``.
"""

from __future__ import annotations

import contextlib
import inspect
import os
import re

import pytest

import fathomdb
from fathomdb import Chunk, Engine, FathomError, Node
from fathomdb.admin.service import AdminService
from fathomdb.identity import EmbedderIdentity
from fathomdb.records import WriteReceipt
from fathomdb.testing import DeterministicEmbedder

HOSTILE = (
    "'; DROP TABLE nodes; --",
    '"; DELETE FROM chunks; --',
    "x') OR 1=1 --",
    "x' UNION SELECT sql FROM sqlite_master --",
    "vec_doc_0123456789_p1",
    "chunks_fts",
    "sqlite_master",
    "[nodes]",
    "`nodes`",
    "?1 :name @name $name",
    "%s %n %(a)d {0} {a.__class__} {{7*7}}",
    "%",
    "_",
    "*",
    '"unclosed',
    "NEAR(a b, 3) AND NOT c:d ^e",
    '$."a".b[0]',
    "$[#-1]",
    'a"."b',
    "back\\slash",
    "../../../etc/passwd",
    "nul\0inside",
    "lone \ud800 surrogate",
    "\u202eright to left\u202c",
    "e\u0301 and \u00e9",
    "line\r\nfeed\t\u2028\x1b[31m",
    "\U0001f980",
    "NULL",
    "",
    " ",
    "x" * 5000,
)

NOT_TEXT = frozenset({
    "accept_failures", "acknowledge_rebuild_impact", "batch_size", "chunks_per_node", "exact",
    "explain", "keep_previous", "limit", "progress", "timeout", "vector_weight",
})  # fmt: skip
"""Parameters that are numbers, flags or callbacks wherever they are."""


class Renamed(DeterministicEmbedder):
    """A model with the name of the caller's choice."""

    def __init__(self, identity, version="1"):
        super().__init__()
        self._named = EmbedderIdentity(identity, version, 32, preparation={"prefix": identity})

    def identity(self):
        return self._named


def receipt(text):
    return WriteReceipt(1, 1, 0, 0, 1, 1, (text,))


def filters(method):
    """Every way into a filter, of a method that takes one as ``method(db, **filter)``."""
    return {
        "kind": [lambda db, s: method(db, kind=s), lambda db, s: method(db, kind=[s, "Canary"])],
        "where": [
            lambda db, s: method(db, where={s: 1}),
            lambda db, s: method(db, where={"n": s}),
            lambda db, s: method(db, where={(s, "a", s): s}),
            lambda db, s: method(db, where={"n": {s: 1}}),
            lambda db, s: method(db, where={"any": [{s: s}, {"not": {"n": {"gte": s}}}]}),
            lambda db, s: method(db, where={"n": {"in": [s, 1, None]}, s: {"exists": False}}),
            lambda db, s: method(db, where=s),
        ],
        "ids": [lambda db, s: method(db, ids=[s]), lambda db, s: method(db, ids=s)],
        "source_ref": [lambda db, s: method(db, source_ref=s)],
    }


def searches(method):
    return {
        "query": [method],
        "after": [lambda db, s: method(db, "text", after=receipt(s), timeout=0)],
        **filters(lambda db, **given: method(db, "text", **given)),
    }


def nodes_of(db, **given):
    return [*db.nodes(**given)]


def only(ways, *names):
    return {name: ways[name] for name in names}


def to_file(db, s):
    """A name in the folder of the test: what it names must stay there."""
    db.admin.safe_export(os.path.join(os.path.dirname(db.path), "exports", s.replace("/", "|")))


def vector_search(db, _query, **given):
    return db.raw_vector_search([1.0] * 32, **given)


def index_and_drop(db, s, kind="Canary"):
    assert db.admin.index_property(kind, s)
    assert db.count(kind, {(s,): "nothing"}) == 0
    assert db.admin.drop_property_index(kind, s)


def index_and_drop_of(db, s):
    index_and_drop(db, "lang", s)


WAYS_IN = {
    "write": {
        "nodes": [
            lambda db, s: db.write(Node(s, "hostile", "text")),
            lambda db, s: db.write(Node("Hostile", s, "text")),
            lambda db, s: db.write(Node("Hostile", "hostile", s)),
            lambda db, s: db.write(Node("Hostile", "hostile", "text", {s: s, "a": {s: [s]}})),
            lambda db, s: db.write(Node("Hostile", "hostile", "text", source_ref=s)),
            lambda db, s: db.write(Node("Hostile", "hostile", chunks=[Chunk("text", s), s])),
            lambda db, s: db.write(s),
        ],
        "retire": [lambda db, s: db.write(retire=s), lambda db, s: db.write(retire=[s])],
    },
    "patch": {
        "node_id": [lambda db, s: db.patch(s, {"n": 1})],
        "properties": [
            lambda db, s: db.patch("target", {s: s}),
            lambda db, s: db.patch("target", s),
        ],
    },
    "ingest": {
        "records": [
            lambda db, s: db.ingest([{"id": s, "text": s, s: s}], kind="Hostile"),
            lambda db, s: db.ingest(s, kind="Hostile"),
        ],
        "kind": [lambda db, s: db.ingest([{"id": "h", "text": "text"}], kind=s)],
        "id": [lambda db, s: db.ingest([{s: "h", "text": "text"}], kind="Hostile", id=s)],
        "text": [lambda db, s: db.ingest([{"id": "h", s: "text"}], kind="Hostile", text=s)],
        "properties": [
            lambda db, s: db.ingest(
                [{"id": "h", "text": "t", s: 1}], kind="Hostile", properties=[s]
            )
        ],
        "source_ref": [
            lambda db, s: db.ingest([{"id": "h", "text": "t"}], kind="Hostile", source_ref=s)
        ],
        "vector": [
            lambda db, s: db.ingest(
                [{"id": "h", "text": "t", s: [1.0] * 32}], kind="Hostile", vector=s
            ),
            lambda db, s: db.ingest([{"id": "h", "text": "t", "v": s}], kind="Hostile", vector="v"),
        ],
        "on_error": [lambda db, s: db.ingest([{"id": "h"}], kind="Hostile", on_error=s)],
        "prune_source": [
            lambda db, s: db.ingest([{"id": "h", "text": "t"}], kind="Hostile", prune_source=s)
        ],
    },
    "get": {"node_id": [lambda db, s: db.get(s)]},
    "get_many": {"ids": [lambda db, s: db.get_many([s]), lambda db, s: db.get_many(s)]},
    "nodes": only(filters(nodes_of), "kind", "where"),
    "count": only(filters(Engine.count), "kind", "where"),
    "search": {
        **searches(Engine.search),
        "mode": [lambda db, s: db.search("text", mode=s)],
        "fusion": [lambda db, s: db.search("text", fusion=s)],
    },
    "semantic_search": searches(Engine.semantic_search),
    "text_search": {
        "query": [Engine.text_search],
        **filters(lambda db, **given: db.text_search("text", **given)),
    },
    "raw_vector_search": {
        **only(searches(vector_search), "after", "kind", "where", "ids", "source_ref"),
        "vector": [lambda db, s: db.raw_vector_search(s), lambda db, s: db.raw_vector_search([s])],
    },
    "wait": {"receipt": [lambda db, s: db.wait(receipt(s), 0), lambda db, s: db.wait(s)]},
    "admin.configure_embedding": {
        "embedder": [
            lambda db, s: db.admin.configure_embedding(s),
            lambda db, s: db.admin.configure_embedding(f"hashing:{s}"),
            lambda db, s: db.admin.configure_embedding(Renamed(s, s), True),
        ]
    },
    "admin.preview_projection_impact": {
        "embedder": [
            lambda db, s: db.admin.preview_projection_impact(s),
            lambda db, s: db.admin.preview_projection_impact(Renamed(s, s)),
        ]
    },
    "admin.pause_switch": {},
    "admin.resume_switch": {},
    "admin.cancel_switch": {},
    "admin.rollback": {},
    "admin.prune_profiles": {},
    "admin.configure_vec": {
        "kind": [lambda db, s: db.admin.configure_vec(s)],
        "source": [lambda db, s: db.admin.configure_vec("Canary", s)],
    },
    "admin.configure_vec_kinds": {"kinds": [lambda db, s: db.admin.configure_vec_kinds([s])]},
    "admin.disable_vec": {"kind": [lambda db, s: db.admin.disable_vec(s)]},
    "admin.configure_fts": {"tokenizer": [lambda db, s: db.admin.configure_fts(s)]},
    "admin.index_property": {"kind": [index_and_drop_of], "name": [index_and_drop]},
    "admin.drop_property_index": {
        "kind": [lambda db, s: db.admin.drop_property_index(s, "lang")],
        "name": [lambda db, s: db.admin.drop_property_index("Canary", s)],
    },
    "admin.get_vec_index_status": {"kind": [lambda db, s: db.admin.get_vec_index_status(s)]},
    "admin.status": {},
    "admin.inspect": {
        "node_id": [lambda db, s: db.admin.inspect(s), lambda db, s: db.admin.inspect(s, "text")],
        "query": [lambda db, s: db.admin.inspect("canary", s)],
        **filters(lambda db, **given: db.admin.inspect("canary", "text", **given)),
    },
    "admin.trace_source": {"source_ref": [lambda db, s: db.admin.trace_source(s)]},
    "admin.erase": {
        "node_ids": [lambda db, s: db.admin.erase(s), lambda db, s: db.admin.erase([s])]
    },
    "admin.erase_source": {"source_ref": [lambda db, s: db.admin.erase_source(s)]},
    "admin.check_integrity": {},
    "admin.repair": {},
    "admin.projection_digest": {"kind": [lambda db, s: db.admin.projection_digest(s)]},
    "admin.safe_export": {"path": [to_file]},
    "admin.drain_vector_projection": {
        "embedder": [lambda db, s: db.admin.drain_vector_projection(embedder=s)]
    },
    "admin.run_tick": {"embedder": [lambda db, s: db.admin.run_tick(embedder=s)]},
    "admin.failed_work": {"kind": [lambda db, s: db.admin.failed_work(s)]},
    "admin.requeue_failed": {
        "kind": [lambda db, s: db.admin.requeue_failed(s)],
        "cause": [lambda db, s: db.admin.requeue_failed(cause=s)],
    },
    "admin.rebuild": {
        "kind": [lambda db, s: db.admin.rebuild(s), lambda db, s: db.admin.rebuild(s, "fts")],
        "target": [lambda db, s: db.admin.rebuild("Canary", s)],
    },
    "close": {},
}


def test_every_way_in_is_tried():
    """By name and parameter, from the signatures themselves."""
    expected = {}
    for owner, prefix in ((Engine, ""), (AdminService, "admin.")):
        for name, method in inspect.getmembers(owner, inspect.isfunction):
            if not name.startswith("_"):
                parameters = {*inspect.signature(method).parameters} - {"self", *NOT_TEXT}
                expected[prefix + name] = parameters
    assert {name: {*ways} for name, ways in WAYS_IN.items()} == expected


# What an index of a new kind may bring: its name is made from a digest.
TABLE_OF_A_KIND = re.compile(r"vec_[a-z0-9_]*_[0-9a-f]{10}_p\d+(_[a-z0-9_]+)?")
OUR_INDEX = re.compile(r"chunks_fts(_[a-z]+)?")


def schema(db):
    """What the file is made of, but for tables of kinds and the shadow tables of full text."""
    with db._runtime.snapshot() as reader:
        rows = reader.execute("SELECT type, name, tbl_name, sql FROM sqlite_master").fetchall()
    return {
        row
        for row in rows
        if not TABLE_OF_A_KIND.fullmatch(row[2]) and not OUR_INDEX.fullmatch(row[2])
    }


def canary(db):
    """Rows that nothing here has a reason to touch, read by key, by words and from the tables."""
    with db._runtime.snapshot() as reader:
        chunks = reader.execute(
            "SELECT c.* FROM chunks AS c JOIN nodes AS n USING (node_key) WHERE n.kind = 'Canary'"
        ).fetchall()
    found = sorted(hit.node_id for hit in db.text_search("songbird", kind="Canary"))
    return db.get_many(["canary", "target"]).get("canary"), db.count(kind="Canary"), chunks, found


CASES = [
    pytest.param(way, id=f"{name}-{parameter}-{number}")
    for name, parameters in WAYS_IN.items()
    for parameter, ways in parameters.items()
    for number, way in enumerate(ways)
]


@pytest.mark.parametrize("way", CASES)
def test_a_hostile_text_is_a_name_like_any_other_or_a_typed_error(open_db, tmp_path, way):
    (tmp_path / "exports").mkdir()
    outside = sorted(os.listdir(tmp_path))
    config = fathomdb.EngineConfig(cache_mib=1)
    with open_db(durability="normal", config=config) as db:
        db.write([
            Node("Canary", "canary", "a songbird sings", {"n": 1}, source_ref="mine"),
            Node("Canary", "other", "another songbird"),
            Node("Target", "target", "text"),
        ])  # fmt: skip
        db.admin.drain_vector_projection()
        before = schema(db), canary(db)
        for text in HOSTILE:
            with contextlib.suppress(FathomError):
                way(db, text)
            assert (schema(db), canary(db)) == before, text
        assert db.admin.check_integrity().ok
        outside += [f"test.db{suffix}" for suffix in ("", "-shm", "-wal", ".lock")]
        assert sorted(os.listdir(tmp_path)) == sorted(outside)


def test_a_hostile_kind_comes_back_as_it_was_and_has_an_index_of_its_own(open_db):
    with open_db() as db:
        kinds = [text for text in HOSTILE if text and not re.search("[\0\ud800]|x{99}", text)]
        db.write([Node(kind, f"n{n}", "text") for n, kind in enumerate(kinds)])
        assert db.admin.drain_vector_projection().processed == len(kinds)
        for n, kind in enumerate(kinds):
            assert [hit.kind for hit in db.semantic_search("text", kind=kind)] == [kind]
            assert db.get(f"n{n}").kind == kind
        assert {kind.kind for kind in db.admin.status().kinds} == {*kinds}
