"""What ``fathomdb.open`` refuses, and that it leaves nothing behind."""

from __future__ import annotations

import math
import os
import socket
from pathlib import Path

import pytest

import fathomdb
from fathomdb import EngineConfig, InvalidInputError


@pytest.mark.parametrize(
    ("path", "names"),
    [
        (":memory:", "fathomdb.testing.temporary()"),
        ("", "''"),
        ("file:x.db?mode=memory", "'file:x.db?mode=memory'"),
        (5, "5"),
        (None, "None"),
        (b"x.db", "b'x.db'"),
        (["x.db"], "['x.db']"),
        ("a\0b.db", r"'a\x00b.db'"),
        ("a\udcff.db", r"'a\udcff.db'"),
    ],
    ids=repr,
)
def test_a_path_that_names_no_file_is_refused(path, names, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for read_only in (False, True):
        with pytest.raises(InvalidInputError) as caught:
            fathomdb.open(path, read_only=read_only)
        assert names in str(caught.value)
    assert os.listdir(tmp_path) == []


def test_a_folder_is_refused_and_nothing_is_put_into_or_beside_it(tmp_path):
    folder = tmp_path / "folder"
    folder.mkdir()
    for path in (folder, str(folder), f"{folder}{os.sep}"):
        with pytest.raises(InvalidInputError, match="is a folder; name a file in it"):
            fathomdb.open(path)
    assert [*tmp_path.rglob("*")] == [folder]


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(InvalidInputError, match=r"nowhere does not exist; make it first"):
        fathomdb.open(tmp_path / "nowhere" / "x.db")
    assert os.listdir(tmp_path) == []


def test_a_name_that_the_system_cannot_have_is_a_typed_error(tmp_path):
    with pytest.raises(InvalidInputError):
        fathomdb.open(tmp_path / ("x" * 300))


def test_what_is_no_file_is_refused_without_reading_from_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # a socket's path must be short
    os.mkfifo("pipe")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind("socket")
        for path in ("pipe", "socket", "/dev/null"):
            for read_only in (False, True):
                with pytest.raises(InvalidInputError, match="not a file"):
                    fathomdb.open(path, read_only=read_only)
    assert sorted(os.listdir(tmp_path)) == ["pipe", "socket"]


@pytest.mark.parametrize(
    ("options", "names"),
    [
        ({"durability": "fast"}, "'fast'"),
        ({"lock_timeout_seconds": -1}, "-1"),
        ({"lock_timeout_seconds": math.nan}, "nan"),
        ({"lock_timeout_seconds": "5"}, "'5'"),
        ({"lock_timeout_seconds": None}, "None"),
        ({"index_kinds": "Doc"}, "'Doc'"),
        ({"index_kinds": [5]}, "5"),
        ({"index_kinds": 5}, "5"),
        ({"index_kinds": None}, "None"),
        ({"index_kinds": ["a\0"]}, r"'a\x00'"),
        ({"embedder": "no-such-plugin"}, "'no-such-plugin'"),
        ({"embedder": 5}, "5"),
        ({"embedder": []}, "empty list"),
        ({"embedder": len}, "len"),
    ],
    ids=repr,
)
def test_a_bad_option_is_named_and_the_file_stays_free(options, names, path):
    with pytest.raises(InvalidInputError) as caught:
        fathomdb.open(path, **options)
    assert names in str(caught.value)
    fathomdb.open(path).close()


@pytest.mark.parametrize(
    ("options", "names"),
    [
        ({"mailbox_size": 0}, "mailbox_size"),
        ({"readers": -1}, "-1"),
        ({"chunk_chars": True}, "True"),
        ({"cache_mib": math.nan}, "nan"),
        ({"readers": 1.5}, "1.5"),
        ({"close_timeout_seconds": "5"}, "'5'"),
    ],
    ids=repr,
)
def test_a_bad_number_of_the_config_is_named(options, names):
    with pytest.raises(InvalidInputError) as caught:
        EngineConfig(**options)
    assert names in str(caught.value)


def test_paths_with_any_characters_are_paths(tmp_path):
    for name in (
        "with space.db",
        "100%25?mode=ro#x.db",
        "Größe 🎉.db",
        "semi;colon'\"quote.db",
        "-dash.db",
    ):
        target = tmp_path / name
        with fathomdb.open(target, background=False) as db:
            db.write(fathomdb.Node("Doc", "a", "text"))
            assert db.path == os.path.realpath(target)
        with fathomdb.open(target, read_only=True) as db:
            assert db.count() == 1
        assert target.exists()


def test_a_link_to_a_file_is_that_file_and_shares_its_lock(tmp_path):
    link = tmp_path / "link.db"
    link.symlink_to(tmp_path / "real.db")
    with fathomdb.open(link, background=False) as db:
        assert Path(db.path) == (tmp_path / "real.db").resolve()
        with pytest.raises(fathomdb.DatabaseLockedError):
            fathomdb.open(tmp_path / "real.db")
