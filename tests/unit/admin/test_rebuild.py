"""Rebuilding a projection: one after the other, and what goes wrong reaches who asked."""

from __future__ import annotations

import threading

import pytest

from fathomdb import FathomError, KindNotVectorIndexedError, Node, RebuildReport

PATIENCE = 30


@pytest.fixture
def filled(open_db):
    db = open_db()
    db.write(Node("Doc", f"n{n}", f"harbour {n}") for n in range(1500))
    return db


class Rebuild:
    """A rebuild on a thread of its own, held after its first page until it is let go."""

    def __init__(self, rebuild):
        self.begun, self._go = threading.Event(), threading.Event()
        self.report = None

        def hold(rows):
            self.begun.set()
            assert self._go.wait(PATIENCE)

        def run():
            self.report = rebuild(hold)

        self._thread = threading.Thread(target=run, daemon=True)
        self._thread.start()
        assert self.begun.wait(PATIENCE)

    def end(self):
        self._go.set()
        self._thread.join(PATIENCE)
        assert not self._thread.is_alive()
        return self.report


SECOND = {
    "tokenizer": lambda a: a.configure_fts("trigram"),
    "fts": lambda a: a.rebuild("Doc", "fts"),
}


@pytest.mark.parametrize("second", SECOND.values(), ids=SECOND)
def test_a_second_full_text_rebuild_begins_when_the_first_is_complete(filled, second):
    first = Rebuild(lambda hold: filled.admin.configure_fts("unicode61", hold))
    reports = []
    other = threading.Thread(target=lambda: reports.append(second(filled.admin)), daemon=True)
    other.start()
    jobs = filled._runtime.rebuilder._jobs
    while jobs.empty():  # until it waits behind the first
        other.join(0.001)
        assert other.is_alive()
    assert first.end() == RebuildReport("fts", None, 1500)
    other.join(PATIENCE)
    assert reports[0].chunks == 1500
    assert filled.admin.status().tokenizer == (
        "trigram" if reports[0].kind is None else "unicode61"
    )
    assert filled.admin.check_integrity().ok


def test_two_rebuilds_of_the_vectors_of_a_kind_each_owe_all_of_them(filled):
    first = Rebuild(lambda hold: filled.admin.rebuild("Doc", "vec", hold))
    reports = []
    other = threading.Thread(
        target=lambda: reports.append(filled.admin.rebuild("Doc", "vec")), daemon=True
    )
    other.start()
    while filled._runtime.rebuilder._jobs.empty():
        other.join(0.001)
        assert other.is_alive()
    assert first.end() == RebuildReport("vec", "Doc", 1500)
    other.join(PATIENCE)
    assert reports == [RebuildReport("vec", "Doc", 1500)]
    assert filled.admin.status().pending == 1500


def test_a_tokenizer_that_is_there_already_needs_no_rebuild(filled):
    assert filled.admin.configure_fts("porter unicode61") is None
    assert filled.admin.configure_fts("trigram") == RebuildReport("fts", None, 1500)
    assert filled.admin.configure_fts("trigram") is None


def test_a_callback_that_raises_ends_its_rebuild_with_its_own_error_and_no_other(filled):
    def raises(rows):
        raise KeyError("the caller's own")

    for rebuild in (
        lambda: filled.admin.configure_fts("trigram", raises),
        lambda: filled.admin.rebuild("Doc", "vec", raises),
    ):
        with pytest.raises(KeyError, match="the caller's own"):
            rebuild()
    assert filled.admin.configure_fts("trigram").chunks == 1500
    assert filled.admin.rebuild("Doc", "vec").chunks == 1500


def test_a_callback_that_asks_for_another_rebuild_is_refused_and_nothing_hangs(filled):
    def ask(rows):
        filled.admin.rebuild("Doc", "fts")

    with pytest.raises(FathomError, match="progress callback asked its own engine"):
        filled.admin.rebuild("Doc", "vec", ask)


def test_a_kind_that_is_not_indexed_has_no_vectors_to_rebuild(filled):
    filled.admin.disable_vec("Doc")
    with pytest.raises(KindNotVectorIndexedError, match="configure_vec"):
        filled.admin.rebuild("Doc", "vec")
    assert filled.admin.status().pending == 0
