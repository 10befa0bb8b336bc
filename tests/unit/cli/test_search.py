from __future__ import annotations

import json
import re

import pytest

import fathomdb


def test_hits_have_rank_score_id_arms_and_text(run, notes):
    done = run("search", "rain in paris", "--db", notes)

    assert done.code == 0
    first, text, *_ = done.out.splitlines()
    assert first.split()[0] == "1"
    assert first.split()[2:] == ["rain", "text+vector"]
    assert text.strip() == "Rain is forecast for Paris tomorrow"
    assert done.err == ""


def test_a_query_of_several_words_needs_no_quotes(run, notes):
    quoted = run("search", "rain in paris", "--db", notes, "--json").json
    bare = run("search", "rain", "in", "paris", "--db", notes, "--json").json

    assert bare == quoted


def test_json_has_hits_freshness_and_what_was_degraded(run, notes):
    said = run("search", "euros", "--db", notes, "--json", "--explain").json

    assert said["query"] == "euros"
    assert said["hits"][0]["node_id"] == "euro"
    assert said["hits"][0]["properties"] == {"year": 2020}
    assert said["freshness"]["pending"] == 0
    assert said["degraded"] is None
    assert said["explanation"]["mode"] == "hybrid"


def test_kind_limit_mode_and_where_narrow_it(run, notes):
    where = json.dumps({"year": {"gte": 2022}})

    def found(*options):
        hits = run("search", "rain or euros", "--db", notes, "--json", *options).json["hits"]
        return {hit["node_id"] for hit in hits}

    assert found() == {"rain", "euro"}
    assert len(found("--limit", "1")) == 1
    assert found("--where", where) == {"rain"}
    assert found("--mode", "text") == {"rain", "euro"}
    assert run("search", "x", "--db", notes, "--kind", "Nope").code == 1


def test_a_search_says_that_it_is_degraded_and_what_it_could_not_see(run, notes, jsonl):
    given = jsonl([{"id": "new", "text": "snow"}])
    run("ingest", given, "--db", notes, "--kind", "Note", "--no-wait")

    waiting = run("search", "snow", "--db", notes)
    degraded = run("search", "snow", "--db", notes, "--embedder", "none")

    assert "1 chunk waits for a vector" in waiting.err
    assert waiting.out.split()[2] == "new"
    assert "Degraded (no_embedder): " in degraded.err
    assert degraded.code == 0


def test_it_works_beside_the_owner(spawn, open_db, path):
    db = open_db(embedder="hashing")
    db.write(fathomdb.Node("Note", "a", "written a moment ago"))

    done = spawn("search", "moment", "--db", path, "--json")

    assert [hit["node_id"] for hit in done.json["hits"]] == ["a"]


def test_nothing_found_is_said_and_is_no_failure(run, notes):
    done = run("search", "xylophone", "--db", notes, "--mode", "text")

    assert (done.code, done.out) == (0, "")
    assert "Nothing was found" in done.err


@pytest.mark.parametrize("place", [0, 40, 400])
def test_the_words_that_were_asked_for_are_in_the_snippet(run, jsonl, path, place):
    words = ["filler"] * 400
    words.insert(place, "forecasting")
    given = jsonl([{"id": "long", "text": " ".join(words)}])
    run("ingest", given, "--db", path, "--kind", "Note")

    done = run("search", "forecasts", "--db", path)

    assert "forecasting" in done.out
    assert max(map(len, done.out.splitlines())) <= 100
    assert len(done.out.splitlines()) <= 3


def test_an_id_is_never_cut(run, jsonl, path):
    node_id = "a/very/long/path/" * 12 + "end"
    run("ingest", jsonl([{"id": node_id, "text": "hello"}]), "--db", path, "--kind", "Note")

    assert node_id in run("search", "hello", "--db", path).out


def test_a_text_cannot_command_the_terminal(run, jsonl, path):
    run(
        *("ingest", jsonl([{"id": "a\x1b[2J", "text": "hello \x1b]0;owned\x07 [red]world[/red]"}])),
        *("--db", path, "--kind", "Note"),
    )

    done = run("search", "hello", "--db", path)

    assert "\x1b" not in done.out
    assert "[red]world[/red]" in done.out


def test_a_failed_vector_is_said_to_be_unseen(run, jsonl, path, plugins):
    given = jsonl([{"id": "a", "text": "good"}, {"id": "b", "text": "bad"}])
    run("ingest", given, "--db", path, "--kind", "Note", "--embedder", "picky")

    assert "1 chunk whose vector failed" in run("search", "good", "--db", path).err


def test_explain_shows_what_was_searched_and_the_scores_of_each_arm(run, notes):
    shown = run("search", "rain", "--db", notes, "--explain").out
    said = run("search", "rain", "--db", notes, "--explain", "--json").json["explanation"]

    rows = [line.split() for line in shown.splitlines()]
    assert ["mode", "hybrid"] in rows
    scores = rows[rows.index(["rank", "text", "score", "vector", "score", "node"]) + 2 :]
    assert [row[-1] for row in scores] == ["rain", "euro"]
    assert scores[0][1:3] == [
        f"{said['hits'][0][arm]:.3f}" for arm in ("text_score", "vector_score")
    ]
    # Found by meaning alone: what an arm did not find has no score there.
    assert len(scores[1]) == 3


def test_explain_says_how_the_vectors_of_each_kind_were_looked_at(run, notes):
    shown = run("search", "rain", "--db", notes, "--explain").out
    assert re.search(r"vectors looked at +Note by exact \(small\)\n", shown)


def test_explain_of_nothing_found_shows_no_table(run, notes):
    shown = run("search", "xylophone", "--db", notes, "--mode", "text", "--explain").out

    assert "mode" in shown
    assert "rank" not in shown


def test_hits_of_several_kinds_name_theirs(run, notes, jsonl):
    given = jsonl([{"id": "task", "text": "Take an umbrella, rain is forecast"}])
    run("ingest", given, "--db", notes, "--kind", "Task")

    shown = run("search", "rain", "--db", notes).out

    assert {"Note", "Task"} <= set(shown.split())
