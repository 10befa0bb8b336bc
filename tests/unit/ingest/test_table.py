"""Tables of Arrow: who may export them, what is read by column, and what bad rows are told."""

from __future__ import annotations

import datetime as dt
import decimal
import re
import sys
from array import array

import numpy as np
import pytest

from fathomdb import (
    Chunk,
    EngineConfig,
    InvalidInputError,
    MissingExtraError,
    Node,
    NonFiniteVectorError,
)
from fathomdb.ingest import mapping, run, table
from fathomdb.testing import DeterministicEmbedder, RecordingEmbedder

pa = pytest.importorskip("pyarrow")

ROWS = pa.table({"id": ["a", "b"], "text": ["one", "two"], "n": [1, 2]})


@pytest.fixture
def by_column(monkeypatch):
    """Fails a test whose table is read by row."""

    def refuse(piece):
        raise AssertionError(f"{len(piece)} rows are read by row")

    monkeypatch.setattr(table.Table, "by_row", refuse)


class Exports:
    """A data frame of another library, as far as Arrow knows it."""

    def __init__(self, rows):
        self._rows = rows

    def __arrow_c_stream__(self, requested_schema=None):
        return self._rows.__arrow_c_stream__(requested_schema)


class ExportsOne:
    """A batch of another library."""

    def __init__(self, rows):
        self._rows = rows.combine_chunks().to_batches()[0]

    def __arrow_c_array__(self, requested_schema=None):
        return self._rows.__arrow_c_array__(requested_schema)


@pytest.mark.parametrize(
    "exported",
    [
        Exports,
        ExportsOne,
        lambda rows: rows,
        lambda rows: rows.to_reader(),
        lambda rows: iter(rows.to_pylist()),
    ],
    ids=["stream", "array", "Table", "RecordBatchReader", "rows"],
)
def test_whatever_exports_tables_is_ingested(db, exported):
    report = db.ingest(exported(ROWS), kind="Row")

    assert (report.records, report.written) == (2, 2)
    assert (db.get("b").text, db.get("b").properties) == ("two", {"n": 2})


def test_what_exports_something_else_is_refused(db):
    with pytest.raises(InvalidInputError, match=r"records is no table: .*Array exports something"):
        db.ingest(pa.array([1, 2]), kind="Row")


def test_a_table_without_pyarrow_says_what_to_install(db, monkeypatch):
    frame = Exports(ROWS)
    monkeypatch.setitem(sys.modules, "pyarrow", None)

    with pytest.raises(MissingExtraError, match=r'pip install "fathomdb-py\[parquet\]"'):
        db.ingest(frame, kind="Row")
    assert db.count() == 0


COLUMNS = {
    "strings": pa.array(['a"b', None], pa.string()),
    "large strings": pa.array(["a\n", None], pa.large_string()),
    "string views": pa.array(["ä" * 20, None]).cast(pa.string_view()),
    "dictionary": pa.array(["x", None]).dictionary_encode(),
    "whole numbers": pa.array([-(2**63), None], pa.int64()),
    "small numbers": pa.array([255, None], pa.uint8()),
    "large numbers": pa.array([2**64 - 1, None], pa.uint64()),
    "halves": pa.array(np.array([1.5, -2.25], dtype=np.float16)),
    "floats": pa.array([0.1, None], pa.float32()),
    "doubles": pa.array([1e16, None], pa.float64()),
    "truth": pa.array([True, None], pa.bool_()),
    "nothing": pa.nulls(2),
    "structs": pa.array([{"a": [{"b": None}], "c": 1}, None]),
    "lists": pa.array([["x", None], None]),
    "maps": pa.array([[("k", 1)], None], pa.map_(pa.string(), pa.int32())),
}


@pytest.mark.parametrize("column", COLUMNS.values(), ids=COLUMNS)
def test_columns_of_these_types_become_properties_without_a_look_at_the_rows(db, by_column, column):
    rows = pa.table({"id": ["a", "b"], "text": ["one", "two"], "x": column})

    assert db.ingest(rows, kind="Row").written == 2

    plain = [
        [list(pair) for pair in x] if pa.types.is_map(column.type) and x else x
        for x in column.to_pylist()
    ]
    assert [db.get(name).properties["x"] for name in "ab"] == plain


def test_slices_of_a_table_are_those_rows(db, by_column):
    rows = pa.table(
        {
            "id": [f"r{n}" for n in range(100)],
            "text": ["t"] * 100,
            "even": [n % 2 == 0 for n in range(100)],
        }
    )

    db.ingest(rows.slice(13, 20), kind="Row", batch_size=7)

    assert sorted(record.node_id for record in db.nodes()) == sorted(f"r{n}" for n in range(13, 33))
    assert all(
        record.properties["even"] == (int(record.node_id[1:]) % 2 == 0) for record in db.nodes()
    )


