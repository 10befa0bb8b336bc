"""FathomDB: an embedded datastore for AI agents on one SQLite file.

Text is findable by its words as soon as a write returns, and a durable queue makes sure that every
chunk gets its vector. Start with :func:`fathomdb.open`.
"""

from __future__ import annotations

from fathomdb._native import __version__, canonical_chunk_hash
from fathomdb.config import (
    BACKFILL_PRIORITY,
    BACKFILL_SLICE,
    INCREMENTAL_BATCH,
    INCREMENTAL_PRIORITY,
    EngineConfig,
)
from fathomdb.embedders.function import embedder
from fathomdb.embedders.protocol import Embedder, EmbedderLimits
from fathomdb.engine import Engine, open
from fathomdb.errors import (
    CorruptDatabaseError,
    DatabaseLockedError,
    DimensionMismatchError,
    DiskFullError,
    EmbedderContractError,
    EmbedderNotConfiguredError,
    EmbedderUnavailableError,
    EmbeddingChangeRequiresAckError,
    EngineClosedError,
    FathomError,
    ForkedProcessError,
    InvalidInputError,
    KindNotVectorIndexedError,
    MailboxFullError,
    MissingExtraError,
    NonFiniteVectorError,
    NotAFathomFileError,
    ReadOnlyError,
    SchemaVersionError,
    StorageError,
    WriterTimeoutError,
)
from fathomdb.identity import EmbedderIdentity
from fathomdb.ingest.report import IngestError, IngestProgress, IngestReport
from fathomdb.records import (
    Chunk,
    ChunkRecord,
    DrainReport,
    Freshness,
    Node,
    NodeRecord,
    TickReport,
    WaitReport,
    WriteReceipt,
)
from fathomdb.search.result import Hit, SearchResult

__all__ = [
    "BACKFILL_PRIORITY",
    "BACKFILL_SLICE",
    "INCREMENTAL_BATCH",
    "INCREMENTAL_PRIORITY",
    "Chunk",
    "ChunkRecord",
    "CorruptDatabaseError",
    "DatabaseLockedError",
    "DimensionMismatchError",
    "DiskFullError",
    "DrainReport",
    "Embedder",
    "EmbedderContractError",
    "EmbedderIdentity",
    "EmbedderLimits",
    "EmbedderNotConfiguredError",
    "EmbedderUnavailableError",
    "EmbeddingChangeRequiresAckError",
    "Engine",
    "EngineClosedError",
    "EngineConfig",
    "FathomError",
    "ForkedProcessError",
    "Freshness",
    "Hit",
    "IngestError",
    "IngestProgress",
    "IngestReport",
    "InvalidInputError",
    "KindNotVectorIndexedError",
    "MailboxFullError",
    "MissingExtraError",
    "Node",
    "NodeRecord",
    "NonFiniteVectorError",
    "NotAFathomFileError",
    "ReadOnlyError",
    "SchemaVersionError",
    "SearchResult",
    "StorageError",
    "TickReport",
    "WaitReport",
    "WriteReceipt",
    "WriterTimeoutError",
    "__version__",
    "canonical_chunk_hash",
    "embedder",
    "open",
]
