"""Erasure leaves nothing: a byte scan of all files finds no text, word, id, property or vector."""

from __future__ import annotations

import contextlib
import hashlib
import random
import subprocess
import sys
import threading

import apsw
import pytest

import fathomdb
import inside
from byte_scan import left_in_files, pieces
from fathomdb import InvalidInputError, Node, ReadOnlyError
from fathomdb.store import fts, status
from fathomdb.testing import DeterministicEmbedder, ManualClock, RecordingEmbedder
from kill_at_write import killed_at_writes

SOURCE = "confidential-origin"
# The words are in no other text, and nothing stems to them.
TEXT = "Quibblefax met zanthorium beneath wolvertoonish skies, and said so. "
WORDS = ("quibblefax", "zanthorium", "wolvertoonish", "oldenwrithe", "perhapsicle", "gruntlewick")


class Quotes(DeterministicEmbedder):
    """Raises on some texts, and its message quotes them, as those of providers do."""

    def batch_embed(self, texts):
        for text in texts:
            if "gruntlewick" in text:
                raise ValueError(f"cannot embed {text!r}")
        return super().batch_embed(texts)


def fill(db):
    """What must stay, and of one source all that a file can hold of one; returns its traces."""
    for kind in ("Doc", "Note"):
        db.write(
            Node(
                kind, f"{kind}-{n}", f"An innocent text, number {n}. " * 8, {"n": n}, source_ref="o"
            )
            for n in range(200)
        )
    db.admin.drain_vector_projection()
    db.write(Node("Doc", "victim-first", "oldenwrithe stood here", {"v": 1}, source_ref=SOURCE))
    db.admin.drain_vector_projection()
    old = inside.blobs(db)["victim-first#0"][1]
    db.write(
        [
            Node("Doc", "victim-first", TEXT * 60, {"secret": "hunter2hunter2"}, source_ref=SOURCE),
            Node("Note", "victim-cut", chunks=["perhapsicle pie", "zanthorium"], source_ref=SOURCE),
            Node("Doc", "victim-failing", "gruntlewick makes it raise", source_ref=SOURCE),
            Node(
                "Doc",
                "victim-retired",
                "oldenwrithe again",
                {"gone": "yes-gone"},
                source_ref=SOURCE,
            ),
            Node(
                "Note", "moved", "a text that moves on", {"was": "at-the-origin"}, source_ref=SOURCE
            ),
        ]
    )
    db.admin.drain_vector_projection()
    db.write(Node("Note", "moved", "a text that moves on", {"is": "elsewhere"}, source_ref="o"))
    db.write(retire="victim-retired")
    new = [blob for cid, (_, blob) in inside.blobs(db).items() if cid.startswith("victim")]
    db.write(Node("Note", "victim-pending", "perhapsicle is owed a vector", source_ref=SOURCE))
    assert inside.work(db)["victim-failing#0"].last_error is not None
    assert len(new) >= 4
    return {
        "texts": pieces(TEXT) + pieces(TEXT.split("met")[1]),
        "words": [word.encode() for word in WORDS],
        "ids": [b"victim-", SOURCE.encode()],
        "properties": [b"hunter2hunter2", b"yes-gone", b"at-the-origin"],
        "old vector": pieces(old),
        "vectors": [piece for blob in new for piece in pieces(blob)],
    }


@pytest.fixture
def filled(open_db):
    db = open_db(embedder=Quotes())
    return db, fill(db)


def everything(traces):
    return [needle for needles in traces.values() for needle in needles]


def owes_clearing(db):
    with inside.snapshot(db) as connection:
        return connection.execute("SELECT wal_pending FROM engine_state").get


def tombstones(db):
    with inside.snapshot(db) as connection:
        return connection.execute(
            "SELECT what, sha256, nodes, versions, chunks, vectors, work, cursor FROM tombstones"
        ).fetchall()


