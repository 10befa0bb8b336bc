"""Engine: an open database, one method for each thing that a program does with it."""

from __future__ import annotations

import dataclasses
import weakref
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Self

from fathomdb.actors import query as queries
from fathomdb.admin import projection
from fathomdb.admin.service import AdminService
from fathomdb.config import check_seconds
from fathomdb.errors import InvalidInputError
from fathomdb.ingest import job
from fathomdb.ingest.run import Target
from fathomdb.pipeline import columns as by_column
from fathomdb.pipeline import prepare
from fathomdb.pipeline import write as writes
from fathomdb.records import Node, NodeRecord, Properties, WaitReport, WriteReceipt
from fathomdb.search import filters, lookup, searcher
from fathomdb.search.hybrid import DEFAULT_VECTOR_WEIGHT, Fusion

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from contextlib import AbstractContextManager
    from types import TracebackType

    from fathomdb.actors.runtime import Runtime
    from fathomdb.ingest.job import Records, SourceOf
    from fathomdb.ingest.mapping import ColumnOf, VectorOf
    from fathomdb.ingest.report import IngestReport, Progress
    from fathomdb.ingest.run import OnError
    from fathomdb.pipeline.prepare import PreparedNode
    from fathomdb.search.result import SearchResult
    from fathomdb.search.searcher import Mode
    from fathomdb.store.connection import Connection
    from fathomdb.store.transaction import Transaction

WAIT_SECONDS = 30.0
"""How long ``wait`` and ``after=`` wait where the caller says nothing."""


def _check_timeout(timeout: float | None) -> float | None:
    return None if timeout is None else check_seconds("timeout", timeout)


def _check_items(name: str, value: object, of: str) -> None:
    if isinstance(value, (str, bytes)) or not isinstance(value, Iterable):
        raise InvalidInputError(f"{name} must be an iterable of {of}, got {value!r}")


def _late(result: SearchResult, awaited: WaitReport | None) -> SearchResult:
    """The result, which says so where the write that it was to come after is not all there."""
    if awaited is None or not awaited.pending or result.degraded is not None:
        return result
    reason = f"{awaited.pending} vectors of the awaited write are still owed: {awaited.reason}"
    return dataclasses.replace(result, degraded="building", reason=reason)


# Functions, since what the writer runs must not have the engine: the writer's thread would be the
# last to hold it, and cannot close it.


def _context(runtime: Runtime) -> writes.WriteContext:
    return writes.WriteContext(runtime.config.chunk_chars, runtime.auto_enable, runtime.now_ms())


def _committed(runtime: Runtime, tx: Transaction, receipt: WriteReceipt) -> WriteReceipt:
    if receipt.enqueued and runtime.projector is not None:
        tx.on_commit(runtime.projector.wake)
    if receipt.enqueued < len(receipt.chunk_ids):
        tx.on_commit(runtime.progress.bump)  # a ready vector may be waited for
    return receipt


