"""LanceDB: a table of texts and ready vectors, compared one by one; its full text is built apart."""

from __future__ import annotations

from typing import Any

import lancedb
import pyarrow as pa
from lancedb.index import FTS

from serve import serve

DIMENSION = 384
SCHEMA = pa.schema(
    [
        ("id", pa.string()),
        ("text", pa.string()),
        ("vector", pa.list_(pa.float32(), DIMENSION)),
    ]
)


class Store:
    def __init__(self, folder: str) -> None:
        self.table = lancedb.connect(folder).create_table("documents", schema=SCHEMA, exist_ok=True)

    def write_with_vectors(self, ids: list[str], texts: list[str], rows: Any) -> None:
        vectors = pa.FixedSizeListArray.from_arrays(pa.array(rows.ravel()), DIMENSION)
        self.table.add(pa.table([ids, texts, vectors], schema=SCHEMA))

    def prepare_search(self, by_text: bool) -> None:
        if by_text and not self.table.list_indices():
            self.table.create_index("text", config=FTS())

    def text_search(self, query: str, limit: int) -> list[str]:
        search = self.table.search(query, query_type="fts").select(["id", "text", "_score"])
        return search.limit(limit).to_arrow()["id"].to_pylist()

    def vector_search(self, row: Any, limit: int) -> list[str]:
        search = self.table.search(row).distance_type("cosine").select(["id", "text", "_distance"])
        return search.limit(limit).to_arrow()["id"].to_pylist()

    def count(self) -> int:
        return self.table.count_rows()

    def close(self) -> None:
        pass


if __name__ == "__main__":
    serve(Store)
