"""check_integrity: what is no fault is not found, and what it takes to tell; the fault matrix has each sort."""

from __future__ import annotations

import contextlib
import threading
from typing import TYPE_CHECKING

import apsw
import numpy as np
import pytest
import sqlite_vec

import fathomdb
from fathomdb import Node
from fathomdb.admin import integrity
from fathomdb.admin.integrity import FINDINGS_PER_CODE
from fathomdb.store import audit, audit_rules, status, vectors
from fathomdb.store.connection import open_checker
from fathomdb.store.findings import Finding
from fathomdb.testing import DeterministicEmbedder, Fault, FlakyEmbedder

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

VEC = vectors.table_name("Doc", 1)
HASH = "x'" + "00" * 32 + "'"
LONG = ". ".join(f"Sentence number {n} of a longer text" for n in range(80))


@contextlib.contextmanager
def raw(path: str) -> Iterator[apsw.Connection]:
    """The closed file, without any guard."""
    connection = apsw.Connection(path)
    connection.enable_load_extension(True)
    connection.load_extension(sqlite_vec.loadable_path())
    try:
        yield connection
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    finally:
        connection.close()


def found(path: str) -> dict[str, int]:
    with fathomdb.open(path, embedder=False) as db:
        return dict(db.admin.check_integrity().found)


@pytest.fixture
def mixed(path: str) -> str:
    """A closed file with a history: rewrites, retirements, kinds that moved, work of every sort."""
    embedder = FlakyEmbedder(DeterministicEmbedder(), [Fault("nan", texts="poison")])
    with fathomdb.open(path, embedder=embedder, background=False) as db:
        db.write([Node("Doc", f"d{n}", f"text number {n}") for n in range(200)])
        db.write(Node("Doc", "long", LONG))
        db.write(Node("Doc", "cut", chunks=["one", "two", "three"]))
        db.write(Node("Doc", "bad", "a poison text"))
        db.write(Node("Note", "n1", "a note"))
        db.admin.drain_vector_projection()
        db.write([Node("Doc", f"d{n}", f"text number {n} again") for n in range(50)])
        db.write(Node("Doc", "long", LONG.replace("number 40", "of another length 40")))
        db.write(Node("Note", "d60", "text number 60"))
        db.patch("d61", {"lang": "en"})
        db.write(retire=["d70", "d71"])
        db.admin.run_tick()
        db.write(Node("Doc", "d80", "text number 80 again"))
        db.admin.disable_vec("Note")
        db.write(Node("Plain", "p1"))
    return path


def test_a_healthy_file_with_a_history_is_ok(mixed):
    with fathomdb.open(mixed, embedder=DeterministicEmbedder(), background=False) as db:
        seen = []
        report = db.admin.check_integrity(lambda done, total: seen.append((done, total)))

        assert report.ok, report.findings
        assert (report.findings, report.found, report.skipped) == ((), {}, ())
        assert report.counts["nodes"] == db.count() == 203
        assert report.counts["superseded"] == 56
        assert report.counts["chunks"] == report.counts["text_rows"]
        assert report.counts["failed_work"] == 1
        assert report.counts["work"] > 0
        assert seen[-1] == (report.counts["chunks"] + report.counts["vectors"],) * 2


def test_every_rule_reads_a_table_once_and_looks_the_rest_up_by_an_index(db):
    """A check of a large file reads each table once, and holds none of them in memory."""
    limits = integrity.limits(db._runtime).named()
    with db._runtime.snapshot() as connection:
        for rule in (*audit_rules.INDEX_RULES, *audit_rules.RULES):
            asked = {name: value for name, value in limits.items() if f":{name}" in rule.sql}
            rows = connection.execute(f"EXPLAIN QUERY PLAN {rule.sql}", asked).fetchall()
            said = {step: detail for step, _, _, detail in rows}
            scans = [parent for _, parent, _, detail in rows if detail.startswith("SCAN")]
            assert len(scans) == len(set(scans)), f"{rule.code}: one scan inside another: {rows}"
            # An index that is made for one statement holds a whole table in memory; kinds are few.
            made = [detail for detail in said.values() if "AUTOMATIC" in detail]
            assert all(detail.startswith("SEARCH s ") for detail in made), f"{rule.code}: {made}"
            for parent in scans:
                assert not said.get(parent, "").startswith("CORRELATED"), f"{rule.code}: {rows}"


