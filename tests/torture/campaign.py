"""The campaign: forks children, kills them, has what they leave judged, and goes on with the file.

This process opens no database, so that it may fork: it is the warm server of all lives and judges.
"""

from __future__ import annotations

import contextlib
import faulthandler
import glob
import itertools
import json
import os
import pickle
import random
import select
import shutil
import signal
import time
import traceback
from collections import Counter, deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from fathomdb.errors import InvalidInputError
from model import Erased, Model, RefusedError
from torture import child, judge, operations
from torture.operations import Operation
from torture.stops import STAGES, Stop

if TYPE_CHECKING:
    from collections.abc import Callable

    from invariants import Counters
    from model import Expected

KILLS_OF_A_FILE = 150
"""After so many a new file begins, or the versions of its nodes would only pile up."""
HANG_SECONDS = 120.0
MOST_VIOLATIONS = 5
"""After so many it ends: whatever is wrong, it is wrong often."""
HISTORY = 60
"""Lines of a violation's history that are shown."""

# Phases that a kill falls into, how often, and seconds from the phase's first moment.
PHASES = (("open", 0.15, 0.04), ("work", 0.65, 0.25), ("closing", 0.2, 0.04))


@dataclass(slots=True)
class Summary:
    """What a campaign did."""

    seed: int
    kills: int = 0
    by_phase: Counter[str] = field(default_factory=Counter)
    by_stage: Counter[str] = field(default_factory=Counter)
    closed: int = 0
    """Lives that closed before they were killed."""
    acknowledged: int = 0
    unanswered: int = 0
    committed_unanswered: int = 0
    rows: int = 0
    exports: int = 0
    process_died: int = 0
    files: int = 0
    violations: list[str] = field(default_factory=list)
    seconds: float = 0.0

    def to_dict(self) -> dict[str, Any]:
        plain = {name: getattr(self, name) for name in self.__slots__}
        return plain | {"kills_per_second": round(self.kills / max(self.seconds, 1e-9), 2)}


class ViolationError(Exception):
    """Something that must hold does not."""


@dataclass(slots=True)
class _File:
    """The file that is tortured, and what must be in it."""

    path: str
    exports: str
    known: Model
    copied: float
    """How often a copy is judged, and the next life finds what the kill left, and recovers it."""
    counters: Counters | None = None
    cursor: int = 0
    written: dict[str, set[int]] = field(default_factory=dict)
    """Numbers of the texts that each node ever had, of those that no other can have."""
    erased: set[int] = field(default_factory=set)

    def follow(self, operation: Operation) -> Expected | Erased | None:
        """Does to the model what was done to the file."""
        before = self.known.content.live.keys() | self.known.content.superseded.keys()
        answer = operations.apply(self.known, operation)
        for node in operation.arguments.get("nodes", ()):
            number = node["text"]
            if number is not None and number >= operations.SHARED_TEXTS:
                self.written.setdefault(node["node_id"], set()).add(number)
                self.erased.discard(number)  # a text that was erased may be written anew
        if isinstance(answer, Erased):
            after = self.known.content.live.keys() | self.known.content.superseded.keys()
            # Where older versions from another source stay, texts of theirs were never erased.
            for node_id in before - after:
                self.erased |= self.written.pop(node_id, set())
        return answer


