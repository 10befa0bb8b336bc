"""Files and folders: what is read, what is skipped, and what each format makes of it."""

from __future__ import annotations

import json
import os
import sys

import pytest

from fathomdb import InvalidInputError, MissingExtraError
from fathomdb.ingest import lines
from fathomdb.ingest.files import open_records


def items(path):
    return list(open_records(path).items)


def records(path):
    found = items(path)
    assert [item.problem for item in found if item.problem] == []
    return [item.record for item in found]


def problems(path):
    return [(item.place, item.problem) for item in items(path) if item.problem]


def put(folder, name, content):
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


@pytest.fixture
def in_folder(tmp_path, monkeypatch):
    folder = tmp_path / "work"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


# --- folders --------------------------------------------------------------------------------------


def test_a_folder_is_walked_in_order_and_what_is_skipped_is_counted(in_folder):
    put(in_folder, "docs/b.md", "# B\ntext b")
    put(in_folder, "docs/a.TXT", "text a")
    put(in_folder, "docs/sub/c.txt", "text c")
    put(in_folder, "docs/.hidden.txt", "no")
    put(in_folder, "docs/.git/config.txt", "no")
    put(in_folder, "docs/picture.png", "no")
    put(in_folder, "docs/photo.PNG", "no")
    put(in_folder, "docs/Makefile", "no")
    os.symlink("sub", in_folder / "docs" / "link")
    os.symlink("nowhere.txt", in_folder / "docs" / "broken.txt")

    stream = open_records("docs/")

    assert stream.skipped == {
        "hidden": 2,
        "suffix .png": 2,
        "no suffix": 1,
        "link to a folder": 1,
        "not a file": 1,
    }
    assert stream.total_bytes == len("# B\ntext b" + "text a" + "text c")
    assert stream.bytes_read == 0
    found = list(stream.items)
    assert [item.record["id"] for item in found] == ["a.TXT", "b.md", "sub/c.txt"]
    assert {item.source_ref for item in found} == {"docs"}
    assert stream.bytes_read == stream.total_bytes


def test_a_folder_is_ingested_with_its_skipped_files_in_the_report(db, in_folder):
    put(in_folder, "docs/a.md", "# Whales\n\nThey sing.")
    put(in_folder, "docs/b.jsonl", '{"id": "row", "text": "Bears roar."}\n')
    put(in_folder, "docs/c.bin", "")
    told = []

    report = db.ingest("docs", kind="Doc", progress=told.append)

    assert (report.written, report.skipped) == (2, {"suffix .bin": 1})
    assert told[-1].bytes_read == told[-1].total_bytes > 0
    record = db.get("a.md")
    assert record.properties == {"path": "a.md", "title": "Whales"}
    assert record.source_ref == db.get("row").source_ref == "docs"
    assert db.ingest("docs/", kind="Doc").unchanged == 2


def test_files_that_are_gone_are_pruned(db, in_folder):
    put(in_folder, "docs/a.md", "stays")
    gone = put(in_folder, "docs/b.md", "goes")
    db.ingest("docs", kind="Doc")
    gone.unlink()

    assert db.ingest("docs", kind="Doc", prune_source="docs").retired == 1
    assert [record.node_id for record in db.nodes()] == ["a.md"]


def test_several_paths_are_one_stream_and_a_file_named_twice_is_read_once(in_folder):
    a = put(in_folder, "docs/a.md", "a")
    b = put(in_folder, "b.txt", "b")

    stream = open_records([a, "docs", b])

    assert stream.total_bytes == 2
    assert [item.record["id"] for item in stream.items] == ["a.md", "b.txt"]


def test_two_documents_that_would_get_the_same_id_are_refused(in_folder):
    put(in_folder, "x/readme.md", "x")
    put(in_folder, "y/readme.md", "y")

    with pytest.raises(InvalidInputError, match=r"x/readme.md and y/readme.md .* id 'readme.md'"):
        open_records(["x", "y"])


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("missing.txt", "there is no file or folder missing.txt"),
        ("a.pdf", r"a.pdf has a suffix that is not known; known are .txt, .*\.parquet"),
        ("", "a path to ingest must be a string, got ''"),
        (b"x", "a path to ingest must be a string, got b'x'"),
    ],
)
def test_a_path_that_cannot_be_ingested_is_refused(in_folder, path, message):
    put(in_folder, "a.pdf", "x")

    with pytest.raises(InvalidInputError, match=message):
        open_records([path])


def test_a_pipe_is_refused_and_not_waited_for(in_folder):
    os.mkfifo(in_folder / "pipe.txt")

    with pytest.raises(InvalidInputError, match="neither a file nor a folder"):
        open_records("pipe.txt")


def test_a_file_that_goes_away_while_reading_is_an_error_of_its_own(in_folder):
    put(in_folder, "a.txt", "a")
    put(in_folder, "b.txt", "b")
    stream = open_records(in_folder)
    (in_folder / "a.txt").unlink()

    first, second = stream.items

    assert "it cannot be read: No such file or directory" in first.problem
    assert second.record["text"] == "b"


