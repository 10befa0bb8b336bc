"""repair: only what is wrong is changed, beside a working engine too; the matrix has each fault."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import pytest

import fathomdb
import inside
from fathomdb import EngineConfig, Node, ReadOnlyError
from fathomdb.admin import integrity
from fathomdb.admin.repair import BATCH, _Repairs
from fathomdb.store import vectors
from fathomdb.testing import DeterministicEmbedder, RecordingEmbedder
from faults import raw

if TYPE_CHECKING:
    from collections.abc import Callable

SPOIL = "UPDATE vector_ledger SET canonical_hash = zeroblob(32)"


def fill(db: fathomdb.Engine, count: int = 20) -> None:
    db.write([Node("Doc", f"d{n}", f"text number {n}") for n in range(count)])
    db.admin.drain_vector_projection()


def spoil(db: fathomdb.Engine, sql: str) -> None:
    """Does harm in a transaction of the engine's own writer, as a bug of ours would."""
    inside.in_writer(db, lambda tx: tx.db.execute(sql))


def dump(db: fathomdb.Engine) -> list[tuple[object, ...]]:
    with inside.snapshot(db) as connection:
        return [
            row
            for table in ("engine_state", "nodes", "chunks", "vector_ledger")
            for row in connection.execute(f"SELECT * FROM {table} ORDER BY 1")
        ] + connection.execute("SELECT * FROM vector_projection_work").fetchall()


def test_a_file_that_is_right_is_not_changed(db):
    fill(db)
    db.write(Node("Doc", "waits", "not embedded yet"))
    before = dump(db)

    report = db.admin.repair()

    assert (report.ok, report.found, report.repaired) == (True, {}, {})
    assert (report.done, report.remaining) == ((), ())
    assert report.integrity.ok
    assert dump(db) == before


def test_a_reader_is_refused(db, open_db):
    with pytest.raises(ReadOnlyError, match="open it for writing"):
        open_db(read_only=True).admin.repair()


def test_each_finding_has_what_was_done_about_it(db):
    fill(db, 3)
    spoil(db, f"{SPOIL} WHERE chunk_key = (SELECT chunk_key FROM chunks WHERE chunk_id = 'd1#0')")

    report = db.admin.repair()

    (done,) = report.done
    assert (done.finding.code, done.finding.chunk_id) == ("ledger_hash", "d1#0")
    assert done.done == "its vector was removed; a vector is owed to it"
    assert inside.work(db).keys() == {"d1#0"}
    assert inside.work(db)["d1#0"].priority == fathomdb.BACKFILL_PRIORITY


@pytest.mark.parametrize("wrong", ["-5", "9223372036854775807"])
def test_a_count_of_changed_vectors_that_cannot_be_begins_again_in_a_file_that_is_open(db, wrong):
    fill(db, 3)
    with raw(db._runtime.path) as file:
        file.execute(
            "PRAGMA ignore_check_constraints = ON; "
            f"UPDATE engine_state SET vector_commits = {wrong}"
        )

    assert db.admin.check_integrity().found["vector_commits"] == 1
    report = db.admin.repair()

    assert (report.ok, report.repaired) == (True, {"vector_commits": 1})
    assert [item.done for item in report.done] == ["commits that change vectors are counted anew"]


def test_a_text_whose_hash_is_wrong_keeps_its_text_and_is_said_to_be_compared(db):
    fill(db, 3)
    stored = inside.blobs(db)
    spoil(db, "UPDATE chunks SET canonical_hash = zeroblob(32) WHERE chunk_id = 'd1#0'")

    report = db.admin.repair()

    assert "compare that with its source" in report.done[0].done
    assert db.get("d1").text == "text number 1"
    # Its vector was made from that very text, says the ledger: it stays.
    assert inside.blobs(db) == stored
    assert inside.work(db) == {}


