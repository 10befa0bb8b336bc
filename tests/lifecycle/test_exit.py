"""However a program ends, what it was told is written is there, and it does end."""

from __future__ import annotations

import signal

import pytest

import fathomdb
from fathomdb.testing import DeterministicEmbedder

WRITE = """
db = fathomdb.open(path, embedder=DeterministicEmbedder())
for n in range(50):
    db.write(Node("Doc", f"n{n}", f"text {n}"))
"""

ENDS = {
    "falls-off-the-end": (WRITE, 0),
    "sys.exit": (WRITE + "sys.exit(3)", 3),
    "exception": (WRITE + "raise KeyError('a bug of the program')", 1),
    "os._exit": (WRITE + "os._exit(4)", 4),
    "kill-9": (WRITE + "os.kill(os.getpid(), signal.SIGKILL)", -signal.SIGKILL),
    "ctrl-c": (
        # A shell that runs tests in the background has them ignore SIGINT, and children inherit it.
        "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        + WRITE
        + "os.kill(os.getpid(), signal.SIGINT); signal.pause()",
        -signal.SIGINT,
    ),
    "engine-collected": (WRITE + "import gc; del db; gc.collect(); print('collected')", 0),
    "global-in-a-thread": (
        WRITE
        + """
def search_for_ever():
    while True:
        db.text_search("text")
threading.Thread(target=search_for_ever, daemon=True).start()
""",
        0,
    ),
    "writing-in-a-thread": (
        WRITE
        + """
begun = threading.Event()
def write_for_ever():
    for n in range(10**9):
        db.write(Node("Doc", f"more{n}", "text"))
        begun.set()
threading.Thread(target=write_for_ever, daemon=True).start()
begun.wait()
""",
        0,
    ),
    "embedder-hangs": (
        """
embedder = RecordingEmbedder(DeterministicEmbedder(), patience_seconds=100_000)
embedder.hold()
db = fathomdb.open(path, embedder=embedder, config=EngineConfig(close_timeout_seconds=0.5))
for n in range(50):
    db.write(Node("Doc", f"n{n}", f"text {n}"))
embedder.wait_held()
""",
        0,
    ),
    "embedder-hangs-and-close": (
        """
embedder = RecordingEmbedder(DeterministicEmbedder(), patience_seconds=100_000)
embedder.hold()
db = fathomdb.open(path, embedder=embedder, config=EngineConfig(close_timeout_seconds=0.5))
for n in range(50):
    db.write(Node("Doc", f"n{n}", f"text {n}"))
embedder.wait_held()
db.close()
""",
        0,
    ),
}  # fmt: skip


@pytest.mark.parametrize(("script", "expected"), ENDS.values(), ids=ENDS)
def test_a_program_that_does_not_close_loses_nothing_and_ends(start, path, script, expected):
    code, _, err = start(script, path).end(timeout=100)
    assert code == expected, err
    assert "Exception ignored" not in err
    assert "Fatal" not in err
    with fathomdb.open(path, embedder=DeterministicEmbedder(), background=False) as db:
        assert {f"n{n}" for n in range(50)} <= {node.node_id for node in db.nodes()}
        status = db.admin.get_vec_index_status("Doc")
        assert status.inflight == 0
        assert db.admin.drain_vector_projection().failed == 0
        assert db.semantic_search("text 7", limit=1)[0].node_id == "n7"
        assert len(db.text_search("text", limit=4096)) == db.count()


def test_a_program_that_only_ends_leaves_no_wal_behind(run, path, tmp_path):
    """The engine closes in order at exit, so that the file alone is the database."""
    run(WRITE, path)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["test.db", "test.db.lock"]


def test_an_engine_that_a_program_lets_go_of_frees_the_file(run, path):
    run(
        WRITE
        + """
del db
import gc; gc.collect()
with fathomdb.open(path, embedder=DeterministicEmbedder()) as again:
    assert again.count() == 50
""",
        path,
    )
