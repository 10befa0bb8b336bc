"""The switch to another model while it runs and after: how far, pause, cancel, rollback, its price."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fathomdb.actors.models import Given
from fathomdb.embedders.calls import CHARS_PER_TOKEN
from fathomdb.errors import SwitchStateError
from fathomdb.store import chunks, indexes, kinds, profiles, queue, switching

if TYPE_CHECKING:
    from collections.abc import Mapping

    from fathomdb.actors.runtime import Runtime
    from fathomdb.store.connection import Connection
    from fathomdb.store.profiles import Profile
    from fathomdb.store.transaction import Transaction


@dataclass(frozen=True, slots=True)
class KindSwitch:
    """How far the index that a switch builds is for one kind, in chunks.

    ``answers`` says that the kind has flipped: searches use the new index already. ``failed`` chunks
    failed for good under the new model; ``blocked`` says why the kind does not flip by itself, where
    more than half did. ``seconds_left`` is what the kind's own pending chunks take at the rate at
    which the model was seen to work, None where it never was.
    """

    kind: str
    profile: str
    chunks: int
    done: int
    pending: int
    failed: int
    answers: bool
    blocked: str | None
    chunks_per_second: float | None
    seconds_left: float | None


@dataclass(frozen=True, slots=True)
class SwitchStatus:
    """A switch that is under way: from the active profile to the one that is being built.

    ``waits_for`` says why nothing is built at the moment, where nothing is.
    """

    from_profile: str
    to_profile: str
    paused: bool
    keep_previous: bool
    waits_for: str | None
    kinds: tuple[KindSwitch, ...]

    @property
    def chunks(self) -> int:
        """Chunks of all kinds."""
        return sum(kind.chunks for kind in self.kinds)

    @property
    def done(self) -> int:
        """Chunks that have their vector under the new model."""
        return sum(kind.done for kind in self.kinds)

    @property
    def pending(self) -> int:
        """Chunks that wait for theirs."""
        return sum(kind.pending for kind in self.kinds)

    @property
    def failed(self) -> int:
        """Chunks whose vector failed for good."""
        return sum(kind.failed for kind in self.kinds)

    @property
    def seconds_left(self) -> float | None:
        """What is pending takes at the rate at which the model was seen to work, or None."""
        left = [kind.seconds_left for kind in self.kinds]
        return sum(item or 0.0 for item in left) if None not in left else None


@dataclass(frozen=True, slots=True)
class RollbackReport:
    """Which model answers again, and how many chunks it had still to be given a vector then."""

    profile: str
    replaced: str
    missing: int


@dataclass(frozen=True, slots=True)
class PruneReport:
    """Which models' vectors were dropped, and how many they were."""

    profiles: tuple[str, ...]
    vectors: int


@dataclass(frozen=True, slots=True)
class ProjectionImpact:
    """What a switch to a model would cost; nothing was started and the model was not called.

    ``chunks`` of ``kinds`` want a vector. Of them ``already_there`` have one under that very model,
    ``cached`` have a text of which it made one already, in the cache or of another chunk, and
    ``repeated`` a text that another one of the rest has too. ``to_embed`` is what is left:
    ``characters`` and ``estimated_tokens`` (a quarter of them) are of these, and ``seconds`` is for
    them at ``chunks_per_second``, the rate measured of ``rate_of``: the model itself, else the active
    one; None where neither was seen to work yet.
    """

    profile: str
    kinds: tuple[str, ...]
    chunks: int
    already_there: int
    cached: int
    repeated: int
    characters: int
    estimated_tokens: int
    chunks_per_second: float | None
    rate_of: str | None
    seconds: float | None

    @property
    def to_embed(self) -> int:
        """The texts that the model will be asked for, each once."""
        return self.chunks - self.already_there - self.cached - self.repeated


# --- looking --------------------------------------------------------------------------------------


def status(
    runtime: Runtime, db: Connection, backlogs: Mapping[tuple[str, int], queue.Backlog]
) -> SwitchStatus | None:
    """The switch that is under way in a snapshot, or None."""
    building, active = profiles.building(db), profiles.active(db)
    if building is None or active is None:
        return None
    serving = {schema.kind: schema.profile_id for schema in indexes.every(db)}
    rate = _rate(runtime, building)
    found = []
    for kind in indexes.kinds_under(db, building.profile_id):
        backlog = backlogs.get((kind, building.profile_id), queue.Backlog())
        count = chunks.count(db, kind)
        blocked = not backlog.unsettled and switching.is_blocked(db, kind, building)
        found.append(
            KindSwitch(
                kind=kind,
                profile=str(building),
                chunks=count,
                done=count - backlog.unsettled - backlog.failed,
                pending=backlog.unsettled,
                failed=backlog.failed,
                answers=serving[kind] == building.profile_id,
                blocked=f"{backlog.failed} of {count} chunks failed; see admin.failed_work(), then "
                "requeue them, cancel, or accept them with admin.resume_switch(accept_failures=True)"
                if blocked
                else None,
                chunks_per_second=rate,
                seconds_left=_seconds(backlog.unsettled, rate),
            )
        )
    return SwitchStatus(
        from_profile=str(active),
        to_profile=str(building),
        paused=building.paused,
        keep_previous=building.keep_previous,
        waits_for=_waits_for(runtime, building),
        kinds=tuple(found),
    )