def test_what_was_written_since_it_was_found_is_left_alone(db):
    fill(db, 3)
    spoil(db, SPOIL)
    repairs = _Repairs(db._runtime)
    integrity.look(db._runtime, None, repairs.hear)
    # All of it waits to be put right, and meanwhile the program goes on.
    db.write(Node("Doc", "d0", "another text"))
    db.write(retire="d1")
    fresh = inside.work(db)["d0#0"]

    repairs.finish()

    assert inside.work(db)["d0#0"] == fresh
    assert db.get("d0").text == "another text"
    assert db.get("d1") is None
    assert inside.work(db).keys() == {"d0#0", "d2#0"}
    assert db.admin.check_integrity().ok


def test_what_is_really_inflight_is_neither_found_nor_touched(open_db):
    recording = RecordingEmbedder(DeterministicEmbedder())
    db = open_db(embedder=recording)
    db.write(Node("Doc", "d1", "text"))
    recording.hold()
    drain = threading.Thread(target=db.admin.drain_vector_projection)
    drain.start()
    recording.wait_held()
    try:
        claimed = inside.work(db)
        assert claimed["d1#0"].state == "inflight"
        assert db.admin.check_integrity().ok
        assert db.admin.repair().ok
        assert inside.work(db) == claimed
    finally:
        recording.release()
        drain.join()
    assert inside.work(db) == {}


def test_what_is_inflight_and_nothing_works_on_is_found_by_its_owner_and_waits_again(db):
    db.write(Node("Doc", "d1", "text"))
    spoil(db, "UPDATE vector_projection_work SET state = 'inflight', attempts = 1")

    assert db.admin.check_integrity().found == {"work_stuck": 1}
    report = db.admin.repair()

    assert (report.ok, report.repaired) == (True, {"work_stuck": 1})
    assert inside.work(db)["d1#0"].state == "pending"
    assert db.admin.drain_vector_projection().processed == 1


def test_claims_that_began_since_a_stuck_row_was_found_are_left_to_their_run(open_db):
    recording = RecordingEmbedder(DeterministicEmbedder())
    db = open_db(embedder=recording)
    db.write(Node("Doc", "d1", "text"))
    spoil(db, "UPDATE vector_projection_work SET state = 'inflight', attempts = 1")
    found: list[fathomdb.Finding] = []
    integrity.look(db._runtime, None, found.append)
    assert [finding.code for finding in found] == ["work_stuck"]
    db.write(Node("Doc", "d2", "another text"))
    recording.hold()
    drain = threading.Thread(target=db.admin.drain_vector_projection)
    drain.start()
    recording.wait_held()
    try:
        repairs = _Repairs(db._runtime)
        repairs.hear(found[0])
        repairs.finish()
        assert inside.work(db)["d2#0"].state == "inflight"
        assert repairs.count == 0
    finally:
        recording.release()
        drain.join()
    assert db.admin.repair().repaired == {"work_stuck": 1}


def test_vectors_that_were_made_since_strays_were_found_in_their_table_stay(db):
    fill(db, 3)
    spoil(db, "DELETE FROM vector_ledger")
    repairs = _Repairs(db._runtime)
    integrity.look(db._runtime, None, repairs.hear)
    db.admin.disable_vec("Doc")
    db.admin.configure_vec("Doc")
    db.admin.drain_vector_projection()
    stored = inside.blobs(db)

    repairs.finish()

    assert len(stored) == 3
    assert inside.blobs(db) == stored
    assert inside.work(db) == {}


def test_numbers_of_an_engine_without_limits_can_be_compared_with(open_db):
    config = EngineConfig(max_attempts=10**30, retry_wait_seconds=float("inf"))
    db = open_db(config=config)
    fill(db, 2)
    assert db.admin.check_integrity().ok


