"""Which model serves the file: configuring one, and what ``open`` makes of ``embedder=``."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from fathomdb.actors.closing import begin_close
from fathomdb.actors.model import Model
from fathomdb.actors.runtime import NOT_CONFIGURED, NoModel, Runtime
from fathomdb.config import LONGEST_SECONDS
from fathomdb.embedders import registry
from fathomdb.embedders.protocol import limits_of
from fathomdb.errors import EmbeddingChangeRequiresAckError, FathomError, InvalidInputError
from fathomdb.redact import redact
from fathomdb.store import indexes, kinds, profiles, reuse, vectors, work

if TYPE_CHECKING:
    from fathomdb.embedders.protocol import Embedder
    from fathomdb.identity import EmbedderIdentity
    from fathomdb.store.profiles import Profile
    from fathomdb.store.transaction import Transaction

logger = logging.getLogger("fathomdb")


@dataclass(frozen=True, slots=True)
class ConfigureEmbeddingOutcome:
    """What configuring did; ``stale_kinds`` are owed new vectors, ``enqueued_rows`` of them."""

    outcome: Literal["activated", "unchanged", "replaced"]
    profile: str
    stale_kinds: tuple[str, ...] = ()
    enqueued_rows: int = 0


@dataclass(slots=True, eq=False)
class Given:
    """An embedder as it was given; ``built`` while it is ours to close, since a name built it."""

    embedder: Embedder
    built: bool

    @staticmethod
    def of(spec: object) -> Given:
        """What ``registry.resolve`` makes of it."""
        return Given(registry.resolve(spec), isinstance(spec, str))

    def model(self, runtime: Runtime, profile: Profile) -> Model:
        """A model that has it, and closes it where it was built."""
        built, self.built = self.built, False
        return Model(
            self.embedder,
            profile,
            runtime.config,
            runtime.counters,
            runtime.event_loop,
            built=built,
        )

    def close_unused(self) -> None:
        """Closes it where it was built and no model has it."""
        if self.built:
            begin_close(self.embedder)


def configure(
    runtime: Runtime, embedder: Any, *, acknowledge_rebuild_impact: bool = False
) -> ConfigureEmbeddingOutcome:
    """Makes an embedder's model the one whose vectors the file holds."""
    given = Given.of(embedder)
    try:
        return _configure(runtime, given, acknowledged=acknowledge_rebuild_impact)
    finally:
        given.close_unused()


def _configure(runtime: Runtime, given: Given, *, acknowledged: bool) -> ConfigureEmbeddingOutcome:
    # All that is asked of the embedder is asked before the commit, and outside of it.
    identity, plugin = given.embedder.identity(), registry.spec_of(given.embedder)
    limits_of(given.embedder)
    with runtime.configuring:
        outcome, profile = runtime.write(
            lambda tx: _activate(tx, runtime, identity, plugin, acknowledged=acknowledged),
            # A model that became the active one and does not serve is worse than a wait.
            timeout_seconds=LONGEST_SECONDS,
        )
        runtime.opened_with = None
        _serve(runtime, given, profile)
    return outcome


def choose_at_open(runtime: Runtime, embedder: Any) -> None:
    """Finds the embedder of the active profile, or activates the first one that was given.

    Opening with another model than the active one changes nothing in the file.
    """
    if embedder is False:
        reason = "this engine was opened with embedder=False; leave that out to have a model serve"
        runtime.serve(None, NoModel("no_embedder", reason))
        return
    given: list[Given] = []
    try:
        given.extend(Given.of(spec) for spec in _specs(embedder))
        with runtime.snapshot() as db:
            active = profiles.active(db)
        if active is not None:
            _choose(runtime, given, active)
        elif given and not runtime.read_only:
            _configure(runtime, given[0], acknowledged=False)
    finally:
        for item in given:
            item.close_unused()


