"""FathomDB 0.8: a node with its body is the record and the text."""

from __future__ import annotations

import os

from fathomdb import Engine, read

from serve import serve

MANY = 10_000_000


class Store:
    def __init__(self, folder: str) -> None:
        self.engine = Engine.open(os.path.join(folder, "theirs.db"))

    def write(self, ids: list[str], texts: list[str]) -> None:
        self.engine.write(
            [
                {"kind": "doc", "body": text, "source_id": "bench", "logical_id": key}
                for key, text in zip(ids, texts, strict=True)
            ]
        )

    def text_search(self, query: str, limit: int) -> list[str]:
        return [hit.id.value for hit in self.engine.search_text_only(query, limit=limit).results]

    def count(self) -> int:
        return len(read.list(self.engine, "doc", limit=MANY))

    def close(self) -> None:
        self.engine.close()


if __name__ == "__main__":
    serve(Store)
