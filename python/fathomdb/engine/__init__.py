"""The engine: ``fathomdb.open`` and what a program calls.

What belongs here: composition and delegation. What does not: SQL, loops, threads, decisions.
"""

from __future__ import annotations

from fathomdb.engine.engine import WAIT_SECONDS, Engine
from fathomdb.engine.opening import open

__all__ = ["WAIT_SECONDS", "Engine", "open"]
