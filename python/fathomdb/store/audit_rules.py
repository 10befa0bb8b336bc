"""Audit of the rows: each rule is one statement over the rows that break it.

A part of ``store/audit.py``; a healthy file costs their scans alone.
"""

from __future__ import annotations

from fathomdb.config import BACKFILL_PRIORITY, INCREMENTAL_PRIORITY
from fathomdb.store import status
from fathomdb.store.findings import Rule

_OF_WORK = (
    "FROM vector_projection_work AS w JOIN chunks AS c USING (chunk_key) "
    "JOIN nodes AS n USING (node_key) "
)
_OF_LEDGER = (
    "FROM vector_ledger AS l JOIN chunks AS c USING (chunk_key) JOIN nodes AS n USING (node_key) "
)

INFLIGHT = Rule(
    "work_stuck",
    "vector_projection_work",
    "the work of chunk {chunk} is inflight and nothing works on it",
    f"SELECT w.work_id, c.chunk_id, n.logical_id, NULL {_OF_WORK}WHERE w.state = 'inflight'",
)
"""No rule of a check: only who knows that nothing is claimed may say so."""

INDEX_RULES: tuple[Rule, ...] = (
    Rule(
        "index_profile",
        "vector_index_schemas",
        "the vector index of kind {detail} is enabled under a profile that does not serve",
        "SELECT NULL, NULL, NULL, s.kind FROM vector_index_schemas AS s "
        "LEFT JOIN vector_embedding_profiles AS p USING (profile_id) "
        "WHERE s.enabled = 1 AND coalesce(p.state, '') NOT IN ('active', 'building')",
    ),
    Rule(
        "index_disabled",
        "vector_index_schemas",
        "the vector index of kind {detail} is disabled, and its row says that it has a model, a "
        "rebuild or a state",
        "SELECT NULL, NULL, NULL, kind FROM vector_index_schemas WHERE enabled = 0 AND "
        "(profile_id IS NOT NULL OR rebuild_after_key IS NOT NULL OR state <> 'stale')",
    ),
)
"""What is said of a kind's vectors follows from these."""

