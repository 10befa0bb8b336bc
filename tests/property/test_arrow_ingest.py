"""A table of Arrow is ingested as its rows are: the same records, to the byte, and the same errors."""

from __future__ import annotations

import datetime as dt
import decimal
import random

import pytest

import fathomdb
import inside
from fathomdb import EngineConfig
from fathomdb.testing import DeterministicEmbedder

pa = pytest.importorskip("pyarrow")

DIMENSION, BATCH = 4, 16
PIECES = [
    "a",
    "Zürich ",
    "😀",
    '"',
    "\\",
    "\n",
    "\t",
    "\x00",
    "\x1c",
    "\x7f",
    "\u2028",
    " ",
    "\u3000",
]
FLOATS = [0.0, -0.0, 1.0, 1e15, 1e16, 1.5e300, 5e-324, 1e-4, 1e-5, 0.1, -123.456, 1 / 3, 2.0**53]


class Tables:
    """Random tables, whose columns are of any type and now and then hold what cannot be stored."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)

    def text(self, most: int = 12) -> str:
        return "".join(self.rng.choices(PIECES, k=self.rng.randint(0, most)))

    def gaps(self, make, count, share=0.2):
        return [None if self.rng.random() < share else make() for _ in range(count)]

    def strings(self, values):
        """Texts in any of the ways that Arrow has for them."""
        how = self.rng.randrange(5)
        if how == 4:
            return pa.array(values, pa.string()).dictionary_encode()
        kinds = [pa.string(), pa.large_string(), pa.string(), pa.string_view()]
        return pa.array(values, pa.string()).cast(kinds[how])

    def ids(self, count):
        if self.rng.random() < 0.3:
            of = self.rng.choice([pa.int8(), pa.int32(), pa.uint64(), pa.int64()])
            return pa.array([*range(count)], of)
        ids = [f"node {self.text(3)} {n}".replace("\x00", "") for n in range(count)]
        for bad in ("", "nul\x00", None, ids[0], "long" * 300):
            if self.rng.random() < 0.1:
                ids[self.rng.randrange(count)] = bad
        return self.strings(ids)

    def property(self, count):
        rng = self.rng
        whole = rng.choice([pa.int8(), pa.uint16(), pa.int64(), pa.uint64()])
        options = [
            lambda: pa.array(self.gaps(lambda: rng.randint(0, 100), count), whole),
            lambda: pa.array(self.gaps(lambda: rng.choice(FLOATS), count), pa.float64()),
            lambda: pa.array(self.gaps(rng.random, count), pa.float32()),
            lambda: pa.array(self.gaps(lambda: rng.random() < 0.5, count), pa.bool_()),
            lambda: pa.nulls(count),
            lambda: self.strings(self.gaps(self.text, count)),
            lambda: pa.array(self.gaps(lambda: {"a": self.text(), "b": [1.5, None]}, count)),
            lambda: pa.array(self.gaps(lambda: [self.text(2)] * rng.randint(0, 3), count)),
            lambda: pa.array(
                self.gaps(lambda: [("k", 1)], count), pa.map_(pa.string(), pa.int32())
            ),
        ]
        if rng.random() < 0.15:  # what JSON cannot say, in some rows
            day = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
            bad = rng.choice([day, decimal.Decimal("1.5"), b"bytes", float("nan")])
            return pa.array(self.gaps(lambda: bad, count, share=0.9))
        return rng.choice(options)()

    def vectors(self, count):
        def vector():
            values = [self.rng.uniform(-1, 1) for _ in range(DIMENSION)]
            if self.rng.random() < 0.01:
                values[1] = float("nan")
            return values

        item = self.rng.choice([pa.float32(), pa.float64()])
        of = self.rng.choice([pa.list_(item, DIMENSION), pa.list_(item), pa.large_list(item)])
        return pa.array(self.gaps(vector, count), of)

    def table(self, *, vectors: bool):
        count = self.rng.randint(1, 60)
        columns = {
            "id": self.ids(count),
            "text": self.strings(self.gaps(lambda: self.text(40), count)),
            "more": self.strings(self.gaps(self.text, count)),
        }
        for n in range(self.rng.randint(0, 4)):
            columns[f'p{n}"'] = self.property(count)
        if vectors:
            columns["embedding"] = self.vectors(count)
        table = pa.table(columns)
        first = self.rng.randint(0, count - 1)
        table = table.slice(first)  # an offset that is not 0
        cuts = sorted(self.rng.randint(0, len(table)) for _ in range(self.rng.randint(0, 3)))
        pieces = [
            table.slice(a, b - a) for a, b in zip([0, *cuts], [*cuts, len(table)], strict=True)
        ]
        return pa.concat_tables(pieces)


def ingested(path, records, options):
    """All that is in a database after an ingest, and what the report says of records."""
    config = EngineConfig(chunk_chars=30)
    embedder = DeterministicEmbedder(DIMENSION)
    with fathomdb.open(path, embedder=embedder, background=False, config=config) as db:
        report = db.ingest(records, kind="Row", batch_size=BATCH, on_error="collect", **options)
        again = db.ingest(records, kind="Row", batch_size=BATCH, on_error="collect", **options)
        db.admin.drain_vector_projection(timeout=60)
        assert db.admin.check_integrity().ok
        with inside.snapshot(db) as connection:
            nodes = [
                *connection.execute(
                    "SELECT logical_id, kind, properties, source_ref, split FROM nodes "
                    "WHERE superseded_cursor IS NULL ORDER BY logical_id"
                )
            ]
            chunks = [
                *connection.execute(
                    "SELECT chunk_id, ordinal, text, byte_start, byte_end, canonical_hash "
                    "FROM chunks ORDER BY chunk_id"
                )
            ]
        digest = db.admin.projection_digest("Row") if nodes else None
    return {
        "nodes": nodes,
        "chunks": chunks,
        "digest": digest,
        "errors": report.errors,
        "records": report.records,
        "kept": report.written + report.unchanged + report.duplicates,
        "without text": report.without_text,
        "again": (again.errors, again.chunks == 0 or report.duplicates > 0),
    }


@pytest.mark.parametrize("seed", range(60))
def test_a_table_is_ingested_as_its_rows_are(tmp_path, seed):
    tables = Tables(seed)
    with_vectors = seed % 3 == 0
    table = tables.table(vectors=with_vectors)
    options = tables.rng.choice(
        [
            {"source_ref": "s"},
            {"text": ["text", "more"]},
            {"id": None},
            {"id": ["id", "more"], "properties": ['p1"', "more", "none"]},
            {"properties": []},
        ]
    )
    if with_vectors:
        options["vector"] = "embedding"

    by_column = ingested(tmp_path / "columns.db", table, options)
    by_row = ingested(tmp_path / "rows.db", table.to_pylist(), options)

    assert by_column == by_row