@pytest.mark.skipif(sys.platform != "linux", reason="file names are bytes on Linux alone")
def test_a_file_name_that_is_not_utf8_is_an_error_that_can_be_printed(db, in_folder):
    with open(os.fsencode(in_folder) + b"/\xff.txt", "w") as file:
        file.write("text")

    report = db.ingest(in_folder, kind="Doc", on_error="collect")

    (error,) = report.errors
    assert "lone surrogate" in error.message
    assert error.message.encode()


# --- text and Markdown ----------------------------------------------------------------------------


def test_a_text_file_is_a_record_without_its_byte_order_mark(in_folder):
    put(in_folder, "a.txt", b"\xef\xbb\xbfsn\xc3\xb6\r\n")

    assert records("a.txt") == [{"id": "a.txt", "path": "a.txt", "text": "sn\u00f6\r\n"}]


@pytest.mark.parametrize(
    ("content", "byte", "offset"),
    [
        (b"abc\xff", "0xff", 3),
        (b"\xef\xbb\xbfab\xe9 more", "0xe9", 5),
        (b"\xff\xfeh\x00i\x00", "0xff", 0),
    ],
)
def test_a_text_file_that_is_not_utf8_names_file_byte_and_offset(
    db, in_folder, content, byte, offset
):
    put(in_folder, "a.txt", content)

    message = rf"record 1: a.txt: not UTF-8: byte {byte} at offset {offset} of the file"
    with pytest.raises(InvalidInputError, match=message):
        db.ingest("a.txt", kind="Doc")


def test_a_text_file_beyond_the_limit_is_refused(in_folder, monkeypatch):
    from fathomdb.ingest import read_text

    monkeypatch.setattr(read_text, "MAX_RECORD_BYTES", 10)
    put(in_folder, "a.txt", "x" * 11)

    assert problems("a.txt") == [
        ("a.txt", "the file is longer than 10 bytes; split it, or bring it as JSON lines")
    ]


def test_an_empty_file_is_a_record_without_text(db, in_folder):
    put(in_folder, "a.txt", "")

    assert db.ingest("a.txt", kind="Doc").without_text == 1
    assert db.get("a.txt").chunks == ()


@pytest.mark.parametrize(
    ("text", "title"),
    [
        ("# One\n# Two", "One"),
        ("intro\n\n## Two ##  \n", "Two"),
        ("```\n# a comment\n```\n# After", "After"),
        ("~~~~\n~~~\n# inside\n~~~~~\n   ### C# and F#", "C# and F#"),
        ("#hashtag\n    # code", None),
        ("no heading", None),
    ],
)
def test_the_first_heading_is_the_title(in_folder, text, title):
    put(in_folder, "a.md", text)

    (record,) = records("a.md")
    assert record["text"] == text
    assert record.get("title") == title


# --- JSON lines -----------------------------------------------------------------------------------


def test_a_bad_line_is_a_bad_record_with_its_line_number(in_folder):
    put(
        in_folder,
        "a.jsonl",
        b'\xef\xbb\xbf{"id": 1}\n\n[1]\n{"id": \n{"id": "\xff"}\n'
        + b"[" * 100_000
        + b'\n{"id": 2}',
    )

    found = items("a.jsonl")

    assert [item.record for item in found if item.record] == [{"id": 1}, {"id": 2}]
    (third, fourth, fifth, sixth) = [item for item in found if item.problem]
    assert (third.place, third.problem) == (
        "a.jsonl, line 3",
        "a line must be a JSON object, got list",
    )
    assert (fourth.place, fourth.problem) == (
        "a.jsonl, line 4",
        "not JSON: Expecting value at column 1",
    )
    assert fifth.problem.startswith("not UTF-8: byte 0xff at offset 34 of the file")
    assert sixth.problem.startswith("not JSON that can be read: ")


def test_a_line_beyond_the_limit_is_skipped_without_being_held(in_folder, monkeypatch):
    monkeypatch.setattr(lines, "MAX_RECORD_BYTES", 20)
    put(in_folder, "a.jsonl", '{"id": 1}\n{"x": "' + "y" * 50 + '"}\n{"id": 2}\n' + "z" * 50)

    found = items("a.jsonl")

    assert [item.record for item in found] == [{"id": 1}, None, {"id": 2}, None]
    assert found[1].problem.startswith("the line is 60 bytes long and the limit is 20")
    assert found[3].place == "a.jsonl, line 4"


def test_bytes_are_counted_while_lines_are_read(in_folder):
    put(in_folder, "a.jsonl", '{"id": 1}\n{"id": 2}\n')
    stream = open_records("a.jsonl")

    read = [stream.bytes_read for _ in stream.items]

    assert read == [10, 20]


