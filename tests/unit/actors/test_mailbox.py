"""Mailbox: groups in order, and a taker that sleeps until enough are there."""

from __future__ import annotations

import threading
from dataclasses import dataclass

import pytest

from fathomdb.actors.mailbox import Mailbox, NoRoomError

FOREVER = 1e6
"""Seconds: pytest's limit ends a test that waits so long."""


@dataclass
class Item:
    name: int
    weight: int = 1


def filled(*items, size=100, group_size=64, group_weight=1000):
    mailbox = Mailbox(size, group_size=group_size, group_weight=group_weight)
    for item in items:
        mailbox.put(item, 0.0)
    return mailbox


class Taking:
    """A taker on a thread of its own, and how often it was woken."""

    def __init__(self, mailbox, **arguments):
        self.woken = 0
        sleeps, self._is_asleep = mailbox._enough.wait, threading.Event()

        def wait(seconds=None):
            self._is_asleep.set()
            came = sleeps(seconds)
            self.woken += 1
            return came

        mailbox._enough.wait = wait
        self._group = None
        self._thread = threading.Thread(target=self._take, args=(mailbox, arguments))
        self._thread.start()
        assert self._is_asleep.wait(30)

    def _take(self, mailbox, arguments):
        self._group = mailbox.take(**arguments)

    def group(self):
        self._thread.join(30)
        assert not self._thread.is_alive()
        return [item.name for item in self._group]


def test_what_waits_is_taken_in_order_and_in_groups_of_a_bounded_size():
    mailbox = filled(*(Item(n) for n in range(7)), group_size=3)
    groups = [[item.name for item in mailbox.take()] for _ in range(3)]
    assert groups == [[0, 1, 2], [3, 4, 5], [6]]
    assert mailbox.empty()


def test_a_group_ends_with_the_item_that_makes_it_heavy_enough():
    mailbox = filled(*(Item(n, weight=6) for n in range(4)), group_weight=10)
    assert [len(mailbox.take()), len(mailbox.take())] == [2, 2]


def test_the_taker_is_woken_once_by_the_last_of_those_that_it_waits_for():
    mailbox = filled()
    taking = Taking(mailbox, wanted=4, seconds=60.0)
    for n in range(4):
        mailbox.put(Item(n), 0.0)
    assert taking.group() == [0, 1, 2, 3]
    assert taking.woken == 1


def test_a_group_that_is_heavy_enough_is_not_waited_for():
    mailbox = filled(group_weight=10)
    taking = Taking(mailbox, wanted=4, seconds=60.0)
    mailbox.put(Item(0, weight=10), 0.0)
    assert taking.group() == [0]


def test_no_more_are_waited_for_than_a_group_has():
    mailbox = filled(Item(0), Item(1), group_size=2)
    assert len(mailbox.take(wanted=8, seconds=FOREVER)) == 2


def test_no_more_are_waited_for_than_fit():
    mailbox = filled(Item(0), Item(1), size=2)
    assert len(mailbox.take(wanted=8, seconds=FOREVER)) == 2


def test_those_that_came_in_time_are_taken_where_others_did_not():
    mailbox = filled(Item(0))
    assert [item.name for item in mailbox.take(wanted=2, seconds=0.001)] == [0]


def test_a_taker_whose_time_is_over_waits_for_the_first_that_comes():
    mailbox = filled()
    taking = Taking(mailbox, wanted=2, seconds=0.0)
    mailbox.put(Item(0), 0.0)
    assert taking.group() == [0]


def test_a_mailbox_that_was_woken_keeps_nobody_waiting_and_gives_what_it_has():
    mailbox = filled()
    taking = Taking(mailbox)
    mailbox.wake()
    assert taking.group() == []
    mailbox.put(Item(0), 0.0)
    assert [len(mailbox.take(wanted=8, seconds=60.0)), len(mailbox.take())] == [1, 0]


def test_a_full_mailbox_refuses_an_item_in_time_and_takes_one_once_there_is_room():
    mailbox = filled(Item(0), Item(1), size=2)
    with pytest.raises(NoRoomError):
        mailbox.put(Item(2), 0.001)
    waiting = [threading.Thread(target=mailbox.put, args=(Item(n), 30.0)) for n in (2, 3)]
    for thread in waiting:
        thread.start()
    assert [item.name for item in mailbox.take()] == [0, 1]
    for thread in waiting:
        thread.join(30)
    assert {item.name for item in mailbox.take()} == {2, 3}
