"""drain, check and export."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import apsw
import pytest

import fathomdb
from fathomdb.store import backup

OLD = Path(__file__).resolve().parents[2] / "data" / "upgrade"


def ingest(run, jsonl, path, *texts, embedder="picky", options=()):
    given = jsonl({"id": f"n{n}", "text": text} for n, text in enumerate(texts))
    return run("ingest", given, "--db", path, "--kind", "Note", "--embedder", embedder, *options)


# --- drain ----------------------------------------------------------------------------------------


def test_drain_makes_what_is_owed_and_then_has_nothing_to_do(run, jsonl, path, plugins):
    ingest(run, jsonl, path, "one", "two", options=["--no-wait"])

    first, second = run("drain", "--db", path, "--json"), run("drain", "--db", path)

    assert (first.code, first.json["incremental_processed"], first.json["stopped_by"]) == (
        0,
        2,
        "idle",
    )
    assert second.code == 0
    assert "Nothing to do" in second.out


def test_drain_ends_with_1_where_rows_failed_and_can_try_them_again(run, jsonl, path, plugins):
    ingest(run, jsonl, path, "bad", "good", options=["--no-wait"])

    first = run("drain", "--db", path)
    again = run("drain", "--db", path, "--retry-failed", "--json")

    assert first.code == again.code == 1
    assert "--retry-failed" in first.err
    assert (again.json["requeued"], again.json["failed"]) == (1, 1)


def test_drain_ends_with_1_where_the_embedder_is_away(run, jsonl, path, plugins):
    ingest(run, jsonl, path, "one", embedder="away", options=["--no-wait"])

    done = run("drain", "--db", path)

    assert done.code == 1
    assert "nobody answers at the door" in done.err


def test_drain_ends_with_1_where_time_is_up(run, jsonl, path, plugins):
    ingest(run, jsonl, path, *(f"text {n}" for n in range(200)), options=["--no-wait"])

    done = run("drain", "--db", path, "--timeout", "0", "--json")

    assert done.code == 1
    assert done.json["stopped_by"] == "timeout"
    assert 0 < done.json["remaining"] < 200


def test_drain_without_an_embedder_is_an_error(run, jsonl, path):
    run("ingest", jsonl([{"id": "a", "text": "b"}]), "--db", path, "--kind", "Note")

    done = run("drain", "--db", path)

    assert done.code == 1
    assert done.err.startswith("Error: ")


# --- check and export -----------------------------------------------------------------------------


def test_a_sound_file_passes_a_complete_check(run, notes):
    shown, said = run("check", "--db", notes), run("check", "--db", notes, "--json").json

    assert shown.code == 0
    assert shown.out.startswith("Nothing is wrong")
    assert (said["ok"], said["skipped"]) == (True, [])


def test_damage_is_shown_row_by_row_and_ends_with_1(run, notes):
    damage = apsw.Connection(notes)
    damage.execute("UPDATE chunks SET canonical_hash = zeroblob(32)")
    damage.close()

    shown, said = run("check", "--db", notes), run("check", "--db", notes, "--json").json

    assert shown.code == 1
    assert "problems found" in shown.out
    assert "rain#0" in shown.out
    assert not said["ok"]


def test_damage_is_repaired_and_the_command_says_what_it_did(run, notes):
    damage = apsw.Connection(notes)
    damage.execute("UPDATE chunks SET canonical_hash = zeroblob(32)")
    damage.close()

    shown = run("check", "--db", notes, "--repair")

    assert shown.code == 0
    assert "put right" in shown.out.splitlines()[0]
    assert "its hash was made again from its text" in shown.out
    assert run("check", "--db", notes).code == 0
    again = run("check", "--db", notes, "--repair")
    assert (again.code, again.out) == (0, "Nothing is wrong, and nothing was changed\n")


def test_a_repair_says_how_many_vectors_are_owed_and_as_json_everything(run, notes):
    damage = apsw.Connection(notes)
    damage.execute("UPDATE vector_ledger SET canonical_hash = zeroblob(32)")
    damage.close()

    done = run("check", "--db", notes, "--repair", "--json")

    assert done.code == 0
    assert (done.json["ok"], done.json["owed"]) == (True, 2)
    assert done.json["found"] == done.json["repaired"] == {"ledger_hash": 2}
    assert {item["finding"]["chunk_id"] for item in done.json["done"]} == {"rain#0", "euro#0"}
    assert run("drain", "--db", notes).code == 0


def test_what_a_repair_must_leave_ends_with_1_and_says_what_to_do(run, notes):
    damage = apsw.Connection(notes)
    damage.execute("CREATE TABLE theirs (value)")
    damage.close()

    done = run("check", "--db", notes, "--repair")

    assert done.code == 1
    assert "theirs" in done.out
    assert "move it to a file of its own" in done.out


def test_an_export_is_not_repaired_since_its_manifest_vouches_for_it(run, notes, tmp_path):
    target = str(tmp_path / "copy.db")
    run("export", target, "--db", notes)

    done = run("check", "--db", target, "--repair")

    assert done.code == 1
    assert "repair the copy" in done.err
    assert fathomdb.verify_export(target).path == target


def test_a_check_beside_the_owner_says_what_it_left_out(spawn, open_db, path):
    db = open_db()
    db.write(fathomdb.Node("Note", "a", "text"))

    done = spawn("check", "--db", path)

    assert done.code == 0
    assert "Not looked at: " in done.err


def test_an_export_is_a_database_that_passes_its_check_again_and_again(run, notes, tmp_path):
    target = str(tmp_path / "copy.db")

    exported = run("export", target, "--db", notes)

    assert exported.code == 0
    assert target in exported.out
    for _ in range(2):
        done = run("check", "--db", target, "--json")
        assert (done.code, done.json["manifest"]) == (0, {"there": True, "problem": None})
    hits = run("search", "paris", "--db", target, "--json").json["hits"]
    assert hits[0]["node_id"] == "rain"
    # Looking at it did not change it.
    assert fathomdb.verify_export(target).path == target


def test_an_export_says_what_it_holds_for_a_person_and_as_json(run, notes, tmp_path):
    shown = run("export", str(tmp_path / "one.db"), "--db", notes).out
    said = run("export", str(tmp_path / "two.db"), "--db", notes, "--json").json

    assert said["path"] == str(tmp_path / "two.db")
    assert (said["counts"]["nodes"], said["counts"]["vectors"]) == (3, 2)
    rows = {line.split()[0]: line.split()[1:] for line in shown.splitlines()[1:]}
    assert (rows["nodes"], rows["chunks"], rows["vectors"]) == (["3"], ["2"], ["2"])
    assert rows["manifest"] == [f"{tmp_path / 'one.db'}.manifest.json"]


def test_an_export_is_read_for_its_checksum_once(run, notes, tmp_path, monkeypatch):
    target, read = str(tmp_path / "copy.db"), []
    run("export", target, "--db", notes)
    sha256 = backup.sha256
    monkeypatch.setattr(backup, "sha256", lambda path: read.append(path) or sha256(path))

    assert run("check", "--db", target).code == 0
    assert read == [target]


@pytest.mark.parametrize("options", [(), ("--repair",)])
def test_a_check_makes_no_database_of_an_empty_file(run, tmp_path, options):
    empty = tmp_path / "empty.db"
    empty.touch()

    done = run("check", "--db", str(empty), *options)

    assert (done.code, empty.stat().st_size) == (1, 0)
    assert "is empty" in done.err
    assert [*tmp_path.iterdir()] == [empty]


@pytest.mark.parametrize("options", [(), ("--repair",)])
def test_a_check_brings_no_older_file_forward_and_says_what_does(run, tmp_path, options):
    path = tmp_path / "old.db"
    path.write_bytes(gzip.decompress((OLD / "v1.db.gz").read_bytes()))
    before = path.read_bytes()

    done = run("check", "--db", str(path), *options)

    assert (done.code, path.read_bytes()) == (1, before)
    assert [*tmp_path.iterdir()] == [path]
    assert "open it for writing once" in done.err


def test_what_opens_only_to_be_read_is_checked_all_the_same(run, notes):
    damage = apsw.Connection(notes)
    damage.execute("DELETE FROM engine_state")
    damage.close()

    done = run("check", "--db", notes)

    assert done.code == 1
    assert "engine_state does not have its one row" in done.out.replace("\n", " ")
    assert "a row that every file has is there 0 times" in done.err


@pytest.mark.parametrize("changed", ["bytes", "manifest", "counts"])
def test_an_export_that_was_changed_fails_its_check(run, notes, tmp_path, changed):
    target = tmp_path / "copy.db"
    run("export", str(target), "--db", notes)
    manifest = tmp_path / "copy.db.manifest.json"
    if changed == "bytes":
        said = json.loads(manifest.read_text())
        manifest.write_text(json.dumps({**said, "sha256": "0" * 64}))
    elif changed == "counts":
        said = json.loads(manifest.read_text())
        manifest.write_text(json.dumps({**said, "counts": {**said["counts"], "chunks": 999}}))
    else:
        manifest.write_text("{}")

    done = run("check", "--db", str(target))

    assert done.code == 1
    assert "Not as it was exported" in done.out


def test_an_export_never_overwrites(run, notes, tmp_path):
    target = tmp_path / "there.db"
    target.write_text("mine")

    done = run("export", str(target), "--db", notes)

    assert done.code == 1
    assert target.read_text() == "mine"