def _choose(runtime: Runtime, given: list[Given], active: Profile) -> None:
    """Serves the given embedder of the active profile, or the remembered one, or says why none."""
    for candidate in given:
        if candidate.embedder.identity().fingerprint == active.fingerprint:
            _serve(runtime, candidate, active)
            return
    remembered, why_not = _remembered(active)
    if given:
        both = (
            f"the file's active model is {active} and the engine was opened with "
            f"{given[0].embedder.identity()}"
        )
        how = (
            "open it with the active model, or switch with "
            "admin.configure_embedding(..., acknowledge_rebuild_impact=True)"
        )
        goes_on = "" if remembered is None else ", which does not serve"
        runtime.opened_with = f"{both}{goes_on}; {how}"
        logger.warning("%s: %s", runtime.path, runtime.opened_with)
    if remembered is not None:
        _serve(runtime, remembered, active)
    elif runtime.opened_with is not None:
        runtime.serve(None, NoModel("change_pending", runtime.opened_with))
    else:
        runtime.serve(None, NoModel("no_embedder", why_not or NOT_CONFIGURED.reason))


def _specs(embedder: Any) -> list[Any]:
    if embedder is None:
        return []
    if isinstance(embedder, Sequence) and not isinstance(embedder, (str, bytes)):
        if not embedder:
            raise InvalidInputError("embedder= is an empty list; pass None or False")
        return [*embedder]
    return [embedder]


def _remembered(active: Profile) -> tuple[Given | None, str | None]:
    """The local plugin that the file remembers for its model, or why it cannot be built."""
    if active.plugin is None:
        return None, f"the file's model is {active}; pass its embedder to fathomdb.open"
    try:
        remembered = Given.of(active.plugin)
        found = remembered.embedder.identity()
    except FathomError as error:
        return (
            None,
            f"the file's model is {active}, and its embedder cannot be built: {redact(str(error))}",
        )
    if found.fingerprint != active.fingerprint:
        remembered.close_unused()
        return None, (
            f"the file's model is {active}, but the plugin {active.plugin!r} is now {found}; "
            "vectors of the two cannot be compared"
        )
    return remembered, None


def _serve(runtime: Runtime, given: Given, profile: Profile) -> None:
    model = runtime.model
    if (
        model is not None
        and model.embedder is given.embedder
        and model.profile.profile_id == profile.profile_id
    ):
        return
    runtime.serve(given.model(runtime, profile))


def _activate(
    tx: Transaction,
    runtime: Runtime,
    identity: EmbedderIdentity,
    plugin: str | None,
    *,
    acknowledged: bool,
) -> tuple[ConfigureEmbeddingOutcome, Profile]:
    db = tx.db
    before = profiles.active(db)
    if before is not None and before.fingerprint == identity.fingerprint:
        profiles.set_plugin(db, before.profile_id, plugin)
        _enable_new_kinds(tx, runtime, before)
        return ConfigureEmbeddingOutcome("unchanged", str(before)), before
    affected = [schema.kind for schema in indexes.every(db) if schema.enabled]
    if before is not None and affected and not acknowledged:
        raise EmbeddingChangeRequiresAckError(
            f"changing from {before} to {identity} makes every vector of {', '.join(affected)} anew;"
            " pass acknowledge_rebuild_impact=True to go on",
            affected_kinds=tuple(affected),
        )
    if before is not None:
        reuse.forget_profile(db, before.profile_id)
    profile = profiles.activate(db, identity, plugin, runtime.now_ms())
    enqueued = 0
    for kind in affected:
        if before is not None:
            work.delete_kind(db, kind, before.profile_id)
            vectors.drop(db, kind, before.profile_id)
        enqueued += indexes.enable(db, kind, profile, fence=tx.fence(), now_ms=runtime.now_ms())
        indexes.set_state(db, kind, "stale" if before is not None else "building")
    enqueued += _enable_new_kinds(tx, runtime, profile)
    outcome = ConfigureEmbeddingOutcome(
        "activated" if before is None else "replaced",
        str(profile),
        tuple(affected) if before is not None else (),
        enqueued,
    )
    return outcome, profile


def _enable_new_kinds(tx: Transaction, runtime: Runtime, profile: Profile) -> int:
    """Kinds that were written while no profile was active get their index now, where asked for."""
    configured = {schema.kind for schema in indexes.every(tx.db)}
    return sum(
        indexes.enable(tx.db, kind, profile, fence=tx.fence(), now_ms=runtime.now_ms())
        for kind in kinds.every(tx.db)
        if kind not in configured and runtime.auto_enable(kind)
    )
