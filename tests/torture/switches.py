"""Kills spread over switches of models: each one resumes, and nothing is embedded twice.

Of the texts 30 % are of several nodes, queries have a method of their own, and two of the models have
the same dimension. A text is embedded again only if it was under way when its process died: what was
stored by then is never asked for again, by any model, nor what is in the cache. The count is the
embedder's own, in a file that it writes before it answers.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import signal
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import fathomdb
import inside
import invariants
from fathomdb import EmbedderIdentity, Node
from fathomdb.embedders.protocol import EmbedderLimits
from fathomdb.testing import DeterministicEmbedder
from torture.campaign import ViolationError, in_a_fork
from torture.stops import Stop, Stopper

if TYPE_CHECKING:
    from collections.abc import Sequence

NODES, TEXTS = 120, 84
"""Nodes and their distinct texts: of 30 % the text is another node's too, in its kind and in others."""
QUESTION = "a question"
KINDS = ("Document", "Note", "Place")
STAGES = ("embedding", "claim", "apply", "flip", "end of a switch", "change of model", "recovery")
MOST_CALLS = 4
"""Calls after which a life ends that came to no stop: so kills fall all over a switch."""
PLAIN = [
    DeterministicEmbedder(
        dimension,
        identity=EmbedderIdentity(f"torture/{name}", "1", dimension),
        seed=dimension,
        limits=EmbedderLimits(items=5),
    )
    for name, dimension in (("one", 8), ("two", 12), ("three", 12), ("four", 16))
]
"""Switched to in turn: back to the first only when the others have been, from the cache then."""