RULES: tuple[Rule, ...] = (
    Rule(
        "node_cursor",
        "nodes",
        "a version of node {node} is of commit {detail}, and the file has not come to that one",
        "SELECT node_key, NULL, logical_id, max(written_cursor, coalesce(superseded_cursor, 0)) "
        "FROM nodes WHERE max(written_cursor, coalesce(superseded_cursor, 0)) > "
        "(SELECT cursor FROM engine_state)",
    ),
    Rule(
        # SQLite checks for readers neither a version's properties nor a tombstone's counts.
        "node_row",
        "nodes",
        "a version of node {node} is a row that cannot be: {detail}",
        "SELECT node_key, NULL, logical_id, 'commits ' || written_cursor || ' to ' || "
        "coalesce(superseded_cursor, 'now') || ', source ' || quote(source_ref) || ', properties ' || "
        "coalesce(substr(properties, 1, 40), 'none') FROM nodes WHERE written_cursor < 1 "
        "OR instr(logical_id, char(0)) OR instr(source_ref, char(0)) "
        "OR CASE json_valid(properties) WHEN 1 THEN json_type(properties) <> 'object' "
        "WHEN 0 THEN 1 END",
    ),
    Rule(
        "tombstone_row",
        "tombstones",
        "the tombstone {key} is a row that cannot be: {detail}",
        "SELECT tombstone_id, NULL, NULL, nodes || ' nodes, ' || versions || ' versions, ' || "
        "chunks || ' chunks, ' || vectors || ' vectors, ' || work || ' work, commit ' || cursor "
        "FROM tombstones WHERE min(nodes, chunks, vectors, work) < 0 OR versions < nodes "
        "OR cursor < 1 OR erased_at_ms < 0",
    ),
    Rule(
        "tombstone_cursor",
        "tombstones",
        "something was erased by commit {detail}, and the file has not come to that one",
        "SELECT tombstone_id, NULL, NULL, cursor FROM tombstones "
        "WHERE cursor > (SELECT cursor FROM engine_state)",
    ),
    Rule(
        "node_version",
        "nodes",
        "a version of node {node} was written and ended by the commits {detail}, which cannot be",
        "SELECT node_key, NULL, logical_id, written_cursor || ' and ' || superseded_cursor "
        "FROM nodes WHERE superseded_cursor < written_cursor",
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
        "vector_not_owed",
        "vector_projection_work",
        "chunk {chunk} has neither a vector nor work, and its kind {detail} is indexed",
        "SELECT c.chunk_key, c.chunk_id, n.logical_id, n.kind FROM wanted_vectors AS s "
        "JOIN nodes AS n ON n.kind = s.kind AND n.superseded_cursor IS NULL "
        "JOIN chunks AS c USING (node_key) WHERE NOT EXISTS (SELECT 1 FROM vector_ledger AS l WHERE l.chunk_key = c.chunk_key "
        "AND l.profile_id = s.profile_id) AND NOT EXISTS (SELECT 1 FROM vector_projection_work "
        "AS w WHERE w.chunk_key = c.chunk_key AND w.profile_id = s.profile_id)",
    ),
    Rule(
        # The first three are the table's own constraints, which SQLite does not check for readers.
        "work_row",
        "vector_projection_work",
        "the work of chunk {chunk} is a row that cannot be: {detail}",
        "SELECT w.work_id, c.chunk_id, n.logical_id, 'state ' || w.state || ', cause ' || "
        "coalesce(w.cause, 'none') || ', ' || w.attempts || ' attempts, priority ' || w.priority "
        f"{_OF_WORK}WHERE w.state NOT IN ('pending', 'inflight', 'failed') OR w.attempts < 0 "
        "OR (w.state = 'failed') <> (w.cause IS NOT NULL) "
        f"OR w.priority NOT IN ({BACKFILL_PRIORITY}, {INCREMENTAL_PRIORITY})",
    ),
    Rule(
        "work_attempts",
        "vector_projection_work",
        "the work of chunk {chunk} was tried {detail} times, more often than anything is",
        f"SELECT w.work_id, c.chunk_id, n.logical_id, w.attempts {_OF_WORK}"
        "WHERE w.attempts > :most_attempts",
    ),
    Rule(
        "work_due",
        "vector_projection_work",
        "the work of chunk {chunk} is due at {detail}, later than any wait",
        "SELECT w.work_id, c.chunk_id, n.logical_id, "
        f"coalesce(datetime(w.due_at_ms / 1000, 'unixepoch') || ' UTC', w.due_at_ms) {_OF_WORK}"
        "WHERE w.state = 'pending' AND w.due_at_ms > :latest_due",
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
        "WHERE NOT EXISTS (SELECT 1 FROM wanted_vectors AS s WHERE s.kind = n.kind "
        "AND s.profile_id = w.profile_id)",
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
        f"{INFLIGHT.sql} AND NOT EXISTS (SELECT 1 FROM engine_status WHERE name = 'pid' AND value IS NOT NULL)",
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
        "WHERE NOT EXISTS (SELECT 1 FROM wanted_vectors AS s WHERE s.kind = n.kind "
        "AND s.profile_id = l.profile_id)",
    ),
    Rule(
        "cache_live",
        "vector_cache",
        "the cache keeps a vector under profile {detail} that a live chunk has",
        # The ledger once, and a look into the cache's index: the other way round there is no index.
        "SELECT DISTINCT v.position, NULL, NULL, v.profile_id FROM vector_ledger AS l "
        "CROSS JOIN vector_cache AS v USING (profile_id, content_hash)",
    ),
    Rule(
        "status_value",
        "engine_status",
        "what the owner said of itself cannot be: {detail}",
        "SELECT NULL, NULL, NULL, name || ' is ' || quote(value) FROM engine_status "
        f"WHERE {status.MISFITS}",
    ),
)
