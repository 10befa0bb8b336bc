"""The whole engine against a plain model: any order of operations, failures, claims and clocks.

``FATHOMDB_EXAMPLES=500`` runs longer; what fails is printed with how to reproduce it.
"""

from __future__ import annotations

import os
import shutil
import tempfile

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)

import fathomdb
import inside
import invariants
from fathomdb import Chunk, Node
from fathomdb.embedders.protocol import EmbedderLimits
from fathomdb.errors import (
    EmbedderUnavailableError,
    EmbeddingChangeRequiresAckError,
    InvalidInputError,
    KindNotVectorIndexedError,
    SwitchStateError,
)
from fathomdb.pipeline import apply, claim, outcome, verify
from fathomdb.pipeline.validate import validate
from fathomdb.store import profiles, work
from fathomdb.testing import DeterministicEmbedder, Fault, FlakyEmbedder, ManualClock
from model import Model, RefusedError

CHUNK_CHARS = 40
SIZES = claim.BatchSizes(5, 3)
POLICY = apply.RetryPolicy(3, 1.0)
MODELS = [
    DeterministicEmbedder(dimension, seed=seed, limits=EmbedderLimits(items=4))
    for seed, dimension in enumerate((4, 4, 6))
]
TROUBLES = {
    "none": (),
    "outage": (Fault(EmbedderUnavailableError("away")),),
    "outage in the second call": (Fault(EmbedderUnavailableError("away"), calls=range(2, 9)),),
    "a text that raises": (Fault(ValueError("no"), texts="poison"),),
    "every text raises": (Fault(ValueError("no")),),
    "a vector that is no number": (Fault("nan", texts="poison"),),
    "a vector of zeros": (Fault("zero", texts="poison"),),
    "too few vectors": (Fault("too_few", texts="poison"),),
    "another dimension": (Fault("wrong_dimension", texts="poison"),),
}
STEPS = 30
FAR_SECONDS = 10 * 86400.0

ids = st.sampled_from([f"n{i}" for i in range(6)])
kinds = st.sampled_from(["Document", "Note", 'Größe "; DROP'])
texts = st.sampled_from(
    [
        "one",
        "two words",
        "poison",
        "数据库 🎉",
        "a first paragraph of poison\n\nand a second one that is longer",
        "a first paragraph of poison\n\nand another second one, longer\n\nand a third",
        "a line of words that has to be cut because nothing so long fits",
    ]
)
properties = st.sampled_from([None, {}, {"n": 1}, {"n": 1.0}, {"n": True}, {"a": {"b": None}}])
patches = st.sampled_from([{}, {"n": None}, {"n": 2}, {"a": {"b": 1}}, {"a": {"b": None}}])
sources = st.sampled_from([None, "s1", "s2"])


@st.composite
def nodes(draw):
    node_id, text = draw(ids), draw(texts | texts | st.none())
    same = {
        "kind": draw(kinds),
        "node_id": node_id,
        "properties": draw(properties),
        "source_ref": draw(sources),
    }
    if text is None or draw(st.booleans()):
        return Node(**same, text=text)
    # One of the names is that of the first chunk of another node: refused while that one lives.
    names = st.sampled_from([None, f"{node_id}/x", "n0#0"])
    chunks = [Chunk(text, draw(names)), *([Chunk("the rest")] if draw(st.booleans()) else [])]
    return Node(**same, chunks=chunks)


batches = st.lists(nodes(), max_size=4, unique_by=lambda node: node.node_id)


