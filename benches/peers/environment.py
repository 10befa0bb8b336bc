"""A virtual environment with FathomDB 0.5.5, made on first use."""

from __future__ import annotations

import json
import subprocess
import sys
import venv
from pathlib import Path
from typing import Any, Self

REQUIREMENT = "fathomdb==0.5.5"
FOLDER = Path(__file__).resolve().parents[2] / ".bench" / "venv-0.5.5"
PROGRAM = Path(__file__).with_name("fathomdb_055.py")


class Peer:
    """The other FathomDB as a process that takes one job after the other."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [_python(), "-E", PROGRAM],  # a PYTHONPATH of ours would give it our package
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def run(self, **job: Any) -> dict[str, Any]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(job) + "\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline()
        if not answer:
            sys.exit(f"{REQUIREMENT} ended with {self._process.wait()}; its error is above")
        return json.loads(answer)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()


def available() -> bool:
    """Its wheels are for CPython 3.10 to 3.12, and its source does not build alone."""
    return sys.implementation.name == "cpython" and sys.version_info < (3, 13)


def _python() -> Path:
    python = FOLDER / "bin" / "python"
    made = FOLDER / "installed"
    if not made.exists():
        venv.create(FOLDER, with_pip=True, clear=True)
        subprocess.run(
            [python, "-m", "pip", "install", "--quiet", "--only-binary=:all:", REQUIREMENT],
            check=True,
        )
        made.touch()
    return python
