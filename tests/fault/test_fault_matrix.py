"""The fault matrix: every sort of fault, alone and in all pairs, is found, named and repaired.

A repaired file is that of its twin, which nothing befell: the same rows, the same projection
digests, and nothing was embedded but what the faults had cost. Pairs of faults of rows strike one
chunk; of the others many are planted in one file, so that every pair meets.
"""

from __future__ import annotations

import contextlib
import itertools
import random
import shutil
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import apsw
import pytest

import fathomdb
from fathomdb import CorruptDatabaseError, EngineConfig, Node
from fathomdb.admin import integrity
from fathomdb.store.connection import quote
from fathomdb.store.findings import ADVICE
from fathomdb.testing import DeterministicEmbedder, Fault, FlakyEmbedder, RecordingEmbedder
from faults import DIMENSION, DOC, FAULTS, NOTE, number_of, raw

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

CONFIG = EngineConfig(chunk_chars=40)
KINDS = ("Doc", "Note")
OF_ROWS = [fault for fault in FAULTS.values() if fault.of_row]
OF_FILE = [fault for fault in FAULTS.values() if not fault.of_row and not fault.remains]
FOR_PEOPLE = [fault for fault in FAULTS.values() if fault.remains]
# Without its one row a file cannot be opened for writing, so nothing else of it can be repaired.
CLOSED_FOR_GOOD = [fault.name for fault in FOR_PEOPLE if fault.remains == {"engine_state"}]
FAULTS_OF_A_FILE = 12
# What an open takes over, or its embedder brings: a repair finds it right already.
NOT_FOR_REPAIR = (
    "work_that_nothing_works_on",
    "work_due_in_a_thousand_years",
    "a_process_that_is_a_word",
    "every_model_is_gone",
    "a_count_of_changed_vectors_below_nothing",
    "a_count_of_changed_vectors_that_leaves_none_after_it",
    "a_count_of_changed_vectors_that_is_missing",
    "a_count_of_changed_vectors_that_is_a_word",
)
# Made once, by sqlite-vec, for whoever reads the file with another version; nothing reads it here.
NEVER_READ = {f"{table}_info" for table in (DOC, NOTE)}


def embedder(seed: int = 0) -> RecordingEmbedder:
    model = DeterministicEmbedder(DIMENSION, seed=seed)
    return RecordingEmbedder(FlakyEmbedder(model, [Fault("nan", texts="poison")]))


def opened(path: str, model: Any = False, **options: Any) -> fathomdb.Engine:
    return fathomdb.open(path, embedder=model, background=False, config=CONFIG, **options)


def text(name: str) -> str:
    return "".join(f"Sentence {part} of the text {name}. " for part in ("one", "two", "six"))


@dataclass(frozen=True)
class Prepared:
    """A closed file with a history, and what becomes of it when its queue is drained."""

    path: str
    content: dict[str, Any]
    digests: dict[str, str]
    texts: frozenset[str]
    """What draining it embeds."""

    def copy(self, folder: Path) -> str:
        return str(shutil.copy(self.path, folder / "struck.db"))


def prepare(folder: Path, nodes: int) -> Prepared:
    path = str(folder / "prepared.db")
    with opened(path, embedder()) as db:
        # So that the file has known another model, and is under its first one again.
        db.admin.configure_embedding(embedder(seed=1), acknowledge_rebuild_impact=True)
        db.admin.configure_embedding(embedder(), acknowledge_rebuild_impact=True)
        db.write([Node("Doc", f"t{n}", text(f"t{n}")) for n in range(nodes)])
        db.write([Node("Note", f"n{n}", text(f"n{n}")) for n in range(3)])
        db.admin.disable_vec("Plain")
        db.write(
            [Node("Plain", f"plain-t{n}", text(f"plain-t{n}")) for n in range(len(FOR_PEOPLE))]
        )
        db.write([Node("Doc", "moved", text("moved")), Node("Doc", "bad", "a poison text")])
        db.write([Node("Doc", "cut", chunks=["one piece", "another piece"])])
        db.admin.drain_vector_projection()
        db.write([Node("Doc", "moved", text("moved again")), Node("Note", "gone", "soon gone")])
        db.write(retire="gone")
        db.write(Node("Doc", "waits", text("waits")))
    twin = str(shutil.copy(path, folder / "twin.db"))
    drained = drain(twin)
    return Prepared(path, content(twin), drained.digests, frozenset(drained.texts))


@dataclass(frozen=True)
class Drained:
    digests: dict[str, str]
    texts: list[str]
    report: fathomdb.IntegrityReport


