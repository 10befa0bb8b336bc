"""A property index: filters on it use it, whatever the names are, and it goes where the file goes."""

from __future__ import annotations

import pytest

import fathomdb
import inside
from byte_scan import left_in_files
from fathomdb import InvalidInputError, Node
from fathomdb.admin.properties import MAX_PER_KIND
from fathomdb.search import filters
from fathomdb.store import nodes as node_rows
from fathomdb.testing import temporary

HOSTILE = [
    "it's", 'a"b', "a'); DROP TABLE nodes; --", "$.x", "a.b", "[0]", "", " ", "\n", "\\", "?", "?1", ":x",
    "naïve", "数据", "🎉", "\x1b", "'", "''", "' || '", "%s", "{}", "property_", "kind = 'x'",
]  # fmt: skip


@pytest.fixture
def db():
    with temporary(embedder=False) as engine:
        yield engine


def plan(db, kind, where):
    """How SQLite finds the chunks of a filter, and counts its nodes."""
    condition = filters.build(kinds=[kind], where=where).condition
    with inside.snapshot(db) as connection:
        statements = []
        connection.exec_trace = lambda _, sql, __: statements.append(sql) or True
        assert node_rows.count(connection, condition) >= 0
        connection.exec_trace = None
        (counting,) = statements
        # Not cached: a plan is not made anew when the schema changes, as a statement is.
        return [
            connection.execute(
                f"EXPLAIN QUERY PLAN {sql}", condition.parameters, can_cache=False
            ).fetchall()[0][3]
            for sql in (condition.chunk_keys().sql, counting)
        ]


@pytest.mark.parametrize(
    ("name", "value", "terms"),
    [
        ("lang", "en", "<expr>=?"),
        ("lang", {"eq": "en"}, "<expr>=?"),
        ("lang", {"in": ["en", "de"]}, "<expr>=?"),
        ("lang", {"gte": "d", "lt": "e"}, "<expr>>? AND <expr><?"),
        ("year", 2020, "<expr>=?"),
        ("year", {"in": [2020, 2021]}, "<expr>=?"),
        ("year", {"gt": 2020}, "<expr>>?"),
        ("year", {"gte": 2020, "lt": 2021.5}, "<expr>>? AND <expr><?"),
        ("draft", True, "<expr>=?"),
        (("meta", "author", "name"), "Ana", "<expr>=?"),
    ],
    ids=repr,
)
def test_a_filter_uses_the_index_of_its_property(db, name, value, terms):
    before = plan(db, "Doc", {name: value})
    assert all("<expr>" not in line for line in before)
    assert db.admin.index_property("Doc", name)
    for line in plan(db, "Doc", {name: value}):
        assert line.startswith("SEARCH n USING INDEX property_")
        assert line.endswith(f"(kind=? AND {terms})")
    assert plan(db, "Other", {name: value}) == before


@pytest.mark.parametrize("kind", ["Doc", *HOSTILE[:3], "🎉"], ids=ascii)
@pytest.mark.parametrize("name", [*HOSTILE, ("a'b", 'c"d', "e.f")], ids=ascii)
def test_any_name_can_be_indexed_listed_and_dropped(db, kind, name):
    names = name if isinstance(name, tuple) else (name,)
    properties = "value"
    for part in reversed(names):
        properties = {part: properties}
    db.write([Node(kind, "n1", "text", properties), Node(kind, "n2", "text", {"other": 1})])
    assert db.admin.index_property(kind, name)
    assert not db.admin.index_property(kind, name)
    assert [found.property_indexes for found in db.admin.status().kinds] == [(names,)]
    assert "property_" in plan(db, kind, {names: "value"})[0]
    assert db.count(kind, {names: "value"}) == 1
    assert db.count(kind, {names: "another"}) == 0
    assert db.admin.check_integrity().ok
    assert db.admin.drop_property_index(kind, name)
    assert not db.admin.drop_property_index(kind, name)
    assert db.admin.status().kinds[0].property_indexes == ()
    assert db.count(kind, {names: "value"}) == 1


VALUES = ["a", "b", "true", "1", "", 0, 1, 1.0, 1.5, -3, 1 << 60, True, False, None, [1], {"x": 1}]
FILTERS = ["a", "1", 1, 1.5, True, False, None, {"gt": 0}, {"gte": "a"}, {"lt": 2}, {"in": ["a", 1]},
           {"in": ["true", True, 1.5]}, {"ne": "a"}, {"exists": True}, {"exists": False}]  # fmt: skip