def test_an_erased_source_leaves_nothing_in_any_file(filled, path):
    db, traces = filled
    for name, needles in traces.items():
        assert left_in_files(path, needles), f"the scan finds no {name} even before the erasure"

    receipt = db.admin.erase_source(SOURCE)

    assert left_in_files(path, everything(traces)) == []
    assert not receipt.wal_pending
    assert (receipt.nodes, receipt.versions) == (4, 7)
    assert receipt.chunks == receipt.vectors + receipt.work
    db.close()
    assert left_in_files(path, everything(traces)) == []


def test_a_free_page_that_still_has_the_text_is_overwritten_too(filled, path, open_db):
    db, traces = filled
    db.close()
    # A page that somebody freed without overwriting it: SQLite has been seen to leave one.
    with contextlib.closing(apsw.Connection(path)) as file:
        file.execute("PRAGMA secure_delete = OFF")
        file.execute("CREATE TABLE junk (text)")
        rows = [(needle,) for needle in everything(traces)] * 500
        file.executemany("INSERT INTO junk VALUES (?)", rows)
        file.execute("DROP TABLE junk")
        file.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        assert file.execute("PRAGMA freelist_count").get > 3

    open_db(embedder=Quotes()).admin.erase_source(SOURCE)

    assert left_in_files(path, everything(traces)) == []


def test_what_stays_is_whole_and_found(filled):
    db, _ = filled
    blobs = {cid: blob for cid, blob in inside.blobs(db).items() if not cid.startswith("victim")}

    db.admin.erase_source(SOURCE)

    assert inside.blobs(db) == blobs
    assert db.count() == 401
    assert db.get("moved").properties == {"is": "elsewhere"}
    assert len(db.text_search("innocent", limit=500)) == 400
    assert db.admin.check_integrity().ok
    assert db.admin.trace_source(SOURCE).superseded == ()
    inside.check(db, DeterministicEmbedder())


def test_erased_nodes_leave_nothing_whatever_source_wrote_them(filled, path):
    db, traces = filled
    receipt = db.admin.erase(
        ["victim-first", "victim-cut", "victim-failing", "victim-retired", "victim-pending"]
    )

    del traces["ids"], traces["properties"]  # the source lives on in what it wrote of "moved"
    assert left_in_files(path, [*everything(traces), b"victim-", b"hunter2hunter2"]) == []
    assert (receipt.what, receipt.nodes, receipt.versions) == ("node", 4, 6)
    assert receipt.sha256[0] == hashlib.sha256(b"victim-first").hexdigest()


def test_the_tombstone_has_counts_and_a_hash_and_no_name(filled):
    db, _ = filled
    receipt = db.admin.erase_source(SOURCE)
    assert tombstones(db) == [
        (
            "source",
            hashlib.sha256(SOURCE.encode()).digest(),
            *(receipt.nodes, receipt.versions, receipt.chunks, receipt.vectors, receipt.work),
            receipt.cursor,
        )
    ]


def test_erasing_again_or_what_was_never_there_counts_zero_and_leaves_one_tombstone(filled):
    db, _ = filled
    first = db.admin.erase_source(SOURCE)
    for receipt in (
        db.admin.erase_source(SOURCE),
        db.admin.erase_source("never-written"),
        db.admin.erase(["nobody", "nobody", "victim-first"]),
        db.admin.erase([]),
    ):
        assert (receipt.nodes, receipt.versions, receipt.chunks, receipt.cursor) == (
            *(0, 0, 0),
            first.cursor,
        )
    assert len(tombstones(db)) == 1


def test_a_source_that_is_written_again_is_new_and_can_be_erased_again(filled, path):
    db, traces = filled
    db.admin.erase_source(SOURCE)
    db.write(Node("Doc", "victim-first", TEXT, source_ref=SOURCE))
    assert [hit.node_id for hit in db.text_search("quibblefax")] == ["victim-first"]

    assert db.admin.erase_source(SOURCE).versions == 1
    assert left_in_files(path, everything(traces)) == []
    assert len(tombstones(db)) == 2