def _waits_for(runtime: Runtime, building: Profile) -> str | None:
    if building.paused:
        return "it is paused; admin.resume_switch() goes on"
    if runtime.read_only:
        return None  # the process that owns the file works on it, or nobody does
    model = runtime.models.get(building.profile_id)
    if model is None:
        return runtime.models.why_not(building).reason
    return None if model.outage is None else f"{building} is away: {model.outage}"


def _rate(runtime: Runtime, profile: Profile) -> float | None:
    model = runtime.models.get(profile.profile_id)
    measured = None if model is None else model.chunks_per_second
    return profile.chunks_per_second if measured is None else measured


def _seconds(chunk_count: int, rate: float | None) -> float | None:
    if not chunk_count:
        return 0.0
    return chunk_count / rate if rate else None


def preview(runtime: Runtime, embedder: Any) -> ProjectionImpact:
    """What a switch to an embedder's model would cost."""
    given = Given.of(embedder)
    try:
        identity = given.embedder.identity()
    finally:
        given.close_unused()
    with runtime.snapshot() as db:
        known = profiles.of_fingerprint(db, identity.fingerprint)
        active = profiles.active(db)
        enabled = [schema.kind for schema in indexes.every(db) if schema.enabled]
        if active is None:
            # The first model takes every kind that is, or gets, an index by itself.
            enabled = [kind for kind in kinds.every(db) if runtime.auto_enable(kind)]
        profile_id = 0 if known is None else known.profile_id
        total = sum(chunks.count(db, kind) for kind in enabled)
        owed = chunks.owed(db, enabled, profile_id)
    rate, rate_of = None, None
    for profile in (known, active):
        if profile is not None and rate is None and (rate := _rate(runtime, profile)) is not None:
            rate_of = str(profile)
    return ProjectionImpact(
        profile=str(identity),
        kinds=tuple(enabled),
        chunks=total,
        already_there=total - owed.chunks,
        cached=owed.known,
        repeated=owed.repeated,
        characters=owed.characters,
        estimated_tokens=-(-owed.characters // CHARS_PER_TOKEN),
        chunks_per_second=rate,
        rate_of=rate_of,
        seconds=_seconds(owed.chunks - owed.known - owed.repeated, rate),
    )


# --- steering -------------------------------------------------------------------------------------


def pause(runtime: Runtime) -> None:
    """Has the building wait; what it has stays, and fresh writes go on being owed to it."""

    def operation(tx: Transaction) -> None:
        profiles.set_paused(tx.db, _building(tx).profile_id, paused=True)

    runtime.write(operation)
    runtime.models.refresh()


def resume(runtime: Runtime, *, accept_failures: bool) -> None:
    """Goes on with the building; with ``accept_failures`` kinds flip however many chunks failed."""

    def operation(tx: Transaction) -> None:
        profiles.set_paused(tx.db, _building(tx).profile_id, paused=False)
        switching.flip(tx, accept_failures=accept_failures)

    runtime.write(operation)
    runtime.models.refresh()


def cancel(runtime: Runtime) -> PruneReport:
    """Ends the switch and drops what it built."""

    def operation(tx: Transaction) -> PruneReport:
        building = _building(tx)
        return PruneReport((str(building),), switching.cancel(tx))

    report = runtime.write(operation)
    runtime.models.refresh()
    return report


def roll_back(runtime: Runtime) -> RollbackReport:
    """Has the model before answer again, at once."""

    def operation(tx: Transaction) -> RollbackReport:
        building, active = profiles.building(tx.db), profiles.active(tx.db)
        if building is not None:
            raise SwitchStateError(
                f"a switch to {building} is under way; admin.cancel_switch() goes back to {active}"
            )
        answers = switching.roll_back(tx)
        if answers is None:
            raise SwitchStateError(
                "no model is kept to go back to: none was replaced, or it was pruned; "
                "admin.configure_embedding switches to any"
            )
        return RollbackReport(str(answers), str(active), queue.unsettled(tx.db, answers.profile_id))

    report = runtime.write(operation)
    runtime.opened_with = None
    runtime.models.refresh()
    return report


def prune(runtime: Runtime) -> PruneReport:
    """Drops the vectors that are kept for a rollback; there may be none."""
    pruned = runtime.write(switching.prune)
    runtime.models.refresh()
    return PruneReport((), 0) if pruned is None else PruneReport((str(pruned[0]),), pruned[1])


def _building(tx: Transaction) -> Profile:
    building = profiles.building(tx.db)
    if building is None:
        raise SwitchStateError("no switch of models is under way; configure_embedding begins one")
    return building
