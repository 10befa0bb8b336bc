"""Every error that FathomDB raises on purpose, in one taxonomy.

What belongs here: exception classes, their stable ``code`` and whether a retry can help.
What does not: deciding when to raise, and translating SQLite's errors (``store/connection.py``).
"""

from __future__ import annotations

from typing import ClassVar


class FathomError(Exception):
    """Something in FathomDB went wrong.

    ``code`` is a stable word for programs and logs; ``retryable`` says whether the same call may
    succeed later without any change by the caller.
    """

    code: ClassVar[str] = "fathom_error"
    retryable: ClassVar[bool] = False

    def __init__(self, message: str | None = None) -> None:
        super().__init__(message if message is not None else _default_message(type(self)))


def _default_message(cls: type[FathomError]) -> str:
    """The first paragraph of the class docstring: what is said where nobody says more."""
    return " ".join((cls.__doc__ or cls.__name__).strip().split("\n\n")[0].split())


# --- what the caller passed -----------------------------------------------------------------------


class InvalidInputError(FathomError, ValueError):
    """An argument is not valid; nothing of the request was stored."""

    code = "invalid_input"


class DimensionMismatchError(InvalidInputError):
    """A vector does not have the dimension of its embedding profile."""

    code = "dimension_mismatch"


class NonFiniteVectorError(InvalidInputError):
    """A vector contains NaN or infinity, or a value that becomes infinite as a 32-bit float."""

    code = "non_finite_vector"


# --- embedders and indexes ------------------------------------------------------------------------


class EmbedderNotConfiguredError(FathomError):
    """No embedder is configured; pass embedder= to fathomdb.open or call admin.configure_embedding."""

    code = "embedder_not_configured"


class KindNotVectorIndexedError(FathomError):
    """The kind has no vector index; enable it with admin.configure_vec(kind)."""

    code = "kind_not_vector_indexed"


class EmbeddingChangeRequiresAckError(FathomError):
    """Another embedding model would rebuild every enabled kind; pass acknowledge_rebuild_impact=True."""

    code = "embedding_change_requires_ack"

    def __init__(self, message: str | None = None, *, affected_kinds: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.affected_kinds = affected_kinds


class SwitchStateError(FathomError):
    """The switch of models is not where this could be done; admin.status().switch says how it is."""

    code = "switch_state"


class EmbedderUnavailableError(FathomError):
    """The embedder cannot be reached now; an embedder raises this to report an outage.

    ``retry_after_seconds`` is the provider's own wish (``Retry-After``), if it said one: more than
    0, and an hour at most is waited. Anything else counts as none.
    """

    code = "embedder_unavailable"
    retryable = True

    def __init__(
        self, message: str | None = None, *, retry_after_seconds: float | None = None
    ) -> None:
        super().__init__(message)
        self.retry_after_seconds = retry_after_seconds


class EmbedderContractError(FathomError):
    """The embedder broke its contract: wrong number of vectors, wrong dimension, or not numbers."""

    code = "embedder_contract"


# --- the file -------------------------------------------------------------------------------------


class DatabaseLockedError(FathomError):
    """The database is open in another engine; only one engine at a time may own a file."""

    code = "database_locked"
    retryable = True

    def __init__(self, message: str | None = None, *, pid: int | None = None) -> None:
        super().__init__(message)
        self.pid = pid


class NotAFathomFileError(FathomError):
    """The file is not a FathomDB database; it was not changed."""

    code = "not_a_fathom_file"


class SchemaVersionError(FathomError):
    """The file has a schema that this version of FathomDB does not know."""

    code = "schema_version"


class ReadOnlyError(FathomError):
    """The engine or the file is read-only."""

    code = "read_only"


class DiskFullError(FathomError):
    """The disk is full; the transaction was rolled back and the engine goes on."""

    code = "disk_full"
    retryable = True


class StorageError(FathomError):
    """SQLite could not read or write the file; the message has its words."""

    code = "storage"


class CorruptDatabaseError(StorageError):
    """The file is damaged; restore a backup, or look at admin.check_integrity()."""

    code = "corrupt_database"


# --- the engine's life ----------------------------------------------------------------------------


class EngineClosedError(FathomError):
    """The engine is closed; open the file again."""

    code = "engine_closed"


class ForkedProcessError(FathomError):
    """The engine was opened before a fork; open it in the process that uses it."""

    code = "forked_process"


class MailboxFullError(FathomError):
    """The writer has too many requests waiting; nothing of this request was stored."""

    code = "mailbox_full"
    retryable = True


class WriterTimeoutError(FathomError, TimeoutError):
    """The writer did not answer in time; the write may still commit."""

    code = "writer_timeout"
    retryable = True


class MissingExtraError(FathomError, ImportError):
    """An optional package is not installed; the message says which extra to install."""

    code = "missing_extra"