class EngineMachine(RuleBasedStateMachine):
    def __init__(self):
        super().__init__()
        self.folder = tempfile.mkdtemp(prefix="fathomdb-machine-")
        self.clock = ManualClock()
        self.embedders = [FlakyEmbedder(inner) for inner in MODELS]
        self.held = []
        self.counters = None
        self.db = None

    def teardown(self):
        try:
            if self.db is not None:
                self._comes_to_what_an_undisturbed_run_comes_to()
        finally:
            if self.db is not None:
                self.db.close()
            shutil.rmtree(self.folder)

    def _open(self, *, embedder=True):
        self.db = fathomdb.open(
            f"{self.folder}/machine.db",
            embedder=self.embedders if embedder else False,
            background=False,
            durability="normal",  # no machine loses power here
            config=fathomdb.EngineConfig(
                chunk_chars=CHUNK_CHARS, clock=self.clock, max_attempts=3, exact_below_rows=1
            ),
        )

    def _embeds(self):
        return self.db._runtime.model is not None

    def _comes_to_what_an_undisturbed_run_comes_to(self):
        for embedder in self.embedders:
            embedder.script = ()
        self.reopen(embedder=True)
        self.clock.advance(STEPS * FAR_SECONDS)  # however often it went back
        if self.db.admin.status().switch is not None:
            self.db.admin.resume_switch()
        self.db.admin.requeue_failed()
        report = self.db.admin.drain_vector_projection()
        assert inside.adds_up(report)
        assert (report.stopped_by, report.remaining, report.failed) == ("idle", 0, 0)
        self.everything_holds()
        invariants.check_projected(self.db, self.model)
        self._integrity_is_fine()

    # --- what happens -----------------------------------------------------------------------------

    @initialize(embedder=st.sampled_from([True, True, False]), written=batches)
    def begins(self, embedder, written):
        self.model = Model(MODELS[0] if embedder else None, chunk_chars=CHUNK_CHARS)
        self._open(embedder=embedder)
        self.write(written, [])

    @rule(written=batches, retired=st.lists(ids, max_size=2))
    def write(self, written, retired):
        retired = [node_id for node_id in retired if node_id not in {n.node_id for n in written}]
        try:
            expected = self.model.copy().write(written, retired)
        except RefusedError:
            with pytest.raises(InvalidInputError):
                self.db.write(written, retire=retired)
            return
        receipt = self.db.write(written, retire=retired)
        self.model.write(written, retired)
        for name in ("written", "unchanged", "retired", "chunks", "enqueued", "chunk_ids"):
            assert getattr(receipt, name) == getattr(expected, name), name

    @precondition(lambda self: self.model.content.live)
    @rule(data=st.data(), kind=kinds, given=properties, source=sources)
    def rewrite_with_the_same_text(self, data, kind, given, source):
        """Of another kind, maybe: then its vectors are owed again, and else nothing is."""
        node_id = data.draw(st.sampled_from(sorted(self.model.content.live)))
        record = self.model.content.live[node_id]
        same = {"kind": kind, "node_id": node_id, "properties": given, "source_ref": source}
        if record.split:
            node = Node(**same, text="".join(piece[1] for piece in record.pieces))
        else:
            node = Node(**same, chunks=[Chunk(piece[1], piece[0]) for piece in record.pieces])
        self.write([node] if record.pieces else [Node(**same)], [])

    @rule(node_id=ids, patch=patches)
    def patch(self, node_id, patch):
        try:
            self.model.patch(node_id, patch)
        except RefusedError:
            with pytest.raises(InvalidInputError):
                self.db.patch(node_id, patch)
        else:
            self.db.patch(node_id, patch)

    @rule(node_ids=st.lists(ids, min_size=1, max_size=2, unique=True), source=sources)
    def erase(self, node_ids, source):
        if source is None:
            receipt, due = self.db.admin.erase(node_ids), self.model.erase(node_ids)
        else:
            receipt, due = self.db.admin.erase_source(source), self.model.erase_source(source)
        assert (receipt.nodes, receipt.versions, receipt.chunks) == (
            due.nodes,
            due.versions,
            due.chunks,
        )
        assert not receipt.wal_pending

    # Rare ones share a rule, or the others would seldom come in a row.
    @rule(
        what=st.sampled_from(["enable", "disable", "change the model"]),
        kind=kinds,
        number=st.integers(0, len(MODELS) - 1),
        acknowledged=st.booleans(),
    )
    def configure(self, what, kind, number, acknowledged):
        if what == "disable":
            self.db.admin.disable_vec(kind)
            self.model.disable_vec(kind)
        elif what == "change the model" or self.model.embedder is None:
            self._change_model(number, acknowledged=acknowledged)
        else:
            self.db.admin.configure_vec(kind)
            self.model.configure_vec(kind)

    def _change_model(self, number, *, acknowledged):
        inner = MODELS[number]
        switch, active = self._switch()
        if switch is not None and inner is active:
            # Said twice, it goes on; acknowledged, it ends.
            self.db.admin.configure_embedding(
                self.embedders[number], acknowledge_rebuild_impact=acknowledged
            )
            if acknowledged:
                self.model.configure_embedding(inner)
            return
        changes = self.model.embedder not in (None, inner)
        if changes and self.model.indexed_kinds() and not acknowledged:
            with pytest.raises(EmbeddingChangeRequiresAckError):
                self.db.admin.configure_embedding(self.embedders[number])
            return
        self.db.admin.configure_embedding(
            self.embedders[number],
            acknowledge_rebuild_impact=acknowledged,
            keep_previous=number != 1,
        )
        self.model.configure_embedding(inner)

    def _switch(self):
        """The models that are built and active, of those of this machine."""
        with inside.snapshot(self.db) as connection:
            wanted = {
                profile.state: next(
                    inner for inner in MODELS if inner.identity().fingerprint == profile.fingerprint
                )
                for profile in profiles.wanted(connection)
            }
        return wanted.get("building"), wanted.get("active")

    @rule(what=st.sampled_from(["pause", "resume", "cancel", "roll back", "prune"]))
    def switch(self, what):
        admin, (building, active) = self.db.admin, self._switch()
        if what == "prune":
            admin.prune_profiles()
        elif what == "roll back":
            kept = admin.status().previous_profile
            if kept is None:
                with pytest.raises(SwitchStateError):
                    admin.rollback()
                return
            assert admin.rollback().profile == kept
            self.model.configure_embedding(self._switch()[1])
        elif building is None:
            with pytest.raises(SwitchStateError):
                {"pause": admin.pause_switch, "resume": admin.resume_switch}.get(
                    what, admin.cancel_switch
                )()
        elif what == "cancel":
            admin.cancel_switch()
            self.model.configure_embedding(active)
        elif what == "pause":
            admin.pause_switch()
        else:
            admin.resume_switch()

    @precondition(lambda self: self._embeds())
    @rule(trouble=st.just("none") | st.sampled_from([*TROUBLES]), drain=st.booleans())
    def project(self, trouble, drain):
        for embedder in self.embedders:
            embedder.calls, embedder.script = 0, TROUBLES[trouble]
        before, switch = len(inside.blobs(self.db)), self._switch()[0]
        admin = self.db.admin
        report = admin.drain_vector_projection() if drain else admin.run_tick()
        assert inside.adds_up(report)
        # Rows that were owed again by a rebuild replace a vector, and add none.
        # What answers after a flip may have failed elsewhere than what did before.
        assert switch or 0 <= len(inside.blobs(self.db)) - before <= report.processed
        assert not {row.state for row in inside.work(self.db).values()} & {"inflight"} or self.held

    @precondition(lambda self: self._embeds())
    @rule(incremental=st.booleans(), data=st.data())
    def claim(self, incremental, data):
        """As a worker that then hangs: what it makes may come at any time, or never."""
        with inside.snapshot(self.db) as connection:
            profile = data.draw(st.sampled_from(profiles.wanted(connection)))
        embedder = next(
            inner for inner in MODELS if inner.identity().fingerprint == profile.fingerprint
        )
        lanes = claim.FRESH_FIRST if incremental else claim.BACKFILL_FIRST
        now_ms = int(self.clock.now() * 1000)
        taken = inside.in_writer(
            self.db, lambda tx: claim.claim(tx, profile.profile_id, SIZES, now_ms, lanes)
        )
        if not taken.count:
            return
        with inside.snapshot(self.db) as connection:
            rows = work.claimed(connection, taken.fence)
        verified = verify.verify(rows, self.model.indexed_kinds())
        assert len(verified.rows) == taken.count  # nothing happened since
        packed = validate(embedder.batch_embed(verified.texts), len(verified.rows), profile)
        stored = [
            outcome.Stored(row, packed, n, verified.content_hashes[n])
            for n, row in enumerate(verified.rows)
        ]
        self.held.append((taken, stored))

    @precondition(lambda self: self.held)
    @rule(
        data=st.data(),
        what=st.just("stored") | st.sampled_from(["failed", "charged", "reverted"]),
        again=st.booleans(),
    )
    def apply(self, data, what, again):
        """Late, or a second time, or in time: what is not its own any more is left alone."""
        taken, stored = data.draw(st.sampled_from(self.held))
        late = outcome.BatchOutcome(taken, kinds={item.row.kind for item in stored})
        rows = [item.row for item in stored]
        if what == "stored":
            late.stored = stored
        elif what == "failed":
            late.failed = [outcome.Failed(row, "zero", "held") for row in rows]
        elif what == "charged":
            late.charged = [outcome.Charged(row, "held") for row in rows]
        now_ms = int(self.clock.now() * 1000)
        with inside.snapshot(self.db) as connection:
            own = work.still_claimed(connection, taken.fence)
        before = inside.work(self.db)
        tally = inside.in_writer(
            self.db, lambda tx: apply.apply_if_claimed(tx, late, POLICY, now_ms)
        )
        assert tally.claimed == taken.count
        assert tally.discard_reasons.get("superseded", 0) == taken.count - len(own)
        if not own:
            assert inside.work(self.db) == before
        if not again:
            self.held.remove((taken, stored))

    @rule(seconds=st.sampled_from([-FAR_SECONDS, -5.0, 0.5, 2.0, 60.0, FAR_SECONDS]))
    def the_clock_jumps(self, seconds):
        self.clock.advance(seconds)

    @rule(what=st.sampled_from(["requeue", "rebuild vec", "rebuild fts", "check"]), kind=kinds)
    def upkeep(self, what, kind):
        admin = self.db.admin
        if what == "requeue":
            with inside.snapshot(self.db) as connection:
                failed = connection.execute(
                    "SELECT count(*) FROM vector_projection_work WHERE state = 'failed'"
                ).get
            assert admin.requeue_failed() == failed
        elif what == "check":
            self._integrity_is_fine()
        elif kind not in self.model.kinds:
            with pytest.raises(InvalidInputError):
                admin.rebuild(kind, what.removeprefix("rebuild "))
        elif what == "rebuild vec" and not self.model.content.indexed.get(kind):
            with pytest.raises(KindNotVectorIndexedError):
                admin.rebuild(kind, "vec")
        else:
            admin.rebuild(kind, what.removeprefix("rebuild "))

    def _integrity_is_fine(self):
        report = self.db.admin.check_integrity()
        with inside.snapshot(self.db) as connection:
            inflight = connection.execute(
                "SELECT work_id FROM vector_projection_work WHERE state = 'inflight'"
            ).fetchall()
        # What was claimed by hand, nothing of this engine works on: that it says, and nothing else.
        assert {item.code for item in report.findings} <= {"work_stuck"}, report.findings
        assert sorted(item.key for item in report.findings) == sorted(key for (key,) in inflight)

    @rule(embedder=st.sampled_from([True, True, True, False]))
    def reopen(self, embedder):
        self.db.close()
        self._open(embedder=embedder)
        if embedder and self.model.embedder is None:
            self.model.configure_embedding(MODELS[0])
        assert "inflight" not in {row.state for row in inside.work(self.db).values()}

    # --- what holds -------------------------------------------------------------------------------

    @invariant()
    def everything_holds(self):
        if self.db is None:
            return
        with inside.snapshot(self.db) as connection:
            invariants.check(connection, MODELS)
            invariants.check_codes(connection, self.db._runtime.codes)
            invariants.check_model(connection, self.model)
            counters = invariants.counters(connection)
        if self.counters is not None:
            invariants.check_growth(self.counters, counters)
        self.counters = counters


EngineMachine.TestCase.settings = settings(
    max_examples=int(os.environ.get("FATHOMDB_EXAMPLES", "25")),
    stateful_step_count=STEPS,
    deadline=None,
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
TestEngine = EngineMachine.TestCase