class Campaign:
    """Kills until there were enough.

    Args:
        folder: Where the files are.
        seed: Of everything.
        stop_every: Every so many lives one kills itself at a named point.
        tell: Hears of the progress.
    """

    def __init__(
        self, folder: str, seed: int, *, stop_every: int, tell: Callable[[Summary], None]
    ) -> None:
        self.folder = folder
        self.seed = seed
        self.stop_every = stop_every
        self.tell = tell
        self.summary = Summary(seed)
        self.history: deque[str] = deque(maxlen=HISTORY)

    def run(self, kills: int, stops: int, *, first: int = 0, last: int | None = None) -> Summary:
        """Lives until so many were killed by us and so many at named points, or until ``last``.

        Lives are numbered; a file begins at every multiple of KILLS_OF_A_FILE.
        """
        began = time.monotonic()
        summary, file = self.summary, None
        life = first - first % KILLS_OF_A_FILE
        while len(summary.violations) < MOST_VIOLATIONS and (
            self._wants(kills, stops) if last is None else life <= last
        ):
            if file is None or life % KILLS_OF_A_FILE == 0:
                file = self._new_file(life)
            try:
                self._live(life, file)
            except ViolationError as error:
                self._keep(life, file, str(error))
                life += KILLS_OF_A_FILE - life % KILLS_OF_A_FILE
                file = None
            else:
                life += 1
            summary.seconds = time.monotonic() - began
            self.tell(summary)
        if file is not None:
            shutil.rmtree(os.path.dirname(file.path))
        return summary

    def _wants(self, kills: int, stops: int) -> bool:
        named = self.summary.by_stage.total()
        return self.summary.kills - named < kills or named < stops

    def _new_file(self, life: int) -> _File:
        for name in os.listdir(self.folder):
            if name.startswith("file-"):
                shutil.rmtree(f"{self.folder}/{name}")
        folder = f"{self.folder}/file-{life}"
        os.makedirs(f"{folder}/exports")
        self.summary.files += 1
        known = Model(None, chunk_chars=operations.CHUNK_CHARS)
        copied = random.Random(f"{self.seed}/file/{life}").choice((0.1, 0.4, 0.9))
        return _File(f"{folder}/torture.db", f"{folder}/exports", known, copied)

    # --- one life ---------------------------------------------------------------------------------

    def _plan(self, life: int, rng: random.Random) -> tuple[child.Plan, str, float]:
        """How a child lives, and in which phase, and how many seconds into it, it is killed."""
        stop = None
        if life % self.stop_every == self.stop_every - 1:
            stages = [*STAGES]
            stage = stages[life // self.stop_every % len(stages)]
            stop = Stop.draw(rng, stage)
        (phase,) = rng.choices([p[0] for p in PHASES], [p[1] for p in PHASES])
        seconds = rng.random() * {name: most for name, _, most in PHASES}[phase]
        few = phase == "closing" or (stop is not None and STAGES[stop.stage].once)
        plan = child.Plan(
            seed=f"{self.seed}/{life}",
            operations=rng.randrange(1, 12) if few else 300,
            durability=rng.choice(("full", "normal")),
            autocheckpoint=rng.choice((2000, 40)),
            stop=stop,
        )
        return plan, phase, seconds

    def _live(self, life: int, file: _File) -> None:
        self.history.clear()
        shutil.rmtree(f"{self.folder}/left", ignore_errors=True)
        rng = random.Random(f"{self.seed}/{life}")
        plan, phase, seconds = self._plan(life, rng)
        self._note(f"life {life}: {plan}, {phase} + {seconds:.4f} s")
        if plan.stop is not None and plan.stop.stage == "creation":
            self._begin_anew(file)
        if plan.stop is not None and plan.stop.stage == "migration" and file.known.embedder:
            in_a_fork(lambda: judge.make_older(file.path))
        heard = _Heard(self)
        status = self._until_killed(file, plan, phase, seconds, heard)
        if heard.error is not None:
            raise ViolationError(f"the child failed: {heard.error}")
        if os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL:
            self.summary.kills += 1
            if heard.stopped is not None and plan.stop is not None:
                self.summary.by_stage[f"in the middle of {plan.stop.stage}"] += 1
            else:
                self.summary.by_phase[f"at random while {heard.phase}"] += 1
        elif heard.phase == "closed" and status == 0:
            self.summary.closed += 1
        else:
            raise ViolationError(f"the child ended with status {status} while {heard.phase}")
        self._judge(file, heard, on_copy=rng.random() < file.copied)

    def _begin_anew(self, file: _File) -> None:
        for suffix in ("", "-wal", "-shm", "-journal"):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(file.path + suffix)
        file.known = Model(None, chunk_chars=operations.CHUNK_CHARS)
        file.counters, file.cursor = None, 0
        file.written, file.erased = {}, set()

    def _until_killed(
        self, file: _File, plan: child.Plan, phase: str, seconds: float, heard: _Heard
    ) -> int:
        reading, writing = os.pipe()
        pid = os.fork()
        if pid == 0:
            signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the campaign
            os.close(reading)
            faulthandler.dump_traceback_later(HANG_SECONDS - 5)
            child.live(file.path, file.exports, plan, writing)
        os.close(writing)
        ends = time.monotonic() + HANG_SECONDS
        kill_at = time.monotonic() + seconds if phase == "open" and plan.stop is None else None
        buffer, hung = b"", False
        try:
            while True:
                now = time.monotonic()
                if now >= (ends if kill_at is None else min(kill_at, ends)):
                    os.kill(pid, signal.SIGKILL)
                    hung = now >= ends
                    kill_at, ends = None, float("inf")
                until = min(ends, ends if kill_at is None else kill_at)
                wait = None if until == float("inf") else max(0.0, until - now)
                if not select.select([reading], [], [], wait)[0]:
                    continue
                data = os.read(reading, 1 << 16)
                if not data:
                    break
                *lines, buffer = (buffer + data).split(b"\n")
                for line in lines:
                    heard.line(json.loads(line), file)
                if kill_at is None and plan.stop is None and heard.reached(phase):
                    kill_at = time.monotonic() + seconds if ends != float("inf") else None
        except BaseException:
            os.kill(pid, signal.SIGKILL)
            raise
        finally:
            os.close(reading)
            _, status = os.waitpid(pid, 0)
        if hung:
            raise ViolationError(f"the child hung while {heard.phase}")
        return status

    # --- judging ----------------------------------------------------------------------------------

    def _judge(self, file: _File, heard: _Heard, *, on_copy: bool) -> None:
        """In a process of its own, since this one must open nothing."""
        kept = f"{self.folder}/left"
        os.makedirs(kept)
        for suffix in ("", "-wal"):
            if os.path.exists(file.path + suffix):
                shutil.copy(file.path + suffix, f"{kept}/torture.db{suffix}")
        path = file.path
        if on_copy:
            shutil.copytree(kept, f"{self.folder}/copy", dirs_exist_ok=True)
            path = f"{self.folder}/copy/torture.db"
        unanswered = [heard.begun[thread] for thread in sorted(heard.begun)]
        unanswered = [operation for operation in unanswered if operation.canonical]
        acknowledged = heard.exports

        def judged() -> tuple[judge.Verdict, int]:
            exports = judge.judge_exports(file.exports, acknowledged)
            known = file.known.copy()
            if known.embedder is None:
                # The first open that came so far has activated the first model.
                known.configure_embedding(operations.EMBEDDERS[0])
            verdict = judge.judge(path, known, unanswered, file.counters, file.cursor, file.erased)
            return verdict, exports

        verdict, exports = in_a_fork(judged)
        shutil.rmtree(f"{self.folder}/copy", ignore_errors=True)
        for backup in glob.glob(f"{glob.escape(file.path)}.v1-backup*"):
            os.unlink(backup)
        if file.known.embedder is None and not on_copy:
            file.known.configure_embedding(operations.EMBEDDERS[0])
        if not on_copy:
            file.counters = verdict.counters
        for operation in itertools.compress(unanswered, verdict.committed):
            file.follow(operation)
        self.summary.unanswered += len(unanswered)
        self.summary.committed_unanswered += sum(verdict.committed)
        self.summary.rows += verdict.rows
        self.summary.process_died += verdict.died
        self.summary.exports += exports

    def _keep(self, life: int, file: _File, why: str) -> None:
        kept = f"{self.folder}/violation-{self.seed}-{life}"
        shutil.rmtree(kept, ignore_errors=True)
        if os.path.exists(f"{self.folder}/left"):
            shutil.copytree(f"{self.folder}/left", kept)
        else:
            shutil.copytree(os.path.dirname(file.path), kept)
        self.summary.violations.append(
            f"{why}\n--- the last of the history ---\n" + "\n".join(self.history) + "\n"
            f"--- seed {self.seed}, kill {life}; the file as the kill left it is in {kept}\n"
            f"--- to replay: python -m torture --seed {self.seed} --stop-every {self.stop_every} "
            f"--kill {life}"
        )

    def _note(self, line: str) -> None:
        self.history.append(line)


class _Heard:
    """What a child said, line by line; the model follows it."""

    def __init__(self, campaign: Campaign) -> None:
        self._campaign = campaign
        self.phase = "opening"
        self.begun: dict[int, Operation] = {}
        self.exports: list[int] = []
        self.stopped: str | None = None
        self.error: str | None = None

    def reached(self, phase: str) -> bool:
        wanted = {"open": "opening", "work": "working", "closing": "closing"}
        return self.phase == wanted[phase]

    def line(self, said: dict[str, Any], file: _File) -> None:
        self._campaign._note(json.dumps(said, ensure_ascii=False))
        what = said["say"]
        if what == "open":
            self.phase = "working"
            if file.known.embedder is None:
                file.known.configure_embedding(operations.EMBEDDERS[0])
        elif what in ("closing", "closed"):
            self.phase = what
        elif what == "error":
            self.error = said["error"]
        elif what == "stop":
            self.stopped = said["at"]
        elif what == "begin":
            self.begun[said["thread"]] = Operation(said["name"], said["arguments"])
        elif what == "refused":
            self._refused(self.begun.pop(said["thread"]), said, file.known)
        else:
            operation = self.begun.pop(said["thread"])
            self._answered(operation, said["receipt"], file)

    def _answered(self, operation: Operation, receipt: dict[str, Any], file: _File) -> None:
        self._campaign.summary.acknowledged += operation.canonical
        if operation.name == "export":
            self.exports.append(operation.arguments["number"])
        file.cursor = max(file.cursor, receipt.get("cursor", 0))
        if not operation.canonical:
            return
        try:
            expected = file.follow(operation)
        except RefusedError as error:
            raise ViolationError(f"{operation} was acknowledged, though {error}") from None
        if expected is None:
            return
        said = {name: receipt[name] for name in receipt if name != "cursor"}
        due = json.loads(json.dumps({name: getattr(expected, name) for name in said}))
        if said != due:
            raise ViolationError(f"the receipt of {operation} says {said}, and not {due}")

    def _refused(self, operation: Operation, said: dict[str, Any], known: Model) -> None:
        """A closed engine refuses anything; whatever else is refused, the model refuses too."""
        if said["code"] == "engine_closed" or not operation.canonical:
            return
        if said["code"] != InvalidInputError.code:
            raise ViolationError(f"{operation} was refused: {said}")
        with contextlib.suppress(RefusedError):
            operations.apply(known.copy(), operation)
            raise ViolationError(f"{operation} was refused: {said}")


def in_a_fork(call: Callable[[], Any]) -> Any:
    """What a call returns, made in a process of its own.

    Raises:
        ViolationError: It raised there, or did not return.
    """
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            signal.signal(signal.SIGINT, signal.SIG_IGN)
            os.close(reading)
            signal.alarm(int(HANG_SECONDS))  # kills it
            answer = (True, call())
        except BaseException:
            answer = (False, traceback.format_exc())
        try:
            with os.fdopen(writing, "wb") as pipe:
                pickle.dump(answer, pipe)
        finally:
            os._exit(0)  # whatever happened: the parent's stack is below
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        data = pipe.read()
    os.waitpid(pid, 0)
    if not data:
        raise ViolationError(f"judging the file did not end within {HANG_SECONDS:g} s")
    fine, answer = pickle.loads(data)
    if not fine:
        raise ViolationError(answer)
    return answer