def test_a_text_that_is_longer_than_a_chunk_is_cut(open_db, by_column):
    db = open_db(config=EngineConfig(chunk_chars=20))
    text = "A sentence of words. Another one follows. And the last."

    db.ingest(pa.table({"id": ["a"], "text": [text]}), kind="Row")

    chunks = db.get("a").chunks
    assert len(chunks) > 1
    assert "".join(chunk.text for chunk in chunks) == text


def test_ids_are_made_joined_and_numbered_by_column(db, by_column):
    rows = pa.table({"text": ["one", "two"], "n": [1, 2], "s": ["x", "y"]})

    db.ingest(rows, kind="Made", id=None)
    db.ingest(rows, kind="Joined", id=["s", "n"])

    assert db.get(mapping.made_id("Made", "two")).text == "two"
    assert db.get("y/2").properties is None


def test_one_kind_of_all_records_is_read_by_column(db, by_column):
    rows = pa.table({"id": ["a"], "text": ["one"], "kind": pa.array(["K"]).dictionary_encode()})

    db.ingest(rows)

    assert (db.get("a").kind, db.get("a").properties) == ("K", None)


def test_records_of_several_kinds_keep_theirs(db):
    db.ingest(pa.table({"id": ["a", "b"], "text": ["one", "two"], "kind": ["K", "L"]}))

    assert (db.get("a").kind, db.get("b").kind) == ("K", "L")


def test_long_texts_are_stored_in_several_commits(db, by_column, monkeypatch):
    monkeypatch.setattr(run, "MAX_BATCH_CHARS", 1000)
    told = []

    db.ingest(
        pa.table({"id": [*range(8)], "text": ["x" * 400] * 8}), kind="Row", progress=told.append
    )

    assert [progress.records for progress in told] == [2, 4, 6, 8, 8]


def test_small_batches_of_a_stream_share_a_commit(db, by_column):
    rows = pa.table({"id": [*range(500)], "text": ["x"] * 500})
    before = db.write().cursor

    assert db.ingest(rows.to_reader(max_chunksize=10), kind="Row").cursor == before + 1


# --- bad rows -------------------------------------------------------------------------------------

DAY = dt.datetime(2026, 1, 2, tzinfo=dt.UTC)
NO_JSON = {
    "timestamps": (pa.array([None, DAY]), "datetime"),
    "decimals": (pa.array([None, decimal.Decimal("1.5")]), "Decimal"),
    "bytes": (pa.array([None, b"x"]), "bytes"),
    "not a number": (pa.array([None, float("nan")]), "float"),
    "nested timestamps": (pa.array([None, [DAY]]), "list"),
}


@pytest.mark.parametrize(("column", "type_name"), NO_JSON.values(), ids=NO_JSON)
def test_a_value_that_json_has_not_is_an_error_of_its_row_that_names_the_column(
    db, column, type_name
):
    rows = pa.table({"id": ["a", "b"], "text": ["one", "two"], "x": column})

    report = db.ingest(rows, kind="Row", on_error="collect")

    assert (report.written, report.error_count) == (1, 1)
    (error,) = report.errors
    assert error.record_number == 2
    assert re.search(rf"properties of node 'b' are not JSON: .*'x'.*{type_name}", error.message)


def test_a_bad_row_stops_with_its_number_and_all_before_it_stored(db):
    ids = [f"r{n}" for n in range(10)]
    ids[6] = ""

    with pytest.raises(InvalidInputError, match=r"^record 7: column 'id' must be an id, .* got ''"):
        db.ingest(pa.table({"id": ids, "text": ["t"] * 10}), kind="Row", batch_size=4)

    assert sorted(record.node_id for record in db.nodes()) == ids[:6]


def test_of_the_same_id_in_one_table_the_last_one_wins(db):
    rows = pa.table({"id": ["a", "b", "a"], "text": ["old", "b", "new"]})

    report = db.ingest(rows, kind="Row")

    assert (report.records, report.written, report.duplicates) == (3, 2, 1)
    assert db.get("a").text == "new"


def test_a_row_that_only_the_write_refuses_is_found(db):
    db.write(Node("Row", "owner", chunks=[Chunk("mine", chunk_id="b#0")]))

    report = db.ingest(
        pa.table({"id": ["a", "b", "c"], "text": ["one", "two", "three"]}),
        kind="Row",
        on_error="collect",
    )

    assert (report.records, report.written) == (3, 2)
    assert [error.record_number for error in report.errors] == [2]


def test_functions_see_each_record_as_before(db):
    db.ingest(ROWS, kind="Row", id=lambda record: f"{record['id']}-{record['n']}")

    assert db.get("b-2").text == "two"


