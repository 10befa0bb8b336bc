"""Blocks that we write are, byte for byte, those that sqlite-vec would have written."""

from __future__ import annotations

import contextlib
import random
import struct

import apsw
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fathomdb.errors import CorruptDatabaseError
from fathomdb.store import blocks
from fathomdb.store.connection import open_writer

DIMENSION = 3
ROW_BYTES = 4 * DIMENSION


def vector(key: int) -> bytes:
    return struct.pack("<3f", key, -key, 0.5)


@contextlib.contextmanager
def two_tables(path):
    with contextlib.closing(open_writer(str(path), durability="normal", cache_mib=1)) as db:
        for table in ("ours", "theirs"):
            db.execute(
                f"CREATE VIRTUAL TABLE {table} USING vec0(chunk_key INTEGER PRIMARY KEY, "
                f"embedding float[{DIMENSION}] distance_metric=l2, chunk_size={blocks.ROWS})"
            )
        yield db


def append(db, keys) -> None:
    rows = memoryview(b"".join(map(vector, keys)))
    with db:
        blocks.append(db, "ours", keys, rows, ROW_BYTES)
    with db:
        db.executemany(
            "INSERT INTO theirs (chunk_key, embedding) VALUES (?, ?)",
            [(key, vector(key)) for key in keys],
        )


def delete(db, keys) -> None:
    for table in ("ours", "theirs"):
        db.executemany(f"DELETE FROM {table} WHERE chunk_key = ?", [(key,) for key in keys])


def inside(db, table):
    shadows = {
        suffix: db.execute(f"SELECT _rowid_, * FROM {table}{suffix} ORDER BY _rowid_").fetchall()
        for suffix in ("_chunks", "_rowids", "_vector_chunks00")
    }
    names = (f"{table}_chunks", f"{table}_rowids")
    counted = db.execute(
        "SELECT seq FROM sqlite_sequence WHERE name IN (?, ?) ORDER BY name", names
    )
    return shadows, counted.fetchall()


STEPS = st.lists(st.tuples(st.sampled_from(("append", "delete")), st.integers(1, 200)), max_size=8)


@settings(deadline=None, max_examples=30)
@given(steps=STEPS, seed=st.integers(0, 2**32))
def test_the_shadow_tables_are_those_of_sqlite_vec(tmp_path_factory, steps, seed):
    chosen = random.Random(seed)
    there: list[int] = []
    with two_tables(tmp_path_factory.mktemp("blocks") / "two.db") as db:
        for what, count in steps:
            if what == "append":
                fresh = chosen.sample(range(1, 1 << 40), count)
                append(db, fresh)
                there += fresh
            else:
                gone = chosen.sample(there, min(count, len(there)))
                delete(db, gone)
                there = [key for key in there if key not in gone]
            assert inside(db, "ours") == inside(db, "theirs")
        found = dict(db.execute("SELECT chunk_key, embedding FROM ours"))
    assert found == {key: vector(key) for key in there}


def test_search_finds_them(tmp_path):
    with two_tables(tmp_path / "two.db") as db:
        append(db, [*range(1, 151)])
        nearest = "SELECT chunk_key FROM ours WHERE embedding MATCH ? AND k = 3"
        assert {row[0] for row in db.execute(nearest, (vector(70),))} == {69, 70, 71}


def test_a_key_that_is_there_is_refused(tmp_path):
    with two_tables(tmp_path / "two.db") as db:
        append(db, [1, 2, 3])
        before = inside(db, "ours")
        for keys in ([4, 2], [*range(100, 200), 3]):
            with pytest.raises(apsw.ConstraintError), db:
                blocks.append(db, "ours", keys, memoryview(b"".join(map(vector, keys))), ROW_BYTES)
        assert inside(db, "ours") == before


@pytest.mark.parametrize(
    "damage",
    [
        "UPDATE ours_chunks SET validity = x'01'",
        "UPDATE ours_chunks SET rowids = x''",
        "UPDATE ours_vector_chunks00 SET vectors = x'00'",
        "DELETE FROM ours_vector_chunks00",
    ],
)
def test_a_newest_block_that_is_damaged_is_told_and_not_written(tmp_path, damage):
    with two_tables(tmp_path / "two.db") as db:
        append(db, [1, 2, 3])
        db.execute(damage)
        before = inside(db, "ours")
        with pytest.raises(CorruptDatabaseError, match=r"newest block of ours.*repair"), db:
            blocks.append(db, "ours", [4], memoryview(vector(4)), ROW_BYTES)
        assert inside(db, "ours") == before