class Engine:
    """An open database; a context manager, safe for any number of threads."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        # Closes in order also when a program forgets to: here when the engine is collected, and at
        # exit the runtime by itself.
        weakref.finalize(self, runtime.close).atexit = False

    @property
    def path(self) -> str:
        """The file, resolved."""
        return self._runtime.path

    @property
    def admin(self) -> AdminService:
        """Configuring, draining, rebuilding, looking inside."""
        return AdminService(self._runtime, self)  # not kept: a cycle would delay the finalizer

    # --- writing ----------------------------------------------------------------------------------

    def write(
        self,
        nodes: Node | Iterable[Node] = (),
        *,
        retire: str | Iterable[str] = (),
        timeout: float | None = None,
    ) -> WriteReceipt:
        """Writes nodes and retires others, in one transaction; durable when it returns.

        A node that is there already is superseded; where nothing of it differs nothing is done. Its
        text is found by its words from now on, and its vectors are owed. Retiring an id that is not
        live does nothing.

        Args:
            nodes: One Node or an iterable of them, each id once.
            retire: Ids of nodes that end; they stay as superseded versions, without text.
            timeout: Seconds to wait for the writer; default ``config.write_timeout_seconds``.

        Raises:
            InvalidInputError: Something about a node is wrong; nothing of the request was stored.
            EmbedderNotConfiguredError: A chunk has a ready vector and no model is active.
            KindNotVectorIndexedError: A chunk has a ready vector and its kind is not indexed.
            WriterTimeoutError: No answer in time; the write may still commit.
        """
        self._runtime.check()
        timeout = _check_timeout(timeout)
        if isinstance(nodes, Mapping):  # its keys would be taken for what is to be written
            raise prepare.not_a_node(nodes)
        given = (nodes,) if isinstance(nodes, Node) else nodes
        _check_items("nodes", given, "Node objects")
        ended = (retire,) if isinstance(retire, str) else retire
        _check_items("retire", ended, "node ids")
        prepared = prepare.prepare(given, self._runtime.chunk_chars, self._runtime.active_profile)
        retired = [*ended]
        prepare.check_request_size(len(prepared) + len(retired))
        written = {item.node_id for item in prepared}
        for node_id in retired:
            prepare.check_name("a node_id in retire", node_id)
            if node_id in written:
                raise InvalidInputError(f"node {node_id!r} is both written and retired")
        return self._store(prepared, [*dict.fromkeys(retired)], timeout)

    def _store(
        self,
        prepared: list[PreparedNode],
        retired: Sequence[str] = (),
        timeout: float | None = None,
    ) -> WriteReceipt:
        """Has the writer store what was prepared."""
        runtime = self._runtime

        def operation(tx: Transaction) -> WriteReceipt:
            receipt = writes.commit(tx, prepared, [*retired], _context(runtime))
            return _committed(runtime, tx, receipt)

        chunks = sum(len(item.chunks or ()) for item in prepared)
        receipt = runtime.write(
            operation, timeout_seconds=timeout, weight=max(1, chunks + len(retired))
        )
        runtime.note_kinds({item.kind for item in prepared})
        return receipt

    def patch(self, node_id: str, properties: Properties) -> WriteReceipt:
        """Merges properties into a live node's (JSON merge patch: None removes a key).

        Its text stays, so this costs no embed call.

        Raises:
            InvalidInputError: No such live node, or properties that are not JSON.
        """
        prepare.check_name("node_id", node_id)
        if properties is None:
            raise InvalidInputError(
                f"the patch of node {node_id!r} is None; give the properties that change, or write "
                "the node without properties"
            )
        prepare.encode_properties(properties, node_id)

        runtime = self._runtime

        def operation(tx: Transaction) -> WriteReceipt:
            receipt = writes.commit_patch(tx, node_id, properties, _context(runtime))
            return _committed(runtime, tx, receipt)

        return runtime.write(operation)

    def ingest(
        self,
        records: Records,
        *,
        kind: str | None = None,
        id: ColumnOf | None = "id",  # noqa: A002 - short, and what a column of ids is called
        text: ColumnOf = "text",
        properties: ColumnOf | None = None,
        source_ref: SourceOf | None = None,
        vector: VectorOf | None = None,
        on_error: OnError = "raise",
        prune_source: str | None = None,
        batch_size: int = 1024,
        progress: Progress | None = None,
    ) -> IngestReport:
        """Writes many records in batches, in bounded memory; the same input again changes nothing.

        Args:
            records: An iterable of mappings or of Nodes (written as they are), the path of a file
                or folder (``.txt``, ``.md``, ``.jsonl``, ``.csv``, ``.tsv``, ``.parquet``; several
                with ``fathomdb.ingest.files.open_records``), or what exports tables of Arrow: a
                Table, RecordBatch or RecordBatchReader of pyarrow, a data frame of others. Tables
                are read by column, which is faster, unless an argument is a function.
            kind: The kind of all records; where None, each has it in a column ``kind``.
            id: A column, several (joined by ``/``), or a function of the record; strings or
                integers. Where None, or where a record has no column ``id`` and no other was
                named, the id is made from kind and text: another text is then another node.
            text: The same, several joined by a blank line, empty ones left out; a record whose
                text is None or blank becomes a node without text.
            properties: None for all columns but those of id, text and kind; or the columns to keep,
                where a record has them; or a function. JSON values only, else the record is an
                error.
            source_ref: A string, or a function of the record. Default: ``prune_source``, or for
                files the path as it was given.
            vector: A column, or a function of the record, of ready vectors for the active model;
                such a record is one chunk, and nothing is embedded for it. A record without a value
                there is embedded.
            on_error: ``raise`` stops at the first bad record, with all before it stored;
                ``collect`` goes on and reports.
            prune_source: After a complete run without an error, live nodes of this source (and of
                ``kind``) that were not in the input are retired: all of them, where it was empty.
                Takes about 100 bytes of memory a record.
            batch_size: Records in a transaction; fewer where their texts are long.
            progress: Called with an IngestProgress after each batch; may raise to stop.

        Raises:
            InvalidInputError: An argument is not valid, or a record where ``on_error="raise"``.
            MissingExtraError: A Parquet file or a table of Arrow, and pyarrow is not installed.
        """
        self._runtime.check()
        runtime = self._runtime

        def retire(still_there: Callable[[Connection], list[str]]) -> WriteReceipt:
            def operation(tx: Transaction) -> WriteReceipt:
                gone = still_there(tx.db)
                return _committed(runtime, tx, writes.commit(tx, [], gone, _context(runtime)))

            return runtime.write(operation)

        return job.ingest(
            records,
            Target(
                prepare=lambda nodes: prepare.prepare(
                    nodes, runtime.chunk_chars, runtime.active_profile
                ),
                prepare_columns=lambda columns: by_column.prepare(
                    columns, runtime.chunk_chars, runtime.active_profile
                ),
                store=self._store,
                retire=retire,
                snapshot=runtime.snapshot,
                monotonic=runtime.config.clock.monotonic,
            ),
            kind=kind,
            id=id,
            text=text,
            properties=properties,
            source_ref=source_ref,
            vector=vector,
            on_error=on_error,
            prune_source=prune_source,
            batch_size=batch_size,
            progress=progress,
        )

    # --- reading ----------------------------------------------------------------------------------

    def get(self, node_id: str) -> NodeRecord | None:
        """The live node of an id, or None."""
        return self.get_many([node_id]).get(node_id)

    def get_many(self, ids: Iterable[str]) -> dict[str, NodeRecord]:
        """The live nodes of these ids, by id, in the order asked for; ids that are not live miss."""
        _check_items("ids", ids, "node ids")
        with self._runtime.reading() as db:
            return lookup.get_many(db, [*ids])

    def nodes(
        self, kind: str | None = None, where: Mapping[Any, Any] | None = None
    ) -> Iterator[NodeRecord]:
        """Streams live nodes, in pages that each are one snapshot."""
        self._runtime.check()
        return lookup.stream(self._reading, self._filter(kind, where))

    def _reading(self) -> AbstractContextManager[Connection]:
        # A method of the engine: who has a stream has the engine, which closes when nobody has it.
        return self._runtime.reading()

    def count(self, kind: str | None = None, where: Mapping[Any, Any] | None = None) -> int:
        """How many live nodes there are."""
        with self._runtime.reading() as db:
            return lookup.count(db, self._filter(kind, where))

    def _filter(self, kind: str | None, where: Mapping[Any, Any] | None) -> filters.Filter:
        return filters.build(kinds=None if kind is None else (kind,), where=where)

    # --- searching --------------------------------------------------------------------------------

    def search(
        self,
        query: str,
        *,
        kind: str | Iterable[str] | None = None,
        limit: int = 10,
        mode: Mode = "hybrid",
        where: Mapping[Any, Any] | None = None,
        ids: Iterable[str] | None = None,
        source_ref: str | None = None,
        after: WriteReceipt | None = None,
        timeout: float | None = None,
        chunks_per_node: int = 1,
        fusion: Fusion = "convex",
        vector_weight: float = DEFAULT_VECTOR_WEIGHT,
        exact: bool = False,
        explain: bool = False,
    ) -> SearchResult:
        """Finds chunks by words, by meaning, or both, and says what it could not see.

        Never raises because an embedder is missing or away: it then searches by words and
        ``degraded`` has the reason.

        Args:
            query: Any text; never read as query syntax.
            kind: One kind, several, or all.
            limit: Hits, from 1 to 4,096.
            mode: ``hybrid``, ``text`` or ``semantic``.
            where: Conditions on properties, such as ``{"lang": "en", "year": {"gte": 2020}}``.
            ids: Only these nodes.
            source_ref: Only nodes of this source.
            after: Waits until the vectors of this write are there; where they are not in time,
                ``degraded`` is ``building``. In text mode there is nothing to wait for.
            timeout: Seconds for that wait and for the query's embedding.
            chunks_per_node: Hits of one node at most.
            fusion: ``convex`` (scaled scores) or ``rrf`` (reciprocal ranks).
            vector_weight: The vector arm's share in a hybrid score, from 0 to 1.
            exact: Compare with every vector, and rank every chunk that has any of the words.
            explain: Adds what was searched and each arm's scores as ``explanation``.

        Raises:
            InvalidInputError: An argument is not valid, or a kind is unknown.
        """
        request = searcher.check_request(
            query,
            kind=kind,
            limit=limit,
            mode=mode,
            where=where,
            ids=ids,
            source_ref=source_ref,
            chunks_per_node=chunks_per_node,
            fusion=fusion,
            vector_weight=vector_weight,
            exact=exact,
            explain=explain,
        )
        timeout = _check_timeout(timeout)
        # A committed write is visible to words at once: in text mode there is nothing to wait for.
        awaited = self._await(after if mode != "text" else None, timeout)
        return _late(queries.search(self._runtime, request, timeout), awaited)

    def semantic_search(
        self,
        query: str,
        *,
        kind: str | Iterable[str] | None = None,
        limit: int = 10,
        where: Mapping[Any, Any] | None = None,
        ids: Iterable[str] | None = None,
        source_ref: str | None = None,
        after: WriteReceipt | None = None,
        timeout: float | None = None,
        chunks_per_node: int = 1,
        exact: bool = False,
        explain: bool = False,
    ) -> SearchResult:
        """Finds chunks by meaning alone; raises where ``search`` degrades.

        Raises:
            EmbedderNotConfiguredError: No model serves the file.
            EmbedderUnavailableError: The model is away.
            KindNotVectorIndexedError: None of the kinds has a vector index.
        """
        request = searcher.check_request(
            query,
            kind=kind,
            limit=limit,
            mode="semantic",
            where=where,
            ids=ids,
            source_ref=source_ref,
            chunks_per_node=chunks_per_node,
            exact=exact,
            explain=explain,
        )
        timeout = _check_timeout(timeout)
        awaited = self._await(after, timeout)
        return _late(queries.semantic_search(self._runtime, request, timeout), awaited)

    def raw_vector_search(
        self,
        vector: Any,
        *,
        kind: str | Iterable[str] | None = None,
        limit: int = 10,
        where: Mapping[Any, Any] | None = None,
        ids: Iterable[str] | None = None,
        source_ref: str | None = None,
        after: WriteReceipt | None = None,
        timeout: float | None = None,
        chunks_per_node: int = 1,
        exact: bool = False,
        explain: bool = False,
    ) -> SearchResult:
        """Finds the chunks nearest to a vector of the active profile's dimension.

        ``vector`` is one-dimensional: a NumPy array of f16, f32 or f64, a list of numbers, or a
        buffer of them.

        Raises:
            DimensionMismatchError: It does not have the profile's dimension.
            NonFiniteVectorError: It contains NaN or infinity.
            InvalidInputError: It is not a vector of numbers, or all of them are zero.
            EmbedderNotConfiguredError: The file has no active profile.
        """
        request = searcher.check_request(
            None,
            by_vector=True,
            kind=kind,
            limit=limit,
            mode="semantic",
            where=where,
            ids=ids,
            source_ref=source_ref,
            chunks_per_node=chunks_per_node,
            exact=exact,
            explain=explain,
        )
        timeout = _check_timeout(timeout)
        awaited = self._await(after, timeout)
        return _late(queries.raw_vector_search(self._runtime, request, vector), awaited)

    def text_search(
        self,
        query: str,
        *,
        kind: str | Iterable[str] | None = None,
        limit: int = 10,
        where: Mapping[Any, Any] | None = None,
        ids: Iterable[str] | None = None,
        source_ref: str | None = None,
        chunks_per_node: int = 1,
        explain: bool = False,
    ) -> SearchResult:
        """Finds chunks by their words alone: BM25, the words of the query ORed."""
        return self.search(
            query,
            kind=kind,
            limit=limit,
            mode="text",
            where=where,
            ids=ids,
            source_ref=source_ref,
            chunks_per_node=chunks_per_node,
            explain=explain,
        )

    def wait(self, receipt: WriteReceipt, timeout: float = WAIT_SECONDS) -> WaitReport:
        """Waits until the vectors of a write are there; never raises for time.

        Returns at once, with the reason, when nothing can make progress.
        """
        if not isinstance(receipt, WriteReceipt):
            raise InvalidInputError(f"wait takes the receipt of a write, got {receipt!r}")
        return projection.wait(self._runtime, receipt.chunk_ids, check_seconds("timeout", timeout))

    def _await(self, after: WriteReceipt | None, timeout: float | None) -> WaitReport | None:
        # First of all: the thread that embeds a query does not exist in a fork.
        self._runtime.check()
        if after is None:
            return None
        return self.wait(after, WAIT_SECONDS if timeout is None else timeout)

    # --- the end ----------------------------------------------------------------------------------

    def close(self) -> None:
        """Stops the actors in order and lets go of the file; idempotent, bounded in time.

        Called beside another close, it returns when that one has ended.
        """
        self._runtime.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<fathomdb.Engine on {self._runtime.path}>"
