"""Chroma: documents with ready vectors, and its graph (HNSW)."""

from __future__ import annotations

from typing import Any

import chromadb
from chromadb.config import Settings

from serve import serve


class Store:
    def __init__(self, folder: str) -> None:
        settings = Settings(anonymized_telemetry=False)
        self.client = chromadb.PersistentClient(folder, settings=settings)
        self.collection = self.client.get_or_create_collection(
            "documents", embedding_function=None, configuration={"hnsw": {"space": "cosine"}}
        )

    def write_with_vectors(self, ids: list[str], texts: list[str], rows: Any) -> None:
        self.collection.add(ids=ids, documents=texts, embeddings=rows)

    def vector_search(self, row: Any, limit: int) -> list[str]:
        found = self.collection.query(
            query_embeddings=[row], n_results=limit, include=["documents"]
        )
        return found["ids"][0]

    def count(self) -> int:
        return self.collection.count()

    def close(self) -> None:
        self.client.close()


if __name__ == "__main__":
    serve(Store)
