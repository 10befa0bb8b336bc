"""Postings: how many chunks a term is found in, and which, as the full-text index has them.

Nothing is ranked here: walking a term's chunks costs 25 ns each, ranking them with FTS5 a
microsecond.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from fathomdb.store.connection import only_row, quote
from fathomdb.store.fts import MAIN

if TYPE_CHECKING:
    import apsw
    import numpy as np
    from numpy.typing import NDArray

    from fathomdb.store.conditions import Condition

    Keys = NDArray[np.int64]
    """Chunk keys, each once."""

PROBE = 400
"""Chunks from each end of the index that say how often a term is found, where it is in more."""

_FOUND = f"SELECT rowid FROM {MAIN} WHERE {MAIN} MATCH ?"


class Corpus(NamedTuple):
    """What the index holds: chunks, their tokens, and the first and last key."""

    chunks: int
    tokens: int
    first_key: int
    last_key: int


def corpus(db: apsw.Connection) -> Corpus:
    """The totals that FTS5 ranks by, as it keeps them."""
    block, first, last = only_row(
        db.execute(
            f"SELECT (SELECT block FROM {quote(MAIN + '_data')} WHERE id = 1), "
            f"(SELECT min(id) FROM {quote(MAIN + '_docsize')}), "
            f"(SELECT max(id) FROM {quote(MAIN + '_docsize')})"
        )
    )
    totals = _varints(block or b"")
    if first is None or len(totals) < 2:
        return Corpus(0, 0, 0, 0)
    return Corpus(totals[0], totals[1], first, last)


def _varints(block: bytes) -> list[int]:
    """SQLite's variable-length integers: seven bits a byte, the highest first, eight in a ninth."""
    found: list[int] = []
    value = length = 0
    for byte in block:
        length += 1
        if length == 9:
            value = value << 8 | byte
        else:
            value = value << 7 | byte & 0x7F
            if byte & 0x80:
                continue
        found.append(value)
        value = length = 0
    return found


def count(db: apsw.Connection, match: str, most: int) -> int:
    """How many chunks an expression finds; ``most`` where there are as many or more."""
    return int(db.execute(f"SELECT count(*) FROM ({_FOUND} LIMIT ?)", (match, most)).get)


def about(db: apsw.Connection, match: str, corpus: Corpus) -> int:
    """About how many chunks an expression finds; exact up to PROBE.

    Beyond, it is as many as if all of the index were like that end of it where they are fewer: what
    is frequent at one end alone is not common. The same for each reader of a snapshot.
    """
    least = corpus.chunks
    for order, edge in (("ASC", corpus.first_key), ("DESC", corpus.last_key)):
        found, smallest, largest = only_row(
            db.execute(
                f"SELECT count(*), min(rowid), max(rowid) FROM ({_FOUND} ORDER BY rowid {order} "
                "LIMIT ?)",
                (match, PROBE + 1),
            )
        )
        if found <= PROBE:
            return int(found)
        span = abs((largest if order == "ASC" else smallest) - edge) + 1
        keys = corpus.last_key - corpus.first_key + 1
        least = min(least, max(found, found * keys // span))
    return least


def newest(db: apsw.Connection, match: str, most: int) -> Keys:
    """The keys of the chunks that an expression finds, ascending; of more than ``most`` the newest."""
    # One string for all: row by row, each would take the interpreter, and five times as long.
    joined: str | None = db.execute(
        f"SELECT group_concat(rowid) FROM ({_FOUND} ORDER BY rowid DESC LIMIT ?)", (match, most)
    ).get
    return _keys(joined)[::-1]


def of_filter(db: apsw.Connection, condition: Condition) -> Keys:
    """The keys of the chunks whose node ``n`` meets a condition, ascending."""
    within = condition.chunk_keys()
    joined: str | None = db.execute(
        f"SELECT group_concat(chunk_key) FROM ({within.sql})", within.parameters
    ).get
    keys = _keys(joined)
    keys.sort()
    return keys


def _keys(joined: str | None) -> Keys:
    import numpy as np  # slow to import, and an open needs none of it

    return np.empty(0, np.int64) if joined is None else np.fromstring(joined, np.int64, sep=",")
