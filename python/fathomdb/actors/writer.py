"""WriterActor: the only write connection, on one thread, with many requests a commit."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeoutError
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

from fathomdb.actors.actor import Actor, logger
from fathomdb.actors.mailbox import Mailbox, NoRoomError
from fathomdb.errors import EngineClosedError, FathomError, MailboxFullError, WriterTimeoutError
from fathomdb.store.connection import Connection, is_of_the_disk, translate
from fathomdb.store.reuse import Contents
from fathomdb.store.transaction import Transaction

if TYPE_CHECKING:
    from fathomdb.store.codes import Codes
    from fathomdb.store.presence import Presence

GATHER_SECONDS = 0.0005
"""How long from then on callers that were just answered are waited for, since most write again at once.

Without it, of eight threads four write while the other four wait; where nobody came, it is soon
given up (note 0033).
"""
_MOST_PASSED = 64
"""Commits that go by without a wait, at most, after waits in vain."""

T = TypeVar("T")
Operation = Callable[[Transaction], T]


@dataclass(slots=True)
class _Request:
    operation: Operation[Any]
    weight: int
    is_awaited: bool = False
    """Whether a caller stands still for the answer: it may well write again."""
    reply: Future[Any] = field(default_factory=Future)


_Answer = tuple[_Request, Any, Exception | None]


class _Gathering:
    """How many requests the next commit may wait for: none where they did not come before."""

    def __init__(self) -> None:
        self._expected = 0
        self._passing = self._pass_next = 0

    def expect(self, requests: int) -> None:
        """Notes how many there will be if everyone who is answered now comes again."""
        self._expected = requests

    def wanted(self) -> int:
        """How many to wait for."""
        if self._passing:
            self._passing -= 1
            return 0
        return self._expected

    def came(self, *, all_did: bool) -> None:
        """Notes what a wait came to; after each in vain, more commits go by without one."""
        self._pass_next = 0 if all_did else min(_MOST_PASSED, 2 * self._pass_next + 1)
        self._passing = self._pass_next


class WriterActor(Actor):
    """Takes requests from a bounded mailbox and commits all that wait in one transaction.

    Each request runs under a savepoint of its own, so that one that fails, fails alone. Where the
    whole transaction is lost (a full disk, an I/O error, a failing COMMIT), its requests run again
    one by one, so that only the culprit is answered with the error.
    """

    def __init__(
        self,
        db: Connection,
        reopen: Callable[[], Connection],
        *,
        path: str,
        presence: Presence,
        codes: Codes,
        mailbox_size: int,
        group_size: int,
        group_rows: int,
        cache_bytes: int,
    ) -> None:
        super().__init__("writer")
        self._db = db
        self._reopen = reopen
        self._in_doubt = False
        self._path = path
        self._presence = presence
        self.contents = Contents()
        self._codes = codes
        self._cache_bytes = cache_bytes
        self._mailbox: Mailbox[_Request] = Mailbox(
            mailbox_size, group_size=group_size, group_weight=group_rows
        )
        self._gathering = _Gathering()
        self._gate = threading.Lock()
        self._closing = False
        self._ended = False
        self._taken: list[_Request] = []
        """The group that is being committed: a writer that dies of it answers it, too."""
        self._last: Operation[Any] | None = None

    # --- from any thread --------------------------------------------------------------------------

    def submit(
        self, operation: Operation[T], *, timeout_seconds: float, weight: int = 1
    ) -> Future[T]:
        """Puts a request into the mailbox; its future is set after COMMIT has returned.

        ``weight`` is the rows that it brings, so that a group stays short.

        Raises:
            MailboxFullError: The mailbox stayed full for ``timeout_seconds``.
            EngineClosedError: The writer is stopping.
        """
        return self._put(_Request(operation, weight), timeout_seconds)

    def _put(self, request: _Request, timeout_seconds: float) -> Future[Any]:
        if self._closing:
            raise EngineClosedError
        try:
            self._mailbox.put(request, timeout_seconds)
        except NoRoomError:
            raise MailboxFullError(
                f"{self._mailbox.size} requests were still waiting for the writer after "
                f"{timeout_seconds:g} s; nothing of this request was stored, try again later or "
                "write larger batches"
            ) from None
        if self._ended:  # it ended between the first look and the put: nobody else will answer
            self._refuse_waiting(EngineClosedError())
        return request.reply

    def call(self, operation: Operation[T], *, timeout_seconds: float, weight: int = 1) -> T:
        """Runs a request and waits for its answer.

        Raises:
            WriterTimeoutError: No answer in time; the request may still commit.
        """
        request = _Request(operation, weight, is_awaited=True)
        reply: Future[T] = self._put(request, timeout_seconds)
        try:
            return reply.result(timeout_seconds)
        except FutureTimeoutError:
            if reply.done():  # the request itself raised a TimeoutError
                raise
            raise WriterTimeoutError(
                f"the writer did not answer within {timeout_seconds:g} s; the write may still "
                "commit, so read before you write it again"
            ) from None

    def stop(self, last: Operation[Any]) -> None:
        """Has the writer finish what waits, run one last transaction, and end; idempotent."""
        with self._gate:
            if self._closing:
                return
            self._last = last
            self._closing = True
        self._mailbox.wake()

    # --- the loop ---------------------------------------------------------------------------------

    def _run(self) -> None:
        while not (self._closing and self._mailbox.empty()):
            self._taken = self._next_group()
            if self._taken:
                self._commit_group(self._taken)
            self._taken = []  # while it waits for the next one, nothing of it stays in memory
        if self._last is not None:
            last = _Request(self._last, 1)
            self._commit_group([last])
            if (error := last.reply.exception()) is not None:
                # The next open reverts what is inflight.
                logger.warning("the last transaction before the close failed: %s", error)
        self._db.close()
        self._ended = True
        self._refuse_waiting(EngineClosedError())

    def _next_group(self) -> list[_Request]:
        wanted = self._gathering.wanted()
        group = self._mailbox.take(wanted, GATHER_SECONDS)
        if wanted > 1:
            self._gathering.came(all_did=len(group) >= wanted)
        return group

    def _commit_group(self, group: list[_Request]) -> None:
        answers: list[_Answer] = []
        tx: Transaction | None = None
        try:
            if self._in_doubt:
                self._renew()
            tx = Transaction(
                self._db, self.contents, cache_bytes=self._cache_bytes, codes=self._codes
            )
            if len(group) == 1:  # the transaction is its savepoint
                answers.append((group[0], group[0].operation(tx), None))
            else:
                answers.extend(self._run_guarded(tx, request) for request in group)
            self._presence.check_owned()
            calls = tx.commit()
        except Exception as error:
            self._in_doubt = self._in_doubt or is_of_the_disk(error)
            if tx is not None:
                tx.rollback()
            if len(group) == 1:
                self._answer(group[0], None, error)
                return
            logger.warning("a commit of %d requests failed, running them alone", len(group))
            for request in group:
                self._commit_group([request])
            return
        for call in calls:
            try:
                call()
            except Exception as error:
                # The commit stands, whatever those who hear of it make of it.
                self._in_doubt = self._in_doubt or is_of_the_disk(error)
                logger.exception("a call after a commit failed")
        awaited = sum(request.is_awaited for request in group)
        self._gathering.expect(awaited + self._mailbox.qsize())
        for request, answer, failure in answers:
            self._answer(request, answer, failure)

    def _run_guarded(self, tx: Transaction, request: _Request) -> _Answer:
        tx.savepoint()
        try:
            answer = request.operation(tx)
            tx.release()
        except Exception as error:
            if is_of_the_disk(error) or not tx.rollback_request():
                raise
            return request, None, error
        return request, answer, None

    def _renew(self) -> None:
        """Goes on with another connection, since this one may not be what it seems."""
        self._presence.check_file()  # or the one that is opened would be of another file, or make one
        before, self._db = self._db, self._reopen()
        self._in_doubt = False
        before.close()

    def _answer(self, request: _Request, answer: Any, error: Exception | None) -> None:
        if not request.reply.set_running_or_notify_cancel():
            return
        if error is None:
            request.reply.set_result(answer)
        else:
            translated = translate(error, self._path, self._db)
            if translated is not error:
                translated.__cause__ = error
            request.reply.set_exception(translated)

    def _refuse_waiting(self, error: FathomError) -> None:
        self._mailbox.wake()
        while group := self._mailbox.take():
            for request in group:
                self._answer(request, None, error)

    def _crashed(self, error: BaseException) -> None:
        self._closing = self._ended = True
        try:
            self._db.close()  # or the file stays locked by what was begun
        except Exception as failure:
            logger.warning("the connection of a writer that stopped is not closed: %s", failure)
        stopped = f"the writer stopped: {error!r}; close the engine and open it again"
        for request in self._taken:
            if not request.reply.done():
                self._answer(
                    request, None, FathomError(f"{stopped}; this write may or may not be there")
                )
        self._refuse_waiting(FathomError(stopped))
