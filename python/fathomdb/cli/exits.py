"""Exit codes, as people and shells expect them; 2, wrong usage, is click's own."""

from __future__ import annotations

DONE = 0
PROBLEM = 1
"""Something is wrong, or an operation failed."""
INTERRUPTED = 130
"""Ctrl-C: 128 and the number of SIGINT."""
NOBODY_READS = 141
"""The reader of a pipe went away: 128 and the number of SIGPIPE."""
