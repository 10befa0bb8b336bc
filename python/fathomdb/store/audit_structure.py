"""Audit of what rows stand on: the schema's objects, the engine's own row, models, vector tables.

A part of ``store/audit.py``. It comes first: where one of these is wrong, what is said of rows
follows from it.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

from fathomdb.identity import EmbedderIdentity
from fathomdb.store import fts, indexes, profiles, properties, schema, vectors
from fathomdb.store.connection import is_count
from fathomdb.store.findings import Finding

if TYPE_CHECKING:
    from collections.abc import Iterator

    import apsw

    from fathomdb.store.profiles import Profile


def engine_state(db: apsw.Connection) -> Iterator[Finding]:
    """The one row that every commit counts in."""
    rows: list[Any] = db.execute("SELECT cursor, fence FROM engine_state").fetchall()
    if len(rows) != 1:
        yield Finding("engine_state", "engine_state", "engine_state does not have its one row")
    for cursor, fence in rows:
        if not (is_count(cursor) and is_count(fence)):
            yield Finding(
                "engine_state",
                "engine_state",
                f"the file counts {cursor!r} commits and {fence!r} fences, which cannot be",
            )


def vector_commits(db: apsw.Connection) -> Iterator[Finding]:
    """The number by which codes in memory know whether they are behind."""
    number = db.execute("SELECT vector_commits FROM engine_state").get
    if not is_count(number):
        yield Finding(
            "vector_commits",
            "engine_state",
            f"the file counts {number!r} commits that changed vectors, which cannot be",
        )


def objects(db: apsw.Connection) -> Iterator[Finding]:
    """Tables, indexes, views and triggers that a file of this schema has, or must not have."""
    there, expected = schema.objects(db), schema.expected_objects()
    vector_tables = vectors.tables(db)
    for name, (kind, sql) in expected.items():
        if name not in there:
            yield Finding("schema_object", name, f"the {kind} {name} is gone")
        # An index of full text may have another tokenizer, and a swap quotes its name.
        elif there[name] != (kind, sql) and not name.startswith(fts.MAIN):
            yield Finding("schema_object", name, f"the {kind} {name} is not as it was made: {sql}")
    for name, (kind, sql) in there.items():
        if (
            name not in expected
            and not name.startswith(fts.NEXT)
            and properties.of_definition(name, sql) is None
            and name not in vector_tables
            and not any(name.startswith(f"{table}_") for table in vector_tables)
        ):
            yield Finding("schema_object", name, f"the {kind} {name} is not of this schema")


def identities(db: apsw.Connection) -> Iterator[Finding]:
    """Models whose columns do not make their fingerprint, or whose vectors have no dimension."""
    for profile_id, profile in profiles.every(db).items():
        if not has_its_fingerprint(db, profile):
            said = "its columns do not make its fingerprint"
        elif profile.dimension is None and dimensions(db, profile_id):
            said = "it has vectors and no dimension"
        else:
            continue
        yield Finding(
            "profile_identity",
            "vector_embedding_profiles",
            f"the model {profile} is not described rightly: {said}",
            profile_id,
        )


def has_its_fingerprint(db: apsw.Connection, profile: Profile) -> bool:
    """Whether what is said of a model makes its fingerprint; a learned dimension is not in it."""
    preparation = db.execute(
        "SELECT preparation FROM vector_embedding_profiles WHERE profile_id = ?",
        (profile.profile_id,),
    ).get
    for dimension in (profile.dimension, None):
        try:
            identity = EmbedderIdentity(
                profile.model_identity,
                profile.model_version,
                dimension,
                profile.normalization_policy,  # type: ignore[arg-type]
                json.loads(preparation),
            )
        except (ValueError, AttributeError):
            return False  # no identity can be made of that
        if identity.fingerprint == profile.fingerprint:
            return True
    return False


def dimensions(db: apsw.Connection, profile_id: int) -> set[int]:
    """The dimensions of the vector tables that are there for a profile."""
    there, found = vectors.tables(db), set()
    for index in indexes.every(db):
        sql = there.get(vectors.table_name(index.kind, profile_id))
        if sql is not None and (match := re.search(r"float\[(\d+)\]", sql)):
            found.add(int(match[1]))
    return found


def vector_tables(db: apsw.Connection, found: list[tuple[str, Profile]]) -> Iterator[Finding]:
    """Says which tables are missing, wrong or unknown; those that can be read go to ``found``."""
    there = vectors.tables(db)
    known = profiles.every(db)
    for kind, profile_id in indexes.wanted(db):
        profile = known.get(profile_id)
        if profile is None:
            continue
        table = vectors.table_name(kind, profile_id)
        sql = there.pop(table, None)
        if profile.dimension is None or profile.state == "retired":
            continue  # no table before the first batch, or a model that is a finding itself
        if sql is None:
            yield Finding(
                "vector_table_missing", table, f"kind {kind} is indexed and has no {table}"
            )
        elif not vectors.is_made_for(sql, profile):
            yield Finding(
                "vector_table_definition", table, f"{table} is not made for {profile}: {sql}"
            )
        else:
            found.append((kind, profile))
    for table in there:
        yield Finding(
            "vector_table_unknown", table, f"no indexed kind has the vector table {table}"
        )
