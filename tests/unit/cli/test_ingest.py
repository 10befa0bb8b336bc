from __future__ import annotations

import os
import re
import signal
import subprocess
import sys

import pytest

import fathomdb
from fathomdb.errors import FathomError

WITH_CTRL_C = (
    # A shell that runs tests in the background has them ignore SIGINT, and children inherit it.
    "import runpy, signal; signal.signal(signal.SIGINT, signal.default_int_handler); "
    "runpy.run_module('fathomdb', run_name='__main__', alter_sys=True)"
)


def records(count):
    return [{"id": f"n{n}", "text": f"note number {n}", "lang": "en"} for n in range(count)]


def status(path):
    with fathomdb.open(path, read_only=True, embedder=False) as db:
        return db.admin.status()


def test_an_ingest_ends_with_every_vector_made(run, jsonl, path):
    done = run(
        "ingest", jsonl(records(300)), "--db", path, "--kind", "Note", "--embedder", "hashing"
    )

    assert done.code == 0
    assert done.err == ""
    assert f"into {path}" in done.out
    now = status(path)
    assert (now.kinds[0].nodes, now.pending, now.counters["applied"]) == (300, 0, 300)


def test_the_same_input_again_embeds_nothing(run, jsonl, path):
    given = jsonl(records(50))
    run("ingest", given, "--db", path, "--kind", "Note", "--embedder", "hashing")
    calls = status(path).counters["embed_calls"]

    again = run("ingest", given, "--db", path, "--kind", "Note", "--json")

    assert again.code == 0
    assert (again.json["unchanged"], again.json["projected"]) == (50, 0)
    assert status(path).counters["embed_calls"] == calls


def test_json_is_one_document_and_adds_up(run, jsonl, path):
    done = run("ingest", jsonl(records(5)), "--db", path, "--kind", "Note", "--json")

    said = done.json
    assert said["records"] == said["written"] == said["chunks"] == 5
    assert (said["unchanged"], said["errors"], said["skipped"]) == (0, [], {})


def test_columns_can_be_named(run, jsonl, path):
    given = jsonl([{"a": "x", "b": "y", "title": "Rome", "body": "a city", "year": 1}])

    done = run(
        *("ingest", given, "--db", path, "--kind", "City"),
        *("--id", "a", "--id", "b", "--text", "title", "--text", "body"),
    )

    assert done.code == 0
    with fathomdb.open(path, read_only=True) as db:
        node = db.get("x/y")
        assert node is not None
        assert (node.text, node.properties) == ("Rome\n\na city", {"year": 1})


def test_several_paths_and_folders_are_one_ingest(run, jsonl, tmp_path, path):
    folder = tmp_path / "docs"
    folder.mkdir()
    (folder / "a.md").write_text("# One\n")
    (folder / "b.txt").write_text("two")
    (folder / "picture.png").write_bytes(b"\x89PNG")

    done = run("ingest", jsonl(records(2)), str(folder), "--db", path, "--kind", "Note", "--json")

    assert done.code == 0
    assert done.json["records"] == 4
    assert done.json["skipped"] == {"suffix .png": 1}


def test_a_bad_record_stops_it_and_the_error_says_where(run, jsonl, path):
    given = jsonl([{"id": "a", "text": "good"}, "{bad", {"id": "b", "text": "good"}])

    done = run("ingest", given, "--db", path, "--kind", "Note")

    assert done.code == 1
    assert done.out == ""
    assert "line 2" in done.err
    assert status(path).kinds[0].nodes == 1


@pytest.mark.parametrize(
    ("record", "options", "says"),
    [
        ({"id": "a", "text": "t"}, (), "it has no kind: pass --kind, or give"),
        ({"id": "a", "body": "t"}, ("--kind", "Note"), "name the right one with --text"),
        ({"kind": "Note", "x": "t"}, (), "name the right one with --text"),
    ],
)
@pytest.mark.parametrize("on_error", ["raise", "collect"])
def test_an_error_speaks_of_the_options_of_the_command(
    run, jsonl, path, record, options, says, on_error
):
    done = run("ingest", jsonl([record]), "--db", path, *options, "--on-error", on_error)

    assert says in done.err
    assert ("go on past bad records with --on-error collect" in done.err) == (on_error == "raise")
    assert not re.search(r"\b(kind|id|text|on_error)=", done.err)


def test_collect_goes_on_past_bad_records_and_ends_with_1(run, jsonl, path):
    given = jsonl(["{bad"] * 8 + [{"id": "a", "text": "good"}])

    done = run("ingest", given, "--db", path, "--kind", "Note", "--on-error", "collect")

    assert done.code == 1
    assert "8 records were not written" in done.err
    assert done.err.count("line ") == 5
    assert "3 more" in done.err
    assert status(path).kinds[0].nodes == 1


def test_prune_retires_what_is_gone_of_each_path_alone(run, tmp_path, path):
    folders = [tmp_path / "one", tmp_path / "two"]
    for folder in folders:
        folder.mkdir()
        for name in ("kept", "gone"):
            (folder / f"{folder.name}-{name}.txt").write_text(name)
    # Named in another way, it is the same source.
    given = [f"{folders[0]}/", f"{folders[1]}/../two"]
    assert run("ingest", *given, "--db", path, "--kind", "Doc", "--prune").code == 0
    (folders[1] / "two-gone.txt").unlink()

    done = run("ingest", *map(str, folders), "--db", path, "--kind", "Doc", "--prune", "--json")

    assert done.json["retired"] == 1
    with fathomdb.open(path, read_only=True) as db:
        left = sorted(node.node_id for node in db.nodes())
    assert left == ["one-gone.txt", "one-kept.txt", "two-kept.txt"]


