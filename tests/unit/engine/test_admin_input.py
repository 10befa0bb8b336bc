"""Bad input to the admin service: named, and nothing is configured by it."""

from __future__ import annotations

import math

import pytest

import fathomdb
from fathomdb import EngineConfig, InvalidInputError, Node

USES = {
    "drain-timeout-none": (lambda a: a.drain_vector_projection(timeout=None), "None"),
    "drain-timeout-string": (lambda a: a.drain_vector_projection(timeout="1"), "'1'"),
    "drain-timeout-negative": (lambda a: a.drain_vector_projection(timeout=-1), "-1"),
    "drain-timeout-nan": (lambda a: a.drain_vector_projection(timeout=math.nan), "nan"),
    "drain-embedder": (lambda a: a.drain_vector_projection(embedder=5), "5"),
    "embedder-none": (lambda a: a.configure_embedding(None), "None"),
    "embedder-function": (lambda a: a.configure_embedding(len), "@fathomdb.embedder("),
    "embedder-class": (lambda a: a.configure_embedding(dict), "class dict"),
    "embedder-plugin": (lambda a: a.configure_embedding("no-such"), "'no-such'"),
    "vec-number": (lambda a: a.configure_vec(5), "5"),
    "vec-empty": (lambda a: a.configure_vec(""), "must not be empty"),
    "vec-nul": (lambda a: a.configure_vec("New\0"), r"'New\x00'"),
    "vec-surrogate": (lambda a: a.configure_vec("\ud800"), r"'\ud800'"),
    "vec-kinds-string": (lambda a: a.configure_vec_kinds("New"), "'New'"),
    "vec-kinds-none": (lambda a: a.configure_vec_kinds(None), "None"),
    "vec-kinds-one-bad": (lambda a: a.configure_vec_kinds(["New", 5]), "5"),
    "disable-none": (lambda a: a.disable_vec(None), "None"),
    "disable-empty": (lambda a: a.disable_vec(""), "must not be empty"),
    "fts-unknown": (lambda a: a.configure_fts("icu"), "'icu'"),
    "fts-injection": (lambda a: a.configure_fts("unicode61'); DROP TABLE nodes; --"), "DROP"),
    "fts-none": (lambda a: a.configure_fts(None), "None"),
    "status-unknown": (lambda a: a.get_vec_index_status("Dok"), "'Dok'"),
    "status-number": (lambda a: a.get_vec_index_status(5), "5"),
    "status-list": (lambda a: a.get_vec_index_status(["Doc"]), "['Doc']"),
    "status-surrogate": (lambda a: a.get_vec_index_status("\ud800"), r"'\ud800'"),
    "rebuild-unknown": (lambda a: a.rebuild("Dok"), "'Dok'"),
    "rebuild-surrogate": (lambda a: a.rebuild("\ud800"), r"'\ud800'"),
    "rebuild-target": (lambda a: a.rebuild("Doc", "everything"), "'everything'"),
    "failed-list": (lambda a: a.failed_work(["Doc"]), "['Doc']"),
    "requeue-unknown": (lambda a: a.requeue_failed(kind="Dok"), "'Dok'"),
    "requeue-surrogate": (lambda a: a.requeue_failed(kind="\ud800"), r"'\ud800'"),
}


@pytest.mark.parametrize(("use", "names"), USES.values(), ids=USES)
def test_a_bad_argument_is_named_and_nothing_is_configured(db, use, names):
    db.write(Node("Doc", "a", "text"))

    def configured():
        status = db.admin.status()
        return status.kinds[0].kind, len(status.kinds), status.tokenizer, status.active_profile

    before = configured()
    with pytest.raises(InvalidInputError) as caught:
        use(db.admin)
    assert names in str(caught.value)
    assert configured() == before


def test_a_config_that_is_none_is_refused(path):
    with pytest.raises(InvalidInputError, match="EngineConfig"):
        fathomdb.open(path, config={"readers": 1})
    fathomdb.open(path, background=False, config=EngineConfig(readers=1)).close()
