"""RebuildActor: makes a projection anew from canonical rows, in pages, while the rest goes on."""

from __future__ import annotations

import queue
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from fathomdb.actors.actor import Actor, logger
from fathomdb.errors import EngineClosedError, FathomError
from fathomdb.store import chunks, fts, indexes, work

if TYPE_CHECKING:
    from fathomdb.actors.writer import WriterActor
    from fathomdb.config import EngineConfig
    from fathomdb.store.readers import ReaderPool
    from fathomdb.store.transaction import Transaction

PAGE_ROWS = 1024
"""Chunks of one transaction: short enough that a write does not wait noticeably."""

RebuildProgress = Callable[[int], None]


@dataclass(slots=True)
class _Job:
    kind: str | None
    """The kind whose vectors are owed again; None is the full-text index."""
    progress: RebuildProgress | None = None
    reply: Future[int] = field(default_factory=Future)


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

    # --- from any thread --------------------------------------------------------------------------

    def rebuild_fts(self, progress: RebuildProgress | None = None) -> Future[int]:
        """Fills the second full-text index that ``fts.rebuild_begin`` made, and swaps; rows."""
        return self._submit(_Job(None, progress))

    def rebuild_vectors(self, kind: str, progress: RebuildProgress | None = None) -> Future[int]:
        """Owes the vectors of a kind again; vectors that are there serve until replaced; rows."""
        return self._submit(_Job(kind, progress))

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

    def _submit(self, job: _Job) -> Future[int]:
        if self._closing:
            raise EngineClosedError
        self._jobs.put(job)
        return job.reply

    # --- the loop ---------------------------------------------------------------------------------

    def _run(self) -> None:
        while (job := self._jobs.get()) is not None:
            try:
                rows = self._text(job) if job.kind is None else self._vectors(job, job.kind)
            except FathomError as error:
                if not isinstance(error, EngineClosedError):
                    logger.warning("a rebuild stopped and goes on at the next open: %s", error)
                job.reply.set_exception(error)
            else:
                job.reply.set_result(rows)
        self._refuse(EngineClosedError())

    def _crashed(self, error: BaseException) -> None:
        self._closing = True
        self._refuse(FathomError(f"the rebuilder stopped: {error!r}; open the engine again"))

    def _refuse(self, error: FathomError) -> None:
        while not self._jobs.empty():
            job = self._jobs.get()
            if job is not None:
                job.reply.set_exception(error)

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
            rows = self._writer.call(
                page, timeout_seconds=self._config.write_timeout_seconds, weight=PAGE_ROWS
            )
            if not rows:
                return total
            total += rows
            if job.progress is not None:
                job.progress(total)
