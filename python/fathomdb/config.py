"""One frozen EngineConfig: every number that an engine runs by, with its unit in its name.

What belongs here: defaults and their reasons, and the clock.
What does not: anything about a file's content (the file itself remembers that).
"""

from __future__ import annotations

import random
import threading
import time
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Protocol

from fathomdb.errors import InvalidInputError

if TYPE_CHECKING:
    from collections.abc import Callable

INCREMENTAL_PRIORITY = 1000
"""Priority of fresh writes; at or above it is the incremental lane (FathomDB 0.5.5)."""
BACKFILL_PRIORITY = 0
"""Priority of everything that is owed for older text."""
INCREMENTAL_BATCH = 64
"""Items in a claim of fresh work to begin with, where the embedder declares nothing."""
BACKFILL_SLICE = 32
"""Items in a claim of backfill to begin with, where the embedder declares nothing."""
SLICE_SECONDS = 0.25
"""How long a claim of backfill may take an embedder: a fresh write waits for one at most."""
WIDEST_BATCH = 512
"""Items that a claim grows to at most, where the embedder declares nothing."""
BACKFILL_EVERY = 8
"""Every 8th tick of the actor is a backfill tick when backfill waits, so that it never starves."""
MAX_SEARCH_LIMIT = 4096
"""The most hits of one search; sqlite-vec refuses a larger k."""
MAX_TEXT_CHARS = 64 << 20
"""Characters of one text: a longer one is a file by mistake; SQLite's own bound is 1 GB."""
MAX_PROPERTIES_CHARS = 16 << 20
"""Characters of a node's properties as JSON, which each filter on a property reads."""
MAX_REQUEST_NODES = 1_000_000
"""Nodes written and retired by one request, which is one transaction."""
MAX_QUERY_CHARS = 16 << 20
"""Characters of a query; the words beyond the first 256 are not looked for."""
LONGEST_SECONDS = threading.TIMEOUT_MAX / 2
"""What "no limit" becomes: a lock cannot wait for longer, and half leaves room for arithmetic."""


def check_seconds(name: str, value: object) -> float:
    """A caller's number of seconds, as one that can be waited for; infinity means no limit.

    Raises:
        InvalidInputError: It is not a number, or less than 0.
    """
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not value >= 0:
        raise InvalidInputError(f"{name} must be 0 or more seconds, got {value!r}")
    return min(value, LONGEST_SECONDS)


class Clock(Protocol):
    """Where time comes from; tests bring one that they move by hand."""

    def now(self) -> float:
        """Seconds since the epoch: what is stored in the file."""

    def monotonic(self) -> float:
        """Seconds that never go back: what durations and time-outs are measured with."""


class SystemClock:
    """The machine's own clocks."""

    def now(self) -> float:
        """Seconds since the epoch."""
        return time.time()

    def monotonic(self) -> float:
        """Seconds that never go back."""
        return time.monotonic()


def _uniform() -> Callable[[float, float], float]:
    return random.Random().uniform  # noqa: S311 - spreads probes, hides nothing


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineConfig:
    """The numbers that an engine runs by; the defaults suit most programs.

    Seconds may be infinite, which means no limit.

    Attributes:
        chunk_chars: Characters of a chunk for kinds that are written for the first time.
        mailbox_size: Requests that may wait for the writer before callers block.
        group_size: Requests that the writer commits in one transaction at most.
        group_rows: Chunks in one such transaction at most, so that nobody waits long.
        write_timeout_seconds: How long a caller waits for the writer where it says nothing.
        idle_poll_seconds: How often an idle vector actor looks at the queue unasked.
        embed_timeout_seconds: How long one call of an embedder may take before it is abandoned.
        max_attempts: How often a chunk is tried before it is failed.
        retry_wait_seconds: Wait before the second attempt of a row; doubles with each further one.
        outage_wait_seconds: First wait of a paused profile; doubles up to the maximum.
        outage_wait_max_seconds: The longest wait of a paused profile.
        close_timeout_seconds: How long ``close`` waits for running work; 3 s at most where the program
            ends without it.
        readers: Read connections at most.
        async_threads: Calls of ``fathomdb.aio`` that run at once in each of its lanes (what needs
            the file alone, searches by meaning, what waits); further ones queue.
        cache_mib: SQLite's page cache per connection, in MiB.
        vector_cache_mib: Vectors of texts, kinds and models that are gone, kept in the file for when
            they come back, in MiB at most, oldest out first; 0 keeps none.
        exact_below_rows: Below so many vectors of a kind a search compares all of them; from there
            on, codes in memory tell which are worth it. For a thousand hits or more it takes more.
        codes_int8: Whether those codes have a byte a number beside its sign: 449 bytes a vector at
            384 dimensions, and not 62, and a fifth of the time or less for many hits. Without it
            recall is good for dense embeddings alone: of sparse ones, as of ``hashing``, a fifth is missed.
        export_before_migration: Whether ``open`` exports a file of an older schema to
            ``<file>.v<version>-backup`` beside it before it brings it forward.
        clock: Where time comes from.
        jitter: Spreads the waits of paused profiles: a number between two, as
            ``random.Random(seed).uniform`` gives.
    """

    chunk_chars: int = 1000
    mailbox_size: int = 1024
    group_size: int = 64
    group_rows: int = 4096
    write_timeout_seconds: float = 60.0
    idle_poll_seconds: float = 0.25
    embed_timeout_seconds: float = 300.0
    max_attempts: int = 5
    retry_wait_seconds: float = 1.0
    outage_wait_seconds: float = 0.25
    outage_wait_max_seconds: float = 60.0
    close_timeout_seconds: float = 10.0
    readers: int = 8
    async_threads: int = 12
    cache_mib: int = 16
    vector_cache_mib: int = 64
    exact_below_rows: int = 20_000
    codes_int8: bool = True
    export_before_migration: bool = True
    clock: Clock = field(default_factory=SystemClock)
    jitter: Callable[[float, float], float] = field(default_factory=_uniform)

    def __post_init__(self) -> None:
        for item in fields(self):
            value = getattr(self, item.name)
            if item.name in {"clock", "jitter"}:
                continue
            if isinstance(item.default, bool):
                if not isinstance(value, bool):
                    raise InvalidInputError(
                        f"EngineConfig.{item.name} must be True or False, got {value!r}"
                    )
                continue
            whole = isinstance(item.default, int)
            may_be_0 = item.name == "vector_cache_mib"
            if (
                isinstance(value, bool)
                or not isinstance(value, int if whole else (int, float))
                or not (value >= 0 if may_be_0 else value > 0)
            ):
                least = "of 0 or more" if may_be_0 else "greater than 0"
                raise InvalidInputError(
                    f"EngineConfig.{item.name} must be a {'whole ' if whole else ''}number {least}, "
                    f"got {value!r}"
                )
            if item.name.endswith("_seconds"):
                object.__setattr__(self, item.name, min(value, LONGEST_SECONDS))

    @property
    def longest_retry_seconds(self) -> float:
        """The longest that a row waits for its next attempt, or a little more."""
        # Beyond 2**40 the shift would make numbers that no clock has.
        return self.retry_wait_seconds * 2.0 ** min(self.max_attempts, 40)

    @property
    def vector_cache_bytes(self) -> int:
        """What ``vector_cache_mib`` is in bytes."""
        return self.vector_cache_mib << 20
