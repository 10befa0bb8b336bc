"""For the tests of programs and plugins: test embedders, and the suite that every embedder passes.

What belongs here: doubles that behave, and misbehave, as a real part can, and
:class:`EmbedderContract`. What does not: anything that the library itself uses at run time.
"""

from __future__ import annotations

from fathomdb.testing.clock import ManualClock
from fathomdb.testing.contract import EmbedderContract
from fathomdb.testing.database import temporary
from fathomdb.testing.embedders import DeterministicEmbedder, NullEmbedder, RecordingEmbedder
from fathomdb.testing.faults import Damage, Fault, FlakyEmbedder

__all__ = [
    "Damage",
    "DeterministicEmbedder",
    "EmbedderContract",
    "Fault",
    "FlakyEmbedder",
    "ManualClock",
    "NullEmbedder",
    "RecordingEmbedder",
    "temporary",
]
