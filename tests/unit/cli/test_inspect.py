"""What ``fathomdb inspect`` shows of a record, in the states that a record can be in."""

from __future__ import annotations

import json

import fathomdb


def test_the_verdict_comes_first(run, notes):
    done = run("inspect", "rain", "--db", notes)

    assert done.code == 0
    with fathomdb.open(notes, read_only=True) as db:
        assert done.out.splitlines()[0] == db.admin.inspect("rain").verdict


def test_with_a_query_it_has_ranks_and_filters(run, notes):
    arguments = ("inspect", "euro", "--db", notes, "--query", "rain", "--where", '{"year": 2024}')

    shown, said = run(*arguments), run(*arguments, "--json").json

    assert "does not meet, it has 2020: " in shown.out
    assert said["query"]["filters"][0]["passes"] is False
    assert said["verdict"] == shown.out.splitlines()[0]


def test_a_query_that_finds_it_shows_where_and_by_which_scores(run, notes):
    shown = _facts(run("inspect", "rain", "--db", notes, "--query", "rain in paris").out)

    assert shown["rank"] == "1"
    assert shown["by words"].startswith("1 (score ")
    assert shown["by meaning"].startswith("1 (distance ")


def test_without_a_model_it_says_why_nothing_was_looked_for_by_meaning(run, notes):
    options = ("--query", "rain", "--embedder", "none", "--where", '{"year": {"gte": 2020}}')

    shown = _facts(run("inspect", "rain", "--db", notes, *options).out)

    assert shown["by meaning"].startswith("not looked for: ")
    assert shown["filter"].startswith("meets ")


def test_a_record_that_is_not_there_ends_with_1(run, notes):
    done = run("inspect", "nobody", "--db", notes)

    assert done.code == 1
    assert "never written" in done.out


def test_a_record_without_text_has_no_chunks_to_show(run, notes):
    done = run("inspect", "bare", "--db", notes)

    assert done.code == 0
    assert "chunk  " not in done.out


def test_a_rewritten_and_then_retired_record_says_so(run, open_db, path):
    db = open_db(embedder=False)
    for text in ("one", "two", "three"):
        db.write(fathomdb.Node("Note", "n1", text))
    db.close()
    assert "live, written in commit 3, 2 older versions" in run("inspect", "n1", "--db", path).out

    db = open_db(embedder=False)
    db.write(retire=["n1"])
    db.close()
    done = run("inspect", "n1", "--db", path)

    assert done.code == 1
    assert "retired in commit 4" in done.out


def test_each_chunk_says_what_became_of_its_vector(run, jsonl, path, plugins):
    given = [{"id": "good", "text": "fine"}, {"id": "spoilt", "text": "bad"}]
    options = ("--db", path, "--kind", "Note", "--embedder", "picky")
    run("ingest", jsonl(given), *options)
    run("ingest", jsonl([{"id": "new", "text": "later"}]), *options, "--no-wait")

    assert "current" in run("inspect", "good", "--db", path).out
    assert "failed: not_finite" in run("inspect", "spoilt", "--db", path).out
    assert "pending" in run("inspect", "new", "--db", path).out


def test_a_row_that_waits_to_be_tried_again_says_for_how_long(run, open_db, path):
    @fathomdb.embedder("test/refuses", dimension=2)
    def refuses(texts):
        if any("bad" in text for text in texts):
            raise ValueError("not this one")
        return [[1.0, 2.0]] * len(texts)

    db = open_db(embedder=refuses)
    db.write(fathomdb.Node("Note", "n1", "bad"))
    db.admin.run_tick()
    db.close()

    assert "again in " in run("inspect", "n1", "--db", path).out


def test_a_kind_whose_index_was_disabled_is_named_so_and_its_chunks_have_no_vector(
    run, open_db, path
):
    db = open_db()
    db.write(fathomdb.Node("Note", "n1", "text"))
    db.admin.disable_vec("Note")
    db.close()

    shown = run("inspect", "n1", "--db", path).out

    assert _facts(shown)["vector index"] == "disabled"
    assert shown.splitlines()[-1].split() == ["n1#0", "indexed", "none", "text"]


def test_of_many_chunks_it_shows_twenty_and_as_json_all(run, open_db, path):
    db = open_db(embedder=False)
    chunks = [fathomdb.Chunk(f"piece {number}") for number in range(23)]
    db.write(fathomdb.Node("Note", "n1", chunks=chunks))
    db.close()

    shown = run("inspect", "n1", "--db", path)

    assert "and 3 chunks more (--json has all)" in shown.out
    assert len(json.loads(run("inspect", "n1", "--db", path, "--json").out)["chunks"]) == 23


def _facts(out):
    """The lines of a name, two blanks and what is said of it."""
    pairs = (line.split("  ", 1) for line in out.splitlines() if "  " in line)
    return {name: said.strip() for name, said in pairs}
