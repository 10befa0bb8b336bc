"""After a fork the engine is the parent's: the child is told so, and cannot hurt it."""

from __future__ import annotations

import os

import pytest

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork")

FORK = """
import warnings
warnings.simplefilter("ignore", DeprecationWarning)  # that a process with threads forks is the point
db = fathomdb.open(path, embedder=DeterministicEmbedder())
receipt = db.write([Node("Doc", f"before{n}", f"text {n}") for n in range(300)])
db.search("text")
"""

AFTER = """
_, status = os.waitpid(child, 0)
assert os.waitstatus_to_exitcode(status) == 0, status
db.write([Node("Doc", f"after{n}", f"text {n}") for n in range(300)])
assert db.wait(receipt).complete
db.admin.drain_vector_projection()
assert len(db.semantic_search("text", limit=1000)) == 600
db.close()
with fathomdb.open(path, embedder=DeterministicEmbedder(), background=False) as again:
    assert again.count() == 600
    assert again.admin.status().pending == 0
    with again._runtime.snapshot() as reader:
        assert reader.pragma("integrity_check") == "ok"
"""


def test_every_use_in_the_child_raises_and_the_parent_goes_on(run, path):
    run(
        FORK
        + """
child = os.fork()
if child == 0:
    uses = [
        lambda: db.get("before1"), lambda: db.get_many(["before1"]), lambda: db.count(),
        lambda: db.nodes(), lambda: db.write(Node("Doc", "child", "text")), lambda: db.write(),
        lambda: db.patch("before1", {}), lambda: db.search("text"), lambda: db.text_search("text"),
        lambda: db.semantic_search("text"), lambda: db.raw_vector_search([1.0] * 32),
        lambda: db.wait(receipt), lambda: db.admin.status(), lambda: db.admin.run_tick(),
        lambda: db.admin.drain_vector_projection(), lambda: db.admin.configure_vec("Doc"),
        lambda: db.admin.configure_fts("trigram"), lambda: db.admin.rebuild("Doc"),
        lambda: db.admin.disable_vec("Doc"), lambda: db.admin.failed_work(),
        lambda: db.admin.get_vec_index_status("Doc"), lambda: db.admin.requeue_failed(),
        lambda: db.admin.configure_embedding(DeterministicEmbedder()),
    ]
    for use in uses:
        try:
            use()
        except fathomdb.ForkedProcessError as error:
            assert str(os.getpid()) in str(error) and str(os.getppid()) in str(error)
        else:
            os._exit(5)
    os._exit(0)
"""
        + AFTER,
        path,
    )


@pytest.mark.parametrize(
    "leave",
    [
        "db.close(); sys.exit(0)",
        "sys.exit(0)",
        "del db; import gc; gc.collect(); sys.exit(0)",
        "os._exit(0)",
    ],
)
def test_the_end_of_the_child_does_not_hurt_the_parent(run, path, leave):
    run(
        FORK
        + f"""
child = os.fork()
if child == 0:
    {leave}
"""
        + AFTER,
        path,
    )


def test_a_child_that_outlives_its_parents_engine_does_not_hold_the_lock(run, path):
    run(
        FORK
        + """
reading, writing = os.pipe()
child = os.fork()
if child == 0:
    os.close(writing)
    os.read(reading, 1)
    sys.exit(0)
os.close(reading)
db.close()
db = fathomdb.open(path, embedder=DeterministicEmbedder())
os.close(writing)
"""
        + AFTER,
        path,
    )


def test_a_child_may_open_another_file_and_is_told_who_has_this_one(run, path, tmp_path):
    run(
        FORK
        + """
child = os.fork()
if child == 0:
    try:
        fathomdb.open(path)
    except fathomdb.DatabaseLockedError as error:
        assert error.pid == os.getppid(), error
    else:
        os._exit(6)
    with fathomdb.open(sys.argv[2], embedder=DeterministicEmbedder()) as own:
        assert own.wait(own.write(Node("Doc", "a", "text"))).complete
    sys.exit(0)
"""
        + AFTER,
        path,
        tmp_path / "own.db",
    )


def test_a_child_may_embed_with_an_object_that_its_parent_was_inside_of(run, path, tmp_path):
    run(
        """
import warnings
warnings.simplefilter("ignore", DeprecationWarning)
begun, go = threading.Event(), threading.Event()

class Held(DeterministicEmbedder):
    def batch_embed(self, texts):
        begun.set()
        assert go.wait(60)
        return super().batch_embed(texts)

embedder = Held()
db = fathomdb.open(path, embedder=embedder)
receipt = db.write(Node("Doc", "a", "text"))
assert begun.wait(60)
child = os.fork()
if child == 0:
    go.set()
    with fathomdb.open(sys.argv[2], embedder=embedder, background=False) as own:
        own.write(Node("Doc", "b", "text"))
        assert own.admin.drain_vector_projection(timeout=30).processed == 1
    os._exit(0)
_, status = os.waitpid(child, 0)
assert os.waitstatus_to_exitcode(status) == 0, status
go.set()
assert db.wait(receipt).complete
db.close()
""",
        path,
        tmp_path / "child.db",
    )
