"""The file's schema: what is checked before anything is written, and forward-only migrations.

``docs/reference/schema.md`` says what each table is for; this file is what makes it so.
"""

from __future__ import annotations

import contextlib

import apsw

from fathomdb.errors import CorruptDatabaseError, NotAFathomFileError, SchemaVersionError
from fathomdb.store import fts
from fathomdb.store.connection import open_memory, open_reader

APPLICATION_ID = 0x46447079  # "FDpy"
PAGE_BYTES = 8192
"""Measured: a tenth off a write against 4,096, the same for a drain; 16,384 adds nothing."""
# Tables that only the FathomDB of Rust made; with our application_id absent they name its file.
_LINEAGE_TABLES = frozenset({"fathom_schema_migrations", "canonical_nodes", "_fathomdb_open_state"})

_V1 = """
CREATE TABLE engine_state (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    cursor INTEGER NOT NULL CHECK (cursor >= 0),
    fence INTEGER NOT NULL CHECK (fence >= 0),
    fts_next_tokenizer TEXT,
    fts_next_upto INTEGER,
    CHECK ((fts_next_tokenizer IS NULL) = (fts_next_upto IS NULL))
) STRICT;
INSERT INTO engine_state (id, cursor, fence) VALUES (1, 0, 0);

CREATE TABLE engine_status (
    name TEXT PRIMARY KEY,
    value ANY
) STRICT, WITHOUT ROWID;

CREATE TABLE kinds (
    kind TEXT PRIMARY KEY CHECK (kind <> ''),
    chunk_chars INTEGER NOT NULL CHECK (chunk_chars > 0),
    splitter TEXT NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE nodes (
    node_key INTEGER PRIMARY KEY,
    logical_id TEXT NOT NULL CHECK (logical_id <> ''),
    kind TEXT NOT NULL REFERENCES kinds (kind),
    properties TEXT CHECK (properties IS NULL OR json_valid(properties)),
    source_ref TEXT,
    split INTEGER NOT NULL CHECK (split IN (0, 1)),
    written_cursor INTEGER NOT NULL,
    superseded_cursor INTEGER
) STRICT;
CREATE UNIQUE INDEX nodes_live ON nodes (logical_id) WHERE superseded_cursor IS NULL;
CREATE INDEX nodes_superseded ON nodes (logical_id) WHERE superseded_cursor IS NOT NULL;
CREATE INDEX nodes_by_kind ON nodes (kind) WHERE superseded_cursor IS NULL;
CREATE INDEX nodes_by_source ON nodes (source_ref) WHERE source_ref IS NOT NULL;

CREATE TABLE chunks (
    chunk_key INTEGER PRIMARY KEY,
    chunk_id TEXT NOT NULL UNIQUE CHECK (chunk_id <> ''),
    node_key INTEGER NOT NULL REFERENCES nodes (node_key),
    ordinal INTEGER NOT NULL CHECK (ordinal >= 0),
    byte_start INTEGER,
    byte_end INTEGER,
    canonical_hash BLOB NOT NULL CHECK (length(canonical_hash) = 32),
    text TEXT NOT NULL CHECK (text <> '')
) STRICT;
CREATE INDEX chunks_by_node ON chunks (node_key, ordinal);

CREATE VIEW live_chunk_text (chunk_key, text) AS SELECT chunk_key, text FROM chunks;

CREATE TABLE vector_embedding_profiles (
    profile_id INTEGER PRIMARY KEY,
    fingerprint TEXT NOT NULL UNIQUE,
    model_identity TEXT NOT NULL,
    model_version TEXT NOT NULL,
    dimension INTEGER CHECK (dimension > 0),
    normalization_policy TEXT NOT NULL CHECK (normalization_policy IN ('l2', 'none')),
    preparation TEXT NOT NULL CHECK (json_valid(preparation)),
    state TEXT NOT NULL CHECK (state IN ('active', 'retired')),
    plugin TEXT,
    created_at_ms INTEGER NOT NULL
) STRICT;
CREATE UNIQUE INDEX profiles_one_active ON vector_embedding_profiles (state) WHERE state = 'active';

CREATE TABLE vector_index_schemas (
    kind TEXT PRIMARY KEY REFERENCES kinds (kind),
    enabled INTEGER NOT NULL CHECK (enabled IN (0, 1)),
    source TEXT NOT NULL CHECK (source = 'chunks'),
    state TEXT NOT NULL CHECK (state IN ('fresh', 'building', 'stale')),
    profile_id INTEGER REFERENCES vector_embedding_profiles (profile_id),
    last_error TEXT,
    last_completed_at_ms INTEGER,
    rebuild_after_key INTEGER
) STRICT, WITHOUT ROWID;

CREATE TABLE vector_ledger (
    chunk_key INTEGER NOT NULL REFERENCES chunks (chunk_key),
    profile_id INTEGER NOT NULL REFERENCES vector_embedding_profiles (profile_id),
    canonical_hash BLOB NOT NULL CHECK (length(canonical_hash) = 32),
    content_hash BLOB NOT NULL CHECK (length(content_hash) = 32),
    PRIMARY KEY (chunk_key, profile_id)
) STRICT, WITHOUT ROWID;

CREATE TABLE vector_projection_work (
    work_id INTEGER PRIMARY KEY,
    chunk_key INTEGER NOT NULL REFERENCES chunks (chunk_key),
    profile_id INTEGER NOT NULL REFERENCES vector_embedding_profiles (profile_id),
    kind TEXT NOT NULL,
    canonical_hash BLOB NOT NULL CHECK (length(canonical_hash) = 32),
    priority INTEGER NOT NULL,
    lane INTEGER GENERATED ALWAYS AS (priority >= 1000) VIRTUAL,
    state TEXT NOT NULL CHECK (state IN ('pending', 'inflight', 'failed')),
    fence INTEGER NOT NULL,
    attempts INTEGER NOT NULL DEFAULT 0 CHECK (attempts >= 0),
    enqueued_at_ms INTEGER NOT NULL,
    due_at_ms INTEGER NOT NULL,
    cause TEXT,
    last_error TEXT,
    CHECK ((state = 'failed') = (cause IS NOT NULL)),
    UNIQUE (chunk_key, profile_id)
) STRICT;
CREATE INDEX work_claim ON vector_projection_work (profile_id, lane, due_at_ms, work_id)
    WHERE state = 'pending';
CREATE INDEX work_inflight ON vector_projection_work (fence) WHERE state = 'inflight';
CREATE INDEX work_failed ON vector_projection_work (kind) WHERE state = 'failed';
"""

