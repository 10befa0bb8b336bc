"""erase: asks first, and the receipt is what it prints."""

from __future__ import annotations

import hashlib
import os
import shutil

import click
import pytest

import fathomdb


def ids(path):
    with fathomdb.open(path, read_only=True) as db:
        return {node.node_id for node in db.nodes()}


def test_nodes_are_erased_and_the_receipt_is_shown(run, notes):
    done = run("erase", "--db", notes, "--node", "rain", "--node", "bare", "--yes", "--json")

    assert done.code == 0
    assert (done.json["what"], done.json["nodes"], done.json["chunks"]) == ("node", 2, 1)
    assert done.json["sha256"][0] == hashlib.sha256(b"rain").hexdigest()
    assert ids(notes) == {"euro"}


def test_a_source_is_erased_by_its_name(run, jsonl, path):
    given = jsonl({"id": f"n{n}", "text": f"text {n}"} for n in range(3))
    run("ingest", given, "--db", path, "--kind", "Note", "--embedder", "none")

    done = run("erase", "--db", path, "--source", given, "--yes")

    assert done.code == 0
    assert "out of reach" in done.out
    assert ids(path) == set()


@pytest.mark.parametrize(("answer", "code"), [("n\n", 130), ("", 130), ("y\n", 0)])
def test_it_asks_and_only_a_yes_erases(run, notes, answer, code, monkeypatch):
    asked = []

    def prompt(text):
        asked.append(text)
        if not answer:
            raise EOFError
        return answer.strip()

    monkeypatch.setattr(click.termui, "visible_prompt_func", prompt)

    done = run("erase", "--db", notes, "--node", "rain")
    assert done.code == code
    assert ("Nothing was erased; --yes erases without asking" in done.err) == (code != 0)
    assert len(asked) == 1
    assert ("rain" in ids(notes)) == (code != 0)


@pytest.mark.parametrize("options", [(), ("--node", "a", "--source", "b")])
def test_it_wants_either_a_source_or_nodes(run, notes, options):
    done = run("erase", "--db", notes, *options)
    assert done.code == 2
    assert "--source REF" in done.err


def test_what_was_never_there_is_said_to_be_nothing(run, notes):
    done = run("erase", "--db", notes, "--node", "never", "--yes")
    assert done.code == 0
    assert "Nothing of node 'never' is in" in done.out
    assert ids(notes) == {"rain", "bare", "euro"}


def test_an_export_from_before_an_upgrade_is_named(run, notes, tmp_path):
    backup = f"{notes}.v1-backup"
    for name in (backup, f"{backup}.manifest.json", f"{notes}.v1-backup.0a1b2c3d.partial"):
        shutil.copy(notes, name)

    done = run("erase", "--db", notes, "--node", "rain", "--yes", "--json")
    shown = run("erase", "--db", notes, "--node", "euro", "--yes")

    assert done.json["upgrade_exports"] == [backup]
    assert f"{os.path.basename(backup)} was made before an upgrade" in shown.err.replace("\n", "")


def test_of_several_nodes_it_does_not_say_that_all_were_there(run, notes):
    done = run("erase", "--db", notes, "--node", "rain", "--node", "never", "--yes")
    assert done.out.startswith("Erased what there was of 2 nodes from")
    assert run("inspect", "rain", "--db", notes).out.count("erased in commit") == 2
