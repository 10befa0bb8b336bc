"""Audit of the full-text index: which chunks it has, its settings, and a rebuild half way.

A part of ``store/audit.py``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fathomdb.store import fts
from fathomdb.store.connection import quote
from fathomdb.store.findings import Finding, Rule

if TYPE_CHECKING:
    from collections.abc import Iterator

    import apsw


def settings(db: apsw.Connection) -> Iterator[Finding]:
    """Settings that the index was made with and does not have: without secure-delete, words stay."""
    found = dict(db.execute(f"SELECT k, v FROM {quote(fts.MAIN + '_config')}"))
    for name, value in fts.SETTINGS.items():
        if found.get(name) != value:
            yield Finding(
                "text_settings",
                fts.MAIN,
                f"the full-text index has {name} {found.get(name)!r} and was made with {value}",
            )


def rebuilding(db: apsw.Connection) -> Iterator[Finding]:
    """A second index that nothing speaks of, or one that is spoken of and is not there."""
    target, there = fts.rebuild_target(db), fts.exists(db, fts.NEXT)
    if target is None and there:
        said = f"{fts.NEXT} is there and no rebuild is under way"
    elif target is not None and not there:
        said = f"a rebuild of the full-text index is under way and {fts.NEXT} is not there"
    else:
        return
    yield Finding("text_rebuild", "engine_state", said)


def rows(db: apsw.Connection) -> Iterator[Finding]:
    """Chunks that an index does not have, and rows of it without a chunk."""
    yield from _rows_of(db, fts.MAIN, None)
    target = fts.rebuild_target(db)
    if target is not None and fts.exists(db, fts.NEXT):
        yield from _rows_of(db, fts.NEXT, target[1])


def _rows_of(db: apsw.Connection, index: str, upto: int | None) -> Iterator[Finding]:
    """Chunks without a row in an index, and rows without a chunk; ``upto`` of one half built."""
    docsize = quote(index + "_docsize")
    last = (1 << 63) - 1 if upto is None else upto
    yield from Rule(
        "text_row_missing",
        index,
        "chunk {chunk} is not in the full-text index",
        "SELECT c.chunk_key, c.chunk_id, n.logical_id, NULL FROM chunks AS c "
        "LEFT JOIN nodes AS n USING (node_key) WHERE c.chunk_key <= ? "
        f"AND NOT EXISTS (SELECT 1 FROM {docsize} AS d WHERE d.id = c.chunk_key)",
    ).apply(db, (last,))
    yield from Rule(
        "text_row_orphaned",
        index,
        "the full-text index has a row {key} and there is no such chunk",
        f"SELECT d.id, NULL, NULL, NULL FROM {docsize} AS d WHERE d.id > ? "
        "OR NOT EXISTS (SELECT 1 FROM chunks AS c WHERE c.chunk_key = d.id)",
    ).apply(db, (last,))


def words(db: apsw.Connection) -> Finding | None:
    """What FTS5 finds when it compares every word with the chunks; needs the write connection."""
    said = fts.integrity_check(db)
    if said is None:
        return None
    return Finding(
        "text_index", fts.MAIN, f"the full-text index does not have the words of the chunks: {said}"
    )
