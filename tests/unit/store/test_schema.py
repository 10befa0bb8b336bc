"""What is not ours is refused by its own name, and not changed by a byte."""

from __future__ import annotations

import os
import random

import apsw
import pytest

import fathomdb
from fathomdb import (
    CorruptDatabaseError,
    InvalidInputError,
    Node,
    NotAFathomFileError,
    SchemaVersionError,
)
from fathomdb.store.schema import SCHEMA_VERSION

# Tables that the wheels of FathomDB 0.5.5 and 0.8.27 make when they open a new file, some of each:
# 0.5 has names in common with ours, so that they alone must not pass for ours.
LINEAGE = {
    "0.5": """
        CREATE TABLE fathom_schema_migrations (
            version INTEGER PRIMARY KEY,
            description TEXT NOT NULL,
            applied_at INTEGER NOT NULL DEFAULT (CAST(strftime('%s', 'now') AS INTEGER))
        );
        INSERT INTO fathom_schema_migrations (version, description)
            VALUES (1, 'initial canonical schema and runtime tables');
        CREATE TABLE nodes (
            row_id TEXT PRIMARY KEY, logical_id TEXT NOT NULL, kind TEXT NOT NULL,
            properties BLOB NOT NULL, created_at INTEGER NOT NULL, superseded_at INTEGER,
            source_ref TEXT, confidence REAL
        );
        CREATE TABLE chunks (
            id TEXT PRIMARY KEY, node_logical_id TEXT NOT NULL, text_content TEXT NOT NULL,
            byte_start INTEGER, byte_end INTEGER, created_at INTEGER NOT NULL
        );
        CREATE TABLE vector_projection_work (work_id INTEGER PRIMARY KEY, kind TEXT NOT NULL);
    """,
    "0.8": """
        CREATE TABLE _fathomdb_open_state (id INTEGER PRIMARY KEY);
        CREATE TABLE _fathomdb_migrations (version INTEGER PRIMARY KEY);
        CREATE TABLE canonical_nodes (logical_id TEXT NOT NULL, body TEXT NOT NULL);
        PRAGMA user_version = 20;
    """,
}


def sqlite_file(path, sql, *, wal=False):
    other = apsw.Connection(str(path))
    if wal:
        other.pragma("journal_mode", "wal")
    other.execute(sql)
    other.close()


def assert_refused(path, error, *named):
    """By both ways of opening, with the file and its folder as they were."""
    folder = os.path.dirname(path)
    before = _bytes(path), sorted(os.listdir(folder))
    for read_only in (False, True):
        with pytest.raises(error) as caught:
            fathomdb.open(path, read_only=read_only)
        for name in (os.path.basename(path), *named):
            assert name in str(caught.value)
        assert (_bytes(path), sorted(os.listdir(folder))) == before


def _bytes(path):
    with open(path, "rb") as file:
        return file.read()


@pytest.mark.parametrize(
    "content",
    [
        b"x\n",
        b"hello, this is a text file\n",
        b"SQLite format 3",
        b"SQLite format 4\0" + bytes(4080),
        b"%PDF-1.7\n" + bytes(range(256)) * 64,
        random.Random(5).randbytes(20_000),
        b"\0" * 4096,
        b"{}\n" * 3000,
    ],
    ids=["two-bytes", "text", "part-of-a-header", "near-miss", "pdf", "noise", "zeros", "jsonl"],
)
def test_a_file_that_is_not_a_database_is_refused_and_not_changed(tmp_path, content):
    path = tmp_path / "thesis.txt"
    path.write_bytes(content)
    assert_refused(str(path), NotAFathomFileError, "is not an SQLite database")


@pytest.mark.parametrize("wal", [False, True], ids=["rollback", "wal"])
def test_a_database_of_another_program_is_refused_and_not_changed(tmp_path, wal):
    path = tmp_path / "browser.sqlite"
    sqlite_file(
        path, "CREATE TABLE nodes (a); CREATE TABLE urls (b); PRAGMA user_version = 3", wal=wal
    )
    assert_refused(str(path), NotAFathomFileError, "of another program")


