"""Named points at which a child kills itself: a stage of the engine, and how far into it.

Set in the child alone, before anything is open: the engine has no hook for this. A stage is entered
where its function is called; from there the statements of the write connection are counted (those
that virtual tables run inside as well), and every write, sync and truncation of any file. So one
number reaches into the stage, into the commit that follows, and between the writes of that commit.
"""

from __future__ import annotations

import importlib
import os
import signal
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import apsw

if TYPE_CHECKING:
    import random
    from collections.abc import Callable


@dataclass(frozen=True, slots=True)
class Stage:
    """A part of the engine's work: the function that begins it, and the operation that leads there.

    ``once`` are those that a life goes through once.
    """

    function: str
    operation: str | None = None
    once: bool = False


STAGES = {
    "embedding": Stage("fathomdb.testing:DeterministicEmbedder.batch_embed"),
    "apply": Stage("fathomdb.pipeline.apply:apply_if_claimed"),
    "claim": Stage("fathomdb.pipeline.claim:claim"),
    "group commit": Stage("fathomdb.actors.writer:WriterActor._run_guarded"),
    "rebuild of vectors": Stage("fathomdb.store.indexes:rebuild_position", "rebuild"),
    "rebuild of words": Stage("fathomdb.store.fts:rebuild_page", "configure_fts"),
    "swap of words": Stage("fathomdb.store.fts:rebuild_swap", "configure_fts"),
    "write": Stage("fathomdb.pipeline.write:commit"),
    "enable": Stage("fathomdb.store.indexes:enable", "configure_vec"),
    "disable": Stage("fathomdb.store.indexes:disable", "disable_vec"),
    "change of model": Stage("fathomdb.store.switching:begin", "configure_embedding"),
    "flip": Stage("fathomdb.store.indexes:serve_under", "configure_embedding"),
    "end of a switch": Stage("fathomdb.store.switching:_finish", "configure_embedding"),
    "erasure": Stage("fathomdb.store.erasure:erase", "erase"),
    "clearing after an erasure": Stage("fathomdb.store.residue:clear", "erase"),
    "export": Stage("fathomdb.store.backup:copy", "export"),
    "recovery": Stage("fathomdb.store.work:recover", once=True),
    "close": Stage("fathomdb.store.work:revert_all", once=True),
    "migration": Stage("fathomdb.store.schema:is_older", once=True),
    "creation": Stage("fathomdb.store.schema:migrate", once=True),
}


@dataclass(frozen=True, slots=True)
class Stop:
    """Dies at the ``event``-th event from the ``entry``-th entry on, which is the first itself."""

    stage: str
    entry: int
    event: int

    @classmethod
    def draw(cls, rng: random.Random, stage: str) -> Stop:
        entry = 1 if STAGES[stage].once else rng.choice((1, 2, 4))
        # The first ones are where stages differ; the later ones are their commits.
        event = rng.choice((1, rng.randrange(2, 9), rng.randrange(2, 60)))
        return cls(stage, entry, event)


class Stopper:
    """Counts, and kills its own process when the time has come.

    Args:
        stop: When.
        say: Told what was about to happen.
    """

    def __init__(self, stop: Stop, say: Callable[[str], None]) -> None:
        self._stop = stop
        self._say = say
        self._lock = threading.Lock()
        self._entered = 0
        self._events = 0

    def install(self) -> None:
        """Has the stage, the write connection and the files of this process counted."""
        module, _, path = STAGES[self._stop.stage].function.partition(":")
        *outer, name = path.split(".")
        holder: Any = importlib.import_module(module)
        for part in outer:
            holder = getattr(holder, part)
        function = getattr(holder, name)

        def counted(*arguments: Any, **keywords: Any) -> Any:
            with self._lock:
                self._entered += 1
            self.event(f"entry into {self._stop.stage}")
            return function(*arguments, **keywords)

        setattr(holder, name, counted)
        self._files = _Files(self)  # kept: SQLite does not
        stopper = self

        class Counted(apsw.Connection):
            """Only where it may write: closing a WAL that it may not lock is an error in Python."""

            def __init__(self, filename: str, flags: int) -> None:
                writes = bool(flags & apsw.SQLITE_OPEN_CREATE)
                super().__init__(filename, flags, _Files.name if writes else None)
                if writes:
                    self.trace_v2(
                        apsw.SQLITE_TRACE_STMT, lambda event: stopper.event(f"SQL {event['sql']}")
                    )

        apsw.Connection = Counted  # type: ignore[misc]

    def event(self, what: str) -> None:
        """Something is about to happen."""
        with self._lock:
            if self._entered < self._stop.entry:
                return
            self._events += 1
            if self._events == self._stop.event:
                self._say(what)
                os.kill(os.getpid(), signal.SIGKILL)
                signal.pause()  # the signal is on its way; nothing more may happen here


class _Files(apsw.VFS):
    """The files of connections that write, each change of one counted."""

    name = "counted"

    def __init__(self, stopper: Stopper) -> None:
        self.stopper = stopper
        super().__init__(self.name, "")

    def xOpen(self, name: Any, flags: list[int]) -> _File:  # noqa: N802 - SQLite's name
        return _File(self.stopper, name, flags)


class _File(apsw.VFSFile):
    def __init__(self, stopper: Stopper, name: Any, flags: list[int]) -> None:
        path = name.filename() if isinstance(name, apsw.URIFilename) else name
        self._name = "a temporary file" if path is None else os.path.basename(path)
        self._event = stopper.event
        super().__init__("", name, flags)

    def xWrite(self, data: bytes, offset: int) -> None:  # noqa: N802
        self._event(f"write of {len(data)} bytes at {offset} of {self._name}")
        super().xWrite(data, offset)

    def xSync(self, flags: int) -> None:  # noqa: N802
        self._event(f"sync of {self._name}")
        super().xSync(flags)

    def xTruncate(self, size: int) -> None:  # noqa: N802
        self._event(f"truncation of {self._name} to {size}")
        super().xTruncate(size)
