"""Searches by codes: what they find is what comparing every vector finds, whatever happens."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import threading

import apsw
import numpy as np
import pytest

import fathomdb
from fathomdb import Chunk, EmbedderIdentity, Node
from fathomdb.config import EngineConfig
from fathomdb.store import codes, vectors
from fathomdb.store.transaction import Transaction
from fathomdb.testing import temporary
from faults import raw

SEED = 20261123
DIMENSION = 96
CONFIG = EngineConfig(exact_below_rows=1)


class Seeded:
    """A vector for each text that looks like any other and is the same in every process."""

    def identity(self):
        return EmbedderIdentity("test/seeded", "1", DIMENSION)

    def batch_embed(self, texts):
        return np.stack([vector_of(text) for text in texts])


def vector_of(text):
    numbers = np.random.default_rng([*text.encode()]).standard_normal(DIMENSION)
    return (numbers / np.linalg.norm(numbers)).astype(np.float32)


def nodes(first, count, **properties):
    return [
        Node("Doc", f"n{n}", f"text {n}", {"n": n, **properties})
        for n in range(first, first + count)
    ]


@pytest.fixture(params=[True, False], ids=["int8", "signs"])
def db(request):
    config = EngineConfig(exact_below_rows=1, codes_int8=request.param)
    with temporary(embedder=Seeded(), background=False, config=config) as engine:
        engine.write(nodes(0, 600))
        engine.admin.drain_vector_projection()
        yield engine


def looks(result):
    return [look for arm in result.explanation["vector_arms"] for look in arm["looks"]]


def by(engine, query, **keywords):
    """What a search finds, and how it looked."""
    result = engine.raw_vector_search(vector_of(query), explain=True, **keywords)
    return [hit.node_id for hit in result], looks(result)


def assert_finds_the_same(engine, query, **keywords):
    """By codes, what is found by comparing every vector, distances to the bit."""
    vector = vector_of(query)
    found = engine.raw_vector_search(vector, explain=True, **keywords)
    exact = engine.raw_vector_search(vector, explain=True, exact=True, **keywords)
    assert {look["by"] for look in looks(found)} == {"codes"}
    assert not found.explanation["exact"]
    assert exact.explanation["exact"]
    assert [(h.chunk_id, h.distance) for h in found] == [(h.chunk_id, h.distance) for h in exact]


def test_it_finds_what_comparing_every_vector_finds(db):
    for n in range(0, 600, 60):
        assert_finds_the_same(db, f"text {n}", limit=5)
        assert_finds_the_same(db, f"text {n}", limit=5, where={"n": {"gte": 300}})
        assert_finds_the_same(db, f"text {n}", limit=5, ids=[f"n{k}" for k in range(0, 600, 7)])


@pytest.fixture
def asked(monkeypatch):
    """How many chunks were asked at once whether they meet a filter, each time."""
    whole = codes._meeting
    counts = []

    def meeting(db, where, chunk_keys):
        counts.append(len(chunk_keys))
        return whole(db, where, chunk_keys)

    monkeypatch.setattr(codes, "_meeting", meeting)
    monkeypatch.setattr(codes, "_ASKED_FIRST", 2)
    monkeypatch.setattr(codes, "_ASKED_SHARE", 1)
    monkeypatch.setattr(codes, "reads_of", lambda k, *, int8: k + (11 if int8 else 190))
    return counts


@pytest.mark.parametrize("share", [1, 2, 5, 20])
def test_what_many_chunks_meet_is_asked_of_the_nearest(db, asked, share):
    allowed = [f"n{k}" for k in range(0, 600, share)]
    for n in range(0, 600, 60):
        assert_finds_the_same(db, f"text {n}", limit=5, ids=allowed)
    is_long = len(allowed) >= codes._ASKED_FIRST * codes.reads_of(6, int8=db._runtime.codes._int8)
    assert any(asked) == is_long
    assert max(asked, default=0) <= 600


def test_what_changed_since_is_asked_too(db, asked):
    by(db, "text 6")
    with db._runtime.snapshot() as before:
        found, how = search_in(before, db, "text 6", where={"n": {"lt": 500}})
        assert how == ["codes"]
        rewrite(db)
        db.write(nodes(5000, 3))
        db.admin.drain_vector_projection()
        assert search_in(before, db, "text 6", where={"n": {"lt": 500}}) == (found, ["codes"])
    assert_finds_the_same(db, "text 5001", limit=5, where={"n": {"lt": 500}})


def test_what_too_few_chunks_meet_to_be_asked_is_listed(db, asked, monkeypatch):
    monkeypatch.setattr(codes, "_MOST_ASKED", 0)
    assert_finds_the_same(db, "text 6", limit=5, where={"n": {"lt": 500}})
    assert not any(asked)


def test_few_allowed_chunks_are_all_compared(db):
    allowed = [f"n{k}" for k in range(0, 50, 5)]
    found, how = by(db, "text 300", ids=allowed, limit=4)
    assert how == [{"kind": "Doc", "by": "codes", "why": None, "compared": 10, "error": None}]
    assert found == by(db, "text 300", ids=allowed, limit=4, exact=True)[0]


def test_allowed_chunks_without_a_vector_are_no_damage(db, caplog):
    db.write(nodes(600, 3))  # owed their vectors
    index = db._runtime.codes._indexes
    assert_finds_the_same(db, "text 1", limit=4, ids=["n1", "n2", "n601", "n602"])
    assert_finds_the_same(db, "text 1", limit=4, where={"n": {"gte": 597}})
    kept = {**index}
    db.raw_vector_search(vector_of("text 1"), ids=["n1", "n601"])
    assert (kept, caplog.text) == ({**index}, "")


def test_a_filter_over_two_kinds_goes_by_the_codes_of_both(db, caplog):
    db.write([Node("Note", f"note{n}", f"note {n}", {"n": n}) for n in range(600)])
    db.admin.drain_vector_projection()
    for keywords in ({"ids": ["n1", "note1"]}, {"where": {"n": {"lt": 3}}}):
        assert_finds_the_same(db, "text 1", limit=8, **keywords)
        assert_finds_the_same(db, "text 1", limit=8, kind=["Doc", "Note"], **keywords)
    assert caplog.text == ""


def test_a_search_whose_candidates_go_while_it_looks_compares_every_vector(db, monkeypatch):
    """A commit is seen, and takes from the codes what was chosen by them just before."""
    query, apply, answers = vector_of("text 1"), codes.Codes.apply, []
    assert by(db, "text 1")[1][0]["by"] == "codes"
    (index,) = db._runtime.codes._indexes.values()
    inner = index.codes
    gone = {hit.node_id for hit in db.raw_vector_search(query, limit=595, exact=True)}

    class Racing:
        def __init__(self, change):
            self.change = change

        def __len__(self):
            return len(inner)

        def __getattr__(self, name):
            return getattr(inner, name)

        def search(self, blob, candidates, most, *within):
            # As the native one: rows that are gone are left out of what was chosen already.
            chosen = inner.search(blob, most, most, *within)
            self.change()
            return [key for key in chosen if key in {*inner.keys()}]

    def applied_while_a_search_looks(self, number, changes):
        index.codes = Racing(lambda: apply(self, number, changes))
        looking = threading.Thread(target=lambda: answers.append(by(db, "text 1", limit=5)))
        looking.start()
        looking.join(30)
        index.codes = inner

    monkeypatch.setattr(codes.Codes, "apply", applied_while_a_search_looks)
    db.write(retire=gone)
    monkeypatch.undo()

    ((found, how),) = answers
    assert how == [
        {"kind": "Doc", "by": "exact", "why": "changing", "compared": None, "error": None}
    ]
    assert found == by(db, "text 1", limit=5, exact=True)[0]
    assert len(found) == 5


def test_a_node_with_many_chunks_hides_no_other_one(db):
    db.write(Node("Doc", "crowd", chunks=[Chunk(f"text {n} ") for n in range(300)]))
    db.write(Node("Doc", "same", chunks=[Chunk("text 5")] * 1))
    db.admin.drain_vector_projection()
    assert_finds_the_same(db, "text 5 ", limit=3, chunks_per_node=1)
    assert_finds_the_same(db, "text 5", limit=3, chunks_per_node=2)


def test_few_vectors_and_many_hits_are_compared_one_by_one():
    with temporary(
        embedder=Seeded(), background=False, config=EngineConfig(exact_below_rows=550)
    ) as db:
        db.write(nodes(0, 300))
        db.admin.drain_vector_projection()
        assert by(db, "text 1")[1][0]["why"] == "small"
        db.write(nodes(300, 300))
        db.admin.drain_vector_projection()
        assert by(db, "text 1")[1][0]["by"] == "codes"
        assert by(db, "text 1", limit=200)[1][0]["by"] == "codes"
        assert by(db, "text 1", limit=1000)[1][0]["why"] == "small"


def rewrite(db):
    db.write(Node("Doc", "n5", "text 1005"))
    db.admin.drain_vector_projection()


def retire(db):
    db.write(retire=["n6", "n7"])


def erase(db):
    db.admin.erase(["n8"])


def add(db):
    db.write(nodes(2000, 40))
    db.admin.drain_vector_projection()


def rebuild(db):
    db.admin.rebuild("Doc", target="vec")
    db.admin.drain_vector_projection()


def disable_and_enable(db):
    db.admin.disable_vec("Doc")
    db.admin.configure_vec("Doc")
    db.admin.drain_vector_projection()


def write_ready(db):
    db.write(Node("Doc", "ready", chunks=[Chunk("anything", vector=vector_of("text 2"))]))


CHANGES = [rewrite, retire, erase, add, rebuild, disable_and_enable]


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
def test_after_every_change_the_next_search_sees_it(db, change):
    queries = ["text 5", "text 6", "text 8", "text 1005", "text 2003"]
    for query in queries:
        assert_finds_the_same(db, query, limit=5)
    change(db)
    for query in queries:
        assert_finds_the_same(db, query, limit=5)
    assert_codes_are_of_the_table(db)


def assert_codes_are_of_the_table(db):
    with db._runtime.snapshot() as connection:
        (table,) = (
            row[0]
            for row in connection.execute("SELECT name FROM sqlite_master WHERE sql LIKE '%vec0(%'")
        )
        there = {row[0] for row in connection.execute(f'SELECT chunk_key FROM "{table}"')}
    assert db._runtime.codes.chunk_keys(table) == there


class RefusedError(Exception):
    pass


def test_what_was_rolled_back_was_never_there(db, monkeypatch):
    from fathomdb.store import nodes as node_rows

    assert_finds_the_same(db, "text 6", limit=5)

    def refuse(*_):
        raise RefusedError

    with monkeypatch.context() as patch:
        patch.setattr(node_rows, "retire", refuse)  # after the vectors were removed
        with pytest.raises(RefusedError):
            db.write(retire=["n6"])
    assert by(db, "text 6", limit=1)[0] == ["n6"]
    assert_finds_the_same(db, "text 6", limit=5)
    assert_codes_are_of_the_table(db)


def test_a_request_that_is_rolled_back_in_a_group_changes_no_codes(db):
    assert_finds_the_same(db, "text 6", limit=5)
    begun, go = threading.Event(), threading.Event()

    def hold(_):
        begun.set()
        assert go.wait(30)

    def refused(tx):
        (key,) = tx.db.execute("SELECT chunk_key FROM chunks WHERE chunk_id = 'n6#0'").fetchone()
        vectors.delete(tx.db, "Doc", [key], tx.vectors)
        raise RefusedError

    submit = db._runtime._owned.writer.submit
    submit(hold, timeout_seconds=30.0)
    assert begun.wait(30)
    first = submit(refused, timeout_seconds=30.0)
    second = submit(lambda tx: tx.cursor(), timeout_seconds=30.0)
    go.set()  # both are of one commit
    assert second.result(30)
    with pytest.raises(RefusedError):
        first.result(30)
    assert by(db, "text 6", limit=1)[0] == ["n6"]
    assert_finds_the_same(db, "text 6", limit=5)
    assert_codes_are_of_the_table(db)


def test_a_commit_that_raises_and_stands_all_the_same_is_not_missed(db, monkeypatch):
    assert_finds_the_same(db, "text 6", limit=5)
    whole = Transaction.commit

    def commit(self):
        whole(self)
        raise apsw.IOError

    db.write(nodes(5000, 1))
    with monkeypatch.context() as patch:
        patch.setattr(Transaction, "commit", commit)
        with pytest.raises(fathomdb.StorageError):
            db.write(retire=["n6"])
    assert db.get("n6") is None
    for n in range(3):
        db.write(retire=[f"n{n}"])
    assert_finds_the_same(db, "text 6", limit=5)
    assert_codes_are_of_the_table(db)


def test_a_commit_that_fails_leaves_no_codes_that_only_it_had(db, monkeypatch):
    assert_finds_the_same(db, "text 6", limit=5)
    whole = codes.Codes.publish

    def publish(self, number, changes):
        whole(self, number, changes)
        raise RefusedError

    with monkeypatch.context() as patch:
        patch.setattr(codes.Codes, "publish", publish)
        with pytest.raises(RefusedError):
            db.write(retire=["n6"])
    assert by(db, "text 6", limit=1)[0] == ["n6"]
    db.write(retire=["n7"])
    assert_finds_the_same(db, "text 6", limit=5)
    assert_codes_are_of_the_table(db)


def test_after_a_commit_that_failed_codes_are_back_with_the_next_transaction(db):
    every = db._runtime.codes
    with db._runtime.snapshot() as connection:
        at = codes.commits(connection)
        every.publish(at + 1, codes.Changes())
        every.withdraw()
        for _ in range(2):
            assert search_in(connection, db, "text 6")[1] == ["older"]
    db.write(Node("Doc", "no text", None, {"changes": "no vector"}))
    assert_finds_the_same(db, "text 6", limit=5)


def search_in(connection, db, query, limit=5, where=None):
    """(found, why) of a search in a snapshot that a test holds."""
    from fathomdb.search import filters, vector
    from fathomdb.store import profiles

    looked = []
    profile = profiles.active(connection)
    rows = vector.search(
        connection,
        vector_of(query).tobytes(),
        profile,
        ["Doc"],
        filters.build(where=where),
        limit=limit,
        per_node=1,
        codes=db._runtime.codes,
        looks=looked,
    )
    return [row.chunk_key for row in rows], [look.why or look.by for look in looked]


def test_a_snapshot_from_before_a_change_sees_what_was_there(db):
    by(db, "text 6")
    with db._runtime.snapshot() as before:
        expected, how = search_in(before, db, "text 6")
        assert how == ["codes"]
        retire(db)
        rewrite(db)
        add(db)
        assert search_in(before, db, "text 6") == (expected, ["codes"])
    with db._runtime.snapshot() as after:
        assert search_in(after, db, "text 6")[0] != expected


def test_a_snapshot_from_before_the_codes_compares_every_vector(db):
    with db._runtime.snapshot() as before:
        before.execute("SELECT count(*) FROM nodes").fetchall()
        retire(db)
        by(db, "text 6")  # reads the codes
        found, how = search_in(before, db, "text 6")
        assert how == ["older"]
        assert len(found) == 5


@pytest.mark.parametrize("wrong", ["-5", "9223372036854775807"])
def test_where_the_file_counts_no_commits_every_vector_is_compared_until_it_does(db, wrong):
    by(db, "text 6")  # reads the codes
    with raw(db._runtime.path) as file:
        file.execute(
            "PRAGMA ignore_check_constraints = ON; "
            f"UPDATE engine_state SET vector_commits = {wrong}"
        )
    assert {look["by"] for look in by(db, "text 6")[1]} != {"codes"}

    retire(db)  # a change of vectors gives the file a number again

    for n in (6, 300):
        assert_finds_the_same(db, f"text {n}", limit=5)


def add_more_than_is_logged(db, monkeypatch):
    monkeypatch.setattr(codes, "_MOST_LOGGED", 20)
    for first in (2000, 3000):
        db.write(nodes(first, 30))
        db.admin.drain_vector_projection()


def test_codes_that_are_told_of_changes_and_never_read_are_forgotten(db, monkeypatch):
    with db._runtime.snapshot() as before:
        before.execute("SELECT count(*) FROM nodes").fetchall()
        retire(db)
        assert search_in(before, db, "text 6")[1] == ["older"]
    ((table, _),) = db._runtime.codes._indexes.items()
    add_more_than_is_logged(db, monkeypatch)
    assert db._runtime.codes.size(table) == (0, 0)
    assert_finds_the_same(db, "text 2007", limit=5)


def test_codes_that_were_read_are_kept_however_much_changes(db, monkeypatch):
    by(db, "text 6")
    ((_, index),) = db._runtime.codes._indexes.items()
    add_more_than_is_logged(db, monkeypatch)
    assert [*db._runtime.codes._indexes.values()] == [index]
    assert_finds_the_same(db, "text 2007", limit=5)


def test_codes_that_are_being_read_are_kept_however_much_changes(db, monkeypatch):
    whole = codes._read_into

    def read_into(*given):
        add_more_than_is_logged(db, monkeypatch)
        whole(*given)

    with monkeypatch.context() as patch:
        patch.setattr(codes, "_read_into", read_into)
        assert [look["why"] for look in by(db, "text 6")[1]] == ["changing"]
    assert [index.is_loaded for index in db._runtime.codes._indexes.values()] == [True]
    assert_finds_the_same(db, "text 2007", limit=5)


def test_a_snapshot_from_before_too_many_changes_compares_every_vector(db):
    by(db, "text 6")
    with db._runtime.snapshot() as before:
        expected, _ = search_in(before, db, "text 6")
        db.write(nodes(5000, codes._MOST_CHANGED + 1))
        db.admin.drain_vector_projection()
        assert search_in(before, db, "text 6") == (expected, ["changing"])


def test_codes_that_have_outgrown_what_was_measured_are_read_again(db, monkeypatch):
    monkeypatch.setattr(codes, "_SMALL_GROWTH", 10)
    assert [look["by"] for look in by(db, "text 5")[1]] == ["codes"]
    db.write(nodes(600, 700))
    db.admin.drain_vector_projection()
    assert [look["by"] for look in by(db, "text 5")[1]] == ["exact"]
    assert [look["by"] for look in by(db, "text 5")[1]] == ["codes"]
    assert db.admin.get_vec_index_status("Doc").codes_rows == 1300


def test_a_change_that_is_forgotten_while_a_search_scans_has_it_compare_every_vector(db):
    by(db, "text 5")
    every = db._runtime.codes
    ((table, index),) = every._indexes.items()
    blob = vector_of("text 7").tobytes()
    with db._runtime.snapshot() as connection:
        at = codes.commits(connection)
        index.applied, index.base = (
            at - 1,
            at,
        )  # published and not applied, then applied and trimmed
        assert every.candidates(connection, table, DIMENSION, blob, 5, None) == "changing"


def test_what_a_search_is_not_sure_to_see_in_the_codes_it_reads(db, monkeypatch):
    by(db, "text 6")
    whole = codes.Codes.apply
    seen = []

    def late(self, number, changes):
        # The commit can be seen, and the codes do not have it yet.
        seen.append(by(db, "text 5000", limit=1)[0])
        whole(self, number, changes)

    with monkeypatch.context() as patch:
        patch.setattr(codes.Codes, "apply", late)
        db.write(nodes(5000, 1))
        db.admin.drain_vector_projection()
    assert seen[-1] == ["n5000"]
    assert_finds_the_same(db, "text 5000", limit=5)


def test_codes_that_cannot_take_a_change_are_read_again(db, caplog):
    by(db, "text 6")
    index = next(iter(db._runtime.codes._indexes.values()))
    index.codes = None  # as out of memory
    add(db)
    assert "a call after a commit failed" in caplog.text
    assert_finds_the_same(db, "text 2003", limit=5)


def test_codes_that_name_what_is_not_there_are_found_out_and_read_again(db, caplog):
    by(db, "text 6")
    index = next(iter(db._runtime.codes._indexes.values()))
    index.codes.put([10**9], vector_of("text 6").tobytes(), [0])
    found, how = by(db, "text 6", limit=1)
    assert (found, how[0]["why"]) == (["n6"], "failed")
    assert "are read again" in how[0]["error"]
    assert "are read again" in caplog.text
    assert_finds_the_same(db, "text 6", limit=5)


def test_where_codes_cannot_be_read_every_vector_is_compared_and_it_is_said(
    db, monkeypatch, caplog
):
    def fail(*_):
        raise fathomdb.CorruptDatabaseError("a block is torn")

    with monkeypatch.context() as patch:
        patch.setattr(codes, "_read_into", fail)
        found, how = by(db, "text 6", limit=1)
    assert found == ["n6"]
    assert how == [
        {
            "kind": "Doc",
            "by": "exact",
            "why": "failed",
            "compared": None,
            "error": "a block is torn",
        }
    ]
    assert "a block is torn" in caplog.text
    assert_finds_the_same(db, "text 6", limit=5)


def test_blocks_without_vectors_are_found_out(db):
    with db._runtime.snapshot() as connection:
        (table,) = (
            row[0]
            for row in connection.execute("SELECT name FROM sqlite_master WHERE sql LIKE '%vec0(%'")
        )

    def tear(tx):
        tx.db.config(apsw.SQLITE_DBCONFIG_DEFENSIVE, 0)
        tx.db.execute(f'DELETE FROM "{table}_vector_chunks00" WHERE rowid = 3')

    db._runtime.write(tear)
    with db._runtime.snapshot() as connection:
        index = codes.Codes(follows=True, int8=True, exact_below_rows=1)
        with pytest.raises(fathomdb.CorruptDatabaseError, match="9 of its 10 blocks"):
            index.candidates(connection, table, DIMENSION, vector_of("x").tobytes(), 5, None)


def test_while_one_search_reads_them_another_compares_every_vector(db, monkeypatch):
    whole, others = codes._read_into, []

    def slow(*arguments):
        others.append(by(db, "text 7", limit=1))
        add(db)  # and what changes meanwhile is newer than what is read
        retire(db)
        whole(*arguments)

    monkeypatch.setattr(codes, "_read_into", slow)
    found, how = by(db, "text 6", limit=1)
    assert (found, how[0]["by"]) == (["n6"], "codes")
    assert others[0][0] == ["n7"]
    assert others[0][1][0]["why"] == "loading"
    assert_codes_are_of_the_table(db)
    assert_finds_the_same(db, "text 2003", limit=5)


def test_another_process_sees_what_the_owner_wrote_since_it_read_the_codes(tmp_path):
    path = str(tmp_path / "shared.db")
    with contextlib.ExitStack() as stack:
        owner = stack.enter_context(
            fathomdb.open(path, embedder=Seeded(), background=False, config=CONFIG)
        )
        owner.write(nodes(0, 300))
        owner.admin.drain_vector_projection()
        script = (
            "import sys; sys.path[:0] = sys.argv[2:]\n"
            "import fathomdb, test_codes as t\n"
            "with fathomdb.open(sys.argv[1], read_only=True, embedder=False, config=t.CONFIG) as db:\n"
            "    for line in sys.stdin:\n"
            "        found, how = t.by(db, line.strip(), limit=1)\n"
            "        print(found[0], how[0]['why'] or how[0]['by'], flush=True)\n"
        )
        reader = stack.enter_context(
            subprocess.Popen(
                [sys.executable, "-c", script, path, *sys.path, __file__.rpartition("/")[0]],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
        )

        def ask(query):
            reader.stdin.write(query + "\n")
            reader.stdin.flush()
            return reader.stdout.readline().split()

        assert ask("text 6") == ["n6", "codes"]
        owner.write(Node("Doc", "n6", "another text"))
        owner.admin.drain_vector_projection()
        assert ask("another text") == ["n6", "behind"]
        assert ask("another text") == ["n6", "codes"]
        add(owner)
        assert ask("text 2003") == ["n2003", "behind"]
        rewrite(owner)
        assert ask("text 1005") == ["n5", "behind"]
        assert ask("text 1005") == ["n5", "codes"]
        reader.stdin.close()


def test_status_says_what_they_take(db):
    assert db.admin.get_vec_index_status("Doc").codes_rows == 0
    by(db, "text 6")
    status = db.admin.get_vec_index_status("Doc")
    assert status.codes_rows == 600
    assert 600 * 20 < status.codes_bytes < 1024 * 200
    assert db.admin.status().kinds[0].vector_index == status