def test_without_an_embedder_it_writes_and_says_how_to_get_one(run, jsonl, path):
    done = run("ingest", jsonl(records(3)), "--db", path, "--kind", "Note")

    assert done.code == 0
    assert "--embedder" in done.err
    assert "fathomdb-py[static]" in done.err


def test_an_embedder_named_later_makes_the_vectors_of_what_is_there(run, jsonl, path):
    given = jsonl(records(3))
    run("ingest", given, "--db", path, "--kind", "Note")

    done = run("ingest", given, "--db", path, "--kind", "Note", "--embedder", "hashing", "--json")

    assert done.code == 0
    assert (done.json["written"], status(path).counters["applied"]) == (0, 3)


def test_no_wait_leaves_the_vectors_to_drain(run, jsonl, path):
    done = run(
        *("ingest", jsonl(records(3)), "--db", path, "--kind", "Note"),
        *("--embedder", "hashing", "--no-wait"),
    )

    assert done.code == 0
    assert f"fathomdb drain --db {path}" in done.err
    assert status(path).pending == 3


def test_another_model_than_the_files_is_refused_before_anything_is_written(
    run, jsonl, notes, plugins
):
    given = jsonl([{"id": "new", "text": "not written"}])

    done = run("ingest", given, "--db", notes, "--kind", "Note", "--embedder", "picky")

    assert done.code == 1
    assert len(done.err.splitlines()) == 1
    assert "test/picky" in done.err
    assert "hashing" in done.err
    assert status(notes).kinds[0].nodes == 3


def test_an_embedder_that_is_unknown_makes_no_file(run, jsonl, path):
    done = run("ingest", jsonl(records(1)), "--db", path, "--kind", "Note", "--embedder", "nope")

    assert done.code == 1
    assert "'nope'" in done.err
    assert not os.path.exists(path)


def test_an_embedder_that_is_away_ends_it_with_1_and_all_is_written(run, jsonl, path, plugins):
    done = run("ingest", jsonl(records(3)), "--db", path, "--kind", "Note", "--embedder", "away")

    assert done.code == 1
    assert "The embedder is away" in done.err
    assert f"fathomdb drain --db {path}" in done.err
    assert (status(path).kinds[0].nodes, status(path).pending) == (3, 3)


def test_a_text_without_a_vector_ends_it_with_1_once(run, jsonl, path, plugins):
    given = jsonl([{"id": "a", "text": "bad"}, {"id": "b", "text": "good"}])

    first = run("ingest", given, "--db", path, "--kind", "Note", "--embedder", "picky")
    again = run("ingest", given, "--db", path, "--kind", "Note")

    assert first.code == 1
    assert "1 vector could not be made" in first.err
    assert again.code == 0
    assert (status(path).failed, status(path).counters["applied"]) == (1, 1)


@pytest.mark.skipif(os.name != "posix", reason="SIGINT to one child")
def test_ctrl_c_leaves_what_is_written_and_the_same_command_goes_on(run, jsonl, path):
    count = 30_000
    command = ["ingest", jsonl(records(count)), "--db", path, "--kind", "Note"]
    command += ["--embedder", "hashing"]
    child = subprocess.Popen(
        [sys.executable, "-c", WITH_CTRL_C, *command],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    while child.poll() is None and not _written(path):
        pass
    child.send_signal(signal.SIGINT)
    out, err = child.communicate()

    assert child.returncode == 130
    assert out == ""
    assert err.strip().startswith("Stopped; ")
    assert "run the same command again to go on" in err
    assert "Traceback" not in err
    assert run("check", "--db", path, "--json").json["ok"]

    again = run(*command, "--json")

    assert again.code == 0
    assert again.json["unchanged"] > 0
    now = status(path)
    assert (now.kinds[0].nodes, now.pending, now.failed) == (count, 0, 0)
    # Each vector was stored once, by one of the two.
    assert (now.counters["applied"], now.counters["discarded"]) == (count, 0)


def _written(path):
    if not os.path.exists(path):
        return False
    try:
        with fathomdb.open(path, read_only=True, embedder=False) as db:
            return db.count() > 0
    except FathomError:
        return False  # it is being made


def test_a_column_of_ready_vectors_is_stored_and_nothing_is_embedded(run, jsonl, path):
    model = fathomdb.ready_vectors("acme/elsewhere", dimension=2)
    fathomdb.open(path, embedder=model).close()
    given = jsonl([{**record, "v": [1.0, n]} for n, record in enumerate(records(3))])

    done = run("ingest", given, "--db", path, "--kind", "Note", "--vector", "v", "--json")

    assert done.code == 0
    now = status(path)
    assert (now.pending, now.counters["embed_calls"]) == (0, 0)
    with fathomdb.open(path, embedder=model) as db:
        assert db.raw_vector_search([1.0, 2.0])[0].node_id == "n2"
        assert db.get("n2").properties == {"lang": "en"}