def drain(path: str) -> Drained:
    model = embedder()
    with opened(path, model) as db:
        assert db.admin.drain_vector_projection().stopped_by == "idle"
        report = db.admin.check_integrity()
        digests = {kind: db.admin.projection_digest(kind) for kind in KINDS}
    return Drained(digests, model.texts, report)


# What a file says apart from times, fences and the keys of the queue.
_CONTENT = {
    "nodes": "SELECT * FROM nodes ORDER BY node_key",
    "chunks": "SELECT chunk_key, chunk_id, node_key, ordinal, byte_start, byte_end, "
    "canonical_hash, CAST(text AS BLOB) FROM chunks ORDER BY chunk_key",
    "kinds": "SELECT * FROM kinds ORDER BY kind",
    "vector_embedding_profiles": "SELECT profile_id, fingerprint, model_identity, model_version, "
    "dimension, normalization_policy, preparation, state FROM vector_embedding_profiles WHERE profile_id = 1",
    "vector_index_schemas": "SELECT kind, enabled, source, state, profile_id, rebuild_after_key "
    "FROM vector_index_schemas ORDER BY kind",
    "vector_ledger": "SELECT * FROM vector_ledger ORDER BY chunk_key, profile_id",
    "vector_projection_work": "SELECT chunk_key, profile_id, kind, canonical_hash, state, cause "
    "FROM vector_projection_work ORDER BY chunk_key, profile_id",
    "engine_state": "SELECT cursor, fts_next_tokenizer, fts_next_upto FROM engine_state",
    "chunks_fts": "SELECT id FROM chunks_fts_docsize ORDER BY id",
    "chunks_fts_config": "SELECT * FROM chunks_fts_config WHERE k <> 'version' ORDER BY k",
    "schema": "SELECT type, name, replace(replace(sql, '\"', ''), char(39), '') FROM sqlite_master "
    "WHERE name NOT GLOB 'sqlite_*' ORDER BY name",
    DOC: f'SELECT chunk_key, embedding FROM "{DOC}" ORDER BY chunk_key',
    NOTE: f'SELECT chunk_key, embedding FROM "{NOTE}" ORDER BY chunk_key',
}


def content(path: str) -> dict[str, Any]:
    with raw(path) as file:
        return {name: file.execute(sql).fetchall() for name, sql in _CONTENT.items()}


def rows(path: str) -> set[tuple[Any, ...]]:
    """Every row, whole, that a repair of one chunk must not touch: table, key, and all of it."""
    tables = {
        "nodes": "-node_key",
        "chunks": "chunk_key",
        "vector_ledger": "chunk_key",
        "vector_projection_work": "chunk_key",
        DOC: "chunk_key",
        NOTE: "chunk_key",
    }
    with raw(path) as file:
        return {
            (table, *row)
            for table, key in tables.items()
            for row in file.execute(f"SELECT {key}, * FROM {quote(table)}")
        }


def keys_of(path: str, node_id: str) -> set[int]:
    with raw(path) as file:
        sql = "SELECT chunk_key FROM chunks JOIN nodes USING (node_key) WHERE logical_id = ?"
        return {row[0] for row in file.execute(sql, (node_id,))}


def plant(path: str, faults: Iterable[tuple[str, str]]) -> None:
    with raw(path) as file:
        file.execute("PRAGMA foreign_keys = OFF")
        for name, node_id in faults:
            FAULTS[name].plant(file, node_id)


def found_by(db: fathomdb.Engine) -> list[fathomdb.Finding]:
    """All findings, not only the first of each code."""
    found: list[fathomdb.Finding] = []
    integrity.look(db._runtime, None, found.append)
    return found


def assert_is_as_its_twin(path: str, prepared: Prepared, *, costs: set[str] | None = None) -> None:
    """The file, drained, is that of the twin; only ``costs`` were embedded beside what waited."""
    drained = drain(path)
    assert drained.report.ok, drained.report.findings
    assert drained.digests == prepared.digests
    after = content(path)
    for name, expected in prepared.content.items():
        assert after[name] == expected, name
    if costs is not None:
        assert set(drained.texts) <= prepared.texts | costs


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Prepared:
    return prepare(tmp_path_factory.mktemp("small"), len(OF_ROWS) + 1)


def texts_of(prepared: Prepared, condition: str) -> set[str]:
    with raw(prepared.path) as file:
        return {
            row[0]
            for row in file.execute(
                f"SELECT text FROM chunks JOIN nodes USING (node_key) WHERE {condition}"
            )
        }


# --- each alone -----------------------------------------------------------------------------------


def found_by_a_reader(path: str) -> set[str]:
    with opened(path, read_only=True) as db:
        return set(db.admin.check_integrity().found)


