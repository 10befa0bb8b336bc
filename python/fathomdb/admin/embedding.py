"""Which model serves the file: configuring one, and what ``open`` makes of ``embedder=``."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from fathomdb.actors.models import Given, NoModel
from fathomdb.config import LONGEST_SECONDS
from fathomdb.embedders import registry
from fathomdb.embedders.protocol import limits_of
from fathomdb.errors import EmbeddingChangeRequiresAckError, InvalidInputError
from fathomdb.store import indexes, kinds, profiles, switching

if TYPE_CHECKING:
    from fathomdb.actors.runtime import Runtime
    from fathomdb.identity import EmbedderIdentity
    from fathomdb.store.profiles import Profile
    from fathomdb.store.transaction import Transaction

logger = logging.getLogger("fathomdb")


@dataclass(frozen=True, slots=True)
class ConfigureEmbeddingOutcome:
    """What configuring did; ``stale_kinds`` are owed new vectors, ``enqueued_rows`` of them.

    ``replaced``: a switch to the model has begun, and the one before answers until it is done; where
    nothing was to be embedded it is done already.
    """

    outcome: Literal["activated", "unchanged", "replaced"]
    profile: str
    stale_kinds: tuple[str, ...] = ()
    enqueued_rows: int = 0


def configure(
    runtime: Runtime,
    embedder: Any,
    *,
    acknowledge_rebuild_impact: bool = False,
    keep_previous: bool = True,
) -> ConfigureEmbeddingOutcome:
    """Makes an embedder's model the one whose vectors the file holds, or begins the switch to it."""
    if not isinstance(keep_previous, bool):
        raise InvalidInputError(f"keep_previous must be True or False, got {keep_previous!r}")
    given = Given.of(embedder)
    try:
        return _configure(
            runtime, given, acknowledged=acknowledge_rebuild_impact, keep_previous=keep_previous
        )
    finally:
        given.close_unused()


def _configure(
    runtime: Runtime, given: Given, *, acknowledged: bool, keep_previous: bool
) -> ConfigureEmbeddingOutcome:
    # All that is asked of the embedder is asked before the commit, and outside of it.
    identity, plugin = given.embedder.identity(), registry.spec_of(given.embedder)
    limits_of(given.embedder)
    spec = plugin if given.built else given.embedder
    with runtime.configuring, runtime.models.offering(given, spec):
        outcome, profile = runtime.write(
            lambda tx: _activate(
                tx,
                runtime,
                identity,
                plugin,
                acknowledged=acknowledged,
                keep_previous=keep_previous,
            ),
            # A model that became the active one and does not serve is worse than a wait.
            timeout_seconds=LONGEST_SECONDS,
        )
        runtime.opened_with = None
        _serve(runtime, given, profile)
    return outcome


def choose_at_open(runtime: Runtime, embedder: Any) -> None:
    """Finds the embedders of the profiles that the file wants, or activates the first that was given.

    Opening with another model than the active one changes nothing in the file.
    """
    if embedder is False:
        reason = "this engine was opened with embedder=False; leave that out to have a model serve"
        runtime.models.refuse_all(NoModel("no_embedder", reason))
        return
    given: list[Given] = []
    try:
        specs = _specs(embedder)
        given.extend(Given.of(spec) for spec in specs)
        with runtime.snapshot() as db:
            wanted = profiles.wanted(db)
        for spec, item in zip(specs, given, strict=True):
            runtime.models.offer(spec, item.embedder.identity().fingerprint)
        if wanted:
            _choose(runtime, given, wanted)
        elif given and not runtime.read_only:
            _configure(runtime, given[0], acknowledged=False, keep_previous=True)
    finally:
        for item in given:
            item.close_unused()


