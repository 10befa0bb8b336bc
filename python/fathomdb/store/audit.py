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
from fathomdb.errors import InvalidInputError
from fathomdb.store import audit_vectors, fts, vectors
from fathomdb.store.connection import only_row, quote
from fathomdb.store.findings import Finding, Rule, of_chunk

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from fathomdb.store.profiles import Profile

PAGE_ROWS = 4096
"""Texts that are hashed in one call: enough for all cores, a few megabytes of memory."""

# Damage shows as any of these: a page that is no page, a shadow table that is gone, text that is
# not UTF-8. A full disk, an interrupt or a closed file is not damage and is not caught.
_DAMAGE = (apsw.CorruptError, apsw.SQLError, apsw.IOError, apsw.NotADBError, UnicodeDecodeError)


def run(db: apsw.Connection, progress: Callable[[int], None]) -> Iterator[Finding]:
    """Everything that is wrong in the snapshot; ``progress`` hears of each page of rows.

    What cannot be read is a finding itself, and the rest is looked at all the same.
    """
    for rule in RULES:
        yield from _reading(rule.table, rule.apply(db))
    yield from _reading(fts.MAIN, _text_rows(db))
    yield from _reading("chunks", _hashes(db, progress))
    tables: list[tuple[str, Profile]] = []
    yield from _reading("vector_index_schemas", audit_vectors.tables(db, tables))
    for kind, profile in tables:
        table = vectors.table_name(kind, profile.profile_id)
        yield from _reading(table, audit_vectors.ledger(db, kind, profile.profile_id))
        yield from _reading(table, audit_vectors.values(db, table, profile, progress))


def count(db: apsw.Connection) -> dict[str, int]:
    """Rows by what they are, as the snapshot has them."""
    row = only_row(
        db.execute(
            "SELECT (SELECT count(*) FROM nodes WHERE superseded_cursor IS NULL), "
            "(SELECT count(*) FROM nodes WHERE superseded_cursor IS NOT NULL), "
            "(SELECT count(*) FROM chunks), "
            f"(SELECT count(*) FROM {quote(fts.MAIN + '_docsize')}), "
            "(SELECT count(*) FROM vector_ledger), "
            "(SELECT count(*) FROM vector_projection_work WHERE state <> 'failed'), "
            "(SELECT count(*) FROM vector_projection_work WHERE state = 'failed')"
        )
    )
    names = ("nodes", "superseded", "chunks", "text_rows", "vectors", "work", "failed_work")
    return dict(zip(names, row, strict=True))


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
    for index in (fts.MAIN, *([fts.NEXT] if fts.rebuild_target(db) is not None else [])):
        db.execute(f"SELECT rowid FROM {quote(index)} LIMIT 1").fetchall()
    # The full check, not the quick one: it compares every index with its table.
    for (said,) in db.execute("PRAGMA integrity_check"):
        if said != "ok":
            yield Finding("sqlite", "sqlite_master", f"SQLite says: {said}")
    for table, key, parent, _ in db.execute("PRAGMA foreign_key_check"):
        yield Finding(
            "foreign_key",
            table,
            f"row {key} of {table} refers to a row of {parent} that is gone",
            key,
        )


# --- rules that are one statement -----------------------------------------------------------------


_OF_WORK = (
    "FROM vector_projection_work AS w JOIN chunks AS c USING (chunk_key) "
    "JOIN nodes AS n USING (node_key) "
)
_OF_LEDGER = (
    "FROM vector_ledger AS l JOIN chunks AS c USING (chunk_key) JOIN nodes AS n USING (node_key) "
)

