"""Kinds: how the text of each is cut, fixed when it is first written."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    import apsw


def chunk_chars(db: apsw.Connection) -> dict[str, int]:
    """The characters of a chunk, by kind."""
    return {row[0]: row[1] for row in db.execute("SELECT kind, chunk_chars FROM kinds")}


def ensure(db: apsw.Connection, kinds: Iterable[str], chars: int, splitter: str) -> None:
    """Fixes the cutting of kinds that are new to the file."""
    db.executemany(
        "INSERT INTO kinds (kind, chunk_chars, splitter) VALUES (?, ?, ?) ON CONFLICT DO NOTHING",
        ((kind, chars, splitter) for kind in kinds),
    )


def cut_otherwise(db: apsw.Connection, splitter: str) -> list[str]:
    """Kinds that were first written with another version of the splitter, by name."""
    return [
        row[0]
        for row in db.execute(
            "SELECT kind FROM kinds WHERE splitter <> ? ORDER BY kind", (splitter,)
        )
    ]


def exists(db: apsw.Connection, kind: str) -> bool:
    """Whether anything of this kind was ever written or configured."""
    return db.execute("SELECT 1 FROM kinds WHERE kind = ?", (kind,)).fetchone() is not None


def every(db: apsw.Connection) -> list[str]:
    """All kinds, by name."""
    return [row[0] for row in db.execute("SELECT kind FROM kinds ORDER BY kind")]