# --- CSV ------------------------------------------------------------------------------------------


def test_csv_records_are_strings_under_the_header(in_folder):
    put(in_folder, "a.csv", b'\xef\xbb\xbfid,text\r\n1,"a, ""b""\nc"\r\n\r\n2,\r\n')
    put(in_folder, "b.tsv", "id\ttext\n1\ta,b\n")

    assert records("a.csv") == [{"id": "1", "text": 'a, "b"\nc'}, {"id": "2", "text": ""}]
    assert records("b.tsv") == [{"id": "1", "text": "a,b"}]


def test_csv_lines_that_do_not_fit_are_bad_records(in_folder):
    put(in_folder, "a.csv", 'id,text\n1,a,b\n2\n3,"x"y\n4,d\n5,"open\n6,e\n')

    found = items("a.csv")

    assert [item.record for item in found if item.record] == [{"id": "4", "text": "d"}]
    assert [(item.place, item.problem) for item in found if item.problem] == [
        ("a.csv, line 2", "it has 3 fields and the header has 2"),
        ("a.csv, line 3", "it has 1 fields and the header has 2"),
        ("a.csv, line 4", "not CSV: ',' expected after '\"'"),
        ("a.csv, line 7", "not CSV: unexpected end of data"),
    ]


def test_csv_that_is_not_utf8_stops_at_that_line_and_the_next_file_is_read(in_folder):
    put(in_folder, "a.csv", b"id,text\n1,a\n2,\xe9\n3,c\n")
    put(in_folder, "b.csv", "id,text\n4,d\n")

    stream = open_records(in_folder)
    found = list(stream.items)

    assert [item.record and item.record["id"] for item in found] == ["1", None, "4"]
    assert "line 3: not UTF-8: byte 0xe9 at offset 14 of the file" in found[1].problem
    assert found[1].problem.endswith("the rest of the file was not read")
    assert stream.bytes_read == stream.total_bytes


@pytest.mark.parametrize(
    ("header", "problem"),
    [("id,text,id", "the header has more than one column named 'id'"), ('"id', "not CSV")],
)
def test_a_csv_header_that_cannot_be_used_is_one_error(in_folder, header, problem):
    put(in_folder, "a.csv", f"{header}\n1,2,3\n4,5,6")

    ((_, found),) = problems("a.csv")
    assert problem in found


def test_a_csv_field_may_be_longer_than_the_module_allows_by_default(in_folder):
    put(in_folder, "a.csv", "id,text\n1," + "x" * 200_000)

    assert len(records("a.csv")[0]["text"]) == 200_000


# --- Parquet and pyarrow --------------------------------------------------------------------------


def table(count):
    arrow = pytest.importorskip("pyarrow")
    return arrow.table(
        {"id": list(range(count)), "text": [f"row {n}" for n in range(count)], "n": [None] * count}
    )


def test_a_parquet_file_is_read_in_batches_with_its_share_of_bytes(db, in_folder):
    rows = table(2500)
    from pyarrow import parquet

    parquet.write_table(rows, "a.parquet")
    told = []

    report = db.ingest("a.parquet", kind="Row", progress=told.append)

    assert report.written == 2500
    assert db.get("2499").properties == {"n": None}
    assert told[0].bytes_read < told[-1].bytes_read == os.path.getsize("a.parquet")


def test_a_file_that_is_not_parquet_is_one_error(in_folder):
    pytest.importorskip("pyarrow")
    put(in_folder, "a.parquet", "no parquet at all")

    ((place, problem),) = problems("a.parquet")
    assert place == "a.parquet"
    assert problem.startswith("not Parquet that can be read: ")


def test_parquet_without_pyarrow_says_what_to_install_before_anything_is_written(
    db, in_folder, monkeypatch
):
    put(in_folder, "a.jsonl", json.dumps({"id": "a", "text": "t"}))
    put(in_folder, "b.parquet", "")
    monkeypatch.setitem(sys.modules, "pyarrow", None)

    with pytest.raises(MissingExtraError, match=r'pip install "fathomdb-py\[parquet\]"'):
        db.ingest(in_folder, kind="Doc", batch_size=1)
    assert db.count() == 0


def test_tables_batches_and_readers_of_pyarrow_are_ingested(db):
    rows = table(1500)
    told = []

    assert db.ingest(rows, kind="Row", progress=told.append).written == 1500
    assert told[0].total_records == 1500
    assert db.ingest(rows.to_reader(max_chunksize=700), kind="Row").unchanged == 1500
    assert db.ingest(rows.to_batches()[0], kind="Row").unchanged == 1500


def test_a_table_with_two_columns_of_one_name_is_refused(db):
    arrow = pytest.importorskip("pyarrow")
    rows = arrow.table([["a"], ["b"]], names=["text", "text"])

    with pytest.raises(InvalidInputError, match="more than one column named 'text'"):
        db.ingest(rows, kind="Row")