def test_an_empty_file_is_ok(db):
    assert db.admin.check_integrity().ok


def test_every_counter_of_an_engine_is_one_that_the_check_looks_at(db):
    assert set(db._runtime.counters.values()) == set(status.COUNTERS)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("pid", "'abc'"),
        ("started_ms", "1.5"),
        ("heartbeat_ms", "'xx'"),
        ("outage", "x'ff00'"),
        ("applied", "NULL"),
    ],
)
def test_what_the_owner_cannot_have_said_of_itself_is_found(mixed, name, value):
    with raw(mixed) as connection:
        connection.execute(f"INSERT OR REPLACE INTO engine_status VALUES ('{name}', {value})")
    # An open for writing says it anew.
    with fathomdb.open(mixed, read_only=True, embedder=False) as db:
        assert db.admin.check_integrity().found == {"status_value": 1}


def test_a_finding_has_a_code_that_is_listed():
    with pytest.raises(ValueError, match="not a code"):
        Finding("unheard_of", "nodes", "something")


def test_a_file_whose_text_index_is_half_rebuilt_is_ok(mixed):
    with raw(mixed) as file:
        # As a rebuild leaves it that was cut off after its first page.
        file.execute(
            "CREATE VIRTUAL TABLE chunks_fts_next USING fts5(text, content='live_chunk_text', "
            "content_rowid='chunk_key', tokenize='trigram');"
            "INSERT INTO chunks_fts_next (rowid, text) SELECT chunk_key, text FROM chunks "
            "WHERE chunk_key <= 20;"
            "UPDATE engine_state SET fts_next_tokenizer = 'trigram', fts_next_upto = 20"
        )
    with fathomdb.open(mixed, read_only=True) as db:
        assert db.admin.check_integrity().ok
    with raw(mixed) as file:
        file.execute("UPDATE engine_state SET fts_next_upto = 21")
    with fathomdb.open(mixed, read_only=True) as db:
        (finding,) = db.admin.check_integrity().findings
        assert (finding.code, finding.table) == ("text_row_missing", "chunks_fts_next")


def of(column: str, node_id: str) -> str:
    """A column of a node's first chunk, as SQL."""
    return (
        f"(SELECT {column} FROM chunks JOIN nodes USING (node_key) "
        f"WHERE logical_id = '{node_id}' AND superseded_cursor IS NULL AND ordinal = 0)"
    )


KEY = of("chunk_key", "d100")


def test_a_ledger_row_of_a_kind_without_an_index_is_found(mixed):
    with raw(mixed) as file:
        file.execute(
            "INSERT INTO vector_ledger SELECT chunk_key, 1, canonical_hash, canonical_hash "
            f"FROM chunks WHERE chunk_key = {of('chunk_key', 'n1')}"
        )
    assert found(mixed) == {"ledger_not_wanted": 1, "ledger_content": 1}


def test_an_index_that_does_not_have_every_row_of_its_table_is_found(mixed):
    with raw(mixed) as file:
        # From now on it should have the superseded versions too.
        file.execute(
            "PRAGMA writable_schema = ON; UPDATE sqlite_master SET sql = "
            "'CREATE INDEX nodes_by_kind ON nodes (kind)' WHERE name = 'nodes_by_kind'"
        )
    assert found(mixed).keys() == {"sqlite", "schema_object"}


def test_chunks_of_a_retired_node_are_found(mixed):
    with raw(mixed) as file:
        file.execute("UPDATE nodes SET superseded_cursor = 5 WHERE logical_id = 'n1'")
        file.execute("UPDATE nodes SET written_cursor = 1 WHERE logical_id = 'n1'")
    assert found(mixed) == {"chunk_without_live_node": 1}


