"""The command line in this process, in a child, and embedder plugins that go wrong."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

from fathomdb.cli import main

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

PLUGINS = '''
import numpy as np
from fathomdb.errors import EmbedderUnavailableError
from fathomdb.identity import EmbedderIdentity


class Picky:
    """Gives no vector for a text with the word bad."""

    plugin_spec = "picky"

    def identity(self):
        return EmbedderIdentity("test/picky", "1", 3)

    def batch_embed(self, texts):
        return [[np.nan if "bad" in text else 1.0, len(text), 1.0] for text in texts]


class Away:
    """Cannot be reached."""

    plugin_spec = "away"

    def identity(self):
        return EmbedderIdentity("test/away", "1", 3)

    def batch_embed(self, texts):
        raise EmbedderUnavailableError("nobody answers at the door")


def broken():
    raise KeyError("weights")
'''


@dataclass(frozen=True)
class Outcome:
    """What a command did, as its caller sees it."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """Standard output as one JSON document."""
        return json.loads(self.out)


@pytest.fixture(autouse=True)
def _plain_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("FATHOMDB_DB", "FATHOMDB_DEBUG", "NO_COLOR", "FORCE_COLOR", "TERM"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("COLUMNS", "80")


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Callable[..., Outcome]:
    """Runs a command in this process."""

    def ran(*arguments: str) -> Outcome:
        code = main(arguments)
        said = capsys.readouterr()
        return Outcome(code, said.out, said.err)

    return ran


@pytest.fixture
def spawn() -> Callable[..., Outcome]:
    """Runs a command as ``python -m fathomdb`` in a process of its own."""

    def ran(*arguments: str, **environment: str) -> Outcome:
        done = subprocess.run(
            [sys.executable, "-m", "fathomdb", *arguments],
            env={**os.environ, **environment},
            capture_output=True,
            text=True,
            encoding="utf-8",
            check=False,
        )
        return Outcome(done.returncode, done.stdout, done.stderr)

    return ran


@pytest.fixture
def plugins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Installs the embedder plugins ``picky``, ``away`` and ``broken``; returns where."""
    folder = tmp_path / "site"
    described = folder / "bad_plugins-1.0.dist-info"
    described.mkdir(parents=True)
    (folder / "bad_plugins.py").write_text(PLUGINS)
    (described / "METADATA").write_text("Metadata-Version: 2.1\nName: bad-plugins\nVersion: 1.0\n")
    (described / "entry_points.txt").write_text(
        "[fathomdb.embedders]\npicky = bad_plugins:Picky\naway = bad_plugins:Away\n"
        "broken = bad_plugins:broken\n"
    )
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.setenv("PYTHONPATH", str(folder))
    return folder


@pytest.fixture
def jsonl(tmp_path: Path) -> Callable[..., str]:
    """Writes records, a line each, to a file; returns its path."""

    def written(records: Iterable[dict[str, Any] | str], name: str = "input.jsonl") -> str:
        path = tmp_path / name
        path.write_text(
            "".join(
                (record if isinstance(record, str) else json.dumps(record)) + "\n"
                for record in records
            )
        )
        return str(path)

    return written


@pytest.fixture
def notes(run: Callable[..., Outcome], jsonl: Callable[..., str], path: str) -> str:
    """A database of three notes with vectors; returns its path."""
    given = [
        {"id": "rain", "text": "Rain is forecast for Paris tomorrow", "year": 2024},
        {"id": "euro", "text": "Converting euros to dollars", "year": 2020},
        {"id": "bare", "text": None},
    ]
    done = run("ingest", jsonl(given), "--db", path, "--kind", "Note", "--embedder", "hashing")
    assert done.code == 0, done.err
    return path
