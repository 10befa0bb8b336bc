"""A file of every released schema opens, and has every row and answer that it had."""

from __future__ import annotations

import json
import os
import sys

import apsw
import pytest

import fathomdb
import inside
from byte_scan import left_in_files
from data.upgrade.make import answers, embedder, rows
from fathomdb import DiskFullError, EngineConfig, Node, SchemaVersionError, StorageError
from fathomdb.store import schema
from fathomdb.store.schema import SCHEMA_VERSION
from upgrade.conftest import DATA, OLDER, expected


def plain(value):
    return json.loads(json.dumps(value))


def assert_upgraded(db, version):
    was = expected(version)
    with inside.snapshot(db) as connection:
        assert connection.pragma("user_version") == SCHEMA_VERSION
        now = rows(connection)
    for table, before in was["rows"].items():
        columns = before[0].keys() if before else ()
        assert [{name: row[name] for name in columns} for row in now[table]] == before, table
    assert plain(answers(db)) == was["answers"]
    assert db.admin.check_integrity().ok


def version_of(path):
    db = apsw.Connection(path, flags=apsw.SQLITE_OPEN_READONLY)
    try:
        tables = {name for (name,) in db.execute("SELECT name FROM sqlite_master")}
        return db.pragma("user_version"), tables
    finally:
        db.close()


def test_there_is_a_file_of_every_older_schema():
    assert {f"v{version}.db.gz" for version in OLDER} <= {item.name for item in DATA.iterdir()}


@pytest.mark.parametrize("version", OLDER)
def test_a_file_of_an_older_schema_opens_with_every_row_and_answer_that_it_had(
    old_file, open_db, version
):
    old_file(version)
    assert_upgraded(open_db(embedder=embedder()), version)


@pytest.mark.parametrize("version", OLDER)
def test_what_was_owed_is_still_owed_and_new_writes_go_on(old_file, open_db, version):
    old_file(version)
    db = open_db(embedder=embedder())

    db.write(Node("Document", "after", "written after the upgrade"))
    report = db.admin.drain_vector_projection()

    assert report.processed == 2  # this one, and the one that the old file owed
    assert db.admin.requeue_failed() == 1
    assert db.admin.check_integrity().ok


@pytest.mark.parametrize("version", OLDER)
def test_a_read_only_open_of_an_older_schema_says_so_and_changes_nothing(
    old_file, path, tmp_path, version
):
    old_file(version)
    with pytest.raises(SchemaVersionError, match=rf"schema version {version} .*for writing once"):
        fathomdb.open(path, read_only=True)
    assert sorted(os.listdir(tmp_path)) == ["test.db"]
    assert version_of(path)[0] == version


@pytest.mark.parametrize("version", OLDER)
def test_an_upgrade_exports_the_file_first_and_the_export_is_the_file_as_it_was(
    old_file, open_db, path, version
):
    old_file(version)
    open_db(embedder=embedder()).close()

    report = fathomdb.verify_export(f"{path}.v{version}-backup")

    assert report.schema_version == version
    assert version_of(report.path)[0] == version
    # The export is a database that upgrades as the file itself did.
    with fathomdb.open(report.path, embedder=embedder(), background=False) as restored:
        assert_upgraded(restored, version)


def test_the_export_of_an_older_file_has_no_residue_of_an_erasure_either(old_file, open_db, path):
    old_file(2)
    raw = apsw.Connection(path)
    raw.execute("UPDATE engine_state SET wal_pending = 1")
    at = raw.execute("SELECT pgoffset + 8 + 2 * ncell FROM dbstat WHERE name = 'kinds'").get
    raw.close()
    # Where SQLite leaves copies of rows that it moved: behind the pointers of a page.
    with open(path, "r+b") as file:
        file.seek(at)
        file.write(b"erased-long-ago")
    assert left_in_files(path, ["erased-long-ago"])

    open_db(embedder=False).close()

    report = fathomdb.verify_export(f"{path}.v2-backup")
    for each in (path, report.path):
        assert left_in_files(each, ["erased-long-ago"]) == []
    assert version_of(report.path)[0] == 2


def test_the_export_is_made_once_and_a_file_of_this_schema_has_none(
    old_file, open_db, path, tmp_path
):
    old_file(1)
    open_db().close()
    open_db().close()

    assert sorted(os.listdir(tmp_path)) == [
        "test.db",
        "test.db.lock",
        "test.db.v1-backup",
        "test.db.v1-backup.manifest.json",
    ]


def test_an_export_of_an_open_that_went_no_further_is_taken_and_another_file_never_overwritten(
    old_file, open_db, path
):
    old_file(1)
    open_db().close()
    old_file(1)
    open_db().close()
    assert not os.path.exists(f"{path}.v1-backup-2")

    with open(f"{path}.v1-backup", "wb") as file:
        file.write(b"mine")
    old_file(1)
    open_db().close()
    with open(f"{path}.v1-backup", "rb") as file:
        assert file.read() == b"mine"
    assert fathomdb.verify_export(f"{path}.v1-backup-2").schema_version == 1


def test_the_config_turns_the_export_off(old_file, open_db, path, tmp_path):
    old_file(1)
    db = open_db(embedder=embedder(), config=EngineConfig(export_before_migration=False))
    assert_upgraded(db, 1)
    assert not os.path.exists(f"{path}.v1-backup")


def test_a_migration_that_fails_leaves_the_older_version_whole(
    old_file, open_db, path, monkeypatch
):
    old_file(1)
    with monkeypatch.context() as patched:
        # Its first statements succeed: they must be undone with the one that fails.
        patched.setattr(
            schema, "MIGRATIONS", (schema.MIGRATIONS[0], f"{schema.MIGRATIONS[1]}; SELECT nothing;")
        )
        with pytest.raises(StorageError, match="nothing"):
            open_db()

    found, tables = version_of(path)
    assert found == 1
    assert "tombstones" not in tables
    assert_upgraded(open_db(embedder=embedder()), 1)


@pytest.mark.skipif(sys.platform == "win32", reason="limits of a process are POSIX")
def test_no_room_for_the_export_is_said_so_and_the_file_is_not_changed(
    old_file, open_db, path, tmp_path
):
    import resource

    old_file(1)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, before[1]))
    try:
        # Past a limit of the process the system says EFBIG, which SQLite calls an I/O error.
        with pytest.raises((DiskFullError, StorageError), match="export_before_migration=False"):
            open_db()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)

    assert version_of(path)[0] == 1
    assert not [name for name in os.listdir(tmp_path) if "backup" in name]
