"""Erase: a node or a source goes without a trace, and a receipt says what went."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from fathomdb.actors.actor import logger
from fathomdb.admin import upgrade
from fathomdb.config import LONGEST_SECONDS
from fathomdb.errors import EngineClosedError, InvalidInputError
from fathomdb.pipeline.prepare import check_name
from fathomdb.records import ErasureReceipt
from fathomdb.store import erasure, residue

if TYPE_CHECKING:
    from fathomdb.actors.runtime import Runtime
    from fathomdb.store.erasure import Erasable
    from fathomdb.store.transaction import Transaction


def erase_nodes(runtime: Runtime, node_ids: str | Iterable[str]) -> ErasureReceipt:
    """Erases all versions of these nodes."""
    if not isinstance(node_ids, Iterable):
        raise InvalidInputError(f"node_ids must be an iterable of node ids, got {node_ids!r}")
    given = [node_ids] if isinstance(node_ids, str) else [*node_ids]
    for node_id in given:
        check_name("a node_id in node_ids", node_id)
    return _erase(runtime, "node", [*dict.fromkeys(given)])


def erase_source(runtime: Runtime, source_ref: str) -> ErasureReceipt:
    """Erases every version that came from a source."""
    check_name("source_ref", source_ref)
    return _erase(runtime, "source", [source_ref])


def _erase(runtime: Runtime, what: Erasable, handles: list[str]) -> ErasureReceipt:
    now_ms = runtime.now_ms()

    def operation(tx: Transaction) -> tuple[erasure.Erased, int, int, int]:
        erased = erasure.Erased()
        shared = erasure.count_shared(tx, what, handles)
        for handle in handles:
            erased += erasure.erase(tx, what, handle, now_ms)
        # Also where no row is left: an erasure that was killed, or a retirement, left its residue.
        erased += erasure.begin_clearing(tx)
        tx.on_commit(runtime.progress.bump)
        return erased, shared, tx.latest_cursor(), erasure.count(tx.db)

    # However long it takes: who gave up half way would not know that it is done.
    erased, shared, cursor, erasures = runtime.write(operation, timeout_seconds=LONGEST_SECONDS)
    for model in runtime.models.every():
        model.forget_message(erasures)
    try:
        with runtime.snapshot() as db:
            wal_pending = residue.is_pending(db)
    except EngineClosedError:
        # It is committed: raised here, it would say that nothing was erased.
        wal_pending = True
    logger.info("erased %d versions of nodes in commit %d", erased.versions, cursor)
    return ErasureReceipt(
        what=what,
        sha256=tuple(erasure.digest(handle).hex() for handle in handles),
        nodes=erased.nodes,
        versions=erased.versions,
        chunks=erased.chunks,
        vectors=erased.vectors,
        work=erased.work,
        cursor=cursor,
        erased_at=now_ms / 1000,
        wal_pending=wal_pending,
        cached=erased.cached,
        shared=shared,
        upgrade_exports=upgrade.exports_of(runtime.path),
    )
