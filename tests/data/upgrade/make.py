"""Makes the small file of the current schema version that ``tests/upgrade`` opens ever after.

Run it once with the code of a new schema version, before a release has it::

    python tests/data/upgrade/make.py

It writes ``v<version>.db.gz`` (most of a small database is empty pages) and ``v<version>.json``, which
has every row and answer of that file. It overwrites neither: what an old version made cannot be made
again by a newer one.
"""

from __future__ import annotations

import gzip
import json
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import fathomdb
from fathomdb import Chunk, EngineConfig, Node
from fathomdb.store.connection import open_reader
from fathomdb.store.schema import SCHEMA_VERSION
from fathomdb.testing import DeterministicEmbedder, Fault, FlakyEmbedder, ManualClock

if TYPE_CHECKING:
    from fathomdb.store.connection import Connection

HERE = Path(__file__).resolve().parent
# What the file must still answer after an upgrade.
QUERIES = ("The lighthouse keeper rows", "harbour", "number 7")


def embedder() -> DeterministicEmbedder:
    """The model of the file: what opens it to search must be the same."""
    return DeterministicEmbedder(dimension=16)


def fill(path: Path) -> None:
    """Two indexed kinds and one that is not; versions, sources, failed and pending work."""
    failing = FlakyEmbedder(embedder(), [Fault("zero", texts="poison")])
    config = EngineConfig(chunk_chars=120, clock=ManualClock(1_700_000_000.0))
    with fathomdb.open(
        path,
        embedder=failing,
        index_kinds=["Document", "Note"],
        background=False,
        config=config,
    ) as db:
        db.write(
            Node(
                "Document",
                f"doc-{n}",
                f"Document number {n} tells of a harbour.",
                {"n": n, "lang": "de" if n % 2 else "en", "nested": {"deep": [n, None, "é"]}},
                source_ref=f"shelf-{n % 3}",
            )
            for n in range(12)
        )
        db.write(
            Node("Note", "long", "The lighthouse keeper rows out at dawn. " * 12, {"kept": True})
        )
        db.write(Node("Note", "cut", chunks=[Chunk("first piece", "mine-1"), "second piece"]))
        db.write(Node("Note", "bare", None, {"only": "properties"}))
        db.write(Node("Log", "log-1", "A harbour in a kind without vectors", source_ref="shelf-0"))
        db.write(Node("Note", "bad", "poison in the harbour", source_ref="shelf-1"))
        db.admin.drain_vector_projection()
        db.write(Node("Document", "doc-1", "Document number 1, rewritten.", {"n": 1.5}))
        db.patch("doc-2", {"lang": "fr", "added": "later"})
        db.write(Node("Note", "doc-3", "Document number 3 became a note.", source_ref="shelf-9"))
        db.write(retire=["doc-4", "doc-5"])
        db.admin.drain_vector_projection()
        db.write(Node("Document", "new", "Written last, its vector is owed: number 7 again."))


def rows(db: Connection) -> dict[str, list[dict[str, Any]]]:
    """Every row of our tables and of the vector tables, by table; bytes as hex."""
    tables = [
        name
        for (name,) in db.execute(
            "SELECT name FROM sqlite_master WHERE type = 'table' AND (sql LIKE '%USING vec0%' "
            "OR name NOT LIKE 'vec\\_%\\_p%' ESCAPE '\\') ORDER BY name"
        )
        if not name.startswith(("chunks_fts", "engine_", "sqlite_"))
    ]
    found: dict[str, list[dict[str, Any]]] = {}
    for table in tables:
        cursor = db.execute(f'SELECT * FROM "{table}"')
        found[table] = []
        for row in cursor:
            names = [column[0] for column in cursor.get_description()]
            values = (value.hex() if isinstance(value, bytes) else value for value in row)
            found[table].append(dict(zip(names, values, strict=True)))
    return found


def answers(db: fathomdb.Engine) -> dict[str, Any]:
    """What the file says when it is asked."""
    return {
        "cursor": db.admin.status().cursor,
        "digests": {kind: db.admin.projection_digest(kind) for kind in ("Document", "Note")},
        "by_words": {
            query: sorted(hit.chunk_id for hit in db.text_search(query, limit=100))
            for query in QUERIES
        },
        "nearest": {query: db.semantic_search(query)[0].chunk_id for query in QUERIES},
        "failed": [(row.chunk_id, row.cause) for row in db.admin.failed_work()],
    }


def main() -> int:
    """Makes both files; 1 where they are there."""
    target, told = HERE / f"v{SCHEMA_VERSION}.db.gz", HERE / f"v{SCHEMA_VERSION}.json"
    if target.exists() or told.exists():
        sys.stderr.write(f"{target} is there, and is never made again\n")
        return 1
    with tempfile.TemporaryDirectory() as folder:
        made = Path(folder) / "made.db"
        fill(made)
        reader = open_reader(str(made), cache_mib=1)
        expected: dict[str, Any] = {"rows": rows(reader)}
        reader.close()
        with fathomdb.open(made, embedder=embedder(), read_only=True) as db:
            expected["answers"] = answers(db)
        target.write_bytes(gzip.compress(made.read_bytes(), mtime=0))
    told.write_text(json.dumps(expected, indent=1, ensure_ascii=False, sort_keys=True) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
