"""AdminService: ``db.admin``, one method a concern, each a line to the file that does it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fathomdb.admin import (
    digest,
    embedding,
    erase,
    export,
    indexes,
    inspect,
    integrity,
    projection,
    properties,
    repair,
    status,
    switch,
    trace,
)

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterable, Mapping

    from fathomdb.actors.runtime import Runtime
    from fathomdb.admin.embedding import ConfigureEmbeddingOutcome
    from fathomdb.admin.export import ExportReport
    from fathomdb.admin.indexes import ConfigureVecOutcome, RebuildReport, VecIndexStatus
    from fathomdb.admin.inspect import NodeReport
    from fathomdb.admin.integrity import IntegrityReport
    from fathomdb.admin.repair import RepairReport
    from fathomdb.admin.status import Status
    from fathomdb.admin.switch import ProjectionImpact, PruneReport, RollbackReport
    from fathomdb.admin.trace import SourceTrace
    from fathomdb.records import DrainProgress, DrainReport, ErasureReceipt, TickReport
    from fathomdb.store.queue import FailedRow


class AdminService:
    """What an operator does with a database; safe for any number of threads."""

    def __init__(self, runtime: Runtime, engine: object) -> None:
        self._runtime = runtime
        # An engine that nobody holds is closed: who holds its admin must hold it too.
        self._engine = engine

    # --- configuring ------------------------------------------------------------------------------

    def configure_embedding(
        self,
        embedder: Any,
        acknowledge_rebuild_impact: bool = False,
        *,
        keep_previous: bool = True,
    ) -> ConfigureEmbeddingOutcome:
        """Makes an embedder's model the one whose vectors the file holds, or begins the switch to it.

        Where kinds are indexed under another model, that one goes on answering while the new index
        is built beside it, at backfill priority; each kind flips when its own is complete. A switch
        that is under way is replaced. The active model, acknowledged, ends one: as ``cancel_switch``.

        Args:
            embedder: An Embedder, or the name of a plugin, as for ``fathomdb.open``. One that a
                name built is closed once nothing wants its vectors; an object stays the caller's.
            acknowledge_rebuild_impact: Needed where kinds are enabled under another model: every
                chunk of theirs is embedded again. ``preview_projection_impact`` says what it costs.
            keep_previous: Whether the index that is replaced is kept for :meth:`rollback`: it takes
                as much room as before, and each fresh write is embedded by both models.

        Raises:
            EmbeddingChangeRequiresAckError: It was needed; nothing was changed.
        """
        return embedding.configure(
            self._runtime,
            embedder,
            acknowledge_rebuild_impact=acknowledge_rebuild_impact,
            keep_previous=keep_previous,
        )

    # --- switching models -------------------------------------------------------------------------

    def preview_projection_impact(self, embedder: Any) -> ProjectionImpact:
        """What a switch to an embedder's model would cost; starts nothing and does not call it."""
        return switch.preview(self._runtime, embedder)

    def pause_switch(self) -> None:
        """Has the building of the new index wait, over restarts too; nothing that it has is lost.

        Raises:
            SwitchStateError: No switch is under way.
        """
        switch.pause(self._runtime)

    def resume_switch(self, *, accept_failures: bool = False) -> None:
        """Goes on with a switch that was paused.

        Args:
            accept_failures: Kinds flip however many of their chunks failed for good; by itself none
                does of which more than half failed.

        Raises:
            SwitchStateError: No switch is under way.
        """
        switch.resume(self._runtime, accept_failures=accept_failures)

    def cancel_switch(self) -> PruneReport:
        """Ends a switch and drops what it built; kinds that had flipped go back at once.

        The newest vectors go to the cache, as do those of an index that is pruned or disabled, so
        that the same switch, begun again, asks for the others only.

        Raises:
            SwitchStateError: No switch is under way.
        """
        return switch.cancel(self._runtime)

    def rollback(self) -> RollbackReport:
        """Has the model before the last switch answer again, in one transaction.

        The one that answered is kept in its place, so that a second rollback undoes the first.
        Chunks that the older index misses are made first, and counted in ``freshness`` until then.

        Raises:
            SwitchStateError: No model is kept, or a switch is under way.
        """
        return switch.roll_back(self._runtime)

    def prune_profiles(self) -> PruneReport:
        """Drops the index that is kept for a rollback, and with it what fresh writes cost more."""
        return switch.prune(self._runtime)

    def configure_vec(self, kind: str, source: str = "chunks") -> ConfigureVecOutcome:
        """Enables a kind's vector index; idempotent, and what is projected is not enqueued.

        Raises:
            EmbedderNotConfiguredError: No embedding profile is active.
        """
        return indexes.configure_vec(self._runtime, kind, source)

    def configure_vec_kinds(self, kinds: Iterable[str]) -> list[ConfigureVecOutcome]:
        """Enables several kinds, one outcome each, in order."""
        return indexes.configure_vec_kinds(self._runtime, kinds)

    def disable_vec(self, kind: str) -> None:
        """Drops a kind's work and vectors, to the cache at most; remembered, it wins over enabling."""
        indexes.disable_vec(self._runtime, kind)

    def configure_fts(
        self, tokenizer: str, progress: Callable[[int], None] | None = None
    ) -> RebuildReport | None:
        """Has text cut by ``porter unicode61``, ``unicode61`` or ``trigram``.

        The index in use answers until the new one is complete; returns None where nothing had to
        be done. ``progress`` is called with the chunks indexed so far. One rebuild runs after the
        other; Ctrl-C ends the wait for it alone: it goes on in the background, and where the engine
        is closed first, at the next open.
        """
        return indexes.configure_fts(self._runtime, tokenizer, progress)

    def index_property(self, kind: str, name: str | tuple[str, ...]) -> bool:
        """Indexes a property of a kind's nodes; returns False where it is indexed already.

        A search or a count of that one kind whose ``where`` has the property, with a value, an order
        or ``in``, then reads the nodes that match and no others. A tuple names a nested property, as
        in ``where``. Other writes wait while it is made; each write keeps it current.

        Raises:
            InvalidInputError: No such name can be, or the kind has 16 property indexes.
        """
        return properties.index(self._runtime, kind, name)

    def drop_property_index(self, kind: str, name: str | tuple[str, ...]) -> bool:
        """Drops what :meth:`index_property` made; returns False where there is no such index."""
        return properties.drop(self._runtime, kind, name)

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

    # --- looking inside ---------------------------------------------------------------------------

    def inspect(
        self,
        node_id: str,
        query: str | None = None,
        *,
        kind: str | Iterable[str] | None = None,
        where: Mapping[Any, Any] | None = None,
        ids: Iterable[str] | None = None,
        source_ref: str | None = None,
    ) -> NodeReport:
        """Says why a document is found, or not: ``report.verdict`` is the first cause, in words.

        Args:
            node_id: The node; one that was never written is reported as such.
            query: Text to search for; the report then has the node's rank and score in each arm.
            kind: Part of the search's filter, as for ``search``; each condition is tested alone.
            where: As ``kind``.
            ids: As ``kind``.
            source_ref: As ``kind``.

        Raises:
            InvalidInputError: An argument is not valid, or a kind is unknown.
        """
        return inspect.inspect(
            self._runtime,
            node_id,
            query,
            kind=kind,
            where=where,
            ids=ids,
            source_ref=source_ref,
        )

    def trace_source(self, source_ref: str) -> SourceTrace:
        """All that came from a source: its nodes, and how far their vectors are."""
        return trace.trace(self._runtime, source_ref)

    def check_integrity(
        self, progress: Callable[[int, int], None] | None = None
    ) -> IntegrityReport:
        """Looks at every row of the file: text, hash, index, work, vector, and how they fit.

        It reads one snapshot and hinders nobody, but for the last step: comparing every word of the
        full-text index keeps the writer busy, for about 7 seconds a million chunks. ``progress`` is
        called with (rows checked, rows in all) after each page. Damage is reported, not raised, by
        the codes of ``docs/reference/findings.md``; ``repair`` puts it right.
        """
        return integrity.check(self._runtime, progress)

    def repair(self, progress: Callable[[int, int], None] | None = None) -> RepairReport:
        """Puts right what ``check_integrity`` finds, and says of each finding what was done.

        Records and the text of their chunks are the truth and are never changed; hashes, work,
        vectors and the full-text index follow from them and are made again where they are wrong.
        Vectors are owed at backfill priority: drain, or leave it to the background. It works in
        short transactions beside everything else, and looks at each row again before it changes it,
        so that no write is undone; a vector table that is damaged as a whole is one transaction.
        ``progress`` is called as by ``check_integrity``, for each time that the file is gone through.

        Raises:
            ReadOnlyError: The engine was opened with ``read_only=True``.
        """
        return repair.run(self._runtime, progress)

    def projection_digest(self, kind: str) -> str:
        """SHA-256, lowercase hex, over a kind's vectors and the texts they were made from.

        Equal for two files with the same chunks under the same model, whatever happened to them on
        the way, if the model's vectors do not depend on the batch. Chunks without a vector are not
        in it. Each row, in the order of chunk_id's UTF-8 bytes, adds chunk_id, canonical hash (32
        bytes), the profile's fingerprint (hex) and the vector (little-endian f32), each after its
        length as an unsigned 64-bit little-endian number.

        Raises:
            KindNotVectorIndexedError: The kind has no vector index.
            InvalidInputError: The kind is unknown.
        """
        return digest.projection_digest(self._runtime, kind)

    def safe_export(
        self,
        path: str | os.PathLike[str],
        progress: Callable[[int, int], None] | None = None,
    ) -> ExportReport:
        """Copies the database, as it is at this moment, to a new file, while writes go on.

        The export is an ordinary database in one file, for ``fathomdb.open``; beside it,
        ``<path>.manifest.json`` has its checksum, which ``fathomdb.verify_export`` compares.
        ``progress`` is called with (pages copied, pages in all).

        Raises:
            InvalidInputError: Something of that name is there already, or its folder is not.
            DiskFullError: It does not fit; nothing is left behind.
        """
        return export.export(self._runtime, path, progress)

    # --- erasing ----------------------------------------------------------------------------------

    def erase(self, node_ids: str | Iterable[str]) -> ErasureReceipt:
        """Erases nodes: every version, text, word, vector and work row, and all residue of them.

        One transaction, so nobody sees half of it. A tombstone with the SHA-256 of each id stays.
        Ids that are not there count 0, so it can be repeated, after a crash too. It takes a look at
        every page of rows in the file, and may merge the full-text index anew.

        Raises:
            InvalidInputError: Something in ``node_ids`` is not an id.
        """
        return erase.erase_nodes(self._runtime, node_ids)

    def erase_source(self, source_ref: str) -> ErasureReceipt:
        """Erases all that came from a source, as :meth:`erase`: older versions of nodes too.

        A node that another source has written since stays as it is now; its versions from this
        source go. An older version never comes back in place of one that was erased.
        """
        return erase.erase_source(self._runtime, source_ref)

    # --- the queue --------------------------------------------------------------------------------

    def drain_vector_projection(
        self,
        timeout: float = 60.0,
        embedder: Any = None,
        progress: DrainProgress | None = None,
    ) -> DrainReport:
        """Projects what waits, until nothing is due, time is up or the embedder is away.

        Args:
            timeout: Seconds, checked between batches; 0 means one tick, infinity no limit.
            embedder: Used in place of the one that serves; it must be of the active model.
            progress: Called with (processed, remaining) chunks after each batch, on the thread that
                works: it cannot ask for another drain.

        Raises:
            EmbedderNotConfiguredError: There is no embedder to drain with.
            FathomError: It was called by this engine's own embedder or progress callback.
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
        again (one index holds every kind) and returns when it is done. One rebuild runs after the
        other; Ctrl-C ends the wait for it alone, as in :meth:`configure_fts`.
        """
        return indexes.rebuild(self._runtime, kind, target, progress)
