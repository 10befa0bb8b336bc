"""Every sort of fault that a file can have, each planted through a raw connection to a closed file.

A table that is added to the schema, and a code that is added to the findings, needs a fault here:
``test_fault_matrix.py`` asks.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

import apsw
import numpy as np
import sqlite_vec

from fathomdb.store import vectors

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

DIMENSION = 8
DOC, NOTE = vectors.table_name("Doc", 1), vectors.table_name("Note", 1)
ZEROS = "x'" + "00" * 32 + "'"


@contextlib.contextmanager
def raw(path: str) -> Iterator[apsw.Connection]:
    """The closed file, without any guard; what is planted is in the file alone, not in its WAL."""
    file = apsw.Connection(path)
    file.enable_load_extension(True)
    file.load_extension(sqlite_vec.loadable_path())
    try:
        yield file
        file.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    finally:
        file.close()


@dataclass(frozen=True, slots=True)
class Fault:
    """A named fault. ``codes`` are those that it must be found by when it is alone, all of them.

    ``plant`` takes the file, and the id of a node of three chunks: a fault of a row strikes the
    second chunk of that node, any other strikes what all rows stand on. ``remains`` are the codes
    that a repair must leave, with advice, because nothing in the file says what was right.
    """

    name: str
    codes: frozenset[str]
    plant: Callable[[apsw.Connection, str], object]
    of_row: bool = False
    remains: frozenset[str] = frozenset()
    costs: str = "logical_id = 't1'"
    """Whose texts it costs an embedding at most, as a condition on their node."""


FAULTS: dict[str, Fault] = {}


def fault(
    *codes: str, of_row: bool = False, remains: tuple[str, ...] = (), **options: str
) -> Callable[[Callable[[apsw.Connection, str], object]], object]:
    def noted(plant: Callable[[apsw.Connection, str], object]) -> object:
        name = plant.__name__
        FAULTS[name] = Fault(name, frozenset(codes), plant, of_row, frozenset(remains), **options)
        return plant

    return noted


def key_of(node_id: str, column: str = "chunk_key") -> str:
    """A column of the second chunk of a live node, as SQL."""
    return (
        f"(SELECT {column} FROM chunks WHERE node_key = (SELECT node_key FROM nodes "
        f"WHERE logical_id = '{node_id}' AND superseded_cursor IS NULL) "
        "ORDER BY chunk_key LIMIT 1 OFFSET 1)"
    )


def owe(file: apsw.Connection, node_id: str, profile_id: int = 1) -> None:
    """A right row of the queue, where there is none: also what has a vector may be owed another."""
    file.execute(
        "INSERT OR IGNORE INTO vector_projection_work (chunk_key, profile_id, kind, "
        "canonical_hash, priority, state, fence, enqueued_at_ms, due_at_ms) SELECT chunk_key, "
        f"{profile_id}, 'Doc', canonical_hash, 0, 'pending', 1, 0, 0 FROM chunks "
        f"WHERE chunk_key = {key_of(node_id)}"
    )


def change_work(file: apsw.Connection, node_id: str, assignment: str) -> None:
    owe(file, node_id)
    file.execute(
        "PRAGMA ignore_check_constraints = ON; UPDATE vector_projection_work "
        f"SET {assignment} WHERE chunk_key = {key_of(node_id)}"
    )


def blob(*values: float) -> str:
    row = np.zeros(DIMENSION, "<f4")
    row[: len(values)] = values
    return f"x'{row.tobytes().hex()}'"


def put_vector(file: apsw.Connection, node_id: str, value: str) -> None:
    key = file.execute(f"SELECT {key_of(node_id)}").get
    file.execute(f'DELETE FROM "{DOC}" WHERE chunk_key = {key}')
    file.execute(f'INSERT INTO "{DOC}" (chunk_key, embedding) VALUES ({key}, {value})')


def number_of(node_id: str) -> int:
    """A key that no chunk has, another for every node."""
    return 1_000_000 + int(node_id[1:])


# --- rows: the chunk's own ------------------------------------------------------------------------


@fault("chunk_hash", "ledger_hash", of_row=True)
def a_hash_of_another_text(file, node_id):
    file.execute(f"UPDATE chunks SET canonical_hash = {ZEROS} WHERE chunk_key = {key_of(node_id)}")


@fault("chunk_order", of_row=True)
def a_gap_in_the_numbers(file, node_id):
    node = key_of(node_id, "node_key")
    file.execute(f"UPDATE chunks SET ordinal = 9 WHERE node_key = {node} AND ordinal = 2")


@fault("chunk_order", of_row=True)
def a_number_twice(file, node_id):
    file.execute(f"UPDATE chunks SET ordinal = 2 WHERE chunk_key = {key_of(node_id)}")


@fault("chunk_offsets", of_row=True)
def an_end_that_is_not_the_end(file, node_id):
    file.execute(f"UPDATE chunks SET byte_end = byte_end - 1 WHERE chunk_key = {key_of(node_id)}")


# --- rows: the queue ------------------------------------------------------------------------------


@fault("vector_not_owed", of_row=True)
def neither_vector_nor_work(file, node_id):
    key = file.execute(f"SELECT {key_of(node_id)}").get
    file.execute(
        f'DELETE FROM "{DOC}" WHERE chunk_key = {key}; '
        f"DELETE FROM vector_ledger WHERE chunk_key = {key}; "
        f"DELETE FROM vector_projection_work WHERE chunk_key = {key}"
    )


@fault("work_row", "sqlite", of_row=True)
def work_tried_less_than_never(file, node_id):
    change_work(file, node_id, "attempts = -1")


@fault("work_row", "sqlite", of_row=True)
def work_in_a_state_that_is_none(file, node_id):
    change_work(file, node_id, "state = 'asleep'")


@fault("work_row", of_row=True)
def work_of_a_priority_that_is_none(file, node_id):
    change_work(file, node_id, "priority = 7")


@fault("work_attempts", of_row=True)
def work_tried_a_million_times(file, node_id):
    change_work(file, node_id, "attempts = 1000000")


@fault("work_due", of_row=True)
def work_due_in_a_thousand_years(file, node_id):
    change_work(file, node_id, "due_at_ms = 33333333333333")


@fault("work_hash", of_row=True)
def work_for_another_text(file, node_id):
    change_work(file, node_id, f"canonical_hash = {ZEROS}")


@fault("work_kind", of_row=True)
def work_of_another_kind(file, node_id):
    change_work(file, node_id, "kind = 'Note'")


@fault("work_fence", of_row=True)
def work_with_a_fence_from_the_future(file, node_id):
    change_work(file, node_id, "fence = 99999999")


@fault("work_fence", of_row=True)
def work_with_a_fence_that_is_no_count(file, node_id):
    change_work(file, node_id, "fence = 9223372036854775807")


@fault("work_not_wanted", of_row=True)
def work_under_a_model_that_is_not_active(file, node_id):
    owe(file, node_id, profile_id=2)


@fault("work_stuck", of_row=True)
def work_that_nothing_works_on(file, node_id):
    change_work(file, node_id, "state = 'inflight', attempts = 1")


@fault("foreign_key", of_row=True)
def work_of_no_chunk(file, node_id):
    file.execute(
        "INSERT OR IGNORE INTO vector_projection_work (chunk_key, profile_id, kind, "
        "canonical_hash, priority, state, fence, enqueued_at_ms, due_at_ms) "
        f"VALUES ({number_of(node_id)}, 1, 'Doc', {ZEROS}, 0, 'pending', 1, 0, 0)"
    )


# --- rows: ledger and vector ----------------------------------------------------------------------


@fault("ledger_hash", of_row=True)
def a_vector_of_an_older_text(file, node_id):
    file.execute(
        f"UPDATE vector_ledger SET canonical_hash = {ZEROS} WHERE chunk_key = {key_of(node_id)}"
    )


@fault("ledger_content", of_row=True)
def a_vector_to_be_reused_for_another_text(file, node_id):
    file.execute(
        f"UPDATE vector_ledger SET content_hash = {ZEROS} WHERE chunk_key = {key_of(node_id)}"
    )


@fault("ledger_not_wanted", of_row=True)
def a_ledger_row_under_a_model_that_is_not_active(file, node_id):
    file.execute(
        "INSERT OR IGNORE INTO vector_ledger SELECT chunk_key, 2, canonical_hash, content_hash "
        f"FROM vector_ledger WHERE profile_id = 1 AND chunk_key = {key_of(node_id)}"
    )


@fault("foreign_key", of_row=True)
def a_ledger_row_of_no_chunk(file, node_id):
    file.execute(
        f"INSERT OR IGNORE INTO vector_ledger VALUES ({number_of(node_id)}, 1, {ZEROS}, {ZEROS})"
    )


@fault("ledger_without_vector", of_row=True)
def a_ledger_row_without_its_vector(file, node_id):
    file.execute(f'DELETE FROM "{DOC}" WHERE chunk_key = {key_of(node_id)}')


@fault("vector_without_ledger", "vector_not_owed", of_row=True)
def a_vector_without_its_ledger_row(file, node_id):
    file.execute(f"DELETE FROM vector_ledger WHERE chunk_key = {key_of(node_id)}")


@fault("vector_without_ledger", of_row=True)
def a_vector_of_no_chunk(file, node_id):
    key = number_of(node_id)
    file.execute(f'DELETE FROM "{DOC}" WHERE chunk_key = {key}')
    file.execute(f'INSERT INTO "{DOC}" (chunk_key, embedding) VALUES ({key}, {blob(1.0)})')


@fault("vector_without_ledger", of_row=True)
def a_vector_in_the_table_of_another_kind(file, node_id):
    key = file.execute(f"SELECT {key_of(node_id)}").get
    file.execute(f'DELETE FROM "{NOTE}" WHERE chunk_key = {key}')
    file.execute(f'INSERT INTO "{NOTE}" (chunk_key, embedding) VALUES ({key}, {blob(1.0)})')


@fault("vector_values", of_row=True)
def a_vector_that_is_not_a_number(file, node_id):
    put_vector(file, node_id, blob(float("nan"), 1.0))


@fault("vector_values", of_row=True)
def a_vector_that_is_infinite(file, node_id):
    put_vector(file, node_id, blob(float("inf")))


@fault("vector_values", of_row=True)
def a_vector_that_is_zero(file, node_id):
    put_vector(file, node_id, blob())


@fault("vector_length", of_row=True)
def a_vector_that_is_too_short(file, node_id):
    put_vector(file, node_id, blob(0.5))


# --- rows: the cache ------------------------------------------------------------------------------


def put_cached(file, profile_id, content_hash, value):
    file.execute(
        "INSERT OR REPLACE INTO vector_cache SELECT coalesce(max(position), 0) + 1, "
        f"{profile_id}, {content_hash}, {value} FROM vector_cache"
    )


@fault("cache_vector")
def a_cached_vector_that_is_not_a_number(file, _):
    put_cached(file, 1, "x'" + "11" * 32 + "'", blob(float("nan"), 1.0))


@fault("cache_vector")
def a_cached_vector_that_is_too_short(file, _):
    put_cached(file, 1, "x'" + "12" * 32 + "'", blob(0.5))


@fault("cache_vector")
def a_cached_vector_of_another_dimension(file, _):
    put_cached(file, 1, "x'" + "13" * 32 + "'", "x'0000803f'")


@fault("cache_live")
def a_cached_vector_that_a_live_chunk_has(file, node_id):
    content_hash = f"(SELECT content_hash FROM vector_ledger WHERE chunk_key = {key_of(node_id)})"
    put_cached(file, 1, content_hash, blob(1.0))


@fault("foreign_key")
def a_cached_vector_of_no_model(file, _):
    put_cached(file, 999, ZEROS, blob(1.0))


# --- rows: full text ------------------------------------------------------------------------------


def drop_words(file, node_id):
    """Only what is indexed may be deleted: else it would be another fault."""
    key, text = file.execute(
        f"SELECT chunk_key, text FROM chunks WHERE chunk_key = {key_of(node_id)}"
    ).fetchone()
    if file.execute("SELECT count(*) FROM chunks_fts_docsize WHERE id = ?", (key,)).get:
        file.execute(
            "INSERT INTO chunks_fts (chunks_fts, rowid, text) VALUES ('delete', ?, ?)", (key, text)
        )
    return key


@fault("text_row_missing", of_row=True)
def a_chunk_that_no_word_finds(file, node_id):
    drop_words(file, node_id)


@fault("text_index", of_row=True)
def a_chunk_that_other_words_find(file, node_id):
    key = drop_words(file, node_id)
    file.execute("INSERT INTO chunks_fts (rowid, text) VALUES (?, 'other words')", (key,))


@fault("text_row_orphaned", of_row=True)
def words_of_no_chunk(file, node_id):
    file.execute(
        "INSERT INTO chunks_fts (rowid, text) VALUES (?, 'words of nobody')", (number_of(node_id),)
    )


# --- what rows stand on: the engine's own ---------------------------------------------------------


@fault("node_cursor", "work_fence")
def counts_that_begin_again(file, _):
    file.execute("UPDATE engine_state SET cursor = 0, fence = 0")


@fault("tombstone_cursor", "node_cursor")
def a_count_that_forgot_the_last_commit_and_its_erasure(file, _):
    file.execute(
        "INSERT INTO tombstones (what, sha256, nodes, versions, chunks, vectors, work, cursor, "
        "erased_at_ms) SELECT 'node', zeroblob(32), 1, 1, 0, 0, 0, max(cursor, 1), 0 FROM engine_state; "
        "UPDATE engine_state SET cursor = max(cursor - 1, 0)"
    )


@fault("text_rebuild")
def a_rebuild_of_an_index_that_is_not_there(file, _):
    file.execute(
        "UPDATE engine_state SET fts_next_tokenizer = 'porter unicode61', fts_next_upto = 3"
    )


@fault("text_rebuild")
def a_second_index_that_nothing_speaks_of(file, _):
    file.execute(
        "CREATE VIRTUAL TABLE chunks_fts_next USING fts5(text, content='live_chunk_text', "
        "content_rowid='chunk_key')"
    )


@fault("vector_commits")
def a_count_of_changed_vectors_below_nothing(file, _):
    file.execute(
        "PRAGMA ignore_check_constraints = ON; UPDATE engine_state SET vector_commits = -5"
    )


@fault("vector_commits")
def a_count_of_changed_vectors_that_leaves_none_after_it(file, _):
    file.execute("UPDATE engine_state SET vector_commits = 9223372036854775807")


def put_in_column(file, value):
    """What a strict table would not take."""
    sql = file.execute("SELECT sql FROM sqlite_master WHERE name = 'engine_state'").get
    loose = sql.replace("vector_commits INTEGER NOT NULL", "vector_commits").replace("STRICT", "")
    define(file, "engine_state", loose)
    file.execute(
        f"PRAGMA ignore_check_constraints = ON; UPDATE engine_state SET vector_commits = {value}"
    )
    define(file, "engine_state", sql)


@fault("vector_commits", "sqlite")
def a_count_of_changed_vectors_that_is_missing(file, _):
    put_in_column(file, "NULL")


@fault("vector_commits", "sqlite")
def a_count_of_changed_vectors_that_is_a_word(file, _):
    put_in_column(file, "'many'")


@fault("status_value")
def a_counter_that_is_a_word(file, _):
    file.execute("UPDATE engine_status SET value = 'many' WHERE name = 'applied'")


@fault("status_value")
def a_process_that_is_a_word(file, _):
    file.execute(
        "INSERT OR REPLACE INTO engine_status (name, value) VALUES ('pid', 'abc'), "
        "('started_ms', 'long ago'), ('heartbeat_ms', 'xx'), ('outage', x'ff00')"
    )


@fault("foreign_key")
def a_kind_that_is_not_known(file, _):
    file.execute("DELETE FROM kinds WHERE kind = 'Plain'")


# --- what rows stand on: the schema ---------------------------------------------------------------


@fault("schema_object")
def an_index_that_is_gone(file, _):
    file.execute("DROP INDEX IF EXISTS work_claim")


@fault("schema_object")
def a_view_that_shows_something_else(file, _):
    file.execute(
        "DROP VIEW live_chunk_text; CREATE VIEW live_chunk_text (chunk_key, text) AS "
        "SELECT chunk_key, text FROM chunks WHERE 1"
    )


@fault("schema_object")
def a_trigger_of_somebody(file, _):
    file.execute("CREATE TRIGGER theirs AFTER INSERT ON nodes BEGIN SELECT 1; END; ")


def define(file, name, sql):
    file.execute("PRAGMA writable_schema = ON")
    file.execute("UPDATE sqlite_master SET sql = ? WHERE name = ?", (sql, name))
    file.execute("PRAGMA writable_schema = RESET")


@fault("sqlite")
def an_index_that_misses_rows(file, _):
    sql = file.execute("SELECT sql FROM sqlite_master WHERE name = 'nodes_by_kind'").get
    define(file, "nodes_by_kind", sql.replace("IS NULL", "IS NULL AND kind = 'Note'"))
    file.execute("REINDEX nodes_by_kind")
    define(file, "nodes_by_kind", sql)


@fault("schema_object", "sqlite")
def an_index_of_other_rows(file, _):
    define(file, "nodes_by_kind", "CREATE INDEX nodes_by_kind ON nodes (kind)")


@fault("schema_object", remains=("schema_object",))
def a_table_of_somebody(file, _):
    file.execute("CREATE TABLE theirs_too (value)")


# --- what rows stand on: models and indexes -------------------------------------------------------


@fault("index_profile")
def a_model_that_is_not_active(file, _):
    file.execute("UPDATE vector_embedding_profiles SET state = 'retired'")


@fault("index_profile", "vector_not_owed")
def an_index_under_another_model(file, _):
    file.execute("UPDATE vector_index_schemas SET profile_id = 2 WHERE kind = 'Note'")


@fault("index_disabled")
def a_disabled_index_with_a_model(file, _):
    file.execute("UPDATE vector_index_schemas SET profile_id = 1 WHERE kind = 'Plain'")


@fault("profile_identity", "vector_table_definition")
def a_model_of_another_dimension(file, _):
    file.execute("UPDATE vector_embedding_profiles SET dimension = 64 WHERE profile_id = 1")


@fault("profile_identity", "vector_table_definition")
def a_model_of_another_normalization(file, _):
    file.execute(
        "UPDATE vector_embedding_profiles SET normalization_policy = 'none' WHERE profile_id = 1"
    )


@fault("foreign_key", "index_profile", "vector_table_unknown", costs="1")
def every_model_is_gone(file, _):
    file.execute("DELETE FROM vector_embedding_profiles")


# --- what rows stand on: vector tables ------------------------------------------------------------


@fault("vector_table_missing", costs="kind = 'Note'")
def a_vector_table_that_is_gone(file, _):
    file.execute(f'DROP TABLE IF EXISTS "{NOTE}"')


@fault("vector_table_unknown")
def a_vector_table_of_no_kind(file, _):
    file.execute("CREATE VIRTUAL TABLE vec_stray USING vec0(embedding float[8])")


@fault("vector_table_definition", costs="kind = 'Note'")
def a_vector_table_of_another_dimension(file, _):
    file.execute(
        f'DROP TABLE "{NOTE}"; CREATE VIRTUAL TABLE "{NOTE}" USING '
        "vec0(chunk_key INTEGER PRIMARY KEY, embedding float[3] distance_metric=l2, chunk_size=64)"
    )


@fault("vector_block", costs="kind = 'Note'")
def a_block_that_is_too_short(file, _):
    file.execute(f"UPDATE \"{NOTE}_vector_chunks00\" SET vectors = x'00' WHERE rowid = 1")


@fault("vector_block", costs="kind = 'Note'")
def a_block_that_is_gone(file, _):
    file.execute(f'DELETE FROM "{NOTE}_chunks"')


@fault("vector_block", costs="kind = 'Note'")
def two_vectors_in_the_place_of_each_other(file, _):
    offsets = file.execute(f'SELECT rowid, chunk_offset FROM "{NOTE}_rowids" LIMIT 2').fetchall()
    for (key, _), (_, offset) in zip(offsets, reversed(offsets), strict=True):
        file.execute(f'UPDATE "{NOTE}_rowids" SET chunk_offset = ? WHERE rowid = ?', (offset, key))


@fault("unreadable", costs="kind = 'Note'")
def vectors_that_are_gone(file, _):
    file.execute(f'DROP TABLE IF EXISTS "{NOTE}_vector_chunks00"')


@fault("schema_object", "vector_table_missing", costs="kind = 'Note'")
def a_vector_table_that_left_its_parts(file, _):
    file.execute("PRAGMA writable_schema = ON")
    file.execute("DELETE FROM sqlite_master WHERE name = ?", (NOTE,))
    file.execute("PRAGMA writable_schema = RESET")


# --- what rows stand on: full text ----------------------------------------------------------------


@fault("text_settings")
def a_text_index_that_keeps_deleted_words(file, _):
    file.execute("DELETE FROM chunks_fts_config WHERE k = 'secure-delete'")


@fault("text_index", "sqlite")
def a_text_index_without_its_words(file, _):
    file.execute("DELETE FROM chunks_fts_data WHERE id > 10")


@fault("text_index", "sqlite")
def a_text_index_that_does_not_know_its_pages(file, _):
    file.execute("UPDATE chunks_fts_idx SET pgno = pgno + 2")


@fault("schema_object", "unreadable")
def a_text_index_without_its_settings(file, _):
    file.execute("DROP TABLE IF EXISTS chunks_fts_config")


@fault("schema_object", "unreadable")
def a_text_index_that_is_gone(file, _):
    file.execute("DROP TABLE IF EXISTS chunks_fts")


# --- what nothing in the file can put right -------------------------------------------------------


def plain(node_id: str) -> str:
    """The node that these strike: of a kind without vectors, so that every digest stays."""
    return f"plain-{node_id}"


@fault("chunk_text", remains=("chunk_text",))
def a_text_that_is_no_text(file, node_id):
    # As long as it was, so that it is where its node says.
    file.execute(
        "UPDATE chunks SET text = CAST(x'ff' || substr(CAST(text AS BLOB), 2) AS TEXT) "
        f"WHERE chunk_key = {key_of(plain(node_id))}"
    )


@fault("chunk_without_live_node", remains=("chunk_without_live_node",))
def text_of_a_node_that_was_retired(file, node_id):
    file.execute(
        "UPDATE nodes SET superseded_cursor = (SELECT cursor FROM engine_state) "
        f"WHERE logical_id = '{plain(node_id)}'"
    )


@fault("foreign_key", remains=("foreign_key",))
def text_of_a_node_that_is_gone(file, node_id):
    file.execute(f"DELETE FROM nodes WHERE logical_id = '{plain(node_id)}'")


@fault("node_version", remains=("node_version",))
def a_version_that_ended_before_it_began(file, _):
    file.execute(
        "UPDATE nodes SET superseded_cursor = written_cursor - 1 "
        "WHERE superseded_cursor IS NOT NULL"
    )


@fault("node_cursor", remains=("node_cursor",))
def a_version_of_a_commit_that_cannot_be(file, node_id):
    file.execute(
        "UPDATE nodes SET written_cursor = 9223372036854775807 "
        f"WHERE logical_id = '{plain(node_id)}'"
    )


@fault("chunk_order", remains=("chunk_order",))
def two_pieces_of_a_caller_in_one_place(file, _):
    file.execute(
        "UPDATE chunks SET ordinal = 0 WHERE node_key = "
        "(SELECT node_key FROM nodes WHERE logical_id = 'cut')"
    )


@fault("sqlite", "node_row", remains=("sqlite", "node_row"))
def properties_that_are_no_json(file, node_id):
    file.execute(
        "PRAGMA ignore_check_constraints = ON; UPDATE nodes SET properties = '{' "
        f"WHERE logical_id = '{plain(node_id)}'"
    )


@fault("node_row", remains=("node_row",))
def properties_that_are_a_list(file, node_id):
    file.execute(f"UPDATE nodes SET properties = '[1]' WHERE logical_id = '{plain(node_id)}'")


@fault("node_row", remains=("node_row",))
def a_version_of_a_commit_before_the_first(file, node_id):
    file.execute(f"UPDATE nodes SET written_cursor = -7 WHERE logical_id = '{plain(node_id)}'")


@fault("node_row", remains=("node_row",))
def an_id_that_no_program_can_name(file, node_id):
    file.execute(
        f"UPDATE nodes SET logical_id = 'a' || char(0) || 'b' WHERE logical_id = '{plain(node_id)}'"
    )


@fault("node_row", remains=("node_row",))
def a_source_that_no_program_can_name(file, node_id):
    file.execute(
        f"UPDATE nodes SET source_ref = 'a' || char(0) WHERE logical_id = '{plain(node_id)}'"
    )


@fault("tombstone_row", remains=("tombstone_row",))
def an_erasure_before_the_first_commit(file, _):
    file.execute(
        "INSERT INTO tombstones (what, sha256, nodes, versions, chunks, vectors, work, cursor, "
        "erased_at_ms) VALUES ('node', zeroblob(32), 1, 1, 0, 0, 0, 0, 0)"
    )


@fault("tombstone_row", "sqlite", remains=("tombstone_row", "sqlite"))
def an_erasure_of_less_than_nothing(file, _):
    file.execute(
        "PRAGMA ignore_check_constraints = ON; INSERT INTO tombstones (what, sha256, nodes, "
        "versions, chunks, vectors, work, cursor, erased_at_ms) "
        "VALUES ('node', zeroblob(32), 1, 1, -5, 0, 0, 1, 0)"
    )


@fault("engine_state", remains=("engine_state",))
def the_row_of_the_engine_is_gone(file, _):
    file.execute("DELETE FROM engine_state")


@fault("engine_state", remains=("engine_state",))
def a_count_of_commits_that_leaves_none_after_it(file, _):
    file.execute("UPDATE engine_state SET cursor = 9223372036854775807")


@fault("engine_state", remains=("engine_state",))
def a_count_of_fences_that_leaves_none_after_it(file, _):
    file.execute("UPDATE engine_state SET fence = 9223372036854775806")


@fault("engine_state", remains=("engine_state",))
def a_count_of_commits_below_nothing(file, _):
    file.execute("PRAGMA ignore_check_constraints = ON; UPDATE engine_state SET cursor = -5")
