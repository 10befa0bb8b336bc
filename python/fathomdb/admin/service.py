"""AdminService: ``db.admin``, one method a concern, each a line to the file that does it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fathomdb.admin import embedding, indexes, projection, status

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from fathomdb.actors.runtime import Runtime
    from fathomdb.admin.embedding import ConfigureEmbeddingOutcome
    from fathomdb.admin.indexes import ConfigureVecOutcome, RebuildReport, VecIndexStatus
    from fathomdb.admin.status import Status
    from fathomdb.records import DrainProgress, DrainReport, TickReport
    from fathomdb.store.work import FailedRow


class AdminService:
    """What an operator does with a database; safe for any number of threads."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime

    # --- configuring ------------------------------------------------------------------------------

    def configure_embedding(
        self, embedder: Any, acknowledge_rebuild_impact: bool = False
    ) -> ConfigureEmbeddingOutcome:
        """Makes an embedder's model the one whose vectors the file holds.

        Args:
            embedder: An Embedder, or the name of a plugin, as for ``fathomdb.open``.
            acknowledge_rebuild_impact: Needed where kinds are enabled under another model: their
                vectors are dropped and owed anew, at backfill priority.

        Raises:
            EmbeddingChangeRequiresAckError: It was needed; nothing was changed.
        """
        return embedding.configure(
            self._runtime, embedder, acknowledge_rebuild_impact=acknowledge_rebuild_impact
        )

    def configure_vec(self, kind: str, source: str = "chunks") -> ConfigureVecOutcome:
        """Enables a kind's vector index; idempotent, and what is projected is not enqueued.

        Raises:
            EmbedderNotConfiguredError: No embedding profile is active.
        """
        return indexes.configure_vec(self._runtime, kind, source)

    def configure_vec_kinds(self, kinds: Iterable[str]) -> list[ConfigureVecOutcome]:
        """Enables several kinds, one outcome each, in order."""
        return [self.configure_vec(kind) for kind in kinds]

    def disable_vec(self, kind: str) -> None:
        """Drops a kind's work and vectors; remembered, it wins over enabling by itself."""
        indexes.disable_vec(self._runtime, kind)

    def configure_fts(
        self, tokenizer: str, progress: Callable[[int], None] | None = None
    ) -> RebuildReport | None:
        """Has text cut by ``porter unicode61``, ``unicode61`` or ``trigram``.

        The index in use answers until the new one is complete; returns None where nothing had to
        be done. ``progress`` is called with the chunks indexed so far.
        """
        return indexes.configure_fts(self._runtime, tokenizer, progress)

    # --- looking ----------------------------------------------------------------------------------

    def get_vec_index_status(self, kind: str) -> VecIndexStatus:
        """How far the vector index of a kind is.

        Raises:
            InvalidInputError: Nothing was ever written or configured for the kind.
        """
        return indexes.status(self._runtime, kind)

    def status(self) -> Status:
        """What the file holds, what waits, and how the owner is doing."""
        return status.read(self._runtime)

    # --- the queue --------------------------------------------------------------------------------

    def drain_vector_projection(
        self,
        timeout: float = 60.0,
        embedder: Any = None,
        progress: DrainProgress | None = None,
    ) -> DrainReport:
        """Projects what waits, until nothing is due, time is up or the embedder is away.

        Args:
            timeout: Seconds, checked between batches; 0 means one tick.
            embedder: Used in place of the one that serves; it must be of the active model.
            progress: Called with (processed, remaining) chunks after each batch.

        Raises:
            EmbedderNotConfiguredError: There is no embedder to drain with.
        """
        return projection.drain(self._runtime, timeout, embedder, progress)

    def run_tick(self, embedder: Any = None) -> TickReport:
        """One round: incremental work, and only if there is none, one slice of backfill."""
        return projection.run_tick(self._runtime, embedder)

    def failed_work(self, kind: str | None = None) -> tuple[FailedRow, ...]:
        """Chunks whose vector failed for good, with their cause, oldest first."""
        return projection.failed_work(self._runtime, kind)

    def requeue_failed(self, kind: str | None = None, cause: str | None = None) -> int:
        """Tries failed chunks again, of a kind or with a cause where given; returns how many."""
        return projection.requeue_failed(self._runtime, kind, cause)

    def rebuild(
        self,
        kind: str,
        target: str = "vec",
        progress: Callable[[int], None] | None = None,
    ) -> RebuildReport:
        """Makes a projection anew from canonical rows, while the old one goes on answering.

        ``vec`` owes every vector of the kind again, at backfill priority; ``fts`` indexes all text
        again (one index holds every kind) and returns when it is done.
        """
        return indexes.rebuild(self._runtime, kind, target, progress)
