"""Ours, as a store among others."""

from __future__ import annotations

import os
from typing import Any

import fathomdb
from fathomdb import Chunk, Node
from serve import serve

DIMENSION = 384


class Store:
    def __init__(self, folder: str) -> None:
        model = fathomdb.ready_vectors("bench/ready", version="1", dimension=DIMENSION)
        path = os.path.join(folder, "ours.db")
        self.db = fathomdb.open(path, embedder=model, background=False)

    def write(self, ids: list[str], texts: list[str]) -> None:
        """Every chunk is owed its vector from here on: the row of the queue is in the write."""
        receipt = self.db.write(
            Node("Document", key, text=text) for key, text in zip(ids, texts, strict=True)
        )
        assert receipt.enqueued == len(ids)

    def write_with_vectors(self, ids: list[str], texts: list[str], rows: Any) -> None:
        self.db.write(
            Node("Document", key, chunks=[Chunk(text, vector=row)])
            for key, text, row in zip(ids, texts, rows, strict=True)
        )

    def text_search(self, query: str, limit: int) -> list[str]:
        return [hit.node_id for hit in self.db.text_search(query, limit=limit)]

    def vector_search(self, row: Any, limit: int) -> list[str]:
        return [hit.node_id for hit in self.db.raw_vector_search(row, limit=limit)]

    def count(self) -> int:
        return self.db.count("Document")

    def close(self) -> None:
        self.db.close()


if __name__ == "__main__":
    serve(Store)
