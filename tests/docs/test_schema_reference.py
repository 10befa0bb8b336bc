"""The reference of the file names what is in the file: all of it, and nothing else."""

from __future__ import annotations

import re

import pytest

import inside
from documents import ROOT
from fathomdb import Node

OURS = (
    "SELECT m.type, m.name, m.tbl_name FROM sqlite_master AS m "
    "WHERE m.sql IS NOT NULL AND m.name NOT GLOB 'sqlite_*' AND m.name NOT GLOB 'vec_*'"
)


@pytest.fixture(scope="module")
def reference() -> str:
    return (ROOT / "docs" / "reference" / "schema.md").read_text()


@pytest.fixture
def objects(db):
    db.write(Node("Note", "n1", "some text"))
    db.admin.drain_vector_projection(timeout=60)
    with inside.snapshot(db) as connection:
        found = [*connection.execute(OURS)]
        columns = {
            name: [
                row[0]
                for row in connection.execute("SELECT name FROM pragma_table_xinfo(?)", (name,))
            ]
            for kind, name, _ in found
            if kind == "table" and not name.startswith("chunks_fts")
        }
        vectors = [
            row[0]
            for row in connection.execute("SELECT name FROM sqlite_master WHERE name GLOB 'vec_*'")
        ]
    return found, columns, vectors


def test_every_table_view_and_index_is_named(reference, objects):
    for _, name, _ in objects[0]:
        assert f"`{name}`" in reference, f"{name} is not in docs/reference/schema.md"


def test_every_column_is_named_in_the_section_of_its_table_and_no_other_is(reference, objects):
    sections = dict(
        re.findall(r"^### `(\w+)`\n(.*?)(?=^##|\Z)", reference, re.MULTILINE | re.DOTALL)
    )
    assert set(sections) == set(objects[1])
    for table, columns in objects[1].items():
        cells = re.findall(r"^\| (`.*?`) \|", sections[table], re.MULTILINE)
        assert sorted(re.findall(r"`(\w+)`", " ".join(cells))) == sorted(columns), table


def test_every_shadow_table_of_sqlite_vec_is_named(reference, objects):
    (table,) = (name for name in objects[2] if re.fullmatch(r"vec_note_[0-9a-f]{10}_p1", name))
    shadows = {name.removeprefix(table) for name in objects[2] if name.startswith(f"{table}_")}
    assert shadows == set(re.findall(r"`…(_\w+)`", reference))
