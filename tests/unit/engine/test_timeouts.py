"""Time-outs: infinite and huge ones mean no limit, what is not a number of seconds is refused."""

from __future__ import annotations

import math

import pytest

import fathomdb
from fathomdb import EngineConfig, InvalidInputError, Node
from fathomdb.config import LONGEST_SECONDS

LONG = [math.inf, 1e300, 10**400]


@pytest.mark.parametrize("timeout", LONG, ids=["infinity", "huge", "huge-integer"])
def test_an_infinite_or_huge_timeout_is_no_limit(open_db, path, timeout):
    with fathomdb.open(path, lock_timeout_seconds=timeout, embedder="hashing") as db:
        receipt = db.write(Node("Doc", "a", "text"), timeout=timeout)
        assert db.wait(receipt, timeout).complete
        for search in (db.search, db.semantic_search):
            assert len(search("text", after=receipt, timeout=timeout)) == 1
        found = db.raw_vector_search([1.0] * 256, after=receipt, timeout=timeout)
        assert found.degraded is None
    with open_db(embedder="hashing") as db:
        db.write(Node("Doc", "b", "text two"))
        report = db.admin.drain_vector_projection(timeout=timeout)
        assert (report.processed, report.stopped_by) == (1, "idle")


@pytest.mark.parametrize("seconds", LONG, ids=["infinity", "huge", "huge-integer"])
def test_the_seconds_of_a_config_may_be_infinite(open_db, seconds):
    names = [name for name in EngineConfig.__slots__ if name.endswith("_seconds")]
    config = EngineConfig(**dict.fromkeys(names, seconds))
    assert {getattr(config, name) for name in names} == {LONGEST_SECONDS}
    with open_db(config=config, background=True) as db:
        receipt = db.write(Node("Doc", "a", "text"))
        assert db.wait(receipt).complete
        assert len(db.search("text")) == 1


@pytest.mark.parametrize("timeout", [-1, math.nan, -math.inf, "1", True])
def test_what_is_no_number_of_seconds_is_refused_by_every_call(db, path, timeout):
    receipt = db.write(Node("Doc", "a", "text"))
    for call in (
        lambda: db.write(Node("Doc", "b", "text"), timeout=timeout),
        lambda: db.wait(receipt, timeout),
        lambda: db.search("text", timeout=timeout),
        lambda: db.semantic_search("text", timeout=timeout),
        lambda: db.raw_vector_search([1.0] * 32, timeout=timeout),
        lambda: db.admin.drain_vector_projection(timeout=timeout),
        lambda: fathomdb.open(path, lock_timeout_seconds=timeout),
    ):
        with pytest.raises(InvalidInputError, match="0 or more seconds"):
            call()
    assert db.count() == 1