def test_pruning_knows_what_a_table_had(db):
    db.ingest(ROWS, kind="Row", prune_source="s")

    assert db.ingest(ROWS.slice(1), kind="Row", prune_source="s").retired == 1
    assert [record.node_id for record in db.nodes()] == ["b"]


# --- ready vectors --------------------------------------------------------------------------------


@pytest.mark.parametrize("item", [pa.float16(), pa.float32(), pa.float64()], ids=str)
@pytest.mark.parametrize("of", [lambda item: pa.list_(item, 4), pa.list_, pa.large_list])
def test_a_column_of_vectors_is_stored_and_nothing_is_embedded(open_db, by_column, of, item):
    embedder = RecordingEmbedder(DeterministicEmbedder(4))
    db = open_db(embedder=embedder)
    given = np.eye(4, dtype=np.float16)
    vectors = pa.array([*given], of(item))
    rows = pa.table({"id": ["w", "x", "y", "z"], "text": ["t"] * 4, "embedding": vectors})

    report = db.ingest(rows.slice(1), kind="Row", vector="embedding")

    assert (report.written, report.enqueued) == (3, 0)
    assert db.get("y").properties is None
    hits = db.raw_vector_search([0, 0, 1, 0], limit=1)
    assert [hit.node_id for hit in hits] == ["y"]
    assert embedder.batches == []


def test_a_row_without_a_vector_is_embedded(open_db, by_column):
    db = open_db(embedder=DeterministicEmbedder(4))
    vectors = pa.array([[1, 0, 0, 0], None], pa.list_(pa.float32(), 4))

    report = db.ingest(
        pa.table({"id": ["a", "b"], "text": ["one", "two"], "embedding": vectors}),
        kind="Row",
        vector="embedding",
    )

    assert (report.written, report.enqueued) == (2, 1)


def test_a_vector_that_is_not_finite_names_its_record(open_db):
    db = open_db(embedder=DeterministicEmbedder(4))
    vectors = pa.array([[1, 0, 0, 0], [1, 0, float("inf"), 0]], pa.list_(pa.float32(), 4))
    rows = pa.table({"id": ["a", "b"], "text": ["one", "two"], "embedding": vectors})

    with pytest.raises(InvalidInputError, match=r"record 2: .*node 'b'.*column 2") as caught:
        db.ingest(rows, kind="Row", vector="embedding")
    assert isinstance(caught.value.__cause__, NonFiniteVectorError)


def test_vectors_are_copied_before_they_are_checked(open_db, by_column):
    """What the caller writes into the array afterwards changes nothing that is stored."""
    db = open_db(embedder=DeterministicEmbedder(4))
    values = np.eye(4, dtype=np.float32)
    vectors = pa.FixedSizeListArray.from_arrays(pa.array(values.reshape(-1)), 4)
    rows = pa.table({"id": [*"abcd"], "text": ["t"] * 4, "embedding": vectors})

    db.ingest(rows, kind="Row", vector="embedding")
    values[:] = 0

    assert db.raw_vector_search([0, 1, 0, 0], limit=1)[0].node_id == "b"


def test_a_buffer_that_is_not_aligned_is_read_by_row(db):
    numbers = pa.py_buffer(b"\0" + (7).to_bytes(8, "little") + (8).to_bytes(8, "little")).slice(1)
    odd = pa.Array.from_buffers(pa.int64(), 2, [None, numbers])
    rows = pa.RecordBatch.from_arrays(
        [pa.array(["a", "b"]), pa.array(["x", "y"]), odd], ["id", "text", "n"]
    )
    assert db.ingest(rows, kind="Doc").written == 2
    assert [db.get(name).properties for name in "ab"] == [{"n": 7}, {"n": 8}]


def test_a_row_that_cannot_be_read_is_one_error_of_a_commit_that_was_refused(db):
    db.write(Node("Doc", "owner", chunks=[Chunk("text", "x#0")]))
    rows = pa.table({"id": ["x"], "text": ["y"], "at": pa.array([2**62], pa.timestamp("us"))})
    report = db.ingest(rows, kind="Doc", properties=[], on_error="collect")
    assert (report.records, len(report.errors)) == (1, 1)


def test_a_name_with_a_nul_in_parquet_is_refused_as_in_a_dict(db, tmp_path):
    pytest.importorskip("pyarrow.parquet").write_table(
        pa.table({"id": ["x"], "text": ["y"], "a\0b": [1]}), tmp_path / "t.parquet"
    )
    with pytest.raises(InvalidInputError, match="NUL"):
        db.ingest(tmp_path / "t.parquet", kind="Doc")
    assert db.count("Doc") == 0


