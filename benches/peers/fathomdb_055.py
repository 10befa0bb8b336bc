"""FathomDB 0.5.5, written through its own builder."""

from __future__ import annotations

import os

from fathomdb import Engine, WriteRequestBuilder, new_row_id

from serve import serve

MANY = 10_000_000


class Store:
    def __init__(self, folder: str) -> None:
        self.engine = Engine.open(os.path.join(folder, "theirs.db"))

    def write(self, ids: list[str], texts: list[str]) -> None:
        builder = WriteRequestBuilder("bench")
        for key, text in zip(ids, texts, strict=True):
            node = builder.add_node(
                row_id=new_row_id(),
                logical_id=key,
                kind="Document",
                properties={},
                source_ref="bench",
            )
            builder.add_chunk(id=f"{key}#0", node=node, text_content=text)
        self.engine.write(builder.build())

    def text_search(self, query: str, limit: int) -> list[str]:
        found = self.engine.nodes("Document").text_search(query, limit).execute()
        return [hit.node.logical_id for hit in found.hits]

    def count(self) -> int:
        return len(self.engine.nodes("Document").limit(MANY).execute().nodes)

    def close(self) -> None:
        self.engine.close()


if __name__ == "__main__":
    serve(Store)