@pytest.mark.parametrize("name", [f.name for f in (*OF_ROWS, *OF_FILE)])
def test_a_fault_is_found_by_its_name_and_repaired(prepared, tmp_path, name):
    fault = FAULTS[name]
    path = prepared.copy(tmp_path)
    before = rows(path)
    plant(path, [(name, "t1")])
    # An open for writing takes over what a dead process had: only before it is that to be seen.
    seen = found_by_a_reader(path)
    with opened(path) as db:
        report = db.admin.repair()

    assert seen | set(report.found) == fault.codes
    if name not in NOT_FOR_REPAIR:
        assert report.ok, report.remaining
        assert set(report.repaired) == fault.codes - {"work_stuck"} or "sqlite" in fault.codes
        assert {item.finding.code for item in report.done} == set(report.repaired)
        assert all(item.done for item in report.done)
    if fault.of_row:
        assert {key for _, key, *_ in before ^ rows(path)} <= {
            *keys_of(path, "t1"),
            number_of("t1"),
        }
    assert_is_as_its_twin(path, prepared, costs=texts_of(prepared, fault.costs))


@pytest.mark.parametrize("name", [f.name for f in FOR_PEOPLE if f.name not in CLOSED_FOR_GOOD])
def test_what_nothing_in_the_file_can_put_right_is_said_and_not_touched(prepared, tmp_path, name):
    path = prepared.copy(tmp_path)
    plant(path, [(name, "t1")])
    before = content(path)

    with opened(path) as db:
        report = db.admin.repair()

    assert not report.ok
    assert {item.finding.code for item in report.remaining} >= FAULTS[name].remains
    assert all(item.advice == ADVICE[item.finding.code] for item in report.remaining)
    assert report.repaired == {}
    assert content(path) == before


@pytest.mark.parametrize("name", CLOSED_FOR_GOOD)
def test_a_file_without_the_engines_own_row_is_named_and_opens_to_read(prepared, tmp_path, name):
    path = prepared.copy(tmp_path)
    plant(path, [(name, "t1")])

    with pytest.raises(CorruptDatabaseError, match="read_only"):
        opened(path)
    assert found_by_a_reader(path) == {"engine_state"}


# --- all pairs ------------------------------------------------------------------------------------


def test_every_pair_of_faults_of_one_chunk_is_found_and_repaired(tmp_path):
    pairs = [*itertools.combinations([fault.name for fault in OF_ROWS], 2)]
    prepared = prepare(tmp_path, len(pairs))
    path = prepared.copy(tmp_path)
    plant(path, [(name, f"t{n}") for n, pair in enumerate(pairs) for name in pair])

    with opened(path) as db:
        struck = {finding.node_id for finding in found_by(db)}
        report = db.admin.repair()

    assert report.ok, report.remaining
    # What belongs to no node is found too, and cannot name one.
    homeless = {"work_of_no_chunk", "a_ledger_row_of_no_chunk", "a_vector_of_no_chunk"}
    homeless |= {"words_of_no_chunk", "a_chunk_that_other_words_find", *NOT_FOR_REPAIR}
    missed = {pair for n, pair in enumerate(pairs) if f"t{n}" not in struck}
    assert all(set(pair) & homeless for pair in missed), missed
    assert_is_as_its_twin(path, prepared)


@pytest.mark.parametrize("name", [f.name for f in FOR_PEOPLE if f.name not in CLOSED_FOR_GOOD])
def test_every_fault_is_repaired_beside_one_that_cannot_be(prepared, tmp_path, name):
    path = prepared.copy(tmp_path)
    of_rows = [(fault.name, f"t{n}") for n, fault in enumerate(OF_ROWS, 1)]
    plant(path, [*of_rows, (name, "t1")])

    with opened(path) as db:
        report = db.admin.repair()

    assert {item.finding.code for item in report.remaining} == FAULTS[name].remains
    drained = drain(path)
    assert set(drained.report.found) == FAULTS[name].remains
    assert drained.digests == prepared.digests


def sets_with_every_pair(names: list[str], size: int, rng: random.Random) -> list[list[str]]:
    """Orders of some of the names such that every two of them are together in one at least."""
    missing = set(itertools.combinations(sorted(names), 2))
    sets = []
    while missing:
        first = rng.choice(sorted(missing))
        rest = [name for name in names if name not in first]
        chosen = [*first, *rng.sample(rest, min(size - 2, len(rest)))]
        missing -= set(itertools.combinations(sorted(chosen), 2))
        rng.shuffle(chosen)
        sets.append(chosen)
    return sets