@pytest.mark.parametrize(
    "of",
    [lambda t: t, lambda t: t.to_batches()[0], lambda t: t.to_reader()],
    ids=["Table", "RecordBatch", "RecordBatchReader"],
)
@pytest.mark.parametrize("value", [1, {"in\0side": 1}], ids=["column", "field"])
def test_a_name_with_a_nul_in_memory_is_refused_as_in_a_dict(db, of, value):
    name = "a\0b" if value == 1 else "a"
    rows = pa.table({"id": ["x"], "text": ["y"], name: [value]})
    with pytest.raises(InvalidInputError, match="NUL"):
        db.ingest(of(rows), kind="Doc")
    assert db.count("Doc") == 0


def test_a_name_with_a_nul_in_another_librarys_table_is_refused_before_it_is_shortened(db):
    frame = Exports(pa.table({"id": ["x"], "text": ["y"], "a\0b": [1]}))
    frame.columns = ["id", "text", "a\0b"]
    with pytest.raises(InvalidInputError, match=r"named 'a\\x00b'; a NUL character"):
        db.ingest(frame, kind="Doc")
    assert db.count("Doc") == 0


def texts_at(*offsets, of="string"):
    """Texts whose offsets another library wrote; pyarrow looks at some when it makes an array."""
    code = {"string": "i", "large_string": "q"}[of]
    places = array(code, [0] * len(offsets))
    data = pa.py_buffer(bytearray(b"abcd"))
    texts = pa.Array.from_buffers(
        getattr(pa, of)(), len(offsets) - 1, [None, pa.py_buffer(places), data]
    )
    places[:] = array(code, offsets)
    return texts


def index_at(place):
    places = array("i", [0, 0])
    indices = pa.Array.from_buffers(pa.int32(), 2, [None, pa.py_buffer(places)])
    dictionary = pa.DictionaryArray.from_arrays(indices, pa.array(["a"]))
    places[1] = place
    return dictionary


ASTRAY = {
    "past the end and back": lambda: texts_at(0, 1 << 30, 4),
    "below the start": lambda: texts_at(0, -(1 << 30), 4),
    "backwards": lambda: texts_at(4, 2, 4),
    "large, past the end and back": lambda: texts_at(0, 1 << 40, 4, of="large_string"),
    "index": lambda: index_at(1 << 30),
}


@pytest.mark.parametrize("exported", [lambda rows: rows, Exports], ids=["Table", "stream"])
@pytest.mark.parametrize("column", ["id", "text", "n"])
@pytest.mark.parametrize("astray", ASTRAY.values(), ids=ASTRAY)
def test_what_leads_outside_of_a_column_is_never_followed(db, astray, column, exported):
    columns = {"id": pa.array(["a", "b"]), "text": pa.array(["x", "y"]), column: astray()}
    rows = pa.table(columns)
    with pytest.raises(InvalidInputError, match=r"begins with row 1 cannot be read: .*not read"):
        db.ingest(exported(rows), kind="Doc")
    assert db.count() == 0


def pieces(broken):
    """Two pieces of 30 rows that can be read, and what comes after them."""
    for first in (0, 30):
        ids = [f"n{n}" for n in range(first, first + 30)]
        yield pa.record_batch({"id": ids, "text": ids})
    yield from broken()


def breaks_off():
    raise OSError("the line is dead")
    yield


def leads_outside():
    yield pa.record_batch({"id": texts_at(0, 1 << 30, 4), "text": pa.array(["x", "y"])})


def has_other_columns():
    yield pa.record_batch({"id": ["a"], "number": [1]})


@pytest.mark.parametrize("broken", [breaks_off, leads_outside, has_other_columns])
@pytest.mark.parametrize("exported", [lambda rows: rows, Exports], ids=["reader", "stream"])
def test_a_stream_that_breaks_says_where_and_all_before_it_is_stored(db, broken, exported):
    def stream():
        schema = pa.schema({"id": pa.string(), "text": pa.string()})
        return exported(pa.RecordBatchReader.from_batches(schema, pieces(broken)))

    db.write(Node("Doc", "old", "text", source_ref="s"))
    says = r"^record 61: the piece of the table that begins with row 61 cannot be read: .* not read"
    with pytest.raises(InvalidInputError, match=f"(?s){says}.*the records before it are stored"):
        db.ingest(stream(), kind="Doc", source_ref="s")
    assert db.count("Doc") == 61

    options = {"kind": "Doc", "source_ref": "s", "prune_source": "s"}
    report = db.ingest(stream(), on_error="collect", **options)
    assert (report.unchanged, report.error_count, report.errors[0].record_number) == (60, 1, 61)
    assert db.get("old") is not None, "what follows was not seen, so nothing is pruned"
