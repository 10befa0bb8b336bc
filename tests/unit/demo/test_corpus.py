"""The demo's corpus: the published wheel, and no other, read by the rules that the figures name."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import pytest
from demo import corpus

WHEEL = Path(__file__).resolve().parents[3] / ".cache" / corpus.WHEEL_NAME


@pytest.fixture(scope="module")
def tools():
    return corpus.load(WHEEL)


def _function(name, description, **properties):
    return {
        "name": name,
        "description": description,
        "parameters": {"type": "dict", "properties": properties},
    }


def _entry(entry_id, *messages, functions):
    turns = [[{"role": role, "content": content} for role, content in messages]]
    return {"id": entry_id, "question": turns, "function": functions}


def _archive(tmp_path, files):
    path = tmp_path / "made.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for name, lines in files.items():
            archive.writestr(f"bfcl_eval/data/{name}", "\n".join(map(json.dumps, lines)))
    return zipfile.ZipFile(path)


def test_the_corpus_has_one_document_per_distinct_function(tools):
    assert len(tools.documents) == 2013
    assert len({document.key for document in tools.documents}) == 2013


def test_every_query_has_a_text_and_relevant_documents_of_the_corpus(tools):
    keys = {document.key for document in tools.documents}

    assert len(tools.queries) == 2501
    assert len({query.query_id for query in tools.queries}) == 2501
    assert all(query.text.strip() for query in tools.queries)
    assert all(query.relevant and keys.issuperset(query.relevant) for query in tools.queries)


def test_a_document_says_name_description_and_parameters(tmp_path):
    function = _function("area", "Of a shape.", base={"description": "In cm."}, unit={})
    with _archive(
        tmp_path,
        {
            "BFCL_v4_simple.json": [_entry("1", ("user", "How big?"), functions=[function])],
            "possible_answer/BFCL_v4_simple.json": [{"id": "1", "ground_truth": [{"area": {}}]}],
        },
    ) as archive:
        read = corpus.read(archive)

    (document,) = read.documents
    assert document.text == "area\nOf a shape.\nbase In cm.\nunit"
    assert document.key == "area Of a shape."
    assert document.parameters == ("base", "unit")
    assert read.queries == (corpus.Query("1", "How big?", ("area Of a shape.",)),)


def test_functions_of_one_name_are_told_apart_by_their_first_60_characters(tmp_path):
    alike = "x" * 60
    functions = [_function("f", alike + "1"), _function("f", alike + "2"), _function("f", "other")]
    with _archive(
        tmp_path,
        {
            "BFCL_v4_a.json": [_entry("1", ("user", "?"), functions=functions)],
            "possible_answer/BFCL_v4_a.json": [{"id": "1", "ground_truth": [{"f": {}}]}],
        },
    ) as archive:
        read = corpus.read(archive)

    assert [document.key for document in read.documents] == [f"f {alike}", "f other"]
    assert read.queries[0].relevant == (f"f {alike}", "f other")


def test_only_what_the_user_says_is_the_query(tmp_path):
    messages = [("system", "Be terse."), ("user", "One."), ("assistant", "Yes?"), ("user", "Two.")]
    with _archive(
        tmp_path,
        {
            "BFCL_v4_a.json": [_entry("1", *messages, functions=[_function("f", "d")])],
            "possible_answer/BFCL_v4_a.json": [{"id": "1", "ground_truth": [{"f": {}}]}],
        },
    ) as archive:
        assert [query.text for query in corpus.read(archive).queries] == ["One.\nTwo."]


@pytest.mark.parametrize("name", ["multi_turn_base", "memory", "web_search"])
def test_files_that_offer_an_environment_are_left_out(tmp_path, name):
    with _archive(
        tmp_path,
        {
            f"BFCL_v4_{name}.json": [{"id": "1", "question": []}],
            f"possible_answer/BFCL_v4_{name}.json": [{"id": "1", "ground_truth": []}],
        },
    ) as archive:
        assert corpus.read(archive) == corpus.Corpus((), ())


def test_files_without_answers_are_left_out(tmp_path):
    entry = _entry("1", ("user", "?"), functions=[_function("f", "d")])
    with _archive(tmp_path, {"BFCL_v4_irrelevance.json": [entry]}) as archive:
        assert corpus.read(archive) == corpus.Corpus((), ())


def test_a_call_of_a_function_that_was_not_offered_is_not_relevant(tmp_path):
    with _archive(
        tmp_path,
        {
            "BFCL_v4_a.json": [_entry("1", ("user", "?"), functions=[_function("f", "d")])],
            "possible_answer/BFCL_v4_a.json": [{"id": "1", "ground_truth": [{"g": {}}]}],
        },
    ) as archive:
        read = corpus.read(archive)

    assert len(read.documents) == 1
    assert read.queries == ()


def test_a_missing_wheel_says_how_to_fetch_it(tmp_path):
    with pytest.raises(corpus.CorpusError, match=r"pip download .*bfcl-eval==2026\.3\.23"):
        corpus.load(tmp_path / corpus.WHEEL_NAME)


def test_a_wheel_that_is_not_the_published_one_is_refused(tmp_path):
    changed = tmp_path / corpus.WHEEL_NAME
    changed.write_bytes(WHEEL.read_bytes() + b"\0")

    with pytest.raises(corpus.CorpusError, match=corpus.WHEEL_SHA256):
        corpus.load(changed)
