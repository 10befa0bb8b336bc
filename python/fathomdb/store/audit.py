"""Audit: everything that must hold in a file, looked at row by row in one read snapshot.

What belongs here: what can be wrong, how it is found, and what it is called. What does not:
gathering and showing it (``admin/integrity.py``), and repairing anything.

Each check is one statement over the rows that break a rule, so a healthy file costs its scans
alone. Only hashes and vectors need more than SQL; these two are read in pages.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import apsw

from fathomdb import _native
from fathomdb.errors import CorruptDatabaseError, InvalidInputError
from fathomdb.store import audit_rules, audit_structure, audit_text, audit_vectors, fts, vectors
from fathomdb.store.audit_rules import INDEX_RULES, RULES
from fathomdb.store.connection import quote
from fathomdb.store.findings import Finding, of_chunk

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from fathomdb.store.findings import Limits
    from fathomdb.store.profiles import Profile

PAGE_ROWS = 4096
"""Texts that are hashed in one call at most: enough for all cores."""
PAGE_CHARS = 8 << 20
"""Characters of these texts at most, so that a check takes tens of megabytes whatever is stored; a
longer text is a page of its own."""

# Damage shows as any of these: a page that is no page, a shadow table that is gone, text that is
# not UTF-8. A full disk, an interrupt or a closed file is not damage and is not caught.
_DAMAGE = (
    apsw.CorruptError,
    apsw.SQLError,
    apsw.IOError,
    apsw.NotADBError,
    CorruptDatabaseError,
    UnicodeDecodeError,
)


def run(db: apsw.Connection, limits: Limits, progress: Callable[[int], None]) -> Iterator[Finding]:
    """Everything that is wrong in the snapshot; ``progress`` hears of each page of rows.

    What cannot be read is a finding itself, and the rest is looked at all the same. What rows stand
    on comes first.
    """
    without = [*_reading("engine_state", audit_structure.engine_state(db))]
    if without:
        yield from without
        return  # every other rule compares with that row
    yield from _reading("sqlite_master", audit_structure.objects(db))
    yield from _reading("engine_state", audit_structure.vector_commits(db))
    yield from _reading("vector_embedding_profiles", audit_structure.identities(db))
    for rule in INDEX_RULES:
        yield from _reading(rule.table, rule.apply(db))
    tables: list[tuple[str, Profile]] = []
    yield from _reading("vector_index_schemas", audit_structure.vector_tables(db, tables))
    yield from _reading(fts.MAIN, audit_text.settings(db))
    yield from _reading("engine_state", audit_text.rebuilding(db))
    for rule in RULES:
        # A statement without parameters is not given any: APSW would count them.
        named = limits.named() if ":" in rule.sql else ()
        yield from _reading(rule.table, rule.apply(db, named))
    yield from _reading(fts.MAIN, audit_text.rows(db))
    yield from _reading("chunks", _hashes(db, progress))
    for kind, profile in tables:
        table = vectors.table_name(kind, profile.profile_id)
        yield from _reading(table, audit_vectors.ledger(db, kind, profile.profile_id))
        yield from _reading(table, audit_vectors.values(db, table, profile, progress))
    yield from _reading("vector_cache", audit_vectors.cached(db))


_COUNTED = {
    "nodes": "nodes WHERE superseded_cursor IS NULL",
    "superseded": "nodes WHERE superseded_cursor IS NOT NULL",
    "chunks": "chunks",
    "text_rows": quote(fts.MAIN + "_docsize"),
    "vectors": "vector_ledger",
    "work": "vector_projection_work WHERE state <> 'failed'",
    "failed_work": "vector_projection_work WHERE state = 'failed'",
}


def count(db: apsw.Connection) -> dict[str, int]:
    """Rows by what they are, as the snapshot has them."""
    return {name: _count(db, rows) for name, rows in _COUNTED.items()}


def count_readable(db: apsw.Connection) -> dict[str, int]:
    """The same for a file that may be damaged: 0 where rows cannot be counted."""
    counts = {}
    for name, rows in _COUNTED.items():
        try:
            counts[name] = _count(db, rows)
        except _DAMAGE:
            counts[name] = 0  # what is damaged there is a finding of ``run``
    return counts


def _count(db: apsw.Connection, rows: str) -> int:
    return int(db.execute(f"SELECT count(*) FROM {rows}").get)


def _reading(table: str, findings: Iterable[Finding]) -> Iterator[Finding]:
    try:
        yield from findings
    except _DAMAGE as error:
        yield Finding(
            "unreadable",
            table,
            f"reading {table} failed: {type(error).__name__}: {error}; what follows the damage "
            "was not checked",
        )


# --- SQLite's own checks --------------------------------------------------------------------------


def sqlite(db: apsw.Connection) -> Iterator[Finding]:
    """What SQLite finds by itself: pages, indexes, constraints, foreign keys.

    Constraints only on a connection from ``open_checker``.
    """
    yield from _reading("sqlite_master", _sqlite(db))


def _sqlite(db: apsw.Connection) -> Iterator[Finding]:
    # FTS5 checks with what this connection last read of its index, which may be older than the
    # snapshot (seen in 3.54: corruption where there is none). Opening a cursor makes it look again;
    # that it looks at the same commit as the check, the caller's transaction sees to.
    for index in (fts.MAIN, fts.NEXT):
        if fts.exists(db, index):
            db.execute(f"SELECT rowid FROM {quote(index)} LIMIT 1").fetchall()
    # The full check, not the quick one: it compares every index with its table.
    for (said,) in db.execute("PRAGMA integrity_check"):
        if said != "ok":
            yield Finding("sqlite", "sqlite_master", f"SQLite says: {said}")
    for table, key, parent, _ in db.execute("PRAGMA foreign_key_check"):
        yield Finding(
            "foreign_key",
            table,
            f"{'a row' if key is None else f'row {key}'} of {table} refers to a row of {parent} "
            "that is gone",
            key,
        )


# --- the queue ------------------------------------------------------------------------------------


def has_inflight(db: apsw.Connection) -> bool:
    """Whether anything is claimed, by whomever."""
    try:
        return next(inflight(db), None) is not None
    except _DAMAGE:
        return False  # what is damaged there is a finding of ``run``


def inflight(db: apsw.Connection) -> Iterator[Finding]:
    """All that is claimed, as stuck: whoever asks knows that nobody works on it."""
    return audit_rules.INFLIGHT.apply(db)


# --- hashes ---------------------------------------------------------------------------------------


def _hashes(db: apsw.Connection, progress: Callable[[int], None]) -> Iterator[Finding]:
    after: int | None = -(1 << 63)
    while after is not None:
        rows, damaged = _page(db, after)
        try:
            wrong = [*_wrong_hashes(db, rows)] if rows else []
        except InvalidInputError:
            wrong = [finding for row in rows for finding in _one_by_one(db, row)]
        yield from wrong
        progress(len(rows))
        if rows:
            after = rows[-1][0]
        if damaged:
            # One text that is no text must not hide those behind it.
            row: Any = db.execute(
                "SELECT chunk_key, chunk_id, CAST(text AS BLOB), canonical_hash FROM chunks "
                "WHERE chunk_key > ? ORDER BY chunk_key LIMIT 1",
                (after,),
            ).fetchone()
            yield from _one_by_one(db, row)
            progress(1)
            after = row[0]
        elif not rows:
            after = None


def _page(db: apsw.Connection, after: int) -> tuple[list[Any], bool]:
    """The next chunks, at most PAGE_ROWS and PAGE_CHARS; True where the next one is not text."""
    found: list[Any] = []
    chars = 0
    rows = db.execute(
        "SELECT chunk_key, chunk_id, text, canonical_hash FROM chunks "
        "WHERE chunk_key > ? ORDER BY chunk_key LIMIT ?",
        (after, PAGE_ROWS),
    )
    try:
        for row in rows:
            found.append(row)
            chars += len(row[2])
            if chars >= PAGE_CHARS:
                break
    except UnicodeDecodeError:
        return found, True
    return found, False


def _wrong_hashes(db: apsw.Connection, rows: Sequence[Any]) -> Iterator[Finding]:
    chunk_keys, ids, texts, expected = zip(*rows, strict=True)
    differing, contents = _native.verify_chunk_hashes(ids, texts, expected, content=True)
    for n in differing:
        yield of_chunk(
            db,
            "chunk_hash",
            "chunks",
            "the text of chunk {chunk} is not the text that was written: its hash differs",
            chunk_keys[n],
        )
    # A chunk's own hash holds for its vector too; what is left is the hash that reuse looks up.
    wrong = set(differing)
    content_of = {
        key: content
        for n, (key, content) in enumerate(zip(chunk_keys, contents, strict=True))
        if n not in wrong
    }
    for key, content in db.execute(
        "SELECT l.chunk_key, l.content_hash FROM vector_ledger AS l JOIN chunks AS c "
        "ON c.chunk_key = l.chunk_key AND c.canonical_hash = l.canonical_hash "
        "WHERE l.chunk_key BETWEEN ? AND ?",
        (chunk_keys[0], chunk_keys[-1]),
    ):
        if content_of.get(key, content) != content:
            yield of_chunk(
                db,
                "ledger_content",
                "vector_ledger",
                "the vector of chunk {chunk} would be reused for a text that the chunk does not have",
                key,
            )


def _one_by_one(db: apsw.Connection, row: Sequence[Any]) -> list[Finding]:
    key, chunk_id, text, expected = row
    try:
        decoded = text.decode() if isinstance(text, bytes) else text
        return [*_wrong_hashes(db, [(key, chunk_id, decoded, expected)])]
    except (UnicodeDecodeError, InvalidInputError) as error:
        return [
            of_chunk(db, "chunk_text", "chunks", f"chunk {{chunk}} cannot be hashed: {error}", key)
        ]
