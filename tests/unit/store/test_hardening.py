"""What a hostile file or statement cannot do, on every sort of connection that the engine opens."""

from __future__ import annotations

import ast
import contextlib
import pathlib

import apsw
import pytest

import fathomdb
from fathomdb import FathomError, Node
from fathomdb.store.connection import open_checker, open_reader, open_writer
from fathomdb.testing import DeterministicEmbedder

PACKAGE = pathlib.Path(fathomdb.__file__).parent

SORTS = {
    "writer": lambda path: open_writer(path, durability="full", cache_mib=1),
    "export": lambda path: open_writer(path + ".export", durability="full", cache_mib=1),
    "reader": lambda path: open_reader(path, cache_mib=1),
    "immutable-reader": lambda path: open_reader(path, cache_mib=1, immutable=True),
    "checker": lambda path: open_checker(path, cache_mib=1),
}


@pytest.fixture(params=SORTS)
def connection(request, open_db, path):
    with open_db() as db:
        db.write(Node("Doc", "a", "text"))
    with contextlib.closing(SORTS[request.param](path)) as opened:
        yield opened


def test_there_is_one_way_to_open_a_connection():
    places = [
        (file.name, node.lineno)
        for file in PACKAGE.rglob("*.py")
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and ast.unparse(node.func).endswith("Connection")
    ]
    assert len(places) == 1, places


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("TRUSTED_SCHEMA", 0),
        ("ENABLE_TRIGGER", 0),
        ("DQS_DML", 0),
        ("DQS_DDL", 0),
        ("ENABLE_LOAD_EXTENSION", 0),
        ("WRITABLE_SCHEMA", 0),
    ],
)
def test_every_guard_is_on(connection, setting, value):
    assert connection.config(getattr(apsw, f"SQLITE_DBCONFIG_{setting}"), -1) == value


def test_only_our_own_statements_may_touch_the_inside_of_an_index(connection, request):
    writes = request.node.callspec.params["connection"] in ("writer", "export")
    assert connection.config(apsw.SQLITE_DBCONFIG_DEFENSIVE, -1) == int(not writes)


def test_pages_are_checked_and_never_mapped(connection):
    assert connection.pragma("cell_size_check") == 1
    assert connection.pragma("mmap_size") == 0


@pytest.mark.parametrize(
    ("statement", "says"),
    [
        ("SELECT load_extension('vec0')", "not authorized"),
        ("ATTACH ':memory:' AS other", "too many attached databases"),
        ("ATTACH '/etc/passwd' AS other", "too many attached databases"),
        ("VACUUM INTO '/tmp/never'", "too many attached|read-only|cannot VACUUM"),
        ('SELECT "no such column"', "no such column"),
    ],
)
def test_a_hostile_statement_is_refused(connection, statement, says):
    with pytest.raises(apsw.Error, match=says):
        connection.execute(statement).fetchall()


def test_an_extension_cannot_be_loaded_by_the_c_interface_either(connection):
    with pytest.raises(apsw.ExtensionLoadingError, match="not authorized"):
        connection.load_extension("vec0")


def test_the_schema_cannot_be_written(open_db):
    def forge(tx):
        with pytest.raises(apsw.SQLError, match="may not be modified"):
            tx.db.execute("UPDATE sqlite_master SET sql = 'x'")

    db = open_db()
    db._runtime.write(forge)


# --- a file with more in it than ours -------------------------------------------------------------

PLANTED = {
    "a-trigger-that-deletes": """
        CREATE TRIGGER planted AFTER INSERT ON chunks BEGIN DELETE FROM nodes; END""",
    "a-trigger-that-calls": """
        CREATE TRIGGER planted AFTER UPDATE ON engine_state
        BEGIN SELECT writefile('/tmp/never', 'x'), load_extension('x'), edit('x'); END""",
    "a-trigger-on-every-table": """
        CREATE TRIGGER planted BEFORE INSERT ON nodes BEGIN SELECT raise(ABORT, 'planted'); END""",
    "a-view-that-calls": """
        CREATE VIEW planted AS SELECT load_extension('x'), fts3_tokenizer('simple')""",
    "a-temporary-looking-view": """CREATE VIEW nodes_of AS SELECT * FROM nodes""",
    "a-table-of-another-module": """CREATE VIRTUAL TABLE planted USING rtree(id, a, b)""",
    "a-vec-like-name": """CREATE TABLE vec_doc_0000000000_p1 (chunk_key, embedding)""",
}


@pytest.mark.parametrize("sql", PLANTED.values(), ids=PLANTED)
def test_what_is_planted_in_a_file_never_acts(open_db, path, sql):
    with open_db() as db:
        db.write(Node("Doc", "a", "text"))
        db.admin.drain_vector_projection()
    other = apsw.Connection(path)
    other.execute(sql)
    other.close()
    with open_db() as db:
        db.write([Node("Doc", "a", "another text"), Node("Doc", "b", "more")])
        db.admin.drain_vector_projection()
        assert [node.node_id for node in db.nodes()] == ["a", "b"]
        assert len(db.search("text")) == 2
        assert db.admin.rebuild("Doc", "fts").chunks == 2


def test_a_view_of_ours_that_was_made_to_call_is_refused(open_db, path):
    with open_db() as db:
        db.write(Node("Doc", "a", "text"))
    other = apsw.Connection(path)
    other.execute("DROP VIEW live_chunk_text")
    other.execute(
        "CREATE VIEW live_chunk_text (chunk_key, text) AS "
        "SELECT chunk_key, load_extension(text) FROM chunks"
    )
    other.close()
    with fathomdb.open(path, embedder=DeterministicEmbedder(), background=False) as db:
        assert db.get("a").text == "text"
        assert not db.admin.check_integrity().ok
        with pytest.raises(FathomError, match="unsafe use"):
            db._runtime.write(lambda tx: tx.db.execute("SELECT text FROM live_chunk_text").get)