# Version 2: erasure. A tombstone says that something was there and was erased, and never what.
_V2 = """
CREATE TABLE tombstones (
    tombstone_id INTEGER PRIMARY KEY,
    what TEXT NOT NULL CHECK (what IN ('node', 'source')),
    sha256 BLOB NOT NULL CHECK (length(sha256) = 32),
    nodes INTEGER NOT NULL CHECK (nodes >= 0),
    versions INTEGER NOT NULL CHECK (versions >= nodes),
    chunks INTEGER NOT NULL CHECK (chunks >= 0),
    vectors INTEGER NOT NULL CHECK (vectors >= 0),
    work INTEGER NOT NULL CHECK (work >= 0),
    cursor INTEGER NOT NULL,
    erased_at_ms INTEGER NOT NULL
) STRICT;
ALTER TABLE engine_state ADD COLUMN wal_pending INTEGER NOT NULL DEFAULT 0
    CHECK (wal_pending IN (0, 1));
ALTER TABLE engine_state ADD COLUMN database_id BLOB CHECK (length(database_id) = 16);
UPDATE engine_state SET database_id = randomblob(16);
"""

# Version 3: vectors are found again by their text, those of texts that are gone in a cache; commits
# that change vectors are counted; and a second model beside the active one, while a switch to it runs and afterwards. SQLite
# changes no CHECK of a table that is there: the rows of profiles are copied, under the same keys, and
# whatever refers to them is compared again once they are back. Those of the queue are copied for a
# CHECK of its states that makes no table of them for every row (measured: 2.5 % of a drain).
_V3 = """
PRAGMA defer_foreign_keys = ON;
CREATE TABLE profiles_before AS SELECT * FROM vector_embedding_profiles;
DROP TABLE vector_embedding_profiles;
CREATE TABLE vector_embedding_profiles (
    profile_id INTEGER PRIMARY KEY,
    fingerprint TEXT NOT NULL UNIQUE,
    model_identity TEXT NOT NULL,
    model_version TEXT NOT NULL,
    dimension INTEGER CHECK (dimension > 0),
    normalization_policy TEXT NOT NULL CHECK (normalization_policy IN ('l2', 'none')),
    preparation TEXT NOT NULL CHECK (json_valid(preparation)),
    state TEXT NOT NULL CHECK (state IN ('active', 'building', 'previous', 'retired')),
    plugin TEXT,
    created_at_ms INTEGER NOT NULL,
    paused INTEGER NOT NULL DEFAULT 0 CHECK (paused IN (0, 1)),
    keep_previous INTEGER NOT NULL DEFAULT 1 CHECK (keep_previous IN (0, 1)),
    chunks_per_second REAL,
    CHECK (paused = 0 OR state = 'building')
) STRICT;
INSERT INTO vector_embedding_profiles (profile_id, fingerprint, model_identity, model_version,
    dimension, normalization_policy, preparation, state, plugin, created_at_ms)
    SELECT profile_id, fingerprint, model_identity, model_version, dimension,
    normalization_policy, preparation, state, plugin, created_at_ms FROM profiles_before;
DROP TABLE profiles_before;
CREATE UNIQUE INDEX profiles_one_active ON vector_embedding_profiles (state)
    WHERE state = 'active';
CREATE UNIQUE INDEX profiles_one_second ON vector_embedding_profiles ((1))
    WHERE state IN ('building', 'previous');
CREATE VIEW wanted_vectors (kind, profile_id, serves) AS
    SELECT kind, profile_id, 1 FROM vector_index_schemas
    WHERE enabled = 1 AND profile_id IS NOT NULL
    UNION ALL
    SELECT s.kind, p.profile_id, 0
    FROM vector_index_schemas AS s JOIN vector_embedding_profiles AS p
    ON p.state <> 'retired' AND p.profile_id <> s.profile_id
    WHERE s.enabled = 1;
CREATE TABLE vector_cache (
    position INTEGER PRIMARY KEY CHECK (position >= 0),
    profile_id INTEGER NOT NULL REFERENCES vector_embedding_profiles (profile_id),
    content_hash BLOB NOT NULL CHECK (length(content_hash) = 32),
    embedding BLOB NOT NULL CHECK (length(embedding) > 0),
    UNIQUE (profile_id, content_hash)
) STRICT;
ALTER TABLE vector_projection_work RENAME TO work_before;
DROP INDEX work_claim;
DROP INDEX work_inflight;
DROP INDEX work_failed;
CREATE TABLE vector_projection_work (
    work_id INTEGER PRIMARY KEY,
    chunk_key INTEGER NOT NULL REFERENCES chunks (chunk_key),
    profile_id INTEGER NOT NULL REFERENCES vector_embedding_profiles (profile_id),
    kind TEXT NOT NULL,
    canonical_hash BLOB NOT NULL CHECK (length(canonical_hash) = 32),
    priority INTEGER NOT NULL,
    lane INTEGER GENERATED ALWAYS AS (priority >= 1000) VIRTUAL,
    state TEXT NOT NULL CHECK (state = 'pending' OR state = 'inflight' OR state = 'failed'),
    fence INTEGER NOT NULL,
    attempts INTEGER NOT NULL DEFAULT 0 CHECK (attempts >= 0),
    enqueued_at_ms INTEGER NOT NULL,
    due_at_ms INTEGER NOT NULL,
    cause TEXT,
    last_error TEXT,
    CHECK ((state = 'failed') = (cause IS NOT NULL)),
    UNIQUE (chunk_key, profile_id)
) STRICT;
INSERT INTO vector_projection_work (work_id, chunk_key, profile_id, kind, canonical_hash, priority,
    state, fence, attempts, enqueued_at_ms, due_at_ms, cause, last_error)
    SELECT work_id, chunk_key, profile_id, kind, canonical_hash, priority, state, fence, attempts,
    enqueued_at_ms, due_at_ms, cause, last_error FROM work_before;
DROP TABLE work_before;
CREATE INDEX work_claim ON vector_projection_work (profile_id, lane, due_at_ms, work_id)
    WHERE state = 'pending';
CREATE INDEX work_inflight ON vector_projection_work (fence) WHERE state = 'inflight';
CREATE INDEX work_failed ON vector_projection_work (kind) WHERE state = 'failed';
ALTER TABLE engine_state ADD COLUMN vector_commits INTEGER NOT NULL DEFAULT 0
    CHECK (vector_commits >= 0);
"""