def _choose(runtime: Runtime, given: list[Given], wanted: list[Profile]) -> None:
    """Puts the given embedders, or the remembered ones, to work, or says why there is none."""
    matched: dict[int, Given] = {}
    for candidate in given:
        fingerprint = candidate.embedder.identity().fingerprint
        for profile in wanted:
            if profile.fingerprint == fingerprint:
                matched.setdefault(profile.profile_id, candidate)
    runtime.models.put(
        *(
            matched[profile.profile_id].model(runtime.models.parts, profile)
            for profile in wanted
            if profile.profile_id in matched
        )
    )
    active = wanted[0]
    if given and active.profile_id not in matched:
        both = (
            f"the file's active model is {active} and the engine was opened with "
            f"{given[0].embedder.identity()}"
        )
        how = (
            "open it with the active model, or switch with "
            "admin.configure_embedding(..., acknowledge_rebuild_impact=True)"
        )
        goes_on = "" if runtime.model is None else ", which does not serve"
        runtime.opened_with = f"{both}{goes_on}; {how}"
        logger.warning("%s: %s", runtime.path, runtime.opened_with)
        if runtime.model is None:
            runtime.models.say(NoModel("change_pending", runtime.opened_with))


def _specs(embedder: Any) -> list[Any]:
    if embedder is None:
        return []
    if isinstance(embedder, Sequence) and not isinstance(embedder, (str, bytes)):
        if not embedder:
            raise InvalidInputError("embedder= is an empty list; pass None or False")
        return [*embedder]
    return [embedder]


def _serve(runtime: Runtime, given: Given, profile: Profile) -> None:
    model = runtime.models.get(profile.profile_id)
    if model is not None and model.embedder is given.embedder:
        runtime.models.refresh()
        return
    runtime.models.put(given.model(runtime.models.parts, profile))


def _activate(
    tx: Transaction,
    runtime: Runtime,
    identity: EmbedderIdentity,
    plugin: str | None,
    *,
    acknowledged: bool,
    keep_previous: bool,
) -> tuple[ConfigureEmbeddingOutcome, Profile]:
    db, now_ms = tx.db, runtime.now_ms()
    active, building = profiles.active(db), profiles.building(db)
    if active is None:
        profile = profiles.add(db, identity, plugin, now_ms, state="active")
        enqueued = _take_kinds(tx, runtime, profile)
        return ConfigureEmbeddingOutcome("activated", str(profile), (), enqueued), profile
    for known in (active, building):
        if known is None or known.fingerprint != identity.fingerprint:
            continue
        profiles.set_plugin(db, known.profile_id, plugin)
        if known is active and building is not None and acknowledged:
            switching.cancel(tx)
            return ConfigureEmbeddingOutcome("replaced", str(known)), known
        _enable_new_kinds(tx, runtime, active)
        return ConfigureEmbeddingOutcome("unchanged", str(known)), known
    affected = [schema.kind for schema in indexes.every(db) if schema.enabled]
    if affected and not acknowledged:
        raise EmbeddingChangeRequiresAckError(
            f"changing from {active} to {identity} makes every vector of {', '.join(affected)} anew;"
            " pass acknowledge_rebuild_impact=True to go on",
            affected_kinds=tuple(affected),
        )
    profile, enqueued = switching.begin(
        tx, identity, plugin, keep_previous=keep_previous, now_ms=now_ms
    )
    now_active = profiles.active(db)
    assert now_active is not None
    enqueued += _enable_new_kinds(tx, runtime, now_active)
    outcome = ConfigureEmbeddingOutcome("replaced", str(profile), tuple(affected), enqueued)
    return outcome, profile


def _take_kinds(tx: Transaction, runtime: Runtime, profile: Profile) -> int:
    """Kinds that are enabled and have no model yet get this one, and so do new ones."""
    enqueued = 0
    for schema in indexes.every(tx.db):
        if schema.enabled:
            enqueued += indexes.enable(
                tx.db, schema.kind, profile, fence=tx.fence(), now_ms=runtime.now_ms()
            )
            indexes.set_state(tx.db, schema.kind, "building")
    return enqueued + _enable_new_kinds(tx, runtime, profile)


def _enable_new_kinds(tx: Transaction, runtime: Runtime, profile: Profile) -> int:
    """Kinds that were written while no profile was active get their index now, where asked for."""
    configured = {schema.kind for schema in indexes.every(tx.db)}
    return sum(
        indexes.enable(tx.db, kind, profile, fence=tx.fence(), now_ms=runtime.now_ms())
        for kind in kinds.every(tx.db)
        if kind not in configured and runtime.auto_enable(kind)
    )
