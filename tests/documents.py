"""The code blocks of a Markdown document, run in order, as a reader would.

What belongs here: reading blocks and running them. Blocks of one document share their names and one
empty folder. What runs: every ``python`` block, and every line ``fathomdb ...`` of a ``sh`` block. A
``text`` block right after one of these is what it prints.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
COMMAND = Path(sys.executable).with_name("fathomdb")
LIMIT_SECONDS = 120

_BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True, slots=True)
class Block:
    line: int
    code: str
    language: str
    printed: str | None  # None where the document does not say


def blocks(document: str) -> list[Block]:
    text = (ROOT / document).read_text()
    found = [*_BLOCK.finditer(text)]
    read = []
    for match, following in zip(found, [*found[1:], None], strict=True):
        language, code = match.groups()
        if language not in ("python", "sh"):
            continue
        printed = None
        if (
            following is not None
            and following[1] == "text"
            and text[match.end() : following.start()].isspace()
        ):
            printed = following[2]
        read.append(Block(text.count("\n", 0, match.start()) + 2, code, language, printed))
    return read


def run(document: str) -> list[tuple[Block, str]]:
    """Runs all blocks in the current folder and returns what each printed."""
    names: dict[str, object] = {"__name__": "__main__"}
    results = []
    for block in blocks(document):
        if block.language == "python":
            # The line numbers of the document, so that a traceback shows where in it.
            code = compile("\n" * (block.line - 1) + block.code, document, "exec")
            with contextlib.redirect_stdout(io.StringIO()) as out:
                exec(code, names)
            results.append((block, out.getvalue()))
        elif commands := [line for line in block.code.splitlines() if line.startswith("fathomdb ")]:
            results.append((block, "".join(map(_shell, commands))))
    return results


def _shell(command: str) -> str:
    environment = {
        **os.environ,
        "PATH": f"{COMMAND.parent}{os.pathsep}{os.environ['PATH']}",
        "COLUMNS": "100",
    }
    done = subprocess.run(
        ["sh", "-c", command],
        env=environment,
        capture_output=True,
        text=True,
        timeout=LIMIT_SECONDS,
        check=False,
    )
    if done.returncode:
        raise AssertionError(f"{command}\nended with {done.returncode}:\n{done.stderr}")
    return done.stdout