@pytest.mark.parametrize("seed", [1])
def test_every_pair_of_faults_of_the_file_and_of_its_rows_is_repaired(prepared, tmp_path, seed):
    of_rows = [(fault.name, f"t{n}") for n, fault in enumerate(OF_ROWS, 1)]
    names = [fault.name for fault in OF_FILE]
    never_met = {frozenset(pair) for pair in itertools.combinations(names, 2)}

    def strike(chosen: Iterable[str]) -> tuple[str, set[frozenset[str]]]:
        path = prepared.copy(tmp_path)
        plant(path, of_rows)
        planted = []
        for name in chosen:
            # What another fault has taken away cannot be struck.
            with contextlib.suppress(apsw.Error):
                plant(path, [(name, "t1")])
                planted.append(name)
        return path, {frozenset(pair) for pair in itertools.combinations(planted, 2)}

    def repair(path: str) -> None:
        with opened(path) as db:
            report = db.admin.repair()
        if not report.ok:
            # Without any model there is nothing to be indexed under: the embedder brings one.
            assert {item.finding.code for item in report.remaining} <= {"index_profile"}
            with opened(path, embedder()) as db:
                db.admin.repair()
        assert_is_as_its_twin(path, prepared)

    for chosen in sets_with_every_pair(names, FAULTS_OF_A_FILE, random.Random(seed)):
        path, met = strike(chosen)
        repair(path)
        never_met -= met
    for pair in sorted(map(sorted, never_met)):
        # Of the others one takes away what the other strikes: whichever comes first, maybe.
        for order in (pair, pair[::-1]):
            path, met = strike(order)
            if met:
                repair(path)
                never_met -= met
                break
    assert never_met == set()


@pytest.mark.parametrize("seed", [1])
def test_every_pair_with_a_fault_that_cannot_be_repaired_is_repaired_but_for_that(
    prepared, tmp_path, seed
):
    rng = random.Random(seed)
    for_people = [fault for fault in FOR_PEOPLE if fault.name not in CLOSED_FOR_GOOD]
    remains = {code for fault in for_people for code in fault.remains}
    waiting = [fault.name for fault in OF_FILE]
    rng.shuffle(waiting)
    while waiting:
        path, planted = prepared.copy(tmp_path), []
        # All of them, each at a node of its own: so every two of them meet as well.
        rng.shuffle(for_people)
        plant(path, [(fault.name, f"t{n}") for n, fault in enumerate(for_people)])
        for name in waiting[:FAULTS_OF_A_FILE]:
            with contextlib.suppress(apsw.Error):
                plant(path, [(name, "t1")])
                planted.append(name)
        assert planted, f"these meet none that is for people: {waiting}"
        waiting = [name for name in waiting if name not in planted]

        with opened(path) as db:
            report = db.admin.repair()
        with opened(path, embedder()) as db:
            report = db.admin.repair()

        assert {item.finding.code for item in report.remaining} == remains, planted
        drained = drain(path)
        assert set(drained.report.found) == remains, planted
        assert drained.digests == prepared.digests, planted


# --- nothing is left out --------------------------------------------------------------------------


def test_every_code_of_a_finding_has_a_fault():
    assert {code for fault in FAULTS.values() for code in fault.codes} == set(ADVICE)


def tables_of(path: str) -> dict[str, Any]:
    with raw(path) as file:
        names = [
            row[0]
            for row in file.execute(
                "SELECT name FROM sqlite_master WHERE type = 'table' AND rootpage > 0 "
                "AND name NOT GLOB 'sqlite_*'"
            ).fetchall()
        ]
        # As bytes: a text may be no text.
        return {
            name: sorted(
                repr([bytes(v) if isinstance(v, bytes) else v for v in row])
                for row in blobs_of(file, name)
            )
            for name in names
        }


def blobs_of(file: apsw.Connection, table: str) -> list[Any]:
    columns = [row[0] for row in file.execute("SELECT name FROM pragma_table_info(?)", (table,))]
    quoted = ", ".join(f"quote(CAST({quote(name)} AS BLOB))" for name in columns)
    return file.execute(f"SELECT {quoted} FROM {quote(table)}").fetchall()


def test_every_table_of_the_schema_has_a_fault(prepared, tmp_path):
    whole = tables_of(prepared.path)
    struck: Counter[str] = Counter()
    for name in FAULTS:
        path = prepared.copy(tmp_path)
        plant(path, [(name, "t1")])
        after = tables_of(path)
        struck.update(table for table in whole if after.get(table) != whole[table])
    assert {table for table in whole if not struck[table]} <= NEVER_READ