def vector(*values: float) -> str:
    blob = np.zeros(32, "<f4")
    blob[: len(values)] = values
    return f"x'{blob.tobytes().hex()}'"


@pytest.mark.parametrize(
    ("code", "blob"),
    [
        ("vector_values", vector(float("nan"), 1.0)),
        ("vector_values", vector(float("inf"))),
        ("vector_values", vector(0.0)),
        ("vector_length", vector(0.5)),
    ],
)
def test_a_vector_that_cannot_be_compared_is_found(mixed, code, blob):
    with raw(mixed) as file:
        key = file.execute(f"SELECT {KEY}").get
        file.execute(f"DELETE FROM {VEC} WHERE chunk_key = {key}")
        file.execute(f"INSERT INTO {VEC} (chunk_key, embedding) VALUES ({key}, {blob})")

    with fathomdb.open(mixed, embedder=False) as db:
        (finding,) = db.admin.check_integrity().findings

    assert (finding.code, finding.table, finding.key) == (code, VEC, key)
    assert (finding.chunk_id, finding.node_id) == ("d100#0", "d100")
    assert "d100#0" in finding.message


def test_a_vector_that_is_in_another_place_than_where_it_is_looked_for_is_found(mixed):
    with raw(mixed) as file:
        a, b = (file.execute(f"SELECT {of('chunk_key', name)}").get for name in ("d100", "d101"))
        offsets = f"SELECT chunk_offset FROM {VEC}_rowids WHERE rowid = ?"
        first, second = (file.execute(offsets, (key,)).get for key in (a, b))
        for key, offset in ((a, second), (b, first)):
            file.execute(f"UPDATE {VEC}_rowids SET chunk_offset = ? WHERE rowid = ?", (offset, key))
    assert found(mixed) == {"vector_block": 2}


def test_a_block_of_vectors_that_is_too_short_is_found(mixed):
    with raw(mixed) as file:
        file.execute(f"UPDATE {VEC}_vector_chunks00 SET vectors = x'00' WHERE rowid = 1")
    # The block, and the total that it leaves short.
    assert found(mixed) == {"vector_block": 2}


def test_a_table_of_another_dimension_is_found(mixed):
    with raw(mixed) as file:
        file.execute("UPDATE vector_embedding_profiles SET dimension = 64")
        tables = file.execute("SELECT count(*) FROM vector_index_schemas WHERE enabled = 1").get
    assert found(mixed) == {"vector_table_definition": tables, "profile_identity": 1}


def test_inflight_work_of_no_process_is_found_by_a_reader(mixed):
    with raw(mixed) as file:
        file.execute("UPDATE vector_projection_work SET state = 'inflight', cause = NULL")
        stuck = file.changes()
    with fathomdb.open(mixed, read_only=True) as db:
        assert db.admin.check_integrity().found == {"work_stuck": stuck}


def test_inflight_work_of_a_process_that_was_killed_is_no_fault(mixed):
    with raw(mixed) as file:
        file.execute("UPDATE vector_projection_work SET state = 'inflight', cause = NULL")
        file.execute("UPDATE engine_status SET value = 4711 WHERE name = 'pid'")
    with fathomdb.open(mixed, read_only=True) as db:
        assert db.admin.check_integrity().ok


def test_a_shadow_table_that_is_gone_is_reported_and_the_rest_still_checked(mixed):
    with raw(mixed) as file:
        file.execute(f"DELETE FROM vector_projection_work; DROP TABLE {VEC}_vector_chunks00")
    codes = found(mixed)
    assert codes.pop("unreadable") == 1
    assert codes.keys() == {"vector_not_owed"}