def test_an_older_version_never_comes_back_to_life(db):
    db.write(Node("Doc", "a", "from the first", source_ref="s"))
    db.write(Node("Doc", "a", "from the second", source_ref="t"))
    assert db.admin.erase_source("t").nodes == 1
    assert db.get("a") is None
    assert list(db.text_search("first")) == []
    assert [row.node_id for row in db.admin.trace_source("s").superseded] == ["a"]


def test_a_late_worker_cannot_bring_back_what_was_erased(open_db, path):
    recording = RecordingEmbedder(DeterministicEmbedder())
    db = open_db(embedder=recording)
    db.write(Node("Doc", "victim", TEXT, source_ref=SOURCE))
    vector = DeterministicEmbedder().batch_embed([TEXT])[0].astype("<f4").tobytes()
    recording.hold()
    drain = threading.Thread(target=db.admin.drain_vector_projection)
    drain.start()
    recording.wait_held()

    receipt = db.admin.erase_source(SOURCE)
    recording.release()
    drain.join()

    assert receipt.work == 1
    assert inside.blobs(db) == {}
    assert inside.work(db) == {}
    assert left_in_files(path, [*pieces(TEXT), *pieces(vector)]) == []


def test_a_late_error_that_quotes_an_erased_text_is_not_kept(open_db, path):
    held, release = threading.Event(), threading.Event()

    class QuotesLate(DeterministicEmbedder):
        def batch_embed(self, texts):
            held.set()
            release.wait(60)
            raise fathomdb.EmbedderUnavailableError(f"busy with {texts[0]!r}")

    db = open_db(embedder=QuotesLate())
    db.write(Node("Doc", "victim", TEXT, source_ref=SOURCE))
    drain = threading.Thread(target=db.admin.drain_vector_projection, kwargs={"timeout": 0})
    drain.start()
    held.wait(60)
    db.admin.erase_source(SOURCE)
    release.set()
    drain.join()

    assert "quibblefax" not in str(db.admin.get_vec_index_status("Doc").last_error).lower()
    db.close()
    assert left_in_files(path, pieces(TEXT)) == []


def until(condition):
    for _ in range(30_000):
        if condition():
            return
        threading.Event().wait(0.001)
    raise AssertionError("it never came to that")


def outage_in_file(db):
    with inside.snapshot(db) as connection:
        return status.read(connection)["outage"]


@pytest.mark.parametrize("own_embedder", [False, True])
def test_an_outage_that_begins_after_an_erasure_repeats_nothing_of_a_text_from_before(
    open_db, path, own_embedder
):
    held, release = threading.Event(), threading.Event()

    class QuotesLate(DeterministicEmbedder):
        def batch_embed(self, texts):
            held.set()
            release.wait(60)
            raise fathomdb.EmbedderUnavailableError(
                f"busy with {texts[0]!r}", retry_after_seconds=600
            )

    limits = fathomdb.EmbedderLimits(items=1)
    late = QuotesLate(limits=limits)
    db = open_db(embedder=DeterministicEmbedder() if own_embedder else late)
    db.write(Node("Doc", "victim", TEXT, source_ref=SOURCE))
    db.write(Node("Before", "claimed-before", "what waits behind it"))
    drain = threading.Thread(
        target=db.admin.drain_vector_projection,
        kwargs={"timeout": 100, "embedder": late if own_embedder else None},
    )
    drain.start()
    held.wait(60)
    until(lambda: inside.work(db)["claimed-before#0"].state == "inflight")
    db.admin.erase_source(SOURCE)
    db.write(Node("After", "claimed-after", "what waits behind that"))
    until(lambda: inside.work(db)["claimed-after#0"].state == "inflight")
    release.set()
    drain.join()

    if not own_embedder:
        until(lambda: outage_in_file(db) is not None)
        assert "EmbedderUnavailableError" in db.admin.status().outage
        assert "EmbedderUnavailableError" in db.search("what waits").reason
    said = [
        db.admin.status().outage,
        db.search("what waits").reason,
        outage_in_file(db),
        *(db.admin.get_vec_index_status(kind).last_error for kind in ("Doc", "Before", "After")),
    ]
    assert "quibblefax" not in str(said).lower()
    assert left_in_files(path, pieces(TEXT)) == []


