"""The engine: ``fathomdb.open`` and what a program calls. Composition and delegation only."""

from __future__ import annotations

import os
import weakref
from typing import TYPE_CHECKING, Any, Literal, Self

from fathomdb.actors import query as queries
from fathomdb.actors import runtime as runtimes
from fathomdb.admin import embedding, projection
from fathomdb.admin.service import AdminService
from fathomdb.config import EngineConfig
from fathomdb.errors import InvalidInputError
from fathomdb.pipeline import write as writes
from fathomdb.records import Node, NodeRecord, Properties, WaitReport, WriteReceipt
from fathomdb.search import filters, lookup, searcher
from fathomdb.search.hybrid import DEFAULT_VECTOR_WEIGHT, Fusion

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from types import TracebackType

    from fathomdb.actors.runtime import IndexPolicy, Runtime
    from fathomdb.search.result import SearchResult
    from fathomdb.search.searcher import Mode
    from fathomdb.store.connection import Durability
    from fathomdb.store.transaction import Transaction

WAIT_SECONDS = 30.0
"""How long ``wait`` and ``after=`` wait where the caller says nothing."""


def open(
    path: str | os.PathLike[str],
    *,
    embedder: Any = None,
    index_kinds: Literal["all"] | Iterable[str] = "all",
    read_only: bool = False,
    durability: Durability = "full",
    background: bool = True,
    lock_timeout_seconds: float = 0.0,
    config: EngineConfig | None = None,
) -> Engine:
    """Opens a database file, which is made where there is none.

    Args:
        path: The file. ``":memory:"`` is refused; see ``fathomdb.testing.temporary``.
        embedder: None (the one that the file remembers), a plugin's name such as ``"static"``, an
            Embedder, several of them (matched to the file's model), or False for none at all.
        index_kinds: Which kinds get a vector index when they are first written: ``"all"``, a list,
            or ``()`` to leave it to ``admin.configure_vec``.
        read_only: Reads beside the process that owns the file, or without one.
        durability: ``"full"`` survives a power loss; ``"normal"`` may lose the last commits then,
            never the file's consistency.
        background: Whether vectors are made unasked; else ``admin.drain_vector_projection`` does.
        lock_timeout_seconds: How long to wait for another engine to close the file.
        config: The engine's numbers.

    Raises:
        InvalidInputError: A path or an argument that cannot be used.
        DatabaseLockedError: Another engine has the file open; it names the process.
        NotAFathomFileError: The file is something else; it was not changed.
        SchemaVersionError: The file was made by a newer FathomDB.
    """
    if durability not in ("full", "normal"):
        raise InvalidInputError(f"durability must be 'full' or 'normal', got {durability!r}")
    if not lock_timeout_seconds >= 0:
        raise InvalidInputError(
            f"lock_timeout_seconds must be 0 or more, got {lock_timeout_seconds!r}"
        )
    runtime = runtimes.start(
        _check_path(path),
        read_only=read_only,
        durability=durability,
        background=background,
        lock_timeout_seconds=lock_timeout_seconds,
        config=config if config is not None else EngineConfig(),
        auto_enable=_index_policy(index_kinds),
    )
    try:
        embedding.choose_at_open(runtime, embedder)
    except BaseException:
        runtime.close()
        raise
    return Engine(runtime)


def _check_path(path: str | os.PathLike[str]) -> str:
    given = os.fspath(path)
    if not isinstance(given, str):
        raise InvalidInputError(f"path must be a string, got {given!r}")
    if given in ("", ":memory:") or given.startswith("file:"):
        raise InvalidInputError(
            f"path must name a file, got {given!r}; for a database that goes away use "
            "fathomdb.testing.temporary()"
        )
    if "\0" in given:
        raise InvalidInputError(f"path must not contain NUL, got {given!r}")
    resolved = os.path.realpath(given)
    if os.path.isdir(resolved):
        raise InvalidInputError(f"{given} is a folder; name a file in it, such as memory.db")
    if not os.path.isdir(os.path.dirname(resolved)):
        raise InvalidInputError(
            f"the folder {os.path.dirname(resolved)} does not exist; make it first"
        )
    return resolved


def _index_policy(index_kinds: Literal["all"] | Iterable[str]) -> IndexPolicy:
    if index_kinds == "all":
        return lambda _: True
    if isinstance(index_kinds, str):
        raise InvalidInputError(
            f"index_kinds must be 'all' or a list of kinds, got {index_kinds!r}"
        )
    named = frozenset(index_kinds)
    for kind in named:
        writes.check_name("a kind in index_kinds", kind)
    return named.__contains__


