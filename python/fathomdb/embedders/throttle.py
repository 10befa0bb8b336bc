"""How fast a remote embedder is asked: calls at once, requests and tokens a minute, and pauses."""

from __future__ import annotations

import contextlib
import threading
from typing import TYPE_CHECKING

from fathomdb.errors import EmbedderUnavailableError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fathomdb.config import Clock

PATIENCE_SECONDS = 20.0
"""A pause that is longer is an outage: searches then say so, and the engine waits in its own way."""

LOOK_SECONDS = 0.25
"""How often somebody who waits looks at the clock unasked: a clock may be moved by hand."""

SHARE = 0.95
"""What is used of a quota. The rest makes up for requests that a network bunches together."""

_MOST_SECONDS = 60.0 / SHARE
"""The longest delay by one request: what it used of the quota is there again after a minute."""

LATE_SECONDS = 1.0
"""How late a thread may wake without a loss: what it missed may follow at once.

A minute then has the requests of 61 seconds at SHARE, 0.97 of the quota; 3.1 seconds would be all of it.
"""


class Pace:
    """A token bucket as deep as one request and what LATE_SECONDS bring: requests come evenly.

    So no window of a minute, wherever it begins, holds more than the quota, and none of a second more
    than two seconds' share of it. One request delays the next by a minute at most.
    """

    def __init__(self, per_minute: int | None) -> None:
        self._seconds_each = 0.0 if per_minute is None else 60.0 / (SHARE * per_minute)
        self._free_at = float("-inf")

    def seconds_left(self, now: float) -> float:
        """How long until the next request may go; 0 where it may now."""
        return max(0.0, self._free_at - now)

    def take(self, now: float, units: int) -> None:
        """Uses ``units`` of the quota, now."""
        delay = min(units * self._seconds_each, _MOST_SECONDS)
        self._free_at = max(self._free_at, now - LATE_SECONDS) + delay

    def correct(self, units: int) -> None:
        """Uses so many more, or less where it is negative: what was taken was an estimate."""
        self._free_at += min(units * self._seconds_each, _MOST_SECONDS)


class Throttle:
    """Lets requests through as fast as the provider bears them; safe for any thread.

    Calls at once are halved when the provider says "too many", once for all requests that were on
    their way then, and grow by about one for as many successes.

    Args:
        concurrency: Requests at once at most.
        requests_per_minute: The provider's quota of requests; None where there is none.
        tokens_per_minute: The provider's quota of tokens.
        clock: Where time comes from.
    """

    def __init__(
        self,
        concurrency: int,
        requests_per_minute: int | None,
        tokens_per_minute: int | None,
        clock: Clock,
    ) -> None:
        self._most = float(concurrency)
        self._allowed = float(concurrency)
        self._requests = Pace(requests_per_minute)
        self._tokens = Pace(tokens_per_minute)
        self._clock = clock
        self._changed = threading.Condition()
        self._inside = 0
        self._urgent = 0
        self._paused_until = 0.0
        self._halved_at = float("-inf")
        self._closed = False

    @property
    def allowed(self) -> int:
        """How many requests may be on their way at once now."""
        with self._changed:
            return int(self._allowed)

    @contextlib.contextmanager
    def request(self, tokens: int, *, urgent: bool) -> Iterator[float]:
        """Waits until a request may go, and counts it while it is on its way; yields when it went.

        An urgent one goes before all that are not.

        Raises:
            EmbedderUnavailableError: A pause is longer than PATIENCE_SECONDS, or ``close`` came.
        """
        with self._changed:
            self._urgent += urgent
            try:
                self._wait_turn(urgent=urgent)
            finally:
                self._urgent -= urgent
            self._inside += 1
            sent_at = self._clock.monotonic()
            self._requests.take(sent_at, 1)
            self._tokens.take(sent_at, tokens)
        try:
            yield sent_at
        finally:
            with self._changed:
                self._inside -= 1
                self._changed.notify_all()

    def succeeded(self, estimated_tokens: int, used_tokens: int | None) -> None:
        """A request was answered; ``used_tokens`` as the provider counts them, where it says so."""
        with self._changed:
            self._allowed = min(self._most, self._allowed + 1.0 / self._allowed)
            if used_tokens is not None:
                self._tokens.correct(used_tokens - estimated_tokens)
            self._changed.notify_all()

    def too_many(self, sent_at: float) -> None:
        """The request that went at ``sent_at`` was one too many."""
        with self._changed:
            if sent_at > self._halved_at:
                self._halved_at = self._clock.monotonic()
                self._allowed = max(1.0, self._allowed / 2)

    def pause(self, seconds: float) -> None:
        """No request goes for so long."""
        with self._changed:
            self._paused_until = max(self._paused_until, self._clock.monotonic() + seconds)

    def sleep(self, seconds: float) -> None:
        """Waits for so long, in one call alone.

        Raises:
            EmbedderUnavailableError: ``close`` came.
        """
        with self._changed:
            end = self._clock.monotonic() + seconds
            while (left := end - self._clock.monotonic()) > 0:
                self._check_open()
                self._changed.wait(min(left, LOOK_SECONDS))
            self._check_open()

    @property
    def closed(self) -> bool:
        """Whether nothing goes through any more."""
        return self._closed

    def close(self) -> None:
        """Ends every wait with an error, now and later."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def _wait_turn(self, *, urgent: bool) -> None:
        while True:
            self._check_open()
            now = self._clock.monotonic()
            paused = self._paused_until - now
            if paused > PATIENCE_SECONDS:
                raise EmbedderUnavailableError(
                    f"the provider asked to be left alone for another {paused:.0f} s",
                    retry_after_seconds=paused,
                )
            left = max(
                paused, self._requests.seconds_left(now), self._tokens.seconds_left(now), 0.0
            )
            full = self._inside >= int(self._allowed) or (not urgent and self._urgent > 0)
            if left == 0.0 and not full:
                return
            self._changed.wait(min(left, LOOK_SECONDS) if left else LOOK_SECONDS)

    def _check_open(self) -> None:
        if self._closed:
            raise EmbedderUnavailableError("the embedder is closed; make a new one")
