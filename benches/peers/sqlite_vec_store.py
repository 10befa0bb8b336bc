"""sqlite-vec alone: a table of texts and a vec0 table as its documentation makes one."""

from __future__ import annotations

import os
from typing import Any

import apsw
import sqlite_vec

from serve import serve

DIMENSION = 384


class Store:
    def __init__(self, folder: str) -> None:
        self.db = apsw.Connection(os.path.join(folder, "theirs.db"))
        self.db.enable_load_extension(True)
        self.db.load_extension(sqlite_vec.loadable_path())
        self.db.pragma("journal_mode", "wal")
        self.db.pragma("synchronous", "full")
        self.db.execute(
            "CREATE TABLE IF NOT EXISTS texts (key INTEGER PRIMARY KEY, id UNIQUE, text);"
            "CREATE VIRTUAL TABLE IF NOT EXISTS vectors USING vec0("
            f"key INTEGER PRIMARY KEY, embedding float[{DIMENSION}] distance_metric=cosine)"
        )

    def write_with_vectors(self, ids: list[str], texts: list[str], rows: Any) -> None:
        first = self.count()
        blobs = [row.tobytes() for row in rows]
        with self.db:
            self.db.executemany(
                "INSERT INTO texts VALUES (?, ?, ?)",
                ((first + n, *row) for n, row in enumerate(zip(ids, texts, strict=True))),
            )
            self.db.executemany(
                "INSERT INTO vectors VALUES (?, ?)",
                ((first + n, blob) for n, blob in enumerate(blobs)),
            )

    def vector_search(self, row: Any, limit: int) -> list[str]:
        found = self.db.execute(
            "SELECT id, text FROM (SELECT key, distance FROM vectors WHERE embedding MATCH ? "
            "AND k = ?) JOIN texts USING (key) ORDER BY distance",
            (row.tobytes(), limit),
        )
        return [row[0] for row in found]

    def count(self) -> int:
        return self.db.execute("SELECT max(key) + 1 FROM texts").fetchone()[0] or 0

    def close(self) -> None:
        self.db.close()


if __name__ == "__main__":
    serve(Store)
