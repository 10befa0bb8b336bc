"""The short form of ``make torture``: the same lives, kills and judges, fewer of them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import inside
from fathomdb.store import vectors
from model import Model
from torture import judge, operations
from torture.campaign import Campaign, ViolationError
from torture.operations import Operation

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork")

TESTS = Path(__file__).parents[1]


def _campaign(folder, *arguments):
    """Runs it in a process of its own, which must have opened nothing before it forks."""
    summary = folder / "summary.json"
    done = subprocess.run(
        [
            *(sys.executable, "-m", "torture"),
            *("--folder", str(folder), "--json", str(summary), *arguments),
        ],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(TESTS), *sys.path])},
        capture_output=True,
        text=True,
        check=False,
    )
    said = f"{done.stdout}\n{done.stderr}"
    return (json.loads(summary.read_text("utf-8")) if summary.exists() else None), said


def test_nothing_is_lost_stuck_or_wrong_after_60_kills_and_30_at_named_points(tmp_path):
    found, said = _campaign(
        tmp_path, "--kills", "60", "--stops", "30", "--stop-every", "3", "--seed", "1"
    )

    assert found is not None, said
    assert found["violations"] == [], said
    named = sum(found["by_stage"].values())
    assert named >= 30
    assert found["kills"] >= 60 + named
    assert found["acknowledged"] > 100


def test_20_kills_over_switches_of_models_resume_and_embed_nothing_twice(tmp_path):
    _, said = _campaign(tmp_path, "--switch-kills", "20", "--seed", "1")

    found = json.loads(said[said.index("{") : said.rindex("}") + 1])
    assert found["kills"] == 20
    assert found["embedded_twice"] == 0
    assert found["switches"] > 1


# --- the judge finds what it is for ---------------------------------------------------------------


def _write(*node_ids, text=77):
    nodes = [
        {
            "node_id": node_id,
            "kind": "Document",
            "text": text + n,
            "properties": {"n": n},
            "source_ref": None,
            "cut": False,
            "steals": None,
        }
        for n, node_id in enumerate(node_ids)
    ]
    return Operation("write", {"nodes": nodes, "retire": []})


@pytest.fixture
def known():
    """The model of a campaign's file that nothing was written to."""
    return Model(operations.EMBEDDERS[0], chunk_chars=operations.CHUNK_CHARS)


@pytest.fixture
def written(path, known):
    """A file in which two nodes were written and projected, and the model of it."""
    first = _write("a", "b")
    with operations.open_engine(path, background=False) as db:
        operations.perform(db, first, "")
        db.admin.drain_vector_projection()
    operations.apply(known, first)
    return known


def _judge(path, known, *unanswered, cursor=1, erased=()):
    return judge.judge(path, known, unanswered, None, cursor, erased)


def test_a_file_as_it_was_acknowledged_is_found_right(path, written):
    verdict = _judge(path, written)

    assert (verdict.committed, verdict.died) == ((), 0)
    assert verdict.rows > 4


def test_an_operation_without_an_answer_may_be_there_or_not(path, known, written):
    assert _judge(path, known, _write("c")).committed == (False,)

    with operations.open_engine(path, background=False) as db:
        operations.perform(db, _write("c"), "")

    assert _judge(path, known, _write("c")).committed == (True,)


def test_half_of_an_operation_is_found(path, written):
    with operations.open_engine(path, background=False) as db:
        operations.perform(db, _write("c"), "")

    with pytest.raises(AssertionError, match="whichever of 1 unanswered"):
        _judge(path, written, _write("c", "d"))


def test_an_acknowledged_write_that_is_lost_is_found(path, written):
    operations.apply(written, _write("c"))

    with pytest.raises(AssertionError, match="live 'c' is None in the file"):
        _judge(path, written)


def test_an_acknowledged_commit_that_is_lost_is_found(path, written):
    with pytest.raises(AssertionError, match="commit 2 was acknowledged"):
        _judge(path, written, cursor=2)


def test_two_vectors_that_changed_places_are_found(path, written):
    with operations.open_engine(path, background=False) as db:
        inside.in_writer(db, _swap_two_vectors)

    with pytest.raises(AssertionError, match="is of another text"):
        _judge(path, written)


def _swap_two_vectors(tx):
    table = vectors.table_name("Document", 1)
    rows = tx.db.execute(f'SELECT chunk_key, embedding FROM "{table}" LIMIT 2').fetchall()
    (one, first), (other, second) = rows
    for key, blob in ((one, second), (other, first)):
        tx.db.execute(f'UPDATE "{table}" SET embedding = ? WHERE chunk_key = ?', (blob, key))


def test_a_chunk_that_nobody_owes_a_vector_for_is_found(path, known):
    with operations.open_engine(path, background=False) as db:
        operations.perform(db, _write("a"), "")
        inside.in_writer(db, lambda tx: tx.db.execute("DELETE FROM vector_projection_work"))
    operations.apply(known, _write("a"))

    with pytest.raises(AssertionError, match="has neither a vector nor work"):
        _judge(path, known)


def test_a_text_that_was_erased_and_is_still_in_a_file_is_found(path, written):
    with pytest.raises(AssertionError, match="erased, and in"):
        _judge(path, written, erased=[77])


def test_an_export_that_was_acknowledged_and_is_not_whole_is_found(tmp_path, path, written):
    exports = tmp_path / "exports"
    exports.mkdir()
    with operations.open_engine(path, background=False) as db:
        for number in (1, 2):
            operations.perform(db, Operation("export", {"number": number}), str(exports))
    (exports / "2.db.manifest.json").unlink()

    with pytest.raises(AssertionError, match="no manifest"):
        judge.judge_exports(str(exports), [1, 2])


def test_a_violation_says_how_to_replay_it_and_keeps_the_file(tmp_path, monkeypatch):
    campaign = Campaign(str(tmp_path), 7, stop_every=3, tell=lambda _: None)

    def violated(life, file):
        campaign.history.append("what was said")
        with open(file.path, "w") as left:
            left.write("as it was")
        raise ViolationError("a write is lost")

    monkeypatch.setattr(campaign, "_live", violated)
    summary = campaign.run(1, 0, first=160, last=160)

    (said,) = summary.violations
    assert "a write is lost" in said
    assert "what was said" in said
    assert "python -m torture --seed 7 --stop-every 3 --kill 150" in said
    assert (tmp_path / "violation-7-150" / "torture.db").read_text() == "as it was"
