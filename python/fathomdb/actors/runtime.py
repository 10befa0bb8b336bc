"""Runtime: all that runs for one open file, started and stopped in the one right order."""

from __future__ import annotations

import atexit
import contextlib
import dataclasses
import os
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fathomdb import _native
from fathomdb.actors.actor import logger
from fathomdb.actors.counters import Counters, Progress
from fathomdb.actors.event_loop import EventLoop
from fathomdb.actors.models import Models, NoModel, Parts
from fathomdb.actors.projector import VectorProjectionActor
from fathomdb.actors.reading import Reading
from fathomdb.actors.rebuilder import RebuildActor
from fathomdb.actors.steady_clock import SteadyClock
from fathomdb.actors.writer import Operation, T, WriterActor
from fathomdb.config import LONGEST_SECONDS
from fathomdb.errors import (
    EngineClosedError,
    ForkedProcessError,
    InvalidInputError,
    NotAFathomFileError,
    ReadOnlyError,
)
from fathomdb.pipeline import recover
from fathomdb.store import kinds, profiles, schema, status, work
from fathomdb.store.codes import Codes
from fathomdb.store.connection import (
    Connection,
    Durability,
    open_reader,
    open_writer,
    stands_alone,
    translating,
)
from fathomdb.store.lock import FileLock
from fathomdb.store.presence import Presence
from fathomdb.store.readers import ReaderPool

if TYPE_CHECKING:
    from fathomdb.actors.model import Model
    from fathomdb.config import EngineConfig
    from fathomdb.store.profiles import Profile
    from fathomdb.store.transaction import Transaction

EXIT_SECONDS = 3.0
"""How long an engine that was left open holds up the end of its program."""

BeforeMigration = Callable[[str, int], None]
"""Called with the path and the version of a file that is about to be brought forward."""
IndexPolicy = Callable[[str], bool]
"""Whether a kind that is new gets a vector index by itself."""


