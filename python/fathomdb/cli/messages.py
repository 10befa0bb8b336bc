"""Messages to a person, on stderr."""

from __future__ import annotations

import shutil
import sys
import textwrap

import click


def say(message: str) -> None:
    """One message; for a terminal it is wrapped at words, and paths and commands stay whole."""
    if sys.stderr.isatty():
        message = textwrap.fill(
            message,
            max(20, shutil.get_terminal_size().columns - 1),
            drop_whitespace=True,
            replace_whitespace=False,
            break_long_words=False,
            break_on_hyphens=False,
            subsequent_indent="  ",
        )
    click.echo(message, err=True)