@dataclass(slots=True)
class SwitchSummary:
    """What came of a campaign; ``embedded_twice`` are texts that were stored and asked for again.

    ``under_way`` are texts whose process died after they were asked for and before they were stored.
    """

    seed: int
    kills: int = 0
    switches: int = 0
    rollbacks: int = 0
    embedded: int = 0
    under_way: int = 0
    embedded_twice: int = 0
    by_stage: Counter[str] = field(default_factory=Counter)

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON values."""
        return {name: getattr(self, name) for name in self.__slots__ if name != "by_stage"} | {
            "by_stage": dict(self.by_stage)
        }


class Logged(DeterministicEmbedder):
    """Says in a file what it was asked for, before it answers; may end its process."""

    def __init__(self, plain: DeterministicEmbedder, log: str, calls: list[int]) -> None:
        identity = plain.identity()
        super().__init__(
            identity.dimension, identity=identity, seed=identity.dimension, limits=plain.limits
        )
        self._log, self._calls = log, calls

    def batch_embed(self, texts: Sequence[str]) -> Any:
        self._calls[0] -= 1
        said = "".join(json.dumps([self.identity().fingerprint, text]) + "\n" for text in texts)
        file = os.open(self._log, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        os.write(file, said.encode())
        os.close(file)
        if self._calls[0] == 0:
            os.kill(os.getpid(), signal.SIGKILL)
            signal.pause()
        return super().batch_embed(texts)

    def embed_query(self, text: str) -> Any:
        """Unlike that of a document: no stored vector may be one of these."""
        return super().batch_embed([f"query: {text}"])[0]


@dataclass(frozen=True, slots=True)
class Judged:
    """The file as a kill left it: vectors that are there, and whether a switch is under way.

    ``stored`` has (fingerprint, text) of those in the cache too: they are not asked for again either.
    """

    stored: frozenset[tuple[str, str]]
    building: str | None
    active: str


def run(folder: str, kills: int, seed: int) -> SwitchSummary:
    """Kills so many lives of one file, judges it after each, and lets the last one end.

    Must be called in a process that has opened nothing: each life is a fork.

    Raises:
        ViolationError: Something does not hold; it says what, and after which kill.
    """
    summary = SwitchSummary(seed)
    path, log = f"{folder}/switch.db", f"{folder}/embedded"
    in_a_fork(lambda: _fill(path, log))
    judged, read = _judge_in_a_fork(path), os.path.getsize(log)
    while summary.kills < kills:
        rng = random.Random(f"{seed}/{summary.kills}")
        target = None
        if judged.building is None:
            known = [one.identity().fingerprint for one in PLAIN]
            target = (known.index(judged.active) + 1) % len(PLAIN)
            summary.switches += 1
        stop = Stop.draw(rng, rng.choice(STAGES))
        if _live(path, log, target, stop, rng.randint(1, MOST_CALLS)):
            summary.kills += 1
            summary.by_stage[stop.stage] += 1
        asked, read = _asked(log, read)
        after = _judge_in_a_fork(path)
        _count(asked, judged, after, summary)
        judged = after
    for last in (_end, _there_and_back):
        in_a_fork(lambda last=last: last(path, log))
        asked, read = _asked(log, read)
        after = _judge_in_a_fork(path)
        _count(asked, judged, after, summary)
        judged = after
    summary.switches, summary.rollbacks = summary.switches + 1, 1
    if summary.embedded_twice:
        raise ViolationError(f"{summary.embedded_twice} texts were embedded twice: {summary}")
    return summary


def _embedders(log: str, calls: int = -1) -> list[Logged]:
    left = [calls]  # of both together
    return [Logged(plain, log, left) for plain in PLAIN]


def _open(path: str, embedders: list[Logged], *, background: bool) -> fathomdb.Engine:
    return fathomdb.open(
        path,
        embedder=embedders,
        background=background,
        durability="normal",  # no power is lost here
    )


def _fill(path: str, log: str) -> None:
    with _open(path, _embedders(log), background=False) as db:
        db.write(
            Node(KINDS[n % len(KINDS)], f"n{n}", f"text number {n % TEXTS}") for n in range(NODES)
        )
        assert db.admin.drain_vector_projection().processed == NODES


def _live(path: str, log: str, target: int | None, stop: Stop, calls: int) -> bool:
    """One life, of which at most one switch is begun; whether it was killed."""
    pid = os.fork()
    if pid == 0:
        try:
            Stopper(stop, lambda _: None).install()
            embedders = _embedders(log, calls)
            with _open(path, embedders, background=True) as db:
                if target is not None:
                    db.admin.configure_embedding(
                        embedders[target], acknowledge_rebuild_impact=True, keep_previous=False
                    )
                node = f"fresh-{os.getpid()}"
                receipt = db.write(Node(KINDS[0], node, f"text number {node}"))
                db.semantic_search(QUESTION)
                db.wait(receipt, timeout=30.0)
                db.admin.drain_vector_projection(timeout=30.0)
        except BaseException:
            os._exit(3)
        os._exit(0)
    _, status = os.waitpid(pid, 0)
    if os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL:
        return True
    if status != 0:
        raise ViolationError(f"a life ended with status {status}")
    return False


def _judge_in_a_fork(path: str) -> Judged:
    judged: Judged = in_a_fork(lambda: _judge(path))
    return judged


def _judge(path: str) -> Judged:
    """What the file holds after a kill, before anything of it is embedded again."""
    with (
        fathomdb.open(path, embedder=PLAIN, background=False, durability="normal") as db,
        inside.snapshot(db) as connection,
    ):
        invariants.check(connection, PLAIN)
        text_of = {
            hashlib.sha256(text.encode()).digest(): text
            for (text,) in connection.execute("SELECT text FROM chunks")
        }
        stored = frozenset(
            (fingerprint, text_of[content_hash])
            for fingerprint, content_hash in connection.execute(
                "SELECT fingerprint, content_hash FROM "
                "(SELECT profile_id, content_hash FROM vector_ledger UNION ALL "
                "SELECT profile_id, content_hash FROM vector_cache) "
                "JOIN vector_embedding_profiles USING (profile_id)"
            )
        )
        state = dict(
            connection.execute(
                "SELECT state, fingerprint FROM vector_embedding_profiles WHERE state <> 'retired'"
            ).fetchall()
        )
        return Judged(stored, state.get("building"), state["active"])


def _asked(log: str, read: int) -> tuple[list[tuple[str, str]], int]:
    """(fingerprint, text) of all that a life asked its embedders for, and how far the log goes."""
    with open(log, "rb") as file:
        file.seek(read)
        said = file.read()
    return [tuple(json.loads(line)) for line in said.splitlines()], read + len(said)


def _count(
    asked: Sequence[tuple[str, str]], before: Judged, after: Judged, summary: SwitchSummary
) -> None:
    """Counts what a life embedded; of that, what was stored before it began is embedded twice."""
    if any(text == QUESTION for _, text in asked):
        raise ViolationError("a query was embedded as a document")
    wanted = {one for one in asked if one[0] in (after.active, after.building)}
    summary.embedded += len(asked)
    summary.under_way += len(wanted - after.stored)
    summary.embedded_twice += len(before.stored.intersection(asked)) + len(asked) - len({*asked})


def _end(path: str, log: str) -> None:
    """Undisturbed it comes to an end, and every text is there under one model."""
    with _open(path, _embedders(log), background=False) as db:
        assert db.admin.drain_vector_projection().stopped_by == "idle"
        # A text that was embedded alone each time that its process died is not tried for ever.
        db.admin.requeue_failed(cause="process_died")
        assert db.admin.drain_vector_projection().stopped_by == "idle"
        status = db.admin.status()
        assert status.switch is None, status.switch
        assert (status.pending, status.failed) == (0, 0), status
        assert db.admin.check_integrity().ok
        hits = db.semantic_search(QUESTION, limit=4096)
        assert len(hits) == db.count(), (len(hits), db.count())
        with inside.snapshot(db) as connection:
            invariants.check(connection, PLAIN)


def _there_and_back(path: str, log: str) -> None:
    """To the other model, and back at once."""
    embedders = _embedders(log)
    with _open(path, embedders, background=False) as db:
        status = db.admin.status()
        known = [str(one.identity()) for one in embedders]
        other = embedders[known.index(status.active_profile) - 1]  # the one before, from the cache
        db.admin.configure_embedding(other, acknowledge_rebuild_impact=True)
        assert db.admin.drain_vector_projection().stopped_by == "idle"
        assert db.admin.status().active_profile == str(other.identity())
        report = db.admin.rollback()
        assert (report.profile, report.missing) == (status.active_profile, 0), report
        assert len(db.semantic_search(QUESTION, limit=4096)) == db.count()
