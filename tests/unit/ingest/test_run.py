"""Ingesting records into a database: batches, counts, errors, pruning, memory."""

from __future__ import annotations

import re
import tracemalloc

import pytest

from fathomdb import Chunk, InvalidInputError, Node, ReadOnlyError
from fathomdb.ingest import run
from fathomdb.ingest.report import MAX_KEPT_ERRORS


def documents(count, start=0):
    return [
        {"id": f"d{n}", "text": f"the text of document {n}", "n": n}
        for n in range(start, start + count)
    ]


def add_up(report):
    return report.records == (
        report.written + report.unchanged + report.duplicates + report.error_count
    )


def ids(db, **where):
    return sorted(record.node_id for record in db.nodes(**where))


def test_records_become_nodes_that_are_found(db):
    report = db.ingest(documents(10), kind="Doc", source_ref="s", batch_size=3)

    assert (report.records, report.written, report.chunks, report.enqueued) == (10, 10, 10, 10)
    assert report.cursor == db.write().cursor
    assert report.seconds >= 0
    record = db.get("d7")
    assert (record.kind, record.text, record.properties, record.source_ref) == (
        "Doc",
        "the text of document 7",
        {"n": 7},
        "s",
    )
    assert db.text_search("document 7")[0].node_id == "d7"


def test_the_same_input_again_changes_nothing_and_owes_no_vector(db):
    first = db.ingest(documents(10), kind="Doc", batch_size=4)
    again = db.ingest(iter(documents(10)), kind="Doc", batch_size=3)

    assert (again.written, again.unchanged, again.chunks, again.enqueued) == (0, 10, 0, 0)
    assert again.cursor == first.cursor


def test_nodes_are_written_as_they_are(db):
    node = Node("Note", "a", properties={"x": 1}, source_ref="own", chunks=[Chunk("one"), "two"])

    report = db.ingest([node], source_ref="other")

    assert report.written == 1
    record = db.get("a")
    assert (record.kind, record.properties, record.source_ref) == ("Note", {"x": 1}, "own")
    assert [chunk.text for chunk in record.chunks] == ["one", "two"]


def test_a_node_of_another_kind_than_passed_is_refused(db):
    with pytest.raises(InvalidInputError, match="node 'a' is of kind 'Note', and kind='Doc'"):
        db.ingest([Node("Note", "a", "x")], kind="Doc")


def test_an_empty_input_is_a_report_of_nothing(db):
    before = db.write(Node("Doc", "a", "x")).cursor

    report = db.ingest([], kind="Doc")

    assert (report.records, report.written, report.cursor) == (0, 0, before)


def test_an_engine_that_may_not_write_refuses_before_it_reads(open_db):
    open_db().close()
    read = []

    def records():
        read.append(1)
        yield from documents(1)

    with pytest.raises(ReadOnlyError):
        open_db(read_only=True, embedder=False).ingest(records(), kind="Doc")
    assert read == []


# --- duplicates -----------------------------------------------------------------------------------


def test_of_the_same_id_in_one_batch_the_last_one_wins(db):
    records = [{"id": "a", "text": "old"}, {"id": "b", "text": "b"}, {"id": "a", "text": "new"}]

    report = db.ingest(records, kind="Doc")

    assert (report.records, report.written, report.duplicates) == (3, 2, 1)
    assert db.get("a").text == "new"
    assert db.ingest(records, kind="Doc").unchanged == 2


def test_of_the_same_id_in_two_batches_the_last_one_wins(db):
    records = [{"id": "a", "text": "old"}, {"id": "a", "text": "new"}]

    report = db.ingest(records, kind="Doc", batch_size=1)

    assert (report.written, report.duplicates) == (2, 0)
    assert db.get("a").text == "new"


# --- errors ---------------------------------------------------------------------------------------

