"""RebuildActor: makes a projection anew from canonical rows, in pages, while the rest goes on."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from fathomdb.actors.actor import Actor, logger
from fathomdb.errors import EngineClosedError, FathomError
from fathomdb.store import chunks, fts, indexes, work

if TYPE_CHECKING:
    from fathomdb.actors.writer import Operation, T, WriterActor
    from fathomdb.config import EngineConfig
    from fathomdb.store.readers import ReaderPool
    from fathomdb.store.transaction import Transaction

PAGE_ROWS = 1024
"""Chunks of one transaction: short enough that a write does not wait noticeably."""

RebuildProgress = Callable[[int], None]


Begin = Callable[["Transaction"], bool]
"""Notes in the file what is to be made anew; False where nothing has to be."""


@dataclass(slots=True)
class _Job:
    kind: str | None
    """The kind whose vectors are owed again; None is the full-text index."""
    begin: Begin | None = None
    """None goes on with what the file says was begun."""
    progress: RebuildProgress | None = None
    reply: Future[int | None] = field(default_factory=Future)


class RebuildActor(Actor):
    """Runs one rebuild after the other; what a process left half done goes on at the next open.

    How far each has come is in the file, in the transaction of each page.
    """

    def __init__(
        self,
        writer: WriterActor,
        readers: ReaderPool,
        config: EngineConfig,
        on_enqueued: Callable[[], None],
    ) -> None:
        super().__init__("rebuilder")
        self._writer = writer
        self._readers = readers
        self._config = config
        self._on_enqueued = on_enqueued
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._closing = False
        self._ended = False

    # --- from any thread --------------------------------------------------------------------------

    def rebuild_fts(
        self, begin: Begin | None = None, progress: RebuildProgress | None = None
    ) -> Future[int | None]:
        """Fills the second full-text index that ``begin`` made, and swaps.

        The future has the rows, or None where ``begin`` said that nothing had to be done.
        """
        return self._submit(_Job(None, begin, progress))

    def rebuild_vectors(
        self, kind: str, begin: Begin | None = None, progress: RebuildProgress | None = None
    ) -> Future[int | None]:
        """Owes the vectors of a kind again, as ``rebuild_fts``; those there serve until replaced."""
        return self._submit(_Job(kind, begin, progress))

    def resume(self) -> None:
        """Goes on with what a process left half done."""
        with self._readers.snapshot() as db:
            unfinished = indexes.unfinished_rebuilds(db)
            text = fts.rebuild_target(db)
        if text is not None:
            self.rebuild_fts()
        for kind in unfinished:
            self.rebuild_vectors(kind)

    def stop(self) -> None:
        """Has the thread end after the page that it is at."""
        self._closing = True
        self._jobs.put(None)

    def _submit(self, job: _Job) -> Future[int | None]:
        if threading.current_thread() is self._thread:
            raise FathomError(
                "a rebuild's progress callback asked its own engine for another rebuild, which "
                "would wait for itself; call it after the rebuild"
            )
        if self._closing:
            raise EngineClosedError
        self._jobs.put(job)
        if self._ended:  # it ended between the first look and the put: nobody else will answer
            self._refuse(EngineClosedError())
        return job.reply

    # --- the loop ---------------------------------------------------------------------------------

    def _run(self) -> None:
        while (job := self._jobs.get()) is not None:
            try:
                rows = self._rebuild(job)
            except BaseException as error:
                # Whoever asked for a rebuild is told, be it by the sys.exit() of their own progress
                # callback; nobody asked for one that goes on.
                if job.begin is None and not isinstance(error, EngineClosedError):
                    logger.warning("a rebuild stopped and goes on at the next open: %s", error)
                job.reply.set_exception(error)
            else:
                job.reply.set_result(rows)
        self._ended = True
        self._refuse(EngineClosedError())

    def _crashed(self, error: BaseException) -> None:
        self._closing = self._ended = True
        self._refuse(FathomError(f"the rebuilder stopped: {error!r}; open the engine again"))

    def _refuse(self, error: FathomError) -> None:
        while True:
            try:
                job = self._jobs.get_nowait()
            except queue.Empty:
                return
            if job is not None:
                job.reply.set_exception(error)

    def _rebuild(self, job: _Job) -> int | None:
        # Here and not where it was asked for: it would undo the job that is running.
        if job.begin is not None and not self._write(job.begin):
            return None
        return self._text(job) if job.kind is None else self._vectors(job, job.kind)

    def _text(self, job: _Job) -> int:
        def page(tx: Transaction) -> int:
            # What writes of this very transaction have waiting is indexed now: the page would see
            # their chunks, pass them, and have them indexed a second time at the end.
            tx.fts.flush()
            target = fts.rebuild_target(tx.db)
            if target is None:
                return 0
            rows = chunks.key_page(tx.db, target[1], PAGE_ROWS)
            if rows:
                fts.rebuild_page(tx.db, rows)
            else:
                fts.rebuild_swap(tx.db)
            return len(rows)

        return self._pages(job, page)

    def _vectors(self, job: _Job, kind: str) -> int:
        now_ms = int(self._config.clock.now() * 1000)

        def page(tx: Transaction) -> int:
            after = indexes.rebuild_position(tx.db, kind)
            if after is None:
                return 0
            profile_id, after_key = after
            last = chunks.page_end(tx.db, kind, after_key, PAGE_ROWS)
            if last is None:
                indexes.set_rebuild_position(tx.db, kind, None)
                return 0
            work.enqueue_missing(
                tx.db,
                kind,
                profile_id,
                fence=tx.fence(),
                now_ms=now_ms,
                again=(after_key + 1, last),
            )
            indexes.set_rebuild_position(tx.db, kind, last)
            tx.on_commit(self._on_enqueued)
            return chunks.count_between(tx.db, kind, after_key + 1, last)

        return self._pages(job, page)

    def _pages(self, job: _Job, page: Callable[[Transaction], int]) -> int:
        total = 0
        while True:
            if self._closing:
                raise EngineClosedError(
                    "the engine was closed during a rebuild; it goes on at the next open"
                )
            rows = self._write(page, PAGE_ROWS)
            if not rows:
                return total
            total += rows
            if job.progress is not None:
                job.progress(total)

    def _write(self, operation: Operation[T], weight: int = 1) -> T:
        return self._writer.call(
            operation, timeout_seconds=self._config.write_timeout_seconds, weight=weight
        )
