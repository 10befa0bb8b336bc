"""A crowd on one database: threads with a watchdog, and readers that know what they must find.

A writer of the crowd writes nodes by ``node``: each line of the text says whose it is, which
version, and the properties say how many lines there are. So a reader can tell a half state, a text
of another node, and a vector of another text, whoever writes meanwhile. Run as a program, this file
is such readers in a process of their own.
"""

from __future__ import annotations

import faulthandler
import os
import random
import re
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np
import pytest

import fathomdb
from fathomdb import (
    DimensionMismatchError,
    EmbedderIdentity,
    EmbedderUnavailableError,
    EngineConfig,
    KindNotVectorIndexedError,
    Node,
)
from fathomdb.testing import DeterministicEmbedder

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

KINDS = ("Doc", "Note", "Memo")
MODELS = (
    DeterministicEmbedder(),
    DeterministicEmbedder(48, identity=EmbedderIdentity("test/other", "2", 48), seed=2),
)
CHUNK_CHARS = 36
"""Room for one line of a text and not for two, so that each line is a chunk."""
HANGS_AFTER_SECONDS = 150.0
SEEDS = range(int(os.environ.get("FATHOMDB_STRESS", "1")))
"""Of each stress test: FATHOMDB_STRESS=10 runs ten; a test's name has its seed."""

_LINE = re.compile(r"(\S+) version (\d+) part (\d+) (?:plain|poison)\s*")


def node(kind: str, node_id: str, version: int, parts: int, *, poison: bool = False) -> Node:
    """A node of as many chunks as it has parts."""
    word = "poison" if poison else "plain"
    lines = [f"{node_id} version {version} part {n} {word}" for n in range(parts)]
    return Node(
        kind,
        node_id,
        "\n".join(lines),
        {"version": version, "parts": parts},
        source_ref=f"source of {node_id}",
    )


def parse(text: str) -> tuple[str, int, int]:
    """(node id, version, part) of a chunk."""
    found = _LINE.fullmatch(text)
    assert found is not None, f"not a text that anybody wrote: {text!r}"
    return found[1], int(found[2]), int(found[3])


def check_record(record: fathomdb.NodeRecord) -> None:
    """A node is whole: every part of one version, which its properties name."""
    assert record.properties is not None, record
    version, parts = record.properties["version"], record.properties["parts"]
    whole = [(record.node_id, version, part) for part in range(parts)]
    assert [parse(chunk.text) for chunk in record.chunks] == whole, record
    assert [chunk.chunk_id for chunk in record.chunks] == [
        f"{record.node_id}#{part}" for part in range(parts)
    ]
    assert record.text == "".join(chunk.text for chunk in record.chunks)


class Reader:
    """Looks at an engine in every way there is, at random; ``look`` raises what is wrong."""

    def __init__(self, db: fathomdb.Engine, rng: random.Random, ids: Sequence[str]) -> None:
        self._db = db
        self._rng = rng
        self._ids = ids
        self._cursor = 0
        self._seen: dict[str, int] = {}

    def look(self) -> None:
        """One look of one sort."""
        ways: list[Callable[[], object]] = [
            self._get,
            self._get,
            self._stream,
            self._words,
            self._hybrid,
            self._meaning,
            self._vector,
            self._status,
            self._inside,
        ]
        self._rng.choice(ways)()

    def _get(self) -> None:
        some = self._rng.sample(self._ids, 3)
        for node_id, record in self._db.get_many(some).items():
            check_record(record)
            # What was seen once is never unseen: a later snapshot is of a later commit.
            assert record.cursor >= self._seen.get(node_id, 0), record
            self._seen[node_id] = record.cursor

    def _stream(self) -> None:
        for record in self._db.nodes(self._rng.choice([None, *KINDS])):
            if record.node_id in self._ids:
                check_record(record)
        assert self._db.count() >= self._db.count(where={"version": {"gte": 10**9}})

    def _words(self) -> None:
        self._check(self._db.text_search(self._query(), limit=20, kind=self._kinds()))

    def _hybrid(self) -> None:
        self._check(self._db.search(self._query(), limit=20, kind=self._kinds()))
        where = {"parts": 2}
        found = self._db.search(self._query(), where=where, chunks_per_node=2)
        self._check(found)
        assert all(hit.properties["parts"] == 2 for hit in found)

    def _meaning(self) -> None:
        query = self._query()
        try:
            found = self._db.semantic_search(query, limit=20, kind=self._kinds())
        except (KindNotVectorIndexedError, EmbedderUnavailableError):
            return
        self._check(found, query)

    def _vector(self) -> None:
        model, query = self._rng.choice(MODELS), self._query()
        try:
            found = self._db.raw_vector_search(model.batch_embed([query])[0], limit=20)
        except (KindNotVectorIndexedError, DimensionMismatchError):
            return
        self._check(found, query)

    def _check(self, found: fathomdb.SearchResult, query: str | None = None) -> None:
        assert found.freshness.cursor >= self._cursor, (found.freshness, self._cursor)
        self._cursor = found.freshness.cursor
        for hit in found:
            node_id, version, part = parse(hit.text)
            assert (node_id, f"{node_id}#{part}") == (hit.node_id, hit.chunk_id), hit
            assert hit.properties["version"] == version, hit
            assert part < hit.properties["parts"], hit
            assert hit.source_ref == f"source of {node_id}", hit
            if query is not None and hit.distance is not None:
                # Of one model or the other, but of this very text.
                assert any(
                    abs(hit.distance - _distance(model, query, hit.text)) < 1e-4 for model in MODELS
                ), (hit, query)

    def _status(self) -> None:
        status = self._db.admin.status()
        assert status.cursor >= self._cursor, (status, self._cursor)
        self._cursor = status.cursor
        counters = status.counters
        assert counters["claimed"] == sum(
            counters[name] for name in ("applied", "failed", "reverted", "discarded")
        ), counters
        for kind in status.kinds:
            self._db.admin.get_vec_index_status(kind.kind)
        for row in self._db.admin.failed_work():
            assert row.cause, row

    def _inside(self) -> None:
        node_id = self._rng.choice(self._ids)
        assert self._db.admin.inspect(node_id, self._query()).verdict
        self._db.admin.trace_source(f"source of {node_id}")

    def _query(self) -> str:
        node_id = self._rng.choice(self._ids)
        return f"{node_id} version {self._rng.randrange(40)} part 0 plain"

    def _kinds(self) -> str | None:
        # A kind that nothing was written for yet is refused, so only those that are there.
        return self._rng.choice([None, *(kind.kind for kind in self._db.admin.status().kinds)])


