"""What every connection is set to, seen from inside a running engine."""

from __future__ import annotations

import subprocess
import sys

import apsw
import pytest

from fathomdb import Node
from fathomdb.store import fts
from fathomdb.store.connection import open_reader, open_writer
from fathomdb.store.schema import APPLICATION_ID, SCHEMA_VERSION


def of_writer(db, pragma):
    return db._runtime.write(lambda tx: tx.db.pragma(pragma))


def of_reader(db, pragma):
    with db._runtime.snapshot() as reader:
        return reader.pragma(pragma)


@pytest.mark.parametrize(("durability", "synchronous"), [("full", 2), ("normal", 1)])
def test_durability_is_what_sqlite_is_set_to(open_db, durability, synchronous):
    assert of_writer(open_db(durability=durability), "synchronous") == synchronous


def test_full_durability_is_the_default(db):
    assert of_writer(db, "synchronous") == 2


def test_the_writer_has_every_guard_on(db):
    assert of_writer(db, "journal_mode") == "wal"
    assert of_writer(db, "foreign_keys") == 1
    assert of_writer(db, "secure_delete") == 1
    assert of_writer(db, "trusted_schema") == 0
    assert of_writer(db, "application_id") == APPLICATION_ID
    assert of_writer(db, "user_version") == SCHEMA_VERSION


def test_secure_delete_is_on_in_full_text_too(db):
    with db._runtime.snapshot() as reader:
        setting = reader.execute(f"SELECT v FROM {fts.MAIN}_config WHERE k = 'secure-delete'").get
    assert setting == 1
    db.write(Node("Doc", "a", "text"))
    db.admin.configure_fts("trigram")
    with db._runtime.snapshot() as reader:
        assert reader.execute(f"SELECT v FROM {fts.MAIN}_config WHERE k = 'secure-delete'").get == 1


def test_a_reader_cannot_write_by_any_way(db):
    db.write(Node("Doc", "a", "text"))
    assert of_reader(db, "query_only") == 1
    with db._runtime.snapshot() as reader:
        for statement in (
            "DELETE FROM nodes",
            "CREATE TABLE mine (a)",
            "INSERT INTO chunks_fts (chunks_fts) VALUES ('optimize')",
            "PRAGMA user_version = 9",
        ):
            with pytest.raises(apsw.ReadOnlyError):
                reader.execute(statement)
    assert db.count() == 1


def test_loading_an_extension_by_sql_is_refused_on_every_connection(db):
    def load(connection):
        with pytest.raises(apsw.SQLError, match="not authorized"):
            connection.execute("SELECT load_extension('vec0')")

    db._runtime.write(lambda tx: load(tx.db))
    with db._runtime.snapshot() as reader:
        load(reader)


def test_every_table_of_ours_is_strict(db):
    db.write(Node("Doc", "a", "text"))
    with db._runtime.snapshot() as reader:
        loose = [
            row[0]
            for row in reader.execute(
                "SELECT name FROM pragma_table_list WHERE schema = 'main' AND type = 'table' "
                "AND NOT strict AND name NOT LIKE 'sqlite_%' AND name NOT LIKE 'vec_%'"
            )
        ]
    assert loose == []


def test_states_and_references_are_held_by_the_file_itself(db):
    """Whatever a later change of the code does, the file refuses what must never be in it."""
    db.write(Node("Doc", "a", "text"))
    refused = [
        "UPDATE vector_projection_work SET state = 'done'",
        "UPDATE vector_projection_work SET state = 'failed'",
        "UPDATE vector_projection_work SET cause = 'x'",
        "UPDATE vector_index_schemas SET state = 'ready'",
        "UPDATE vector_index_schemas SET enabled = 2",
        "UPDATE chunks SET canonical_hash = x'00'",
        "UPDATE chunks SET text = ''",
        "UPDATE chunks SET text = 5.5, node_key = 'a'",
        "UPDATE chunks SET node_key = 999",
        "UPDATE nodes SET kind = 'Nope'",
        "UPDATE nodes SET properties = '{'",
        "DELETE FROM nodes",
        "DELETE FROM chunks",
        "DELETE FROM kinds",
        (
            "INSERT INTO vector_projection_work SELECT work_id + 1, chunk_key, profile_id, kind, "
            "canonical_hash, priority, state, fence, attempts, enqueued_at_ms, due_at_ms, cause, "
            "last_error FROM vector_projection_work"
        ),
        "INSERT INTO engine_state (id, cursor, fence) VALUES (2, 0, 0)",
    ]

    def refuse(tx):
        for statement in refused:
            tx.db.execute("SAVEPOINT one")
            with pytest.raises(apsw.ConstraintError):
                tx.db.execute(statement)
            tx.db.execute("ROLLBACK TO one")
            tx.db.execute("RELEASE one")

    db._runtime.write(refuse)


def test_a_connection_has_sqlite_vec_before_use(path):
    writer = open_writer(path, durability="full", cache_mib=1)
    assert writer.execute("SELECT vec_version()").get.startswith("v0.1")
    writer.execute("CREATE TABLE t (a)")
    reader = open_reader(path, cache_mib=1)
    assert reader.execute("SELECT vec_version()").get.startswith("v0.1")
    reader.close()
    writer.close()


FIND = """
import pathlib, sys
folder, *words = sys.argv[1:]
for file in pathlib.Path(folder).iterdir():
    content = file.read_bytes()
    for word in words:
        if word.encode() in content:
            print(file.name, word)
"""


def test_the_words_of_a_retired_text_are_gone_from_every_page_of_the_file(open_db, tmp_path):
    secrets = ["zanzibarquokka", "xylophonemarmot"]
    db = open_db()
    db.write(Node("Doc", f"n{n}", f"ordinary text number {n}") for n in range(200))
    db.write(Node("Doc", "a", f"{secrets[0]} and {secrets[1]} " * 50))
    db.admin.drain_vector_projection()
    db.write(Node("Doc", f"m{n}", f"ordinary text number {n}") for n in range(200))
    found = _scan(tmp_path, secrets)
    assert found, "the scan sees what is there"

    db.write(Node("Doc", "a", "something else"))
    db.write(retire="a")
    db.close()
    assert _scan(tmp_path, secrets) == ""


def _scan(folder, words):
    # In a process of its own: closing a plain handle here would drop SQLite's locks.
    command = [sys.executable, "-c", FIND, str(folder), *words]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout
