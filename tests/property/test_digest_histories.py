"""The projection digest after any history: that of a file which only ever held its end."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import pytest

import fathomdb
from fathomdb import EngineConfig, Node
from fathomdb.testing import DeterministicEmbedder, RecordingEmbedder

if TYPE_CHECKING:
    from pathlib import Path

CONFIG = EngineConfig(chunk_chars=30)
KINDS = ("Doc", "Note")
WORDS = ["rain", "euro", "paris", "bank", "river", "night", "cloud"]
STEPS = 60


class History:
    """Random operations on one file, and what its records come to in plain Python."""

    def __init__(self, path: str, seed: int) -> None:
        self._path = path
        self._rng = random.Random(seed)
        self.records: dict[str, tuple[str, str]] = {}
        self.db = self._open()
        self._enabled = dict.fromkeys(KINDS, True)

    def _open(self) -> fathomdb.Engine:
        return opened(self._path, DeterministicEmbedder())

    def run(self) -> None:
        steps = [self.write] * 6 + [self.retire] * 2 + [self.tick] * 4 + [self.drain, self.reopen]
        steps += [self.rebuild, self.toggle, self.patch, self.index_text, self.repair]
        for _ in range(STEPS):
            self._rng.choice(steps)()
        for kind in KINDS:
            self.db.admin.configure_vec(kind)

    def write(self) -> None:
        """New nodes, rewrites, and nodes that change their kind."""
        given = {f"d{self._rng.randrange(40)}" for _ in range(self._rng.randint(1, 8))}
        for node_id in given:
            text = " ".join(self._rng.choices(WORDS, k=self._rng.randint(1, 25)))
            self.records[node_id] = (self._rng.choice(KINDS), text)
        self.db.write(Node(self.records[key][0], key, self.records[key][1]) for key in given)

    def retire(self) -> None:
        if self.records:
            node_id = self._rng.choice(sorted(self.records))
            del self.records[node_id]
            self.db.write(retire=node_id)

    def patch(self) -> None:
        if self.records:
            self.db.patch(self._rng.choice(sorted(self.records)), {"n": self._rng.random()})

    def tick(self) -> None:
        self.db.admin.run_tick()

    def drain(self) -> None:
        self.db.admin.drain_vector_projection()

    def reopen(self) -> None:
        self.db.close()
        self.db = self._open()

    def rebuild(self) -> None:
        kind = self._rng.choice(KINDS)
        if any(kind == of for of, _ in self.records.values()) and self._enabled[kind]:
            self.db.admin.rebuild(kind)

    def toggle(self) -> None:
        kind = self._rng.choice(KINDS)
        self._enabled[kind] = not self._enabled[kind]
        if self._enabled[kind]:
            self.db.admin.configure_vec(kind)
        else:
            self.db.admin.disable_vec(kind)

    def index_text(self) -> None:
        self.db.admin.configure_fts(self._rng.choice(("unicode61", "porter unicode61")))

    def repair(self) -> None:
        report = self.db.admin.repair()
        assert report.ok
        assert report.found == {}


def opened(path: str, model: object) -> fathomdb.Engine:
    return fathomdb.open(path, embedder=model, background=False, config=CONFIG)


def digests(db: fathomdb.Engine) -> dict[str, str]:
    assert db.admin.drain_vector_projection().remaining == 0
    assert db.admin.check_integrity().ok
    return {kind: db.admin.projection_digest(kind) for kind in KINDS}


def only_its_end(path: str, records: dict[str, tuple[str, str]]) -> dict[str, str]:
    with opened(path, DeterministicEmbedder()) as db:
        for kind in KINDS:
            db.admin.configure_vec(kind)
        db.write(Node(kind, node_id, text) for node_id, (kind, text) in records.items())
        return digests(db)


@pytest.mark.parametrize("seed", range(6))
def test_a_history_a_rebuild_and_a_restored_export_have_the_digest_of_their_end(
    tmp_path: Path, seed: int
) -> None:
    history = History(str(tmp_path / "long.db"), seed)
    history.run()
    found = digests(history.db)
    assert found == only_its_end(str(tmp_path / "short.db"), history.records)

    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    history.db.admin.safe_export(elsewhere / "restored.db")
    for kind in KINDS:
        history.db.admin.rebuild(kind)
    assert digests(history.db) == found
    history.db.close()

    model = RecordingEmbedder(DeterministicEmbedder())
    with opened(str(elsewhere / "restored.db"), model) as restored:
        assert digests(restored) == found
        assert model.texts == []
        for kind in KINDS:
            restored.admin.rebuild(kind)
        assert digests(restored) == found