class Engine:
    """An open database; a context manager, safe for any number of threads."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._admin = AdminService(runtime)
        # Closes in order also when a program forgets to: when the engine is collected, or at exit.
        self._finalizer = weakref.finalize(self, runtime.close)

    @property
    def path(self) -> str:
        """The file, resolved."""
        return self._runtime.path

    @property
    def admin(self) -> AdminService:
        """Configuring, draining, rebuilding, looking inside."""
        return self._admin

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
            WriterTimeoutError: No answer in time; the write may still commit.
        """
        self._runtime.check()
        prepared = writes.prepare(
            (nodes,) if isinstance(nodes, Node) else nodes, self._runtime.chunk_chars
        )
        retired = [retire] if isinstance(retire, str) else [*retire]
        written = {item.node_id for item in prepared}
        for node_id in retired:
            writes.check_name("a node_id in retire", node_id)
            if node_id in written:
                raise InvalidInputError(f"node {node_id!r} is both written and retired")

        def operation(tx: Transaction) -> WriteReceipt:
            return self._committed(tx, writes.commit(tx, prepared, retired, self._context()))

        chunks = sum(len(item.chunks or ()) for item in prepared)
        receipt = self._runtime.write(
            operation, timeout_seconds=timeout, weight=max(1, chunks + len(retired))
        )
        self._runtime.note_kinds({item.kind for item in prepared})
        return receipt

    def patch(self, node_id: str, properties: Properties) -> WriteReceipt:
        """Merges properties into a live node's (JSON merge patch: None removes a key).

        Its text stays, so this costs no embed call.

        Raises:
            InvalidInputError: No such live node, or properties that are not JSON.
        """
        writes.check_name("node_id", node_id)
        writes.encode_properties(properties, node_id)

        def operation(tx: Transaction) -> WriteReceipt:
            return self._committed(
                tx, writes.commit_patch(tx, node_id, properties, self._context())
            )

        return self._runtime.write(operation)

    def _context(self) -> writes.WriteContext:
        runtime = self._runtime
        return writes.WriteContext(
            runtime.config.chunk_chars, runtime.auto_enable, runtime.now_ms()
        )

    def _committed(self, tx: Transaction, receipt: WriteReceipt) -> WriteReceipt:
        if receipt.enqueued and self._runtime.projector is not None:
            tx.on_commit(self._runtime.projector.wake)
        return receipt

    # --- reading ----------------------------------------------------------------------------------

    def get(self, node_id: str) -> NodeRecord | None:
        """The live node of an id, or None."""
        return self.get_many([node_id]).get(node_id)

    def get_many(self, ids: Iterable[str]) -> dict[str, NodeRecord]:
        """The live nodes of these ids, by id, in the order asked for; ids that are not live miss."""
        with self._runtime.snapshot() as db:
            return lookup.get_many(db, [*ids])

    def nodes(
        self, kind: str | None = None, where: Mapping[Any, Any] | None = None
    ) -> Iterator[NodeRecord]:
        """Streams live nodes, in pages that each are one snapshot."""
        self._runtime.check()
        return lookup.stream(self._runtime.snapshot, self._filter(kind, where))

    def count(self, kind: str | None = None, where: Mapping[Any, Any] | None = None) -> int:
        """How many live nodes there are."""
        with self._runtime.snapshot() as db:
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
            after: Waits until the vectors of this write are there (not in text mode).
            timeout: Seconds for that wait and for the query's embedding.
            chunks_per_node: Hits of one node at most.
            fusion: ``convex`` (scaled scores) or ``rrf`` (reciprocal ranks).
            vector_weight: The vector arm's share in a hybrid score, from 0 to 1.
            exact: Compare with every vector (today's search does so in any case).
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
        self._runtime.check()
        if after is not None and mode != "text":
            self.wait(after, WAIT_SECONDS if timeout is None else timeout)
        return queries.search(self._runtime, request, timeout)

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
        if after is not None:
            self.wait(after, WAIT_SECONDS if timeout is None else timeout)
        return queries.semantic_search(self._runtime, request, timeout)

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
        if after is not None:
            self.wait(after, WAIT_SECONDS if timeout is None else timeout)
        return queries.raw_vector_search(self._runtime, request, vector)

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
        return projection.wait(self._runtime, receipt.chunk_ids, timeout)

    # --- the end ----------------------------------------------------------------------------------

    def close(self) -> None:
        """Stops the actors in order and lets go of the file; idempotent, bounded in time."""
        self._finalizer()

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
