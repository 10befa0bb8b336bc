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


# What runs for ever, in an engine that would wait for ever to be closed: its program ends all the
# same. Each has its 50 writes acknowledged before.
FOR_EVER = """
forever, begun = threading.Event(), threading.Event()

def hang(*_):
    begun.set()
    forever.wait()

def in_a_thread(call):
    threading.Thread(target=call, daemon=True).start()

config = EngineConfig(close_timeout_seconds=float("inf"), mailbox_size=4)
db = fathomdb.open(path, embedder=DeterministicEmbedder(), config=config, background=False)
for n in range(50):
    db.write(Node("Doc", f"n{n}", f"text {n}"))
"""

RUNNING = {
    "a-drain": """
embedder = DeterministicEmbedder()
embedder.batch_embed = hang
in_a_thread(lambda: db.admin.drain_vector_projection(timeout=float("inf"), embedder=embedder))
begun.wait()
""",
    "a-full-mailbox": """
writer = db._runtime._owned.writer
writer.submit(hang, timeout_seconds=1)
begun.wait()
for n in range(8):
    in_a_thread(lambda n=n: db.write(Node("Doc", f"more{n}", "never answered"), timeout=float("inf")))
while not writer._mailbox.full():
    pass
""",
    "a-stream": """
stream = db.nodes()
next(stream)
""",
    "a-snapshot": """
def hold():
    with db._runtime.snapshot() as reader:
        reader.execute("SELECT count(*) FROM nodes").fetchall()
        hang()
in_a_thread(hold)
begun.wait()
""",
    "callbacks-of-a-drain-a-rebuild-and-a-check": """
admin = db.admin
for call in (
    lambda: admin.drain_vector_projection(progress=hang),
    lambda: admin.rebuild("Doc", "fts", progress=hang),
    lambda: admin.check_integrity(progress=hang),
):
    begun.clear()
    in_a_thread(call)
    begun.wait()
""",
    "a-query": """
embedder = DeterministicEmbedder()
embedder.batch_embed = hang
db.admin.configure_embedding(embedder)
in_a_thread(lambda: db.semantic_search("text", timeout=float("inf")))
begun.wait()
""",
}  # fmt: skip

PLUGIN = """
from fathomdb.testing import DeterministicEmbedder

class Plugin(DeterministicEmbedder):
    entered = lambda self: None

    def batch_embed(self, texts):
        self.entered()
        return super().batch_embed(texts)

    def close(self):
        print("the plugin was closed", flush=True)
"""


@pytest.fixture
def plugin(tmp_path):
    """A folder for sys.path in which the embedder plugin ``plugin`` is installed."""
    site = tmp_path / "site"
    described = site / "plugin-1.0.dist-info"
    described.mkdir(parents=True)
    (site / "plugin.py").write_text(PLUGIN)
    (described / "METADATA").write_text("Metadata-Version: 2.1\nName: plugin\nVersion: 1.0\n")
    (described / "entry_points.txt").write_text("[fathomdb.embedders]\nplugin = plugin:Plugin\n")
    return site


@pytest.mark.parametrize("running", RUNNING.values(), ids=RUNNING)
def test_a_program_ends_whatever_still_runs_and_keeps_what_it_was_told(start, path, running):
    code, _, err = start(FOR_EVER + running, path).end(timeout=100)
    assert code == 0, err
    assert "Exception ignored" not in err
    assert "Fatal" not in err
    with fathomdb.open(path, embedder=DeterministicEmbedder(), background=False) as db:
        assert {f"n{n}" for n in range(50)} <= {node.node_id for node in db.nodes()}
        assert db.admin.drain_vector_projection().failed == 0
        assert db.semantic_search("text 7", limit=1)[0].node_id == "n7"
        assert db.admin.check_integrity().ok


OPEN_PLUGIN = """
sys.path.insert(0, sys.argv[2])
config = EngineConfig(close_timeout_seconds=float("inf"))
db = fathomdb.open(path, embedder="plugin", config=config)
"""


def test_an_embedder_that_a_name_built_is_closed_at_exit_too(run, path, plugin):
    said = run(
        OPEN_PLUGIN + 'assert db.wait(db.write(Node("Doc", "a", "text"))).complete', path, plugin
    )
    assert said == "the plugin was closed\n"


def test_an_embedder_that_a_name_built_and_that_hangs_is_not_waited_for(run, path, plugin):
    said = run(
        OPEN_PLUGIN
        + """
begun = threading.Event()

def hang():
    begun.set()
    threading.Event().wait()

db._runtime.model.embedder.entered = hang
db.write(Node("Doc", "a", "text"))
begun.wait()
""",
        path,
        plugin,
    )
    assert said == ""


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
