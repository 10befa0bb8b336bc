"""The stores that are measured side by side: each a program in a process and an environment of its own."""

from __future__ import annotations

import json
import subprocess
import sys
import venv
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

SCRATCH = Path(__file__).resolve().parents[2] / ".bench"


@dataclass(frozen=True)
class Store:
    """A store, pinned; ``durability`` and ``lacks`` are what a reader must know beside its figures."""

    title: str
    program: str
    requirements: tuple[str, ...]
    durability: str
    lacks: str
    before: tuple[int, int] = (9, 9)
    """The first CPython that it has no wheel for."""

    def is_available(self) -> bool:
        return sys.implementation.name == "cpython" and sys.version_info < self.before


OURS = Store(
    "FathomDB for Python",
    "fathomdb_py.py",
    (),
    "an fsync a commit (synchronous=FULL)",
    "one process at a time writes",
)
FATHOMDB_055 = Store(
    "FathomDB 0.5.5",
    "fathomdb_055.py",
    ("fathomdb==0.5.5",),
    "no fsync a commit (synchronous=NORMAL; 6 for 19)",
    "no queue for vectors; asks for all words of a query, for some only where nothing has all",
    before=(3, 13),
)
FATHOMDB_08 = Store(
    "FathomDB 0.8.27",
    "fathomdb_08.py",
    ("fathomdb==0.8.27",),
    "an fsync for most commits (15 for 19)",
    "takes no ready vectors; vectors need its own model, which it downloads",
)
CHROMA = Store(
    "Chroma 1.5.9",
    "chroma_store.py",
    ("chromadb==1.5.9", "numpy==2.4.6"),
    "an fsync a commit, about a dozen a batch; its graph is written later, from its log",
    "no ranked full text (documents are filtered by substring), no queue: embeds in the call; "
    "approximate",
)
LANCEDB = Store(
    "LanceDB 0.40.0",
    "lancedb_store.py",
    ("lancedb==0.40.0", "numpy==2.4.6"),
    "no fsync: a power loss may take what was acknowledged",
    "no full text until its index is built apart, which is not in the write's time; no queue: "
    "embeds in the call; fragments until compacted",
)
SQLITE_VEC = Store(
    "sqlite-vec 0.1.9 alone",
    "sqlite_vec_store.py",
    ("sqlite-vec==0.1.9", "apsw==3.54.1.0", "numpy==2.4.6"),
    "an fsync a commit (synchronous=FULL)",
    "no full text, no queue, no checks: a table of texts and a vec0 table",
)
PEERS = (FATHOMDB_055, FATHOMDB_08, CHROMA, LANCEDB, SQLITE_VEC)


class Peer:
    """A store's process, which takes one job after the other."""

    def __init__(self, store: Store) -> None:
        self.store = store
        program = Path(__file__).with_name(store.program)
        # A PYTHONPATH of ours would give the other FathomDBs our package.
        command = (
            [_python(store), "-E", program] if store.requirements else [sys.executable, program]
        )
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def run(self, **job: Any) -> dict[str, Any]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(job) + "\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline()
        if not answer:
            sys.exit(f"{self.store.title} ended with {self._process.wait()}; its error is above")
        return json.loads(answer)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()


def _python(store: Store) -> Path:
    folder = SCRATCH / f"venv-{store.title.replace(' ', '-')}"
    python = folder / "bin" / "python"
    made = folder / "installed"
    if not made.exists():
        venv.create(folder, with_pip=True, clear=True)
        wheels = ["--quiet", "--disable-pip-version-check", "--only-binary=:all:"]
        subprocess.run([python, "-m", "pip", "install", *wheels, *store.requirements], check=True)
        made.touch()
    return python
