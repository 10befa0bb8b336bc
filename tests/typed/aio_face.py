"""How the asynchronous face is used, for mypy to read: never run.

``assert_type`` holds what a call gives. Each ignored error is one that has to be found, since an
ignore that nothing needs is an error itself.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, assert_type

import fathomdb
from fathomdb import aio

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping


async def records() -> AsyncIterator[Mapping[str, Any]]:
    yield {"id": "n1", "text": "text"}


async def used() -> None:
    async with aio.open("memory.db", embedder="static", read_only=False) as db:
        assert_type(db, aio.AsyncEngine)
        assert_type(db.path, str)
        receipt = await db.write(fathomdb.Node("Note", "n1", "text"), timeout=3.0)
        assert_type(receipt, fathomdb.WriteReceipt)
        assert_type(await db.wait(receipt, 1.0), fathomdb.WaitReport)
        assert_type(await db.search("text", limit=3, after=receipt), fathomdb.SearchResult)
        assert_type(await db.get("n1"), fathomdb.NodeRecord | None)
        assert_type(await db.ingest(records(), kind="Note"), fathomdb.IngestReport)
        assert_type(await db.ingest([{"id": 1}], kind="Note"), fathomdb.IngestReport)
        assert_type(await db.ingest(records=records(), kind="Note"), fathomdb.IngestReport)
        async for record in db.nodes(kind="Note"):
            assert_type(record, fathomdb.NodeRecord)
        assert_type(await db.admin.status(), fathomdb.Status)
        assert_type(await db.admin.drain_vector_projection(timeout=0), fathomdb.DrainReport)
    assert_type(await aio.open("memory.db"), aio.AsyncEngine)


async def misused(db: aio.AsyncEngine) -> None:
    aio.open(3)  # type: ignore[arg-type]
    await db.search(3)  # type: ignore[arg-type]
    await db.search("text", limi=3)  # type: ignore[call-arg]
    await db.ingest(3)  # type: ignore[arg-type]
    await db.admin.configure_vec()  # type: ignore[call-arg]
    db.nodes(kind=3)  # type: ignore[arg-type]
    for _ in db.nodes():  # type: ignore[attr-defined]
        pass