WITH_ERASURES = 2
"""The first version whose files can owe the end of an erasure."""
MIGRATIONS: tuple[str, ...] = (_V1, _V2, _V3)
SCHEMA_VERSION = len(MIGRATIONS)


def version(db: apsw.Connection) -> int:
    """The file's schema version, 0 for an empty file."""
    return int(db.pragma("user_version"))


def check_identity(db: apsw.Connection, path: str) -> int:
    """The file's schema version, 0 for an empty file; refuses a file that is not ours or newer."""
    application_id = db.pragma("application_id")
    found = version(db)
    tables = {row[0] for row in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    if application_id != APPLICATION_ID:
        if tables & _LINEAGE_TABLES:
            raise NotAFathomFileError(
                f"{path} is a database of the Rust FathomDB 0.5 to 0.8, which this package does not "
                "open; export its records there and ingest them into a new file"
            )
        if tables or application_id or found:
            raise NotAFathomFileError(
                f"{path} is an SQLite database of another program (application_id "
                f"{application_id:#x}); it was not changed"
            )
        return 0
    if found > SCHEMA_VERSION:
        raise SchemaVersionError(
            f"{path} has schema version {found} and this FathomDB knows up to {SCHEMA_VERSION}; "
            "open it with a newer fathomdb-py"
        )
    return found


def renew_id(db: apsw.Connection) -> None:
    """Makes a copy a database of its own: the log of the other one is not for it."""
    db.execute("UPDATE engine_state SET database_id = randomblob(16)")


def check_log(db: apsw.Connection, path: str) -> None:
    """Refuses the write-ahead log of another database, which SQLite takes for the file's own.

    Args:
        db: A connection to the file as its log leaves it.
        path: Of the file.

    Raises:
        CorruptDatabaseError: The two are not one database. Nothing was changed.
    """
    of_log = _database_id(db)
    try:
        with contextlib.closing(open_reader(path, cache_mib=1, immutable=True)) as alone:
            of_file = _database_id(alone)
    except apsw.Error:
        return  # whoever brought the log into it was killed: only with the log is the file whole
    if None not in (of_log, of_file) and of_log != of_file:
        raise CorruptDatabaseError(
            f"{path}-wal is the log of another database, or of what {path} was before it was "
            f"restored; nothing was changed: move {path}-wal away and open {path} again"
        )


def _database_id(db: apsw.Connection) -> bytes | None:
    try:
        found: bytes | None = db.execute("SELECT database_id FROM engine_state").get
    except apsw.SQLError:
        return None  # an empty file, or one of version 1
    return found


def is_older(version: int) -> bool:
    """Whether a file of this version has to be brought forward; an empty one has not."""
    return 0 < version < SCHEMA_VERSION


def check_current(version: int, path: str) -> None:
    """Refuses to read a file that a writer would have to migrate first."""
    if version < SCHEMA_VERSION:
        raise SchemaVersionError(
            f"{path} has schema version {version} and this FathomDB reads {SCHEMA_VERSION}; open it "
            "for writing once, which brings it forward"
        )


def objects(db: apsw.Connection) -> dict[str, tuple[str, str]]:
    """(type, statement) of all that was made in the file, by name; SQLite's own is left out."""
    return {
        name: (kind, sql)
        for kind, name, sql in db.execute(
            "SELECT type, name, sql FROM sqlite_master WHERE name NOT GLOB 'sqlite_*'"
        )
    }


def expected_objects() -> dict[str, tuple[str, str]]:
    """What a file of this schema has, whatever it holds: made anew in memory."""
    db = open_memory()
    try:
        migrate(db, 0)
        return objects(db)
    finally:
        db.close()


def migrate(db: apsw.Connection, version: int) -> None:
    """Brings the file from ``version`` to SCHEMA_VERSION, all steps in one transaction."""
    if version == SCHEMA_VERSION:
        return
    if version == 0:
        # Neither can change inside a transaction, nor once the first page is written.
        db.pragma("page_size", PAGE_BYTES)
        db.pragma("journal_mode", "wal")
    with db:
        for number in range(version, SCHEMA_VERSION):
            db.execute(MIGRATIONS[number])
            if number == 0:
                fts.create(db, fts.MAIN, fts.DEFAULT_TOKENIZER)
                db.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        db.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
