"""FathomDB 0.5.5 in an environment of its own, since it has the same import name.

Run by that environment's Python: reads ``{"path", "texts", "batch"}`` as a line of JSON, writes the
texts through the wheel's own builder, checks that they are found, and prints the seconds.
"""

from __future__ import annotations

import json
import sys
import time

from fathomdb import Engine, WriteRequestBuilder, new_row_id


def write(engine: Engine, texts: list[str], batch: int) -> float:
    start = time.perf_counter()
    for first in range(0, len(texts), batch):
        builder = WriteRequestBuilder("bench")
        for n, text in enumerate(texts[first : first + batch], first):
            node = builder.add_node(
                row_id=new_row_id(),
                logical_id=f"document-{n}",
                kind="Document",
                properties={},
                source_ref="bench",
            )
            builder.add_chunk(id=f"document-{n}#0", node=node, text_content=text)
        engine.write(builder.build())
    return time.perf_counter() - start


def main() -> None:
    for line in sys.stdin:
        job = json.loads(line)
        engine = Engine.open(job["path"])
        seconds = write(engine, job["texts"], job["batch"])
        found = engine.nodes("Document").text_search(job["query"], 10).execute()
        hits = [hit.node.logical_id for hit in found.hits]
        engine.close()
        print(json.dumps({"seconds": seconds, "hits": hits}), flush=True)


if __name__ == "__main__":
    main()
