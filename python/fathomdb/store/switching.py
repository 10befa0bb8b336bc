"""The switch of models: each step is one function in the writer's transaction.

Every enabled kind has an index under the active profile and, while a switch runs, one that is being
built beside it. Which of the two answers is the kind's own (``vector_index_schemas.profile_id``), so
that kinds flip one by one; the profile becomes the active one with the last of them. What belongs
here: what a step does to the file. What does not: who asks for it (``admin/switch.py``).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fathomdb.store import chunks, indexes, profiles, queue, work

if TYPE_CHECKING:
    from collections.abc import Iterable

    import apsw

    from fathomdb.identity import EmbedderIdentity
    from fathomdb.store.profiles import Profile
    from fathomdb.store.transaction import Transaction


def begin(
    tx: Transaction,
    identity: EmbedderIdentity,
    plugin: str | None,
    *,
    keep_previous: bool,
    now_ms: int,
) -> tuple[Profile, int]:
    """Begins to build the indexes of a model beside those of the active one; returns the rows owed.

    A switch that is under way is cancelled first, and what was kept for a rollback is pruned: it
    could not be rolled back to any more. A model that was kept itself brings what it has. Where no
    kind is indexed, or nothing is owed, the switch is made at once.
    """
    db = tx.db
    if profiles.building(db) is not None:
        cancel(tx)
    kept = profiles.previous(db)
    if kept is not None and kept.fingerprint != identity.fingerprint:
        prune(tx)
    profile = profiles.add(
        db, identity, plugin, now_ms, state="building", keep_previous=keep_previous
    )
    fence, enqueued = tx.fence(), 0
    for kind in indexes.kinds_under(db, profile.profile_id):
        enqueued += indexes.add_index(db, kind, profile, fence=fence, now_ms=now_ms)
    flip(tx)
    return profiles.get(db, profile.profile_id), enqueued


def flip(tx: Transaction, *, accept_failures: bool = False) -> list[str]:
    """Has each kind whose new index is complete answer from it; returns these kinds.

    Complete is: every chunk has its vector or failed for good. Failures are counted and listed, and
    do not hold the others up; but where more than half of a kind failed, its old index goes on
    answering until somebody decides, with ``accept_failures``. With the last kind the new model becomes the active one.
    """
    db = tx.db
    building = profiles.building(db)
    if building is None or building.paused:
        return []
    return _flip(tx, building, waiting(db, building), accept_failures=accept_failures)


def flip_kinds(tx: Transaction, kinds: Iterable[str], profile_id: int) -> list[str]:
    """The same for the kinds that vectors of a profile were just stored for; cheap where none is."""
    building = profiles.building(tx.db)
    if building is None or building.paused or building.profile_id != profile_id:
        return []
    return _flip(tx, building, sorted({*kinds}.intersection(waiting(tx.db, building))))


def _flip(
    tx: Transaction, building: Profile, kinds: Iterable[str], *, accept_failures: bool = False
) -> list[str]:
    db = tx.db
    flipped = [
        kind for kind in kinds if is_complete(db, kind, building, accept_failures=accept_failures)
    ]
    for kind in flipped:
        indexes.serve_under(db, kind, building.profile_id)
    if not waiting(db, building):
        _finish(tx, building)
    return flipped


def waiting(db: apsw.Connection, building: Profile) -> list[str]:
    """The kinds that still answer from the index of the active model, by name."""
    rows = db.execute(
        "SELECT kind FROM wanted_vectors WHERE profile_id = ? AND NOT serves ORDER BY kind",
        (building.profile_id,),
    )
    return [row[0] for row in rows]


def can_flip(db: apsw.Connection, building: Profile) -> bool:
    """Whether ``flip`` has something to do."""
    kinds = waiting(db, building)
    return not kinds or any(is_complete(db, kind, building) for kind in kinds)


def is_complete(
    db: apsw.Connection, kind: str, building: Profile, *, accept_failures: bool = False
) -> bool:
    """Whether nothing of a kind waits any more, and no more than half of it failed."""
    if queue.has_unsettled(db, kind, building.profile_id):
        return False
    return accept_failures or not is_blocked(db, kind, building)


def is_blocked(db: apsw.Connection, kind: str, building: Profile) -> bool:
    """Whether more than half of a kind failed for good, so that it does not flip by itself."""
    failed = queue.count_failed(db, kind, building.profile_id)
    return failed > 0 and 2 * failed > chunks.count(db, kind)


def _finish(tx: Transaction, building: Profile) -> None:
    db = tx.db
    before = profiles.active(db)
    if before is not None:
        # In between neither is active: an index holds that there is at most one.
        profiles.set_state(db, before.profile_id, "retired")
    profiles.set_state(db, building.profile_id, "active")
    if before is None:
        return
    if building.keep_previous and indexes.kinds_under(db, building.profile_id):
        profiles.set_state(db, before.profile_id, "previous")
    else:
        _drop(tx, before.profile_id)


def cancel(tx: Transaction) -> int:
    """Ends a switch and drops what it built; kinds that had flipped answer from the old index again.

    Returns how many vectors were dropped; 0 where no switch runs.
    """
    db = tx.db
    building, active = profiles.building(db), profiles.active(db)
    if building is None or active is None:
        return 0
    dropped = queue.count_stored(db, building.profile_id)
    for kind in indexes.kinds_under(db, building.profile_id):
        schema = indexes.get(db, kind)
        if schema is not None and schema.profile_id == building.profile_id:
            indexes.serve_under(db, kind, active.profile_id)
    work.promote(db, active.profile_id, fence=tx.fence())
    profiles.set_state(db, building.profile_id, "retired")
    _drop(tx, building.profile_id)
    return dropped


def roll_back(tx: Transaction) -> Profile | None:
    """Has the model that was kept answer again, at once; the one that did is kept in its place.

    What the old indexes miss is owed as fresh work. Returns the model that answers, None where none
    was kept.
    """
    db = tx.db
    active, kept = profiles.active(db), profiles.previous(db)
    if active is None or kept is None:
        return None
    profiles.set_state(db, active.profile_id, "retired")
    profiles.set_state(db, kept.profile_id, "active")
    profiles.set_state(db, active.profile_id, "previous")
    for kind in indexes.kinds_under(db, kept.profile_id):
        indexes.serve_under(db, kind, kept.profile_id)
    work.promote(db, kept.profile_id, fence=tx.fence())
    return profiles.get(db, kept.profile_id)


def prune(tx: Transaction) -> tuple[Profile, int] | None:
    """Drops the vectors and the work of the model that was kept; returns it, and how many vectors."""
    db = tx.db
    kept = profiles.previous(db)
    if kept is None:
        return None
    dropped = queue.count_stored(db, kept.profile_id)
    profiles.set_state(db, kept.profile_id, "retired")
    _drop(tx, kept.profile_id)
    return kept, dropped


def _drop(tx: Transaction, profile_id: int) -> None:
    """Removes the work and the indexes of a retired profile, its vectors to the cache at most."""
    kinds = [schema.kind for schema in indexes.every(tx.db) if schema.enabled]
    indexes.drop_indexes(tx.db, kinds, profile_id, tx.vectors, cache=tx.cache)
