"""FathomDB: an embedded datastore for AI agents on one SQLite file.

Text is findable by its words as soon as a write returns, and a durable queue makes sure that every
chunk gets its vector. Start with :func:`fathomdb.open`.
"""

from __future__ import annotations

from fathomdb import _interpreter, aio  # noqa: F401 - refuses where the others could not be imported
from fathomdb._native import __version__, canonical_chunk_hash
from fathomdb.admin.embedding import ConfigureEmbeddingOutcome
from fathomdb.admin.export import ExportReport, verify_export
from fathomdb.admin.indexes import ConfigureVecOutcome, RebuildReport, VecIndexStatus
from fathomdb.admin.inspect import ChunkReport, NodeReport, VectorReport, WorkReport
from fathomdb.admin.integrity import IntegrityReport
from fathomdb.admin.ranks import FilterReport, QueryReport
from fathomdb.admin.repair import Remaining, Repaired, RepairReport
from fathomdb.admin.status import KindStatus, Status
from fathomdb.admin.switch import (
    KindSwitch,
    ProjectionImpact,
    PruneReport,
    RollbackReport,
    SwitchStatus,
)
from fathomdb.admin.trace import SourceTrace, TracedVersion
from fathomdb.config import (
    BACKFILL_PRIORITY,
    BACKFILL_SLICE,
    INCREMENTAL_BATCH,
    INCREMENTAL_PRIORITY,
    EngineConfig,
)
from fathomdb.embedders.function import embedder
from fathomdb.embedders.langchain import from_langchain
from fathomdb.embedders.protocol import Embedder, EmbedderLimits
from fathomdb.embedders.ready import ready_vectors
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
    SwitchStateError,
    WriterTimeoutError,
)
from fathomdb.identity import EmbedderIdentity
from fathomdb.ingest.report import IngestError, IngestProgress, IngestReport
from fathomdb.records import (
    Chunk,
    ChunkRecord,
    DrainReport,
    ErasureReceipt,
    Freshness,
    Node,
    NodeRecord,
    TickReport,
    WaitReport,
    WriteReceipt,
)
from fathomdb.search.result import Hit, SearchResult
from fathomdb.store.findings import Finding
from fathomdb.store.queue import FailedRow

__all__ = [
    "BACKFILL_PRIORITY",
    "BACKFILL_SLICE",
    "INCREMENTAL_BATCH",
    "INCREMENTAL_PRIORITY",
    "Chunk",
    "ChunkRecord",
    "ChunkReport",
    "ConfigureEmbeddingOutcome",
    "ConfigureVecOutcome",
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
    "ErasureReceipt",
    "ExportReport",
    "FailedRow",
    "FathomError",
    "FilterReport",
    "Finding",
    "ForkedProcessError",
    "Freshness",
    "Hit",
    "IngestError",
    "IngestProgress",
    "IngestReport",
    "IntegrityReport",
    "InvalidInputError",
    "KindNotVectorIndexedError",
    "KindStatus",
    "KindSwitch",
    "MailboxFullError",
    "MissingExtraError",
    "Node",
    "NodeRecord",
    "NodeReport",
    "NonFiniteVectorError",
    "NotAFathomFileError",
    "ProjectionImpact",
    "PruneReport",
    "QueryReport",
    "ReadOnlyError",
    "RebuildReport",
    "Remaining",
    "RepairReport",
    "Repaired",
    "RollbackReport",
    "SchemaVersionError",
    "SearchResult",
    "SourceTrace",
    "Status",
    "StorageError",
    "SwitchStateError",
    "SwitchStatus",
    "TickReport",
    "TracedVersion",
    "VecIndexStatus",
    "VectorReport",
    "WaitReport",
    "WorkReport",
    "WriteReceipt",
    "WriterTimeoutError",
    "__version__",
    "aio",
    "canonical_chunk_hash",
    "embedder",
    "from_langchain",
    "open",
    "ready_vectors",
    "verify_export",
]
