"""One life: opens the file, works on several threads, says what it does, and is killed or closes."""

from __future__ import annotations

import json
import os
import random
import threading
import traceback
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NoReturn

from fathomdb.actors import runtime
from fathomdb.errors import FathomError
from torture import operations
from torture.stops import STAGES, Stop, Stopper

if TYPE_CHECKING:
    import apsw

    from fathomdb.store.connection import Durability

THREADS = 3


@dataclass(frozen=True, slots=True)
class Plan:
    """What a life is to be, all of it from the seed.

    Attributes:
        seed: Of its operations.
        operations: How many each thread does before the engine is closed.
        durability: As for ``fathomdb.open``.
        autocheckpoint: Pages of the WAL after which SQLite copies it into the file.
        stop: Where it kills itself; None leaves that to the parent.
    """

    seed: str
    operations: int
    durability: Durability
    autocheckpoint: int
    stop: Stop | None


def live(path: str, exports: str, plan: Plan, pipe: int) -> NoReturn:
    """Lives in a process just forked; never returns."""
    try:
        _Life(path, exports, plan, pipe).run()
    finally:
        os._exit(0)  # whatever happened: the parent's stack is below


class _Life:
    def __init__(self, path: str, exports: str, plan: Plan, pipe: int) -> None:
        self._path = path
        self._exports = exports
        self._plan = plan
        self._pipe = pipe
        self._saying = threading.Lock()
        self._closing = False

    def run(self) -> None:
        try:
            self._tune_writer()
            if self._plan.stop is not None:
                Stopper(self._plan.stop, lambda at: self._say("stop", at=at)).install()
            db = operations.open_engine(
                self._path, background=True, durability=self._plan.durability
            )
            self._say("open")
            threads = [
                threading.Thread(target=self._work, args=(db, n), daemon=True)
                for n in range(THREADS)
            ]
            for thread in threads:
                thread.start()
            # The first is enough: the others are closed upon in the middle of something.
            threads[0].join()
            self._closing = True
            self._say("closing")
            db.close()
            for thread in threads:
                thread.join()
            self._say("closed")
        except BaseException:
            self._say("error", error=traceback.format_exc())

    def _work(self, db: Any, thread: int) -> None:
        rng = random.Random(f"{self._plan.seed}/{thread}")
        favourite = self._plan.stop and STAGES[self._plan.stop.stage].operation
        try:
            left = self._plan.operations
            while left and not self._closing:
                left -= thread == 0
                operation = operations.draw(rng, thread, favourite)
                self._say(
                    "begin", thread=thread, name=operation.name, arguments=operation.arguments
                )
                try:
                    receipt = operations.perform(db, operation, self._exports)
                except FathomError as error:
                    self._say("refused", thread=thread, code=error.code, error=str(error))
                    if error.code == "engine_closed":
                        return
                else:
                    self._say("done", thread=thread, receipt=receipt)
        except BaseException:
            self._say("error", error=traceback.format_exc())

    def _say(self, what: str, **more: Any) -> None:
        line = json.dumps({"say": what, **more}).encode() + b"\n"
        with self._saying:  # whole lines, from several threads
            while line:
                line = line[os.write(self._pipe, line) :]

    def _tune_writer(self) -> None:
        open_writer = runtime.open_writer

        def tuned(*arguments: Any, **keywords: Any) -> apsw.Connection:
            db = open_writer(*arguments, **keywords)
            db.execute(f"PRAGMA wal_autocheckpoint = {self._plan.autocheckpoint}")
            return db

        runtime.open_writer = tuned
