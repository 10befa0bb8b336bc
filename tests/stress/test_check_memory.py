"""A check takes no more memory than a page of texts, however long they are."""

from __future__ import annotations

import tracemalloc

from fathomdb import Node
from fathomdb.store import audit
from fathomdb.store.audit import PAGE_CHARS

CHUNKS, CHARS = 60, 1_000_000


def test_a_check_of_long_texts_holds_a_page_of_them_at_most(open_db):
    db = open_db(embedder=False)
    # One word each: FTS5 keeps the beginning of a word that long, and this is about the text.
    for n in range(CHUNKS):
        db.write(Node("Doc", f"d{n}", chunks=[chr(97 + n % 26) * CHARS]))
    tracemalloc.start()
    try:
        report = db.admin.check_integrity()
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert report.ok
    assert report.counts["chunks"] == CHUNKS
    # Two pages, while one takes the place of the other; all of them would be 60 MB.
    assert peak < 3 * PAGE_CHARS, f"{peak / 1e6:.0f} MB"


def test_a_page_ends_where_its_texts_are_long_enough(open_db):
    db = open_db(embedder=False)
    db.write(Node("Doc", f"d{n}", chunks=["x" * (PAGE_CHARS // 2)]) for n in range(5))
    with db._runtime.snapshot() as connection:
        found, damaged = audit._page(connection, 0)
    assert (len(found), damaged) == (2, False)
