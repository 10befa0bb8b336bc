"""Property indexes: made and dropped for filters that are asked often."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fathomdb import _native
from fathomdb.errors import InvalidInputError
from fathomdb.pipeline.prepare import check_name
from fathomdb.search.filters import property_names
from fathomdb.store import kinds, properties
from fathomdb.store.properties import PropertyIndex

if TYPE_CHECKING:
    from fathomdb.actors.runtime import Runtime
    from fathomdb.store.transaction import Transaction

MAX_PER_KIND = 16
"""Property indexes of a kind: each is kept current by every write of it."""


def index(runtime: Runtime, kind: str, name: str | tuple[str, ...]) -> bool:
    """Makes the index of a property; False where it is there already."""
    wanted = _checked(kind, name)

    def operation(tx: Transaction) -> bool:
        kinds.ensure(tx.db, [kind], runtime.config.chunk_chars, _native.SPLITTER_VERSION)
        there = [item for item in properties.every(tx.db) if item.kind == kind]
        if wanted in there:
            return False
        if len(there) >= MAX_PER_KIND:
            raise InvalidInputError(
                f"kind {kind!r} has {len(there)} property indexes, the most there may be; drop one "
                f"with admin.drop_property_index before {name!r} is indexed"
            )
        properties.create(tx.db, wanted)
        return True

    made = runtime.write(operation)
    runtime.note_kinds({kind})
    return made


def drop(runtime: Runtime, kind: str, name: str | tuple[str, ...]) -> bool:
    """Drops the index of a property; False where there is none."""
    wanted = _checked(kind, name)

    def operation(tx: Transaction) -> bool:
        if wanted not in properties.every(tx.db):
            return False
        properties.drop(tx.db, wanted)
        return True

    return runtime.write(operation)


def _checked(kind: str, name: str | tuple[str, ...]) -> PropertyIndex:
    check_name("kind", kind)
    return PropertyIndex(kind, property_names("a property to index", name))
