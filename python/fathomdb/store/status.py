"""What the owning process says of itself in the file, so that any reader can show it."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    import apsw

Value = int | float | str | None

COUNTERS = (
    "claimed",
    "applied",
    "discarded",
    "failed",
    "reverted",
    "reused",
    "truncated",
    "embed_calls",
    "embed_seconds",
    "outages",
    "outage_seconds",
)
"""Names whose values are numbers since the file was made."""
_NAMED = ", ".join(repr(name) for name in COUNTERS)
MISFITS = (
    f"CASE WHEN name IN ({_NAMED}) THEN typeof(value) NOT IN ('integer', 'real') "
    "WHEN name IN ('pid', 'started_ms', 'heartbeat_ms') THEN typeof(value) NOT IN ('integer', 'null') "
    "WHEN name = 'outage' THEN typeof(value) NOT IN ('text', 'null') END"
)
"""Of which rows the value is not what its name says: a condition."""


def write(db: apsw.Connection, values: Mapping[str, Value]) -> None:
    """Sets named values."""
    db.executemany(
        "INSERT INTO engine_status (name, value) VALUES (?, ?) "
        "ON CONFLICT (name) DO UPDATE SET value = excluded.value",
        values.items(),
    )


def read(db: apsw.Connection) -> dict[str, Value]:
    """All named values."""
    return {row[0]: row[1] for row in db.execute("SELECT name, value FROM engine_status")}


def cursor(db: apsw.Connection) -> int:
    """The last canonical commit that this snapshot sees."""
    return int(db.execute("SELECT cursor FROM engine_state").get)