BAD = {
    "a record that is no mapping": ("just text", "a record must be a mapping or a Node, got str"),
    "no text column": ({"id": "x", "body": "b"}, "it has no column 'text'; it has 'id', 'body'"),
    "a text that is no string": ({"id": "x", "text": 5}, "column 'text' must be a text, got int"),
    "an empty id": ({"id": "", "text": "t"}, "column 'id' must be an id, .* got ''"),
    "an id that is no id": ({"id": 1.5, "text": "t"}, "column 'id' must be an id, .* got 1.5"),
    "an id of True": ({"id": True, "text": "t"}, "column 'id' must be an id, .* got True"),
    "neither id nor text": ({"text": " "}, "neither an id nor a text"),
    "properties that are not JSON": (
        {"id": "x", "text": "t", "when": {1, 2}},
        "properties of node 'x' are not JSON",
    ),
    "a property of NaN": ({"id": "x", "text": "t", "v": float("nan")}, "not JSON"),
    "a NUL in the id": ({"id": "x\0", "text": "t"}, "NUL"),
    "a lone surrogate": ({"text": "\ud800"}, "lone surrogate"),
}


@pytest.mark.parametrize(("bad", "message"), BAD.values(), ids=BAD.keys())
def test_a_bad_record_stops_with_its_number_and_all_before_it_stored(db, bad, message):
    records = [*documents(5), bad, *documents(5, start=5)]

    with pytest.raises(InvalidInputError, match=rf"^record 6: .*{message}.*before it are stored"):
        db.ingest(records, kind="Doc", batch_size=4)

    assert ids(db) == [f"d{n}" for n in range(5)]


@pytest.mark.parametrize(("bad", "message"), BAD.values(), ids=BAD.keys())
def test_a_bad_record_is_collected_and_all_others_stored(db, bad, message):
    records = [*documents(5), bad, *documents(5, start=5)]

    report = db.ingest(records, kind="Doc", on_error="collect", batch_size=8)

    assert ids(db) == [f"d{n}" for n in range(10)]
    assert (report.records, report.written, report.error_count) == (11, 10, 1)
    (error,) = report.errors
    assert error.record_number == 6
    assert re.search(message, error.message)


def test_only_the_first_thousand_errors_are_kept_and_all_are_counted(db):
    bad = ({"id": "", "text": "t"} for _ in range(MAX_KEPT_ERRORS + 5))

    report = db.ingest(bad, kind="Doc", on_error="collect")

    assert report.error_count == MAX_KEPT_ERRORS + 5
    assert [error.record_number for error in report.errors] == [*range(1, MAX_KEPT_ERRORS + 1)]


def test_bad_records_that_only_the_write_finds_are_found_one_by_one(db):
    """A chunk id that belongs to another node is seen in the writer's transaction alone."""
    db.write(Node("Doc", "owner", chunks=[Chunk("mine", chunk_id="taken")]))
    thief = Node("Doc", "thief", chunks=iter([Chunk("x", chunk_id="taken")]))
    honest = [Node("Doc", f"n{n}", chunks=iter([f"text {n}"])) for n in range(20)]

    report = db.ingest([*honest[:7], thief, *honest[7:]], on_error="collect")

    assert report.written == 20
    assert [error.record_number for error in report.errors] == [8]
    assert "'taken'" in report.errors[0].message
    # Chunks given as an iterator are still there when a batch is written again in halves.
    assert all(db.get(f"n{n}").chunks for n in range(20))


def test_what_a_function_of_the_user_raises_is_an_error_of_its_record(db):
    records = [{"id": "a", "body": "x"}, {"id": "b"}]

    with pytest.raises(InvalidInputError, match=r"record 2: the function text= raised KeyError"):
        db.ingest(records, kind="Doc", text=lambda record: record["body"])
    assert ids(db) == ["a"]


def test_what_the_input_raises_ends_the_ingest_and_what_is_stored_stays(db):
    def failing():
        yield from documents(4)
        raise OSError("the network is gone")

    with pytest.raises(OSError, match="the network is gone"):
        db.ingest(failing(), kind="Doc", batch_size=2)
    assert ids(db) == ["d0", "d1", "d2", "d3"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"records": {"id": "a"}}, "records is one dict; put it in a list"),
        ({"records": Node("Doc", "a")}, "records is one Node"),
        ({"records": 5}, "an iterable of mappings .* got int"),
        ({"records": b"x"}, "an iterable of mappings .* got bytes"),
        ({"records": "no/such/file.txt"}, "there is no file or folder no/such/file.txt"),
        ({"kind": ""}, "kind must be a string that is not empty, got ''"),
        ({"id": 5}, "id must be a column, a list of columns or a function, got 5"),
        ({"text": []}, r"text must name columns, got \[\]"),
        ({"properties": [1]}, r"properties must name columns, got \[1\]"),
        ({"source_ref": 7}, "source_ref must be a string that is not empty, got 7"),
        ({"on_error": "ignore"}, "on_error must be 'raise' or 'collect', got 'ignore'"),
        ({"batch_size": 0}, "batch_size must be an integer of 1 or more, got 0"),
        ({"progress": True}, "progress must be a function that takes an IngestProgress, got True"),
        ({"prune_source": ""}, "prune_source must be a string that is not empty"),
        ({"prune_source": "a", "source_ref": "b"}, "would retire all of that source"),
    ],
)
def test_an_argument_that_is_not_valid_is_refused(db, options, message):
    records = options.pop("records", documents(1))

    with pytest.raises(InvalidInputError, match=message):
        db.ingest(records, **{"kind": "Doc", **options})
    assert db.count() == 0


