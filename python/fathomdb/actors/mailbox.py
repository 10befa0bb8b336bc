"""Mailbox: what waits for the writer, taken in groups, in the order in which it came.

``queue.Queue`` wakes whoever waits with every item that comes. Here the writer says how many it waits
for and sleeps until they are there: each time that it wakes for less, it takes the interpreter from
the callers that it waits for (note 0054).
"""

from __future__ import annotations

import threading
import time
from collections import deque
from typing import Generic, Protocol, TypeVar


class _Weighed(Protocol):
    weight: int


T = TypeVar("T", bound=_Weighed)


class NoRoomError(Exception):
    """The mailbox stayed full for as long as the caller would wait."""


class Mailbox(Generic[T]):
    """A bounded queue with one taker.

    Args:
        size: Items that may wait before callers block.
        group_size: Items that are taken at once at most.
        group_weight: From how much weight on no more items are taken with them.
    """

    def __init__(self, size: int, *, group_size: int, group_weight: int) -> None:
        self.size = size
        self._group_size = group_size
        self._group_weight = group_weight
        self._items: deque[T] = deque()
        self._weight = 0
        self._awaited = 0
        """How many the taker sleeps for; 0 where it is awake."""
        self._is_woken = False
        self._lock = threading.Lock()
        self._enough = threading.Condition(self._lock)
        self._room = threading.Condition(self._lock)

    def qsize(self) -> int:
        """How many wait."""
        return len(self._items)

    def empty(self) -> bool:
        """Whether none waits."""
        return not self._items

    def full(self) -> bool:
        """Whether as many wait as may."""
        return len(self._items) >= self.size

    def put(self, item: T, timeout_seconds: float) -> None:
        """Adds an item, once there is room.

        Raises:
            NoRoomError: There was none in time.
        """
        with self._lock:
            if self.full() and not self._room.wait_for(lambda: not self.full(), timeout_seconds):
                raise NoRoomError
            self._items.append(item)
            self._weight += item.weight
            if self._awaited and self._are_enough(self._awaited):
                self._enough.notify()

    def wake(self) -> None:
        """Has ``take`` return with what is there, from now on without waiting."""
        with self._lock:
            self._is_woken = True
            self._enough.notify()

    def take(self, wanted: int = 1, seconds: float = 0.0) -> list[T]:
        """Takes what waits, one at least, but for a mailbox that was woken.

        Args:
            wanted: For how many to wait where fewer are there.
            seconds: How long to wait for more than one.
        """
        with self._lock:
            if wanted > 1:
                # Never for more than fit: who puts the next one waits for this to take some.
                wanted = min(wanted, self._group_size, self.size)
                self._wait(wanted, time.monotonic() + seconds)
            self._wait(1, None)
            group: list[T] = []
            weight = 0
            while self._items and len(group) < self._group_size and weight < self._group_weight:
                item = self._items.popleft()
                weight += item.weight
                group.append(item)
            self._weight -= weight
            self._room.notify(len(group))
            return group

    def _wait(self, awaited: int, until: float | None) -> None:
        self._awaited = awaited
        while not (self._is_woken or self._are_enough(awaited)):
            left = None if until is None else until - time.monotonic()
            if left is not None and left <= 0:
                break
            self._enough.wait(left)
        self._awaited = 0

    def _are_enough(self, awaited: int) -> bool:
        return len(self._items) >= awaited or self._weight >= self._group_weight
