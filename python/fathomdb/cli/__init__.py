"""The command line: ``fathomdb``, one file a command.

What belongs here: arguments, what a person or a script reads, exit codes. What does not: anything
that a program would want too; a command calls the engine's public methods, and little else.
"""

from __future__ import annotations

from fathomdb.cli.app import main

__all__ = ["main"]