def test_the_application_id_of_another_program_is_named(tmp_path):
    path = tmp_path / "map.gpkg"
    sqlite_file(path, "PRAGMA application_id = 0x47504b47")
    assert_refused(str(path), NotAFathomFileError, "0x47504b47")


@pytest.mark.parametrize("lineage", LINEAGE)
def test_a_file_of_the_rust_fathomdb_is_refused_by_its_name(tmp_path, lineage):
    path = tmp_path / "agent.db"
    sqlite_file(path, LINEAGE[lineage], wal=True)
    assert_refused(str(path), NotAFathomFileError, "Rust FathomDB 0.5 to 0.8", "ingest them into")


def test_a_file_of_a_newer_schema_is_refused_with_both_versions(tmp_path):
    path = str(tmp_path / "new.db")
    with fathomdb.open(path, background=False) as db:
        db.write(Node("Doc", "a", "text"))
    sqlite_file(path, f"PRAGMA user_version = {SCHEMA_VERSION + 7}")
    for read_only in (False, True):
        with pytest.raises(SchemaVersionError) as caught:
            fathomdb.open(path, read_only=read_only)
        assert str(SCHEMA_VERSION + 7) in str(caught.value)
        assert f"knows up to {SCHEMA_VERSION}" in str(caught.value)
        assert "newer fathomdb-py" in str(caught.value)
    sqlite_file(path, f"PRAGMA user_version = {SCHEMA_VERSION}")
    with fathomdb.open(path, background=False) as db:
        assert db.get("a").text == "text"


def test_an_older_file_is_not_read_before_a_writer_has_brought_it_forward(tmp_path):
    path = str(tmp_path / "old.db")
    fathomdb.open(path, background=False).close()
    sqlite_file(path, f"PRAGMA user_version = {SCHEMA_VERSION - 1}")
    with pytest.raises(SchemaVersionError, match="open it for writing once"):
        fathomdb.open(path, read_only=True)


def test_an_empty_file_becomes_a_database_and_cannot_be_read_before(tmp_path):
    path = tmp_path / "empty.db"
    path.touch()
    with pytest.raises(NotAFathomFileError, match="open it for writing once"):
        fathomdb.open(path, read_only=True)
    with fathomdb.open(path, background=False) as db:
        db.write(Node("Doc", "a", "text"))
        assert db.count() == 1


def test_a_missing_file_is_not_made_by_a_reader(tmp_path):
    with pytest.raises(
        InvalidInputError, match=r"no\.db does not exist, and read_only=True does not"
    ):
        fathomdb.open(tmp_path / "no.db", read_only=True)
    assert os.listdir(tmp_path) == []


def test_a_damaged_database_is_a_typed_error_and_never_a_crash(tmp_path):
    path = tmp_path / "damaged.db"
    with fathomdb.open(path, background=False) as db:
        db.write(Node("Doc", f"n{n}", f"text {n} " * 50) for n in range(500))
    content = bytearray(path.read_bytes())
    content[4096 : len(content) // 2] = random.Random(3).randbytes(len(content) // 2 - 4096)
    path.write_bytes(content)
    with pytest.raises((CorruptDatabaseError, NotAFathomFileError)) as caught:
        read_all(path)
    assert "damaged.db" in str(caught.value)


def test_a_truncated_database_is_a_typed_error(tmp_path):
    path = tmp_path / "short.db"
    with fathomdb.open(path, background=False) as db:
        db.write(Node("Doc", f"n{n}", f"text {n} " * 50) for n in range(500))
    os.truncate(path, 10_000)
    with pytest.raises(CorruptDatabaseError, match="restore a backup"):
        read_all(path)


def read_all(path):
    with fathomdb.open(path, background=False) as db:
        list(db.nodes())
        db.text_search("text")


def test_a_migration_is_made_once_and_a_reopened_file_is_left_as_it_is(tmp_path):
    path = str(tmp_path / "x.db")

    def schema():
        db = apsw.Connection(path)
        rows = db.execute("SELECT type, name, sql FROM sqlite_master ORDER BY name").fetchall()
        db.close()
        return rows

    fathomdb.open(path, background=False).close()
    first = schema()
    fathomdb.open(path, background=False).close()
    assert schema() == first