# --- pruning --------------------------------------------------------------------------------------


def test_pruning_retires_what_the_run_did_not_see(db):
    db.ingest(documents(10), kind="Doc", prune_source="s")
    db.write([Node("Note", "other kind", "x", source_ref="s"), Node("Doc", "other source", "x")])

    report = db.ingest(documents(4), kind="Doc", prune_source="s", batch_size=2)

    assert (report.unchanged, report.retired) == (4, 6)
    assert ids(db) == ["d0", "d1", "d2", "d3", "other kind", "other source"]
    assert len(db.text_search("document", limit=100)) == 4


def test_pruning_without_a_kind_goes_over_all_kinds_of_the_source(db):
    db.write([Node("Note", "n", "x", source_ref="s"), Node("Doc", "d", "x", source_ref="s")])

    assert db.ingest([Node("Doc", "d", "x", source_ref="s")], prune_source="s").retired == 1
    assert ids(db) == ["d"]


def test_pruning_sees_a_record_that_was_unchanged_or_a_duplicate(db):
    records = [*documents(3), documents(1)[0]]
    db.ingest(records, kind="Doc", prune_source="s")

    assert db.ingest(records, kind="Doc", prune_source="s").retired == 0


def test_a_run_with_an_error_prunes_nothing(db):
    db.ingest(documents(3), kind="Doc", prune_source="s")

    report = db.ingest(
        [{"id": "", "text": "bad"}], kind="Doc", prune_source="s", on_error="collect"
    )

    assert (report.error_count, report.retired) == (1, 0)
    assert db.count() == 3


def test_a_run_that_was_stopped_prunes_nothing(db):
    db.ingest(documents(3), kind="Doc", prune_source="s")

    def stop(progress):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        db.ingest(documents(1), kind="Doc", prune_source="s", progress=stop)
    assert db.count() == 3


def test_pruning_leaves_what_became_something_else_meanwhile(db, monkeypatch):
    db.ingest(documents(2), kind="Doc", prune_source="s")
    pages = run._pages

    def another_thread_is_faster(unseen):
        for page in pages(unseen):
            db.write(Node("Doc", "d1", "moved", source_ref="elsewhere"))
            yield page

    monkeypatch.setattr(run, "_pages", another_thread_is_faster)

    assert db.ingest([], kind="Doc", prune_source="s").retired == 1
    assert ids(db) == ["d1"]


# --- progress and memory --------------------------------------------------------------------------


def test_progress_is_told_after_every_batch_and_ends_with_all(db):
    told = []

    report = db.ingest(documents(10), kind="Doc", batch_size=4, progress=told.append)

    assert [step.records for step in told] == [4, 8, 10]
    assert [step.written for step in told] == [4, 8, 10]
    assert {step.total_records for step in told} == {10}
    assert told[-1].chunks == report.chunks
    assert (told[-1].bytes_read, told[-1].total_bytes) == (None, None)


def test_long_texts_make_short_batches(db):
    long = "one line of many words of a long text\n" * 27_000
    told = []

    records = [{"id": str(n), "text": long} for n in range(10)]
    db.ingest(records, kind="Doc", progress=told.append)

    assert len(told) > 1
    assert db.count() == 10


def test_memory_does_not_grow_with_the_input(open_db):
    db = open_db(embedder=False)
    records = ({"id": f"r{n}", "text": f"{n} " + "word " * 200} for n in range(20_000))
    tracemalloc.start()
    try:
        report = db.ingest(records, kind="Doc", batch_size=256)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()

    assert report.written == 20_000
    # The input as a whole is 20 MB of text alone.
    assert peak < 4 * 1024 * 1024
