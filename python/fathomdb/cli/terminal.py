"""Where a command writes: data to stdout, messages and bars to stderr; styled for a person only."""

from __future__ import annotations

import json
import os
import sys
from typing import IO, Any, Literal, NoReturn

import click
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

READABLE_WIDTH = 100
"""Columns of running text at most, however wide the terminal is."""
_NO_TERMINAL_WIDTH = 10_000
"""What goes to a pipe or a file is not wrapped: a line is a line to grep."""


class _Console(Console):
    def print(self, *objects: Any, **options: Any) -> None:
        """Prints; what is not for a terminal has no blanks at the ends of its lines."""
        if self.is_terminal:
            super().print(*objects, **options)
            return
        with self.capture() as captured:
            super().print(*objects, **options)
        self.file.writelines(f"{line.rstrip()}\n" for line in captured.get().splitlines())

    def on_broken_pipe(self) -> NoReturn:
        """The same for everything that is printed: the command ends quietly."""
        raise BrokenPipeError


def _console(file: IO[str]) -> Console:
    # Of itself rich takes NO_COLOR to allow bold and dim; who sets it wants no escapes at all.
    colors: Literal["auto"] | None = None if os.environ.get("NO_COLOR") else "auto"
    console = _Console(file=file, color_system=colors, highlight=False, markup=False, emoji=False)
    if not console.is_terminal:
        console.width = _NO_TERMINAL_WIDTH
    return console


def out() -> Console:
    """Standard output."""
    return _console(sys.stdout)


def err() -> Console:
    """Standard error."""
    return _console(sys.stderr)


def animated(console: Console) -> bool:
    """Whether bars may move there."""
    return console.is_terminal and not console.is_dumb_terminal and not os.environ.get("NO_COLOR")


def print_json(value: Any) -> None:
    """One JSON document on standard output."""
    encoding = (getattr(sys.stdout, "encoding", None) or "ascii").lower()
    text = json.dumps(value, indent=2, ensure_ascii=not encoding.startswith("utf"))
    click.echo(text)


def table(*columns: str) -> Table:
    """An empty table; a column named ``>name`` is flush right."""
    made = Table(box=SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for name in columns:
        right = name.startswith(">")
        made.add_column(
            name.removeprefix(">"),
            justify="right" if right else "left",
            no_wrap=right,
            overflow="fold",
        )
    return made


def facts() -> Table:
    """An empty grid of a name, dim, and what there is to say of it."""
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="dim", no_wrap=True)
    grid.add_column(overflow="fold")
    return grid