def test_a_repair_beside_writers_and_the_background_undoes_nothing(
    open_db: Callable[..., fathomdb.Engine],
) -> None:
    db = open_db(background=True)
    texts = {f"d{n}": f"text number {n}" for n in range(300)}
    assert db.wait(db.write([Node("Doc", key, text) for key, text in texts.items()])).complete
    stop, failures = threading.Event(), []

    def write() -> None:
        turn = 0
        while not stop.is_set():
            turn += 1
            try:
                for n in range(0, 300, 7):
                    texts[f"d{n}"] = f"text number {n} of turn {turn}"
                db.write([Node("Doc", f"d{n}", texts[f"d{n}"]) for n in range(0, 300, 7)])
            except Exception as error:
                failures.append(error)
                return

    writer = threading.Thread(target=write)
    writer.start()
    try:
        for _ in range(5):
            spoil(db, f"{SPOIL} WHERE chunk_key % 3 = 0")
            spoil(db, "DELETE FROM vector_projection_work WHERE chunk_key % 5 = 0")
            db.admin.repair()
    finally:
        stop.set()
        writer.join()

    assert failures == []
    assert db.admin.repair().ok
    db.admin.drain_vector_projection()
    assert {key: db.get(key).text for key in texts} == texts
    assert db.admin.check_integrity().ok
    inside.check(db, DeterministicEmbedder())
    assert len(inside.blobs(db)) == 300


def test_a_repair_of_many_rows_is_many_short_transactions(db):
    fill(db, 1000)
    spoil(db, SPOIL)
    changes, longest = [0], []
    connection = db._runtime._owned.writer._db

    def committed() -> bool:
        longest.append(changes[0])
        changes[0] = 0
        return False

    def changed(kind: int, database: str, table: str, key: int) -> None:
        changes[0] += table == "vector_projection_work"

    connection.set_update_hook(changed)
    connection.set_commit_hook(committed)
    try:
        report = db.admin.repair()
    finally:
        connection.set_update_hook(None)
        connection.set_commit_hook(None)

    assert report.ok
    assert report.repaired == {"ledger_hash": 1000}
    assert len(report.done) == integrity.FINDINGS_PER_CODE
    assert sum(longest) == 1000
    assert max(longest) <= BATCH


def test_a_damaged_page_is_said_and_the_rest_is_put_right(db, path):
    fill(db, 300)
    with inside.snapshot(db) as connection:
        page = connection.execute("SELECT rootpage FROM sqlite_master WHERE name = 'nodes'").get
    db.close()
    with raw(path) as file:
        file.execute(f"{SPOIL} WHERE chunk_key = 5")
    with open(path, "r+b") as file:
        file.seek((page - 1) * 8192)
        file.write(b"\xff" * 8192)

    with fathomdb.open(path, embedder=False) as damaged:
        report = damaged.admin.repair()

    assert not report.ok
    left = {item.finding.code: item.advice for item in report.remaining}
    assert "restore an export" in left["unreadable"]
    with raw(path) as file:
        assert file.execute("SELECT count(*) FROM chunks").get == 300


def test_no_table_is_made_for_a_model_that_is_not_described_rightly(db, path):
    fill(db, 3)
    db.close()
    table = vectors.table_name("Doc", 1)
    with raw(path) as file:
        file.execute(f'DROP TABLE "{table}"')
        # Nothing else in the file says which of the two, its name or its fingerprint, is right.
        file.execute(
            "UPDATE vector_embedding_profiles SET model_identity = 'another', dimension = 3"
        )

    with fathomdb.open(path, embedder=False) as damaged:
        report = damaged.admin.repair()

    left = {item.finding.code for item in report.remaining}
    assert left == {"profile_identity", "vector_table_missing"}
    with raw(path) as file:
        assert table not in vectors.tables(file)


def test_what_fails_to_be_put_right_stays_and_the_rest_is_put_right(db, path):
    fill(db, 3)
    db.close()
    with raw(path) as file:
        # Two live versions of one node: the index that forbids it cannot be made again.
        file.execute("DROP INDEX nodes_live")
        file.execute(
            "INSERT INTO nodes (logical_id, kind, split, written_cursor) VALUES ('d1', 'Doc', 1, 1)"
        )
        file.execute(SPOIL)

    with fathomdb.open(path, embedder=False) as damaged:
        report = damaged.admin.repair()

    assert [item.finding.table for item in report.remaining] == ["nodes_live"]
    assert report.repaired == {"ledger_hash": 3}
