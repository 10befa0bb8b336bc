"""A process that is killed while it brings a file forward leaves one version or the other."""

from __future__ import annotations

import os
import sys

import pytest

import fathomdb
from data.upgrade.make import embedder
from fathomdb.store.schema import SCHEMA_VERSION
from kill_at_write import killed_at_writes
from upgrade.conftest import OLDER
from upgrade.test_upgrade import assert_upgraded, version_of

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="SIGKILL and fork are POSIX")

OPEN = """
import fathomdb
from fathomdb import EngineConfig

def run(path):
    fathomdb.open(path, background=False, config=EngineConfig(export_before_migration={exports}))
"""


@pytest.mark.parametrize("version", OLDER)
def test_a_kill_at_any_write_of_a_migration_leaves_one_version_or_the_other(
    old_file, tmp_path, version
):
    files = killed_at_writes(
        old_file(version), tmp_path / "killed", OPEN.format(exports=False), watched=".db .db-wal"
    )

    found = []
    for path in files:
        at, tables = version_of(path)
        assert ("tombstones" in tables) == (at >= 2)
        assert ("vector_cache" in tables) == (at >= 3)
        found.append(at)
        with fathomdb.open(path, embedder=embedder(), background=False) as db:
            assert_upgraded(db, version)
    # Both sides of the commit were hit, each more than once, and no file went back.
    assert found == sorted(found)
    assert set(found) == {version, SCHEMA_VERSION}
    assert min(found.count(version), found.count(SCHEMA_VERSION)) > 2


def test_a_kill_during_the_export_leaves_no_piece_of_it_after_the_next_open(old_file, tmp_path):
    folder = tmp_path / "killed"
    files = killed_at_writes(
        old_file(1), folder, OPEN.format(exports=True), watched=".partial .partial-wal", step=7
    )

    for path in files:
        with fathomdb.open(path, embedder=False, background=False):
            pass
        beside = {name for name in os.listdir(folder) if name.startswith(os.path.basename(path))}
        assert beside == {
            os.path.basename(path) + suffix
            for suffix in ("", ".lock", ".v1-backup", ".v1-backup.manifest.json")
        }
        assert fathomdb.verify_export(f"{path}.v1-backup").schema_version == 1
