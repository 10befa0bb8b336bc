"""Lookup: nodes by id, by kind and by filter, as they are stored."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fathomdb.records import ChunkRecord, NodeRecord
from fathomdb.search.filters import check_name
from fathomdb.search.searcher import decode_properties
from fathomdb.store import chunks, nodes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from contextlib import AbstractContextManager

    from fathomdb.search.filters import Filter
    from fathomdb.store.connection import Connection
    from fathomdb.store.nodes import NodeRow

PAGE_NODES = 512
"""Nodes of one snapshot while streaming: a slow reader holds no snapshot between pages."""


def get_many(db: Connection, node_ids: Sequence[str]) -> dict[str, NodeRecord]:
    """The live nodes of these ids, by id, in the order that was asked for."""
    for node_id in node_ids:
        check_name("node_id", node_id)
    found = nodes.live(db, node_ids)
    records = {record.node_id: record for record in _records(db, [*found.values()])}
    return {node_id: records[node_id] for node_id in node_ids if node_id in records}


def count(db: Connection, where: Filter) -> int:
    """How many live nodes pass a filter."""
    return nodes.count(db, where.condition)


def stream(
    snapshot: Callable[[], AbstractContextManager[Connection]], where: Filter
) -> Iterator[NodeRecord]:
    """The live nodes that pass a filter, in the order of their first writing, in pages."""
    after_key = 0
    while True:
        with snapshot() as db:
            page = nodes.page(db, after_key=after_key, limit=PAGE_NODES, condition=where.condition)
            records = _records(db, page)
        yield from records
        if len(page) < PAGE_NODES:
            return
        after_key = page[-1].node_key


def _records(db: Connection, rows: Iterable[NodeRow]) -> list[NodeRecord]:
    rows = [*rows]
    of_node = chunks.of_nodes(db, (row.node_key for row in rows))
    texts = dict(
        chunks.texts(db, (chunk.chunk_key for found in of_node.values() for chunk in found))
    )
    records = []
    for row in rows:
        found = tuple(
            ChunkRecord(
                chunk_id=chunk.chunk_id,
                text=texts[chunk.chunk_key],
                canonical_hash=chunk.canonical_hash.hex(),
                byte_start=chunk.byte_start,
                byte_end=chunk.byte_end,
            )
            for chunk in of_node.get(row.node_key, [])
        )
        records.append(
            NodeRecord(
                kind=row.kind,
                node_id=row.node_id,
                # The splitter loses nothing: its pieces are the text.
                text="".join(chunk.text for chunk in found) if row.split else None,
                properties=decode_properties(row.properties),
                source_ref=row.source_ref,
                chunks=found,
                cursor=row.cursor,
            )
        )
    return records
