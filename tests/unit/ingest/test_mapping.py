"""How a record becomes a node, and the promise that the same input makes the same nodes."""

from __future__ import annotations

import hashlib
import uuid

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import fathomdb
from fathomdb import InvalidInputError
from fathomdb.ingest import mapping
from fathomdb.testing import DeterministicEmbedder, temporary


def node_of(record, source=None, **options):
    defaults = {"kind": "Doc", "id": "id", "text": "text", "properties": None, "source_ref": None}
    return mapping.build(**{**defaults, **options})(record, source)


def test_all_other_columns_are_properties():
    node = node_of({"id": "a", "text": "t", "lang": "en", "gone": None, "kind": "x"})

    assert node.properties == {"lang": "en", "gone": None, "kind": "x"}
    assert node_of({"id": "a", "text": "t"}).properties is None


def test_properties_may_be_named_or_made():
    record = {"id": "a", "text": "t", "lang": "en", "year": 2020}

    assert node_of(record, properties=["year", "absent"]).properties == {"year": 2020}
    assert node_of(record, properties="lang").properties == {"lang": "en"}
    assert node_of(record, properties=[]).properties is None
    assert node_of(record, properties=lambda r: {"y": r["year"] + 1}).properties == {"y": 2021}


def test_several_columns_are_joined():
    record = {"repo": "r", "number": 7, "title": "T", "body": "B", "note": " ", "more": None}
    node = node_of(record, id=["repo", "number"], text=["title", "note", "more", "absent", "body"])

    assert (node.node_id, node.text) == ("r/7", "T\n\nB")
    assert node.properties is None


def test_functions_of_the_record_make_id_text_and_source():
    node = node_of(
        {"a": 1},
        source="file",
        id=lambda r: r["a"] + 1,
        text=lambda r: f"<{r['a']}>",
        source_ref=lambda r: f"s{r['a']}",
    )

    assert (node.node_id, node.text, node.source_ref) == ("2", "<1>", "s1")
    assert node.properties == {"a": 1}


@pytest.mark.parametrize(
    ("value", "node_id"),
    [
        ("a", "a"),
        (5, "5"),
        (np.int64(5), "5"),
        (uuid.UUID(int=1), "00000000-0000-0000-0000-000000000001"),
    ],
)
def test_an_id_is_a_string_or_an_integer(value, node_id):
    assert node_of({"id": value, "text": "t"}).node_id == node_id


@pytest.mark.parametrize("record", [{"text": "t"}, {"id": None, "text": "t"}])
def test_a_record_without_an_id_gets_one_of_its_kind_and_text(record):
    expected = hashlib.sha256(b"Doc\0t").hexdigest()[:32]

    assert node_of(record).node_id == expected
    assert node_of(record, kind="Note").node_id != expected
    assert node_of({**record, "other": 1}).node_id == expected


def test_ids_are_made_where_asked_even_if_there_is_a_column():
    node = node_of({"id": 5, "text": "t"}, id=None)

    assert node.node_id == mapping.made_id("Doc", "t")
    assert node.properties == {"id": 5}


def test_a_named_id_column_must_be_there():
    with pytest.raises(InvalidInputError, match=r"no column 'uuid'; it has 'text'; .* with id="):
        node_of({"text": "t"}, id="uuid")
    with pytest.raises(InvalidInputError, match=r"column 'uuid' must be an id, .* got None"):
        node_of({"uuid": None, "text": "t"}, id="uuid")


@pytest.mark.parametrize("text", [None, "", " \n"])
def test_a_blank_text_is_a_record_without_text(text):
    assert node_of({"id": "a", "text": text}).text is None


def test_the_kind_may_come_from_the_record():
    node = node_of({"kind": "Note", "id": "a", "text": "t"}, kind=None)

    assert (node.kind, node.properties) == ("Note", None)
    with pytest.raises(InvalidInputError, match="it has no kind: pass kind="):
        node_of({"id": "a", "text": "t"}, kind=None)


def test_the_source_of_the_input_holds_unless_another_is_given():
    assert node_of({"text": "t"}, source="file").source_ref == "file"
    assert node_of({"text": "t"}, source="file", source_ref="mine").source_ref == "mine"


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=4,
)
RECORDS = st.lists(
    st.fixed_dictionaries(
        {"text": st.text(max_size=30)},
        optional={"id": st.none() | st.integers(0, 5) | st.text(max_size=4), "p": JSON},
    ),
    max_size=12,
)


@given(records=RECORDS, first=st.integers(1, 5))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_any_input_adds_up_and_changes_nothing_the_second_time(records, first):
    with temporary(embedder=DeterministicEmbedder(), background=False) as db:
        options = {"kind": "Doc", "on_error": "collect"}
        report = db.ingest(records, **options)
        state = {record.node_id: record for record in db.nodes()}
        again = db.ingest(records, **options)

        for one in (report, again):
            assert one.records == len(records)
            counted = one.written + one.unchanged + one.duplicates + one.error_count
            assert one.records == counted
        assert (again.written, again.chunks, again.enqueued) == (0, 0, 0)
        assert (again.unchanged, again.errors) == (report.written, report.errors)
        assert {record.node_id: record for record in db.nodes()} == state

        db.ingest(records, batch_size=first, **options)
        texts = {record.node_id: record.text for record in db.nodes()}
        assert texts == {node_id: record.text for node_id, record in state.items()}
        assert isinstance(report, fathomdb.IngestReport)