def _distance(model: DeterministicEmbedder, one: str, other: str) -> float:
    first, second = model.batch_embed([one, other])
    return float(1.0 - np.dot(first, second))


def at_once(jobs: dict[str, Callable[[], None]]) -> None:
    """Runs every job on a thread of its own, until all have ended.

    The first thing that any of them raises is raised here. Where one does not end, the stacks of
    all threads are the failure's message.
    """
    wrong: list[tuple[str, BaseException]] = []

    def guarded(name: str, job: Callable[[], None]) -> None:
        try:
            job()
        except BaseException as error:
            wrong.append((name, error))

    threads = [
        threading.Thread(target=guarded, args=item, name=item[0], daemon=True)
        for item in jobs.items()
    ]
    deadline = time.monotonic() + HANGS_AFTER_SECONDS
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(max(0.0, deadline - time.monotonic()))
    stuck = [thread.name for thread in threads if thread.is_alive()]
    if stuck:
        pytest.fail(f"still running: {stuck}; first wrong: {wrong[:1]}\n{_stacks()}")
    if wrong:
        name, error = wrong[0]
        error.add_note(f"in {name}; {len(wrong)} jobs went wrong")
        raise error


def _stacks() -> str:
    with tempfile.TemporaryFile("w+") as file:
        faulthandler.dump_traceback(file, all_threads=True)
        file.seek(0)
        return file.read()


@contextmanager
def reading_processes(path: str, ids: Sequence[str], *, count: int, seed: int) -> Iterator[None]:
    """Readers in other processes, from when each has looked until the end of the block.

    They open the file again and again, read only, and look; what any of them finds wrong fails.
    """
    children = [
        subprocess.Popen(
            [sys.executable, __file__, path, str(seed + n), *ids],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for n in range(count)
    ]
    try:
        for child in children:
            line = child.stdout.readline()
            assert line == "looked\n", child.communicate(timeout=HANGS_AFTER_SECONDS)
        yield
        for child in children:
            said = child.communicate(timeout=HANGS_AFTER_SECONDS)
            assert child.returncode == 0, said[1]
    finally:
        for child in children:
            if child.poll() is None:
                child.kill()
                child.communicate()


def _read_until_told(path: str, seed: int, ids: Sequence[str]) -> None:
    told = threading.Event()
    threading.Thread(target=lambda: (sys.stdin.read(), told.set()), daemon=True).start()
    rng, first = random.Random(seed), True
    while first or not told.is_set():
        config = EngineConfig(readers=2)
        with fathomdb.open(path, read_only=True, embedder=[*MODELS], config=config) as db:
            reader = Reader(db, rng, ids)
            for _ in range(30):
                reader.look()
        if first:
            sys.stdout.write("looked\n")
            sys.stdout.flush()
        first = False


if __name__ == "__main__":
    faulthandler.dump_traceback_later(2 * HANGS_AFTER_SECONDS, exit=True)
    _read_until_told(sys.argv[1], int(sys.argv[2]), sys.argv[3:])