RULES: tuple[Rule, ...] = (
    Rule(
        "node_cursor",
        "nodes",
        "a version of node {node} has the commits {detail}, which cannot be",
        "SELECT node_key, NULL, logical_id, "
        "written_cursor || ' to ' || coalesce(superseded_cursor, 'now') FROM nodes "
        "WHERE max(written_cursor, coalesce(superseded_cursor, 0)) > "
        "(SELECT cursor FROM engine_state) OR superseded_cursor < written_cursor",
    ),
    Rule(
        "chunk_without_live_node",
        "chunks",
        "chunk {chunk} belongs to a version of node {node} that ended at commit {detail}",
        "SELECT c.chunk_key, c.chunk_id, n.logical_id, n.superseded_cursor "
        "FROM nodes AS n JOIN chunks AS c USING (node_key) WHERE n.superseded_cursor IS NOT NULL",
    ),
    Rule(
        "chunk_order",
        "chunks",
        "the chunks of node {node} are not numbered from 0 without a gap ({detail})",
        "SELECT n.node_key, NULL, n.logical_id, found.detail FROM (SELECT node_key, count(*) || "
        "' chunks, the last is ' || max(ordinal) AS detail FROM chunks GROUP BY node_key "
        "HAVING max(ordinal) <> count(*) - 1 OR count(DISTINCT ordinal) <> count(*)) AS found "
        "JOIN nodes AS n USING (node_key)",
    ),
    Rule(
        "chunk_offsets",
        "chunks",
        "chunk {chunk} says that it is bytes {detail} of its node's text, which it is not",
        "SELECT p.chunk_key, p.chunk_id, n.logical_id, "
        "coalesce(p.byte_start, 'none') || ' to ' || coalesce(p.byte_end, 'none') "
        "FROM (SELECT chunk_key, chunk_id, node_key, byte_start, byte_end, octet_length(text) "
        "AS size, lag(byte_end, 1, 0) OVER (PARTITION BY node_key ORDER BY ordinal) AS begins "
        "FROM chunks) AS p JOIN nodes AS n USING (node_key) WHERE CASE n.split WHEN 1 "
        "THEN p.byte_start IS NOT p.begins OR p.byte_end IS NOT p.byte_start + p.size "
        "ELSE p.byte_start IS NOT NULL OR p.byte_end IS NOT NULL END",
    ),
    Rule(
        "index_profile",
        "vector_index_schemas",
        "the vector index of kind {detail} is enabled under a profile that is not active",
        "SELECT NULL, NULL, NULL, s.kind FROM vector_index_schemas AS s "
        "LEFT JOIN vector_embedding_profiles AS p USING (profile_id) "
        "WHERE s.enabled = 1 AND p.state IS NOT 'active'",
    ),
    Rule(
        "vector_not_owed",
        "vector_projection_work",
        "chunk {chunk} has neither a vector nor work, and its kind {detail} is indexed",
        "SELECT c.chunk_key, c.chunk_id, n.logical_id, n.kind FROM vector_index_schemas AS s "
        "JOIN nodes AS n ON n.kind = s.kind AND n.superseded_cursor IS NULL "
        "JOIN chunks AS c USING (node_key) WHERE s.enabled = 1 AND s.profile_id IS NOT NULL "
        "AND NOT EXISTS (SELECT 1 FROM vector_ledger AS l WHERE l.chunk_key = c.chunk_key "
        "AND l.profile_id = s.profile_id) AND NOT EXISTS (SELECT 1 FROM vector_projection_work "
        "AS w WHERE w.chunk_key = c.chunk_key AND w.profile_id = s.profile_id)",
    ),
    Rule(
        "work_hash",
        "vector_projection_work",
        "the work of chunk {chunk} asks for another text than the chunk has",
        f"SELECT w.work_id, c.chunk_id, n.logical_id, NULL {_OF_WORK}"
        "WHERE w.canonical_hash <> c.canonical_hash",
    ),
    Rule(
        "work_kind",
        "vector_projection_work",
        "the work of chunk {chunk} is of kind {detail}, its node is not",
        f"SELECT w.work_id, c.chunk_id, n.logical_id, w.kind {_OF_WORK}WHERE w.kind <> n.kind",
    ),
    Rule(
        "work_not_wanted",
        "vector_projection_work",
        "chunk {chunk} has work under profile {detail}, and its kind is not indexed under it",
        f"SELECT w.work_id, c.chunk_id, n.logical_id, w.profile_id {_OF_WORK}"
        "WHERE NOT EXISTS (SELECT 1 FROM vector_index_schemas AS s WHERE s.kind = n.kind "
        "AND s.enabled = 1 AND s.profile_id = w.profile_id)",
    ),
    Rule(
        "work_fence",
        "vector_projection_work",
        "the work of chunk {chunk} has the fence {detail}, which was never given out",
        f"SELECT w.work_id, c.chunk_id, n.logical_id, w.fence {_OF_WORK}"
        "WHERE w.fence > (SELECT fence FROM engine_state)",
    ),
    Rule(
        # A process that was killed leaves its id behind, and the next open takes its rows over;
        # one that closed in order leaves neither.
        "work_stuck",
        "vector_projection_work",
        "the work of chunk {chunk} is inflight and no process has the file open for writing",
        f"SELECT w.work_id, c.chunk_id, n.logical_id, NULL {_OF_WORK}WHERE w.state = 'inflight' "
        "AND NOT EXISTS (SELECT 1 FROM engine_status WHERE name = 'pid' AND value IS NOT NULL)",
    ),
    Rule(
        "ledger_hash",
        "vector_ledger",
        "the vector of chunk {chunk} under profile {detail} was made from another text",
        f"SELECT l.chunk_key, c.chunk_id, n.logical_id, l.profile_id {_OF_LEDGER}"
        "WHERE l.canonical_hash <> c.canonical_hash",
    ),
    Rule(
        "ledger_not_wanted",
        "vector_ledger",
        "chunk {chunk} has a vector under profile {detail}, and its kind is not indexed under it",
        f"SELECT l.chunk_key, c.chunk_id, n.logical_id, l.profile_id {_OF_LEDGER}"
        "WHERE NOT EXISTS (SELECT 1 FROM vector_index_schemas AS s WHERE s.kind = n.kind "
        "AND s.enabled = 1 AND s.profile_id = l.profile_id)",
    ),
)