@pytest.mark.parametrize("value", FILTERS, ids=repr)
def test_the_same_nodes_pass_with_the_index_as_without(db, value):
    db.write(Node("Doc", f"n{n}", "text", {"p": item}) for n, item in enumerate(VALUES))
    db.write(Node("Doc", "none", "text"))
    without = {node.node_id for node in db.nodes("Doc", {"p": value})}
    found = {
        hit.node_id for hit in db.text_search("text", kind="Doc", where={"p": value}, limit=50)
    }
    assert found == without
    db.admin.index_property("Doc", "p")
    assert {node.node_id for node in db.nodes("Doc", {"p": value})} == without
    assert db.count("Doc", {"p": value}) == len(without)
    hits = db.text_search("text", kind="Doc", where={"p": value}, limit=50)
    assert {hit.node_id for hit in hits} == without


def test_rewrites_patches_and_retirements_keep_it_current(db):
    db.admin.index_property("Doc", "lang")
    db.write(Node("Doc", f"n{n}", "text", {"lang": "en"}) for n in range(4))
    db.write(Node("Doc", "n1", "text", {"lang": "de"}), retire="n2")
    db.patch("n3", {"lang": None})
    assert db.count("Doc", {"lang": "en"}) == 1
    assert db.count("Doc", {"lang": "de"}) == 1
    assert db.admin.check_integrity().ok


def test_it_survives_a_reopen_and_is_in_an_export(tmp_path):
    with fathomdb.open(tmp_path / "one.db", embedder=False) as db:
        db.write(Node("Doc", "n1", "text", {"lang": "en"}))
        db.admin.index_property("Doc", "lang")
        db.admin.safe_export(tmp_path / "two.db")
    for name in ("one.db", "two.db"):
        with fathomdb.open(tmp_path / name, embedder=False) as db:
            assert not db.admin.index_property("Doc", "lang")
            assert "property_" in plan(db, "Doc", {"lang": "en"})[0]
            assert db.admin.check_integrity().ok


def test_an_erased_value_is_not_in_the_file_any_more(tmp_path):
    with fathomdb.open(tmp_path / "one.db", embedder=False) as db:
        db.admin.index_property("Doc", "secret")
        db.write(
            Node("Doc", f"n{n}", "text", {"secret": f"zebra-{n:03}-crossing"}) for n in range(500)
        )
        db.admin.erase([f"n{n}" for n in range(250, 500)])
    path = str(tmp_path / "one.db")
    assert left_in_files(path, ["zebra-249-crossing"])
    assert not left_in_files(path, [f"zebra-{n:03}-crossing" for n in range(250, 500)])


def test_a_kind_has_so_many_and_no_more(db):
    for n in range(MAX_PER_KIND):
        db.admin.index_property("Doc", f"p{n}")
    with pytest.raises(InvalidInputError, match=r"'Doc' has 16 property indexes.*'one more'"):
        db.admin.index_property("Doc", "one more")
    assert not db.admin.index_property("Doc", "p0")
    assert db.admin.index_property("Other", "one more")


@pytest.mark.parametrize(
    "name", [(), 5, None, b"x", ("a", 1), ["a"], "\ud800", "a\0b", ("a", "\0")], ids=repr
)
def test_what_is_no_name_is_refused(db, name):
    for call in (db.admin.index_property, db.admin.drop_property_index):
        with pytest.raises(InvalidInputError, match="a property to index"):
            call("Doc", name)


def test_an_index_that_is_not_ours_is_a_finding(db):
    inside.in_writer(db, lambda tx: tx.db.execute("CREATE INDEX property_x ON nodes (kind)"))
    assert ["property_x" in str(found) for found in db.admin.check_integrity().findings] == [True]


def test_a_kind_that_looks_like_the_rest_of_a_definition_is_read_back(db):
    kind = "x')) WHERE superseded_cursor IS NULL AND kind = 'y"
    db.write(Node(kind, "one", "text", {"p": 1}))
    assert db.admin.index_property(kind, "p")
    assert not db.admin.index_property(kind, "p")
    assert db.admin.check_integrity().ok
    assert db.admin.drop_property_index(kind, "p")