def test_a_status_that_waited_behind_an_erasure_has_no_message_from_before_it(open_db, path):
    class QuotesBefore(DeterministicEmbedder):
        before = ""

        def batch_embed(self, texts):
            self.before = self.before or texts[0]
            raise fathomdb.EmbedderUnavailableError(f"busy with {self.before!r}")

    clock = ManualClock()
    db = open_db(embedder=QuotesBefore(), config=fathomdb.EngineConfig(clock=clock))
    db.write(Node("Doc", "victim", TEXT, source_ref=SOURCE))
    db.admin.drain_vector_projection(timeout=30)
    until(lambda: outage_in_file(db) is not None)
    assert "Quibblefax" in outage_in_file(db)
    clock.advance(60.0)
    go, mailbox = threading.Event(), db._runtime._owned.writer._mailbox
    blocker = threading.Thread(target=inside.in_writer, args=(db, lambda tx: go.wait(60)))
    blocker.start()
    until(mailbox.empty)
    eraser = threading.Thread(target=db.admin.erase_source, args=(SOURCE,))
    eraser.start()
    until(lambda: mailbox.qsize() == 1)
    db.admin.drain_vector_projection(timeout=30)  # a probe: of this the writer is told the status
    until(lambda: mailbox.qsize() == 2)
    go.set()
    eraser.join()
    blocker.join()
    db.write(Node("Doc", "next", "behind both"))

    assert "EmbedderUnavailableError" in outage_in_file(db)
    assert left_in_files(path, pieces(TEXT)) == []


def test_the_message_of_an_outage_goes_too(open_db, path):
    class Away(DeterministicEmbedder):
        def batch_embed(self, texts):
            raise fathomdb.EmbedderUnavailableError(f"busy with {texts[0]!r}")

    db = open_db(embedder=Away())
    db.write(Node("Doc", "victim", TEXT, source_ref=SOURCE))
    db.admin.drain_vector_projection(timeout=0)
    said = db.admin.status().outage
    assert "Quibblefax" in said
    inside.in_writer(db, lambda tx: status.write(tx.db, {"outage": said}))

    db.admin.erase_source(SOURCE)

    assert left_in_files(path, pieces(TEXT)) == []
    assert "Quibblefax" not in db.admin.status().outage
    db.close()
    assert left_in_files(path, pieces(TEXT)) == []


def test_a_reader_of_this_process_delays_the_end_to_the_next_commit(filled, path):
    db, traces = filled
    with inside.snapshot(db) as connection:
        assert connection.execute("SELECT count(*) FROM nodes WHERE source_ref = ?", (SOURCE,)).get
        receipt = db.admin.erase_source(SOURCE)
        assert receipt.wal_pending
        assert db.admin.status().erasure_pending
        assert db.get("victim-first") is None  # erased for everyone who begins to read now
        db.write(Node("Doc", "while-it-reads", "an innocent text"))
        assert owes_clearing(db)
        assert left_in_files(path, everything(traces))

    db.write(Node("Doc", "next", "an innocent text"))

    assert not owes_clearing(db)
    assert not db.admin.status().erasure_pending
    assert left_in_files(path, everything(traces)) == []


READER = """
import sys
import fathomdb
with fathomdb.open(sys.argv[1], read_only=True, embedder=False) as db:
    with db._runtime.snapshot() as snapshot:
        snapshot.execute("SELECT count(*) FROM nodes").get
        print("reading", flush=True)
        sys.stdin.read()
        print(snapshot.execute("SELECT count(*) FROM nodes").get, flush=True)
"""