# --- full text ------------------------------------------------------------------------------------


def _text_rows(db: apsw.Connection) -> Iterator[Finding]:
    yield from _text_rows_of(db, fts.MAIN, None)
    target = fts.rebuild_target(db)
    if target is not None:
        yield from _text_rows_of(db, fts.NEXT, target[1])


def _text_rows_of(db: apsw.Connection, index: str, upto: int | None) -> Iterator[Finding]:
    """Chunks without a row in an index, and rows without a chunk; ``upto`` of one half built."""
    rows = quote(index + "_docsize")
    last = (1 << 63) - 1 if upto is None else upto
    yield from Rule(
        "text_row_missing",
        index,
        "chunk {chunk} is not in the full-text index",
        "SELECT c.chunk_key, c.chunk_id, n.logical_id, NULL FROM chunks AS c "
        "LEFT JOIN nodes AS n USING (node_key) WHERE c.chunk_key <= ? "
        f"AND NOT EXISTS (SELECT 1 FROM {rows} AS d WHERE d.id = c.chunk_key)",
    ).apply(db, (last,))
    yield from Rule(
        "text_row_orphaned",
        index,
        "the full-text index has a row {key} and there is no such chunk",
        f"SELECT d.id, NULL, NULL, NULL FROM {rows} AS d WHERE d.id > ? "
        "OR NOT EXISTS (SELECT 1 FROM chunks AS c WHERE c.chunk_key = d.id)",
    ).apply(db, (last,))


def text_index(db: apsw.Connection) -> Finding | None:
    """What FTS5 finds when it compares every word with the chunks; needs the write connection."""
    said = fts.integrity_check(db)
    if said is None:
        return None
    return Finding(
        "text_index", fts.MAIN, f"the full-text index does not have the words of the chunks: {said}"
    )


# --- hashes ---------------------------------------------------------------------------------------


def _hashes(db: apsw.Connection, progress: Callable[[int], None]) -> Iterator[Finding]:
    after = -(1 << 63)
    while True:
        page = (after, PAGE_ROWS)
        rows: Any
        try:
            rows = db.execute(
                "SELECT chunk_key, chunk_id, text, canonical_hash FROM chunks "
                "WHERE chunk_key > ? ORDER BY chunk_key LIMIT ?",
                page,
            ).fetchall()
            wrong = [*_wrong_hashes(db, rows)] if rows else []
        except (UnicodeDecodeError, InvalidInputError):
            # One text that is no text must not hide the rest of its page.
            rows = db.execute(
                "SELECT chunk_key, chunk_id, CAST(text AS BLOB), canonical_hash FROM chunks "
                "WHERE chunk_key > ? ORDER BY chunk_key LIMIT ?",
                page,
            ).fetchall()
            wrong = [finding for row in rows for finding in _one_by_one(db, row)]
        yield from wrong
        progress(len(rows))
        if len(rows) < PAGE_ROWS:
            return
        after = rows[-1][0]


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


def _one_by_one(db: apsw.Connection, row: tuple[int, str, bytes, bytes]) -> list[Finding]:
    key, chunk_id, text, expected = row
    try:
        return [*_wrong_hashes(db, [(key, chunk_id, text.decode(), expected)])]
    except (UnicodeDecodeError, InvalidInputError) as error:
        return [
            of_chunk(db, "chunk_text", "chunks", f"chunk {{chunk}} cannot be hashed: {error}", key)
        ]