def test_a_flood_of_one_sort_is_counted_and_does_not_hide_another(mixed):
    with raw(mixed) as file:
        file.execute(f"UPDATE vector_ledger SET canonical_hash = {HASH}")
        flood = file.changes()
        file.execute(f"UPDATE chunks SET ordinal = 7 WHERE chunk_key = {KEY}")
    with fathomdb.open(mixed, embedder=False) as db:
        report = db.admin.check_integrity()

    assert not report.ok
    assert report.found == {"ledger_hash": flood, "chunk_order": 1}
    assert flood > FINDINGS_PER_CODE
    assert len(report.findings) == FINDINGS_PER_CODE + 1


def test_a_read_only_engine_says_what_it_could_not_check(mixed):
    with fathomdb.open(mixed, read_only=True) as db:
        report = db.admin.check_integrity()

    assert report.ok
    assert [said.split(",")[0] for said in report.skipped] == [
        "constraints",
        "the words of the full-text index",
    ]


def test_a_reader_that_searched_before_a_write_reports_no_damage(db, open_db):
    reader = open_db(read_only=True)
    for turn in range(30):
        db.write([Node("Doc", f"d{n}", f"text {n} {turn}") for n in range(20)])
        db.write(retire=[f"d{turn % 20}"])
        # FTS5 keeps what it read of the index on this connection.
        reader.text_search("text")
        db.write([Node("Doc", f"d{n}", f"other words {n} {turn}") for n in range(20)])

        assert reader.admin.check_integrity().findings == ()


def test_what_is_written_during_a_check_is_no_finding(
    open_db: Callable[..., fathomdb.Engine],
) -> None:
    db = open_db(background=True)
    stop, failures = threading.Event(), []

    def write() -> None:
        turn = 0
        while not stop.is_set():
            turn += 1
            try:
                db.write([Node("Doc", f"d{n}", f"text {n} {turn}") for n in range(20)])
                db.write(retire=[f"d{turn % 20}"])
            except Exception as error:
                failures.append(error)
                return

    writers = [threading.Thread(target=write) for _ in range(2)]
    for writer in writers:
        writer.start()
    try:
        reports = [db.admin.check_integrity() for _ in range(10)]
    finally:
        stop.set()
        for writer in writers:
            writer.join()

    assert failures == []
    assert [report.findings for report in reports] == [()] * 10


def test_the_check_leaves_rows_of_its_commit_group_in_the_text_index(
    open_db: Callable[..., fathomdb.Engine],
) -> None:
    db = open_db()
    held, go = threading.Event(), threading.Event()

    def hold(tx: object) -> None:
        held.set()
        go.wait(30)

    threads = [threading.Thread(target=db._runtime.write, args=(hold,))]
    threads[0].start()
    held.wait(30)
    # Both wait in the mailbox now, so that they are committed as one group.
    threads.append(threading.Thread(target=db.write, args=(Node("Doc", "d1", "grouped words"),)))
    threads[1].start()
    while db._runtime._owned.writer._mailbox.qsize() < 1:
        pass
    reports = []
    threads.append(threading.Thread(target=lambda: reports.append(db.admin.check_integrity())))
    threads[2].start()
    while db._runtime._owned.writer._mailbox.qsize() < 2:
        pass
    go.set()
    for thread in threads:
        thread.join()

    assert reports[0].ok, reports[0].findings
    assert [hit.node_id for hit in db.text_search("grouped")] == ["d1"]
    assert db.admin.check_integrity().ok


def test_a_commit_in_the_middle_of_sqlites_own_check_is_no_finding(db, path):
    db.write(Node("Doc", f"n{n}", f"word{n} alpha") for n in range(10))
    written = []

    class WritesBetween:
        """A checker that others write beside: enough that FTS5 merges what was read before."""

        def execute(self, sql, *bindings):
            if sql == "PRAGMA integrity_check":
                written.extend(db.write(Node("Doc", f"m{n}", f"word{n} beta")) for n in range(60))
            return checker.execute(sql, *bindings)

    with contextlib.closing(open_checker(path, cache_mib=8)) as checker:
        assert list(audit.sqlite(WritesBetween())) == []
    assert len(written) == 60
    assert db.admin.check_integrity().ok