class Runtime:
    """The parts of an open file. Everything else reaches the file through here."""

    def __init__(
        self,
        path: str,
        config: EngineConfig,
        readers: ReaderPool,
        owned: _Owned | None,
        auto_enable: IndexPolicy,
        codes: Codes,
        *,
        background: bool,
    ) -> None:
        self.path = path
        self.config = config
        self.auto_enable = auto_enable
        self.codes = codes
        self._readers = readers
        self._reading = Reading(config.clock)
        self._owned = owned
        self._pid = os.getpid()
        self._closed = False
        self._closing = threading.Lock()
        self._closer: threading.Thread | None = None
        self._stopped = threading.Event()
        self.progress = Progress()
        self.event_loop = EventLoop()
        """Where the async embedders of all models are awaited."""
        self.configuring = threading.Lock()
        """Held from adding a profile to putting its model to work: two at once must not be mixed."""
        self.opened_with: str | None = None
        """Where the engine was opened with another model than the active one: both, in words."""
        with self.snapshot() as db:
            self.counters = Counters(status.read(db))
            self._chunk_chars = kinds.chunk_chars(db)
            cut_otherwise = kinds.cut_otherwise(db, _native.SPLITTER_VERSION)
        if cut_otherwise and owned is not None:
            logger.warning(
                "%s: the text of %s was cut by another splitter than %s; what is written from now "
                "on may be cut in other places",
                path,
                ", ".join(cut_otherwise),
                _native.SPLITTER_VERSION,
            )
        self.projector: VectorProjectionActor | None = None
        self.rebuilder: RebuildActor | None = None
        if owned is not None:
            self.projector = VectorProjectionActor(
                owned.writer,
                readers,
                self._reading,
                config,
                self.counters,
                self.progress,
                background=background,
            )
            self.rebuilder = RebuildActor(owned.writer, readers, config, self.projector.wake)
        self.models = Models(
            Parts(config, self.counters, self.event_loop), self.snapshot, self._models_changed
        )
        if self.projector is not None:
            self.projector.on_switched = self.models.refresh

    def begin(self) -> None:
        """Starts what runs on a file that this process owns; where that fails, ``close`` ends it."""
        if self._owned is not None and self.projector is not None and self.rebuilder is not None:
            self._owned.writer.start()
            self.write(self._take_over)
            self.projector.start()
            self.rebuilder.start()
            self.rebuilder.resume()

    def _take_over(self, tx: Transaction) -> None:
        """What a process that died left inflight is pending again; the file says who owns it."""
        started_ms = int(self.config.clock.now() * 1000)
        recovered = recover.recover(
            tx, self.config.max_attempts, started_ms, self.config.longest_retry_seconds
        )
        if recovered.failed:
            self.counters.add_tally(recovered)
            logger.warning(
                "%s: a text was failed, because the process died each time that it was embedded; "
                "admin.failed_work() names it",
                self.path,
            )
        status.write(
            tx.db,
            {
                "pid": os.getpid(),
                "started_ms": started_ms,
                "heartbeat_ms": started_ms,
                "outage": None,
            },
        )

    # --- the file ---------------------------------------------------------------------------------

    @property
    def read_only(self) -> bool:
        """Whether this engine may not write."""
        return self._owned is None

    def check(self) -> None:
        """Refuses use after close and after a fork."""
        if self._pid != os.getpid():
            raise ForkedProcessError(
                f"this engine was opened in process {self._pid} and used in its fork "
                f"{os.getpid()}; open {self.path} in the process that uses it"
            )
        if self._closed:
            raise EngineClosedError(f"the engine on {self.path} is closed; open the file again")

    @contextlib.contextmanager
    def snapshot(self) -> Iterator[Connection]:
        """A read snapshot of the engine's own: what waits for backfill or watches it is not to slow it."""
        self.check()
        with self._readers.snapshot() as db:
            yield db

    @contextlib.contextmanager
    def reading(self) -> Iterator[Connection]:
        """A read snapshot for records or hits that a caller asked for; backfill gives way to it."""
        with self._reading, self.snapshot() as db:
            yield db

    def write(
        self, operation: Operation[T], *, timeout_seconds: float | None = None, weight: int = 1
    ) -> T:
        """Runs an operation in a transaction of the writer, and returns after its commit."""
        self.check()
        if self._owned is None:
            raise ReadOnlyError(f"{self.path} was opened with read_only=True")
        timeout = self.config.write_timeout_seconds if timeout_seconds is None else timeout_seconds
        return self._owned.writer.call(operation, timeout_seconds=timeout, weight=weight)

    def now_ms(self) -> int:
        """The clock's time as it is stored."""
        return int(self.config.clock.now() * 1000)

    def chunk_chars(self, kind: str) -> int:
        """How a kind's text is cut: as when it was first written."""
        return self._chunk_chars.get(kind, self.config.chunk_chars)

    def note_kinds(self, written: set[str]) -> None:
        """Remembers how kinds are cut that were just written."""
        for kind in written:
            self._chunk_chars.setdefault(kind, self.config.chunk_chars)

    # --- the model --------------------------------------------------------------------------------

    @property
    def model(self) -> Model | None:
        """The model that serves the active profile."""
        return self.models.active

    def active_profile(self) -> Profile | None:
        """The profile that is active in the file now, whether its model serves or not."""
        with self.snapshot() as db:
            return profiles.active(db)

    @property
    def no_model(self) -> NoModel:
        """Why no model serves, where none does."""
        return self.models.why_none

    def _models_changed(self, models: tuple[Model, ...]) -> None:
        if self.projector is not None:
            # Also wakes it: a drain with a model that went need not wait for its embedder.
            self.projector.serve(models)
        self.progress.bump()

    # --- the end ----------------------------------------------------------------------------------

    def close(self) -> None:
        """Stops everything in order; idempotent, and over within ``close_timeout_seconds``."""
        self._close(self.config.close_timeout_seconds)

    def close_at_exit(self) -> None:
        """As ``close``, but a program that ends does not wait for long, whatever still runs."""
        self._close(min(self.config.close_timeout_seconds, EXIT_SECONDS))

    def _close(self, seconds: float) -> None:
        if self._pid != os.getpid():
            return  # the parent's engine, threads and lock are the parent's to close
        with self._closing:
            closer = self._closer
            if closer is None:
                self._closer, self._closed = threading.current_thread(), True
        if closer is not None:
            # Whoever closes may open the file again, so not before it is free.
            if closer is not threading.current_thread():
                self._stopped.wait(seconds)
            return
        atexit.unregister(self.close_at_exit)
        try:
            self._stop(seconds)
        finally:
            self.progress.bump()
            if self._owned is not None:
                self._release(self._owned)
            self._stopped.set()

    def _stop(self, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        if self.projector is not None and self.rebuilder is not None:
            self.projector.stop()
            self.rebuilder.stop()
        try:
            # Half of the time at most: the writer's last transaction matters more than a search.
            self._readers.close(seconds / 2)
        finally:
            self._stop_working(deadline)
        if not self.event_loop.join(max(0.0, deadline - time.monotonic())):
            logger.warning("an async embedder did not end within %g s of its cancelling", seconds)
        for model in self.models.every():
            if not model.join(max(0.0, deadline - time.monotonic())):
                logger.warning(
                    "the embedder of %s did not close within %g s", model.profile, seconds
                )

    def _stop_working(self, deadline: float) -> None:
        def left() -> float:
            return max(0.0, deadline - time.monotonic())

        if self._owned is not None:
            self._owned.writer.stop(self._last_transaction)
            self._owned.writer.join(left())
        if self.projector is not None and self.rebuilder is not None:
            self.projector.join(left())
            self.rebuilder.join(left())
        self.models.close()
        self.event_loop.close()

    def _release(self, owned: _Owned) -> None:
        if owned.writer.join(0):
            owned.lock.release()
            return
        # Nobody else may own the file while this process still commits to it.
        logger.warning("%s: a transaction still runs; the file stays locked until then", self.path)

        def release() -> None:
            owned.writer.join(LONGEST_SECONDS)
            owned.lock.release()

        with contextlib.suppress(RuntimeError):  # at exit, where the lock ends with the process
            threading.Thread(target=release, name="fathomdb-release", daemon=True).start()

    def _last_transaction(self, tx: Transaction) -> None:
        work.revert_all(tx.db, tx.fence())
        status.write(
            tx.db,
            {**self.counters.values(), "pid": None, "outage": None, "heartbeat_ms": self.now_ms()},
        )


@dataclass(frozen=True, slots=True)
class _Owned:
    """What only the process has that owns the file."""

    lock: FileLock
    writer: WriterActor


def start(
    path: str,
    *,
    read_only: bool,
    durability: Durability,
    background: bool,
    lock_timeout_seconds: float,
    config: EngineConfig,
    auto_enable: IndexPolicy,
    before_migration: BeforeMigration,
) -> Runtime:
    """Opens a file and starts what runs on it; whatever fails, nothing stays open or locked."""
    config = dataclasses.replace(config, clock=SteadyClock(config.clock))
    codes = Codes(
        follows=not read_only,
        int8=config.codes_int8,
        exact_below_rows=config.exact_below_rows,
    )
    with contextlib.ExitStack() as undo:
        owned = None
        if read_only:
            _check_readable(path, config)
            presence = Presence(path)
        else:
            _check_ours(path, config)
            lock = FileLock(path)
            lock.acquire(lock_timeout_seconds)
            undo.callback(lock.release)
            db = _open_and_migrate(path, durability, config, before_migration)
            undo.callback(db.close)
            presence = Presence(path)
            owned = _Owned(
                lock,
                WriterActor(
                    db,
                    lambda: open_writer(path, durability=durability, cache_mib=config.cache_mib),
                    path=path,
                    presence=presence,
                    codes=codes,
                    mailbox_size=config.mailbox_size,
                    group_size=config.group_size,
                    group_rows=config.group_rows,
                    cache_bytes=config.vector_cache_bytes,
                ),
            )
        readers = ReaderPool(path, presence, size=config.readers, cache_mib=config.cache_mib)
        undo.callback(readers.close, config.close_timeout_seconds)
        runtime = Runtime(path, config, readers, owned, auto_enable, codes, background=background)
        undo.callback(runtime.close)
        runtime.begin()
        undo.pop_all()
        atexit.register(runtime.close_at_exit)
        return runtime


@contextlib.contextmanager
def _opening(path: str) -> Iterator[None]:
    try:
        with translating(path):
            yield
    except OSError as error:
        raise InvalidInputError(f"{path} cannot be opened: {error}") from error


def _check_ours(path: str, config: EngineConfig) -> int:
    """The schema version of a file that is there, seen through a connection that cannot write it.

    Before the lock and the writer: nothing is put beside a file of another program, and closing a
    writer would bring its WAL into it. Never a plain ``open``: where this process has the file open
    already, closing that handle would drop SQLite's locks.
    """
    if not os.path.exists(path):
        return 0
    has_log = not stands_alone(path)
    with _opening(path):
        db = open_reader(path, cache_mib=config.cache_mib, immutable=not has_log)
        try:
            version = schema.check_identity(db, path)
            if has_log:
                schema.check_log(db, path)
            return version
        finally:
            db.close()


def _open_and_migrate(
    path: str, durability: Durability, config: EngineConfig, before_migration: BeforeMigration
) -> Connection:
    with _opening(path):
        db = open_writer(path, durability=durability, cache_mib=config.cache_mib)
        try:
            with translating(path, db):
                version = schema.check_identity(db, path)
                if schema.is_older(version):
                    before_migration(path, version)
                schema.migrate(db, version)
        except BaseException:
            db.close()
            raise
        return db


def _check_readable(path: str, config: EngineConfig) -> None:
    if not os.path.exists(path):
        raise InvalidInputError(
            f"{path} does not exist, and read_only=True does not make it; open it for writing once"
        )
    version = _check_ours(path, config)
    if version == 0:
        raise NotAFathomFileError(f"{path} is empty; open it for writing once")
    schema.check_current(version, path)
