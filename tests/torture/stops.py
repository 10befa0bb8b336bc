"""Named points at which a child kills itself: a stage of the engine, and how far into it.

Set in the child alone, before anything is open: the engine has no hook for this. A stage is entered
where its function is called; from there the statements of the write connection are counted (those
that virtual tables run inside as well), and every write, sync and truncation of any file. So one
number reaches into the stage, into the commit that follows, and between the writes of that commit.
"""

from __future__ import annotations

import importlib
import os
import random
import signal
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import apsw

from fathomdb.actors import runtime

if TYPE_CHECKING:
    from collections.abc import Callable

STAGES = {
    "apply": "fathomdb.pipeline.apply:apply_if_claimed",
    "claim": "fathomdb.pipeline.claim:claim",
    "group commit": "fathomdb.actors.writer:WriterActor._run_guarded",
    "rebuild of vectors": "fathomdb.store.indexes:rebuild_position",
    "rebuild of words": "fathomdb.store.fts:rebuild_page",
    "swap of words": "fathomdb.store.fts:rebuild_swap",
    "write": "fathomdb.pipeline.write:commit",
    "enable": "fathomdb.store.indexes:enable",
    "disable": "fathomdb.store.indexes:disable",
    "change of model": "fathomdb.store.profiles:activate",
    "export": "fathomdb.store.backup:copy",
    "recovery": "fathomdb.store.work:recover",
    "close": "fathomdb.store.work:revert_all",
    "creation": "fathomdb.store.schema:migrate",
}
"""What each stage is called, and the function that begins it."""
ONCE = frozenset({"recovery", "close", "creation"})
"""Stages that a life goes through once."""


@dataclass(frozen=True, slots=True)
class Stop:
    """Dies at the ``event``-th statement or change of a file from the ``entry``-th entry on."""

    stage: str
    entry: int
    event: int

    @classmethod
    def draw(cls, rng: random.Random, stage: str) -> Stop:
        entry = 1 if stage in ONCE else rng.choice((1, 2, 3, 5))
        # The first ones are where stages differ; the later ones are their commits.
        return cls(stage, entry, rng.choice((rng.randrange(1, 8), rng.randrange(1, 60))))


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
        module, _, path = STAGES[self._stop.stage].partition(":")
        *outer, name = path.split(".")
        holder: Any = importlib.import_module(module)
        for part in outer:
            holder = getattr(holder, part)
        function = getattr(holder, name)

        def counted(*arguments: Any, **keywords: Any) -> Any:
            with self._lock:
                self._entered += 1
            return function(*arguments, **keywords)

        setattr(holder, name, counted)
        open_writer = runtime.open_writer

        def traced(*arguments: Any, **keywords: Any) -> apsw.Connection:
            db = open_writer(*arguments, **keywords)
            db.trace_v2(apsw.SQLITE_TRACE_STMT, lambda event: self.event(f"SQL {event['sql']}"))
            return db

        runtime.open_writer = traced
        self._files = _Files(self)

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
    """All files of the process, each change of one counted."""

    def __init__(self, stopper: Stopper) -> None:
        self.stopper = stopper
        super().__init__("counted", "", makedefault=True)

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