def test_a_reader_of_another_process_delays_the_end_to_the_next_open(filled, path, open_db):
    db, traces = filled
    child = subprocess.Popen(
        [sys.executable, "-c", READER, path],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with child:
        assert child.stdout.readline() == "reading\n"
        assert db.admin.erase_source(SOURCE).wal_pending
        db.close()
        assert left_in_files(path, everything(traces))
        child.stdin.close()
        assert int(child.stdout.readline()) >= 400

    db = open_db(embedder=False)

    assert not owes_clearing(db)
    assert left_in_files(path, everything(traces)) == []


ERASE = """
import fathomdb

def run(path):
    db = fathomdb.open(path, embedder=False, background=False)
    db.admin.erase_source("confidential-origin")
"""


@pytest.mark.skipif(sys.platform == "win32", reason="SIGKILL and fork are POSIX")
def test_a_kill_at_any_write_leaves_all_or_nothing_and_the_next_open_finishes(
    filled, tmp_path, path
):
    db, traces = filled
    db.close()
    files = killed_at_writes(path, tmp_path / "killed", ERASE, watched=".db .db-wal", step=11)

    versions = set()
    for copy in files:
        with fathomdb.open(copy, embedder=False, background=False) as reopened:
            trace = reopened.admin.trace_source(SOURCE)
            versions.add(len(trace.live) + len(trace.superseded))
            assert not owes_clearing(reopened)
            assert len(tombstones(reopened)) == (not trace.live)
            if not trace.live:
                assert left_in_files(copy, everything(traces)) == []
        if trace.live:
            with fathomdb.open(copy, embedder=False, background=False) as again:
                assert again.admin.erase_source(SOURCE).versions == 7
            assert left_in_files(copy, everything(traces)) == []
    with fathomdb.open(files[-1], embedder=False, background=False) as last:
        assert last.admin.check_integrity().ok
    assert versions == {0, 7}


def churn(db):
    """Rows that grow and shrink are moved from page to page; returns half of the ids, and traces."""
    rng = random.Random(7)
    secrets = {}
    for _ in range(12):
        batch = {}
        for _ in range(60):
            node_id = f"churned{rng.randrange(300):03}"
            secret = "".join(rng.choices("abcdefghijklmnopqrstuvwxyz", k=16))
            words = ["filler"] * rng.choice([1, 20, 150, 400])
            batch[node_id] = Node(
                "Doc", node_id, " ".join([*words, secret]), {"pad": secret * rng.randrange(1, 9)}
            )
            secrets.setdefault(node_id, []).append(secret)
        db.write(batch.values())
    erased = rng.sample(sorted(secrets), len(secrets) // 2)
    return erased, [*erased, *(secret for node_id in erased for secret in secrets[node_id])]


def test_copies_that_sqlite_leaves_in_the_gaps_of_pages_go_as_well(open_db, path):
    """secure_delete misses the copies of rows that were moved."""
    db = open_db(embedder=False)
    erased, traces = churn(db)

    db.admin.erase(erased)

    assert left_in_files(path, traces) == []
    assert db.admin.check_integrity().ok
    # Nor may a page come back that the writer had in its cache.
    # As long as they were, so that their pages are not laid out anew.
    db.write(
        [
            Node("Doc", node.node_id, f"{node.text[:-1]}!", node.properties)
            for node in db.nodes("Doc")
        ]
    )
    assert left_in_files(path, traces) == []


def test_the_index_keeps_no_beginning_of_a_word_that_is_gone(open_db):
    """FTS5 finds the page of a word by the beginning of another, and keeps it when that one goes."""
    db = open_db(embedder=False)
    words = {n: f"customer{n * 7919 % 100_003:06}x" for n in range(6000)}

    def separators():
        with inside.snapshot(db) as connection:
            return {
                term[1:].decode()
                for (term,) in connection.execute(
                    "SELECT CAST(term AS BLOB) FROM chunks_fts_idx WHERE length(term) > 1"
                )
            }

    def stale(numbers):
        live = "".join(f"\n{word}" for n, word in words.items() if n in numbers)
        return {s for s in separators() if f"\n{s}" not in f"{live}\ntext"}

    db.write(Node("Doc", f"d{n}", f"text {words[n]}", source_ref=f"s{n % 4}") for n in range(6000))
    assert separators()
    for source in range(3):  # the second and third find an index that is merged already
        db.admin.erase_source(f"s{source}")
        assert stale({n for n in words if n % 4 > source}) == set()
        assert db.admin.check_integrity().ok
    assert len(db.text_search("text", limit=4000)) == 1500


def test_an_export_made_after_an_erasure_has_nothing_of_it(filled, tmp_path):
    db, traces = filled
    db.admin.erase_source(SOURCE)
    report = db.admin.safe_export(tmp_path / "export.db")
    assert left_in_files(report.path, everything(traces)) == []


def test_nor_has_an_export_that_is_made_while_a_reader_delays_the_end(open_db, tmp_path):
    db = open_db(embedder=False)
    erased, traces = churn(db)
    with inside.snapshot(db) as reader:
        reader.execute("SELECT count(*) FROM nodes").fetchall()
        assert db.admin.erase(erased).wal_pending
        report = db.admin.safe_export(tmp_path / "export.db")

    assert left_in_files(report.path, traces) == []
    assert fathomdb.verify_export(report.path) == report
    with fathomdb.open(report.path, read_only=True, embedder=False) as export:
        assert not owes_clearing(export)
        assert export.admin.check_integrity().ok


def test_a_text_rebuild_under_way_loses_the_words_too(filled, path):
    db, traces = filled

    def half_a_rebuild(tx):
        fts.rebuild_begin(tx.db, "trigram")
        keys = [key for (key,) in tx.db.execute("SELECT chunk_key FROM chunks ORDER BY chunk_key")]
        fts.rebuild_page(tx.db, keys)

    inside.in_writer(db, half_a_rebuild)
    db.admin.erase_source(SOURCE)
    assert left_in_files(path, everything(traces)) == []


def test_a_write_that_is_committed_together_with_an_erasure_stays(filled):
    db, _ = filled
    db.write(Node("Doc", "kept", "written before"))
    db.admin.erase("victim-first")
    db.write(Node("Doc", "victim-first", "a new text under the old id"))
    assert db.get("victim-first").text == "a new text under the old id"
    assert db.get("kept") is not None


@pytest.mark.parametrize("wrong", [None, 7, b"a", [None], [""], ["a", "b\0"], [7]])
def test_what_cannot_be_an_id_is_refused_and_nothing_is_erased(db, wrong):
    db.write(Node("Doc", "a", "text"))
    with pytest.raises(InvalidInputError):
        db.admin.erase(wrong)
    assert db.count() == 1


@pytest.mark.parametrize("wrong", [None, 7, "", "a\0b"])
def test_what_cannot_be_a_source_is_refused(db, wrong):
    with pytest.raises(InvalidInputError, match="source_ref"):
        db.admin.erase_source(wrong)


def test_a_read_only_engine_erases_nothing(filled, open_db):
    with pytest.raises(ReadOnlyError):
        open_db(read_only=True, embedder=False).admin.erase_source(SOURCE)


# Where a text, an id or a vector can be, and what in ``fill`` puts one there. A table that is added
# has to be added here, and to ``fill``, so that the scan sees that it is erased.
COVERED = {
    "nodes": "ids, properties, sources of live, superseded and retired versions",
    "chunks": "texts and chunk ids",
    "chunks_fts": "words: the index and its shadow tables",
    "vec": "vectors: one table per kind, and its shadow tables",
    "vector_ledger": "hashes of texts that got their vector",
    "vector_cache": "vectors and hashes of texts that were rewritten or retired",
    "vector_projection_work": "hashes, and a message that quotes a text",
    "vector_index_schemas": "the last message of a kind",
    "engine_status": "the message of an outage",
    "engine_state": "nothing of a text; named since a rebuild's tokenizer is text",
    "tombstones": "the SHA-256 of what was erased, on purpose",
    "kinds": "names of kinds, which stay: a kind is the program's word, not a record's",
    "vector_embedding_profiles": "names of models",
    "sqlite_sequence": "names of tables",
}


def test_every_table_that_can_hold_a_text_or_a_vector_is_one_that_the_scan_covers(filled):
    db, _ = filled
    with inside.snapshot(db) as connection:
        tables = {
            name
            for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
        }
    known = {
        name
        for name in tables
        if name in COVERED or name.startswith(("chunks_fts_", "vec_doc_", "vec_note_"))
    }
    assert tables - known == set(), "add it to COVERED, and something of the source to fill()"
    assert COVERED.keys() - {"vec"} <= tables
    assert any(name.startswith("vec_doc_") for name in tables)


# --- vectors by content ---------------------------------------------------------------------------


def test_an_erasure_reaches_the_cache_whose_ever_the_text_was(open_db, path):
    db = open_db()
    mine, theirs = ("long ago the quibblefax was mine", "and the zanthorium was theirs")
    db.write(Node("Doc", "victim", mine, source_ref=SOURCE))
    db.write(Node("Doc", "other", mine, source_ref="o"))
    db.admin.drain_vector_projection()
    # The text of both goes from one after the other: the cache cannot say whose it was.
    db.write(Node("Doc", "victim", "rewritten", source_ref=SOURCE))
    db.write(Node("Doc", "other", theirs, source_ref="o"))
    db.admin.drain_vector_projection()
    db.write(Node("Doc", "other", "rewritten as well", source_ref="o"))
    vectors = DeterministicEmbedder().batch_embed([mine, theirs]).astype("<f4")
    needles = [piece for vector in vectors for piece in pieces(vector.tobytes())]
    assert left_in_files(path, needles) != []
    assert len(inside.cached(db)) == 2

    receipt = db.admin.erase_source(SOURCE)

    assert (receipt.cached, receipt.shared) == (2, 0)
    assert inside.cached(db) == {}
    assert left_in_files(path, needles) == []
    db.write(Node("Doc", "victim", mine))
    assert db.admin.drain_vector_projection().reused == 0


def test_a_text_that_another_source_has_too_keeps_its_vector_and_is_counted(open_db):
    db = open_db()
    common, own = "a text of two sources", "a text of one"
    db.write(
        [
            Node("Doc", "a", chunks=[common, own, common], source_ref=SOURCE),
            Node("Note", "b", common, source_ref=SOURCE),
            Node("Note", "c", common, source_ref="o"),
            Node("Doc", "d", "unrelated"),
        ]
    )
    db.admin.drain_vector_projection()
    kept = inside.blobs(db)["c#0"]

    receipt = db.admin.erase_source(SOURCE)

    assert (receipt.vectors, receipt.shared, receipt.cached) == (4, 1, 0)
    assert inside.blobs(db)["c#0"] == kept
    inside.check(db, DeterministicEmbedder())
    # Two that go together share nothing with what stays.
    db.write([Node("Doc", "e", own), Node("Doc", "f", own)])
    db.admin.drain_vector_projection()
    assert db.admin.erase(["e", "f"]).shared == 0
    assert db.admin.erase(["c"]).shared == 0


def test_a_copy_that_was_on_its_way_when_its_text_was_erased_is_not_stored(open_db, path):
    recording = RecordingEmbedder(DeterministicEmbedder())
    db = open_db(embedder=recording)
    db.write(Node("Doc", "victim-first", TEXT, source_ref=SOURCE))
    db.admin.drain_vector_projection()
    vector = inside.blobs(db)["victim-first#0"][1]
    # The second is found, the other is held: both are of one claim.
    db.write([Node("Doc", "victim-second", TEXT, source_ref=SOURCE), Node("Doc", "x", "new text")])
    recording.hold()
    drain = threading.Thread(target=db.admin.drain_vector_projection)
    drain.start()
    recording.wait_held()
    db.admin.erase_source(SOURCE)
    recording.release()
    drain.join()

    assert [*inside.blobs(db)] == ["x#0"]
    assert left_in_files(path, pieces(vector)) == []
