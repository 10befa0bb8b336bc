from __future__ import annotations

import os
import subprocess
import sys

import fathomdb
import inside
from fathomdb.testing import DeterministicEmbedder


def test_another_process_sees_what_waits_while_the_owner_works(spawn, open_db, path):
    db = open_db()
    db.write(fathomdb.Node("Note", f"n{n}", f"text {n}") for n in range(7))

    said = spawn("status", "--db", path, "--json").json
    shown = spawn("status", "--db", path)

    assert (said["pending"], said["owner_pid"]) == (7, os.getpid())
    assert said["kinds"][0]["nodes"] == 7
    assert f"process {os.getpid()}" in shown.out
    assert "7 chunks wait for a vector" in shown.out
    assert "drain" not in shown.out


def test_what_waits_without_an_owner_names_the_command_that_makes_it(run, notes, jsonl):
    run(
        *("ingest", jsonl([{"id": "x", "text": "later"}])),
        *("--db", notes, "--kind", "Note", "--no-wait"),
    )

    assert f"fathomdb drain --db {notes}" in run("status", "--db", notes).out


def test_a_complete_file_shows_its_kinds_and_nothing_to_do(run, notes):
    done = run("status", "--db", notes)

    assert done.code == 0
    row = next(line.split() for line in done.out.splitlines() if line.startswith("Note"))
    assert row == ["Note", "3", "2", "100", "%", "fresh"]
    assert "wait" not in done.out.split("index")[1]
    assert "no process has it open" in done.out


def test_failed_vectors_are_shown_with_their_cause(run, jsonl, path, plugins):
    run(
        *("ingest", jsonl([{"id": "x", "text": "bad"}])),
        *("--db", path, "--kind", "Note", "--embedder", "picky"),
    )

    assert "1 vector of kind Note failed" in run("status", "--db", path).out


def test_an_owner_that_died_has_the_file_open_no_more(run, path):
    code = (
        f"import os, fathomdb; db = fathomdb.open({path!r}); "
        "db.write(fathomdb.Node('Note', 'a', 'text')); os._exit(9)"
    )
    died = subprocess.Popen([sys.executable, "-c", code])
    died.wait()

    done = run("status", "--db", path)

    assert "no process has it open for writing" in done.out


def test_no_line_is_wider_than_the_terminal_or_ends_in_blanks(run, notes):
    lines = run("status", "--db", notes).out.splitlines()

    assert [line for line in lines[1:] if len(line) > 80] == []
    assert [line for line in lines if line != line.rstrip()] == []


class Short(DeterministicEmbedder):
    """Reads two words of a text."""

    max_tokens = 2

    def count_truncated(self, texts):
        return sum(len(text.split()) > self.max_tokens for text in texts)


def test_texts_that_were_cut_are_counted(run, open_db, path):
    db = open_db(embedder=Short())
    db.write([fathomdb.Node("Note", "n1", "one two three"), fathomdb.Node("Note", "n2", "four")])
    db.admin.drain_vector_projection(timeout=30)
    db.close()

    assert "1 text longer than the model reads" in run("status", "--db", path).out


def test_kinds_without_an_index_and_with_a_disabled_one_say_so(run, open_db, path):
    db = open_db(index_kinds=["Note"])
    db.write([fathomdb.Node("Note", "n1", "text"), fathomdb.Node("Task", "t1", "text")])
    db.admin.disable_vec("Note")
    db.close()

    rows = [line.split() for line in run("status", "--db", path).out.splitlines()]

    assert ["Note", "1", "1", "disabled"] in rows
    assert ["Task", "1", "1", "none"] in rows


def test_an_erasure_that_a_reader_delays_is_shown_until_it_is_done(run, spawn, open_db, path):
    db = open_db()
    db.write(fathomdb.Node("Note", "a", "text"))
    with (
        fathomdb.open(path, read_only=True, embedder=False) as reader,
        inside.snapshot(reader) as c,
    ):
        assert c.execute("SELECT count(*) FROM nodes").get == 1
        db.admin.erase("a")
        shown = spawn("status", "--db", path)
        assert "An erasure is not complete" in shown.out
        assert spawn("status", "--db", path, "--json").json["erasure_pending"] is True
    db.write(fathomdb.Node("Note", "b", "text"))
    db.close()
    assert "An erasure" not in run("status", "--db", path).out


def test_a_switch_that_is_under_way_is_shown_kind_by_kind(run, open_db, path):
    identity = fathomdb.EmbedderIdentity("test/second", "2", 48)
    with open_db() as db:
        db.write(fathomdb.Node("Doc" if n % 2 else "Memo", f"n{n}", f"text {n}") for n in range(60))
        db.admin.drain_vector_projection()
        second = DeterministicEmbedder(48, identity=identity)
        db.admin.configure_embedding(second, acknowledge_rebuild_impact=True)
        db.admin.run_tick()
        db.admin.pause_switch()

    shown = run("status", "--db", path)
    said = run("status", "--db", path, "--json").json["switch"]

    assert "Switching to test/second@2 (48 dimensions)" in shown.out
    rows = [line.split() for line in shown.out.partition("Switching")[2].splitlines()]
    assert ["Doc", "100", "%", "new", "model"] in rows
    assert any(row[:1] == ["Memo"] and row[-2:] == ["old", "model"] for row in rows)
    assert "it is paused" in shown.out
    assert (said["paused"], [kind["answers"] for kind in said["kinds"]]) == (True, [True, False])


def test_a_model_that_is_kept_is_shown(run, open_db, path):
    identity = fathomdb.EmbedderIdentity("test/second", "2", 48)
    with open_db() as db:
        db.write(fathomdb.Node("Doc", "a", "text"))
        second = DeterministicEmbedder(48, identity=identity)
        db.admin.configure_embedding(second, acknowledge_rebuild_impact=True)
        db.admin.drain_vector_projection()

    assert "deterministic-test@0 (32 dimensions), for a rollback" in run("status", "--db", path).out


def test_a_drain_says_of_a_switch_that_is_paused_that_it_waits(run, open_db, path):
    with open_db(embedder="hashing") as db:
        db.write(fathomdb.Node("Doc", "a", "text"))
        db.admin.drain_vector_projection()
        db.admin.configure_embedding("hashing:512", acknowledge_rebuild_impact=True)
        db.admin.pause_switch()

    done = run("drain", "--db", path)

    assert done.code == 0
    said = " ".join(done.out.split())
    assert said.startswith("Nothing to do now: the switch to fathomdb/hashing-lexical@1 (512")
    assert "it is paused" in said
