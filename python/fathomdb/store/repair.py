"""Repair of what rows stand on: each function puts one sort of thing right in the writer's transaction.

What belongs here: what is derived or fixed by the schema, made again from what is canonical. Each
looks again at what it is about to change, and says in words what it did, or None where nothing could
be done. What does not: rows that hang on one chunk (``store/reconcile.py``), and deciding what to
call (``admin/repair.py``).
"""

from __future__ import annotations

import dataclasses
import re
from typing import TYPE_CHECKING, Any

from fathomdb.identity import NORMALIZATION_POLICIES
from fathomdb.store import (
    audit_structure,
    fts,
    indexes,
    kinds,
    profiles,
    schema,
    shadow,
    status,
    vectors,
    work,
)
from fathomdb.store.connection import BEYOND_ANY_COUNT, quote

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    import apsw

    from fathomdb.store.profiles import Profile
    from fathomdb.store.transaction import Transaction

RIGHT_ALREADY = "it was right when it came to it: another repair, or a write, had put it right"
ORPHANS = 1024
"""Rows that one transaction deletes at most."""

# --- the file -------------------------------------------------------------------------------------

_INDEX_NAMED = re.compile(r"\b(?:from|in) index ([\w.]+)")


def index_of(said: str) -> str | None:
    """The index that a line of SQLite's own check is about, or None."""
    found = _INDEX_NAMED.search(said)
    return None if found is None else found[1]


def reindex(tx: Transaction, index: str) -> str | None:
    """Makes an index again from its table."""
    exists = "SELECT count(*) FROM sqlite_master WHERE type = 'index' AND name = ?"
    if not tx.db.execute(exists, (index,)).get:
        return None
    tx.db.execute(f"REINDEX {quote(index)}")
    return f"the index {index} was made again from its table"


def schema_object(tx: Transaction, name: str) -> str | None:
    """Makes an index or a view again, and drops what the schema does not have and holds no rows."""
    there, expected = schema.objects(tx.db).get(name), schema.expected_objects().get(name)
    if expected is not None:
        kind, sql = expected
        if kind not in ("index", "view") or there == expected:
            return None
        if there is not None:
            tx.db.execute(f"DROP {there[0].upper()} {quote(name)}")
        tx.db.execute(sql)
        return f"the {kind} {name} was made again"
    if there is None:
        return None
    kind = there[0]
    # A table of vectors whose virtual table is gone is derived; any other may be somebody's records.
    if kind == "table" and not re.fullmatch(
        rf"vec_.*_p\d+({'|'.join(shadow.VEC0)})", name, re.DOTALL
    ):
        return None
    tx.db.execute(f"DROP {kind.upper()} {quote(name)}")
    return f"the {kind} {name}, which is not of this schema, was dropped"


def orphans(tx: Transaction, table: str) -> int:
    """Deletes rows of the queue or the ledger whose chunk or model is gone; how many, in pages.

    Of the cache, all whose model is gone.
    """
    if table == "vector_cache":
        tx.db.execute(
            "DELETE FROM vector_cache WHERE profile_id NOT IN "
            "(SELECT profile_id FROM vector_embedding_profiles)"
        )
        return tx.db.changes()
    key = {"vector_projection_work": "work_id", "vector_ledger": "chunk_key, profile_id"}[table]
    tx.db.execute(
        f"DELETE FROM {table} WHERE ({key}) IN (SELECT {key} FROM {table} AS t WHERE NOT EXISTS "
        "(SELECT 1 FROM chunks AS c WHERE c.chunk_key = t.chunk_key) OR NOT EXISTS "
        "(SELECT 1 FROM vector_embedding_profiles AS p WHERE p.profile_id = t.profile_id) LIMIT ?)",
        (ORPHANS,),
    )
    return tx.db.changes()


def missing_kinds(tx: Transaction, chunk_chars: int, splitter: str) -> str | None:
    """Gives kinds that records or indexes are of, and that have no row, one."""
    missing = [
        row[0]
        for row in tx.db.execute(
            "SELECT kind FROM (SELECT kind FROM nodes UNION SELECT kind FROM vector_index_schemas) "
            "WHERE kind NOT IN (SELECT kind FROM kinds) ORDER BY kind"
        )
    ]
    if not missing:
        return None
    kinds.ensure(tx.db, missing, chunk_chars, splitter)
    return (
        f"the kind {', '.join(missing)} has a row again, with chunks of {chunk_chars} characters: "
        "how it was cut before is not known"
    )


def statuses(tx: Transaction) -> str | None:
    """Has counters that are no numbers begin at 0, and forgets what else cannot be."""
    wrong = [
        row[0] for row in tx.db.execute(f"SELECT name FROM engine_status WHERE {status.MISFITS}")
    ]
    status.write(tx.db, {name: 0 if name in status.COUNTERS else None for name in wrong})
    return f"{', '.join(wrong)} began anew" if wrong else None


def cursor(tx: Transaction) -> str | None:
    """Brings the number of the last commit up to what the records say."""
    said = tx.db.execute(
        "SELECT max(number) FROM (SELECT written_cursor AS number FROM nodes UNION ALL "
        "SELECT superseded_cursor FROM nodes UNION ALL SELECT cursor FROM tombstones) "
        "WHERE number < ?",
        (BEYOND_ANY_COUNT,),
    ).get
    if said is None or said <= tx.latest_cursor():
        return None
    tx.reach(cursor=said)
    return f"the file has come to commit {said} now"


def fence(tx: Transaction) -> str | None:
    """Brings the last fence that was given up to what the queue says."""
    said = tx.db.execute(
        "SELECT max(fence) FROM vector_projection_work WHERE fence < ?", (BEYOND_ANY_COUNT,)
    ).get
    if said is None or said <= tx.latest_fence():
        return None
    tx.reach(fence=said)
    return f"the fences of the file begin after {said} now"


def vector_commits(tx: Transaction) -> str | None:
    """Has the number of commits that changed vectors begin again."""
    if not tx.vector_commits_are_wrong:
        return RIGHT_ALREADY
    tx.fence()  # a commit that counts anything writes all its counts
    return "commits that change vectors are counted anew"


# --- records --------------------------------------------------------------------------------------


def places(tx: Transaction, node_ids: Iterable[str]) -> dict[str, str]:
    """Numbers the chunks of nodes anew and says again where each is in its text, in their order.

    Nodes whose order is not known, or that need nothing, are not in the result.
    """
    done = {}
    for node_id in node_ids:
        rows = tx.db.execute(
            "SELECT c.chunk_key, c.ordinal, c.byte_start, c.byte_end, octet_length(c.text), n.split "
            "FROM nodes AS n JOIN chunks AS c USING (node_key) WHERE n.logical_id = ? "
            "AND n.superseded_cursor IS NULL",
            (node_id,),
        ).fetchall()
        end, changed = 0, False
        for ordinal, (key, was, start, stop, size, split) in enumerate(_in_order(rows)):
            place = (ordinal, *((end, end + size) if split else (None, None)))
            end += size
            if place != (was, start, stop):
                tx.db.execute(
                    "UPDATE chunks SET ordinal = ?, byte_start = ?, byte_end = ? "
                    "WHERE chunk_key = ?",
                    (*place, key),
                )
                changed = True
        if changed:
            done[node_id] = "its chunks were numbered and placed again, in the order that they had"
    return done


def _in_order(rows: list[Any]) -> list[Any]:
    """The chunks of a node in the order of its text; nothing where that is not known."""
    end = 0
    by_offset = sorted(rows, key=lambda row: -1 if row[2] is None else row[2])
    for _, _, start, _, size, split in by_offset:
        if not split or start != end:
            break
        end += size
    else:
        return by_offset  # each begins where another ends: that is no accident
    by_number = sorted(rows, key=lambda row: row[1])
    return by_number if len({row[1] for row in rows}) == len(rows) else []


# --- indexes and models ---------------------------------------------------------------------------


def schemas(tx: Transaction, now_ms: int) -> str | None:
    """Has every vector index be under the active model, and a disabled one under none."""
    db, done = tx.db, []
    db.execute(
        "UPDATE vector_index_schemas SET profile_id = NULL, state = 'stale', last_error = NULL, "
        "rebuild_after_key = NULL WHERE enabled = 0 AND (profile_id IS NOT NULL "
        "OR rebuild_after_key IS NOT NULL OR state <> 'stale')"
    )
    if db.changes():
        done.append("what was left of a disabled index was removed")
    if profiles.active(db) is None and (only := _only_profile(db)) is not None:
        db.execute(
            "UPDATE vector_embedding_profiles SET state = 'active' WHERE profile_id = ?",
            (only.profile_id,),
        )
        done.append(f"the model {only}, which every index is under, is active again")
    active, building, known = profiles.active(db), profiles.building(db), profiles.every(db)
    serving = {item.profile_id for item in (active, building) if item is not None}
    for index in indexes.every(db):
        if not index.enabled or index.profile_id in serving:
            continue
        if active is not None:
            if index.profile_id is not None and _is_retired(known, index.profile_id):
                work.delete_kind(db, index.kind, index.profile_id)
                _drop_table(tx, index.kind, index.profile_id)
            indexes.serve_under(db, index.kind, active.profile_id)
            indexes.enable(db, index.kind, active, fence=tx.fence(), now_ms=now_ms)
            indexes.set_state(db, index.kind, "stale")
            done.append(f"kind {index.kind} is indexed under {active} again, its vectors are owed")
        elif index.profile_id not in known:
            db.execute(
                "UPDATE vector_index_schemas SET profile_id = NULL, state = 'stale' WHERE kind = ?",
                (index.kind,),
            )
            done.append(f"the index of kind {index.kind} waits for a model: its own is gone")
    return "; ".join(done) or None


def _is_retired(known: Mapping[int, Profile], profile_id: int) -> bool:
    """Whether nothing of a profile is wanted."""
    return profile_id not in known or known[profile_id].state == "retired"


def _only_profile(db: apsw.Connection) -> Profile | None:
    """The profile that every enabled index is under, if that is one and the same."""
    used = {index.profile_id for index in indexes.every(db) if index.enabled}
    known = profiles.every(db)
    return known.get(next(iter(used)) or 0) if len(used) == 1 else None


def identities(tx: Transaction) -> str | None:
    """Describes a model as its vector tables and its fingerprint say, where the two agree."""
    done = []
    for profile_id, profile in profiles.every(tx.db).items():
        tables = audit_structure.dimensions(tx.db, profile_id)
        described = [
            candidate
            for dimension in (tables if len(tables) == 1 else {profile.dimension, *tables})
            for policy in NORMALIZATION_POLICIES
            if audit_structure.has_its_fingerprint(
                tx.db,
                candidate := dataclasses.replace(
                    profile, dimension=dimension, normalization_policy=policy
                ),
            )
        ]
        # Of several, each as good as another, none is known to be the one.
        if len(described) == 1 and described != [profile]:
            (right,) = described
            tx.db.execute(
                "UPDATE vector_embedding_profiles SET dimension = ?, normalization_policy = ? "
                "WHERE profile_id = ?",
                (right.dimension, right.normalization_policy, profile_id),
            )
            done.append(
                f"the model {right}, normalization {right.normalization_policy}, is described as "
                "its vectors and its fingerprint say"
            )
    return "; ".join(done) or None


def vector_table(tx: Transaction, table: str, now_ms: int, *, if_wrong: bool) -> str | None:
    """Makes a vector table again, empty, and owes its vectors; drops one that no index has.

    With ``if_wrong``, only one that is missing or was made for other vectors.
    """
    there, known = vectors.tables(tx.db), profiles.every(tx.db)
    index = indexes.of_table(tx.db, table)
    if index is not None:
        kind, profile = index[0], known.get(index[1])
        # A table for what the model is not would be one more thing that is wrong.
        if (
            profile is None
            or profile.dimension is None
            or not audit_structure.has_its_fingerprint(tx.db, profile)
        ):
            return None
        if if_wrong and vectors.is_made_for(there.get(table, ""), profile):
            return RIGHT_ALREADY
        _drop_table(tx, kind, profile.profile_id)
        owed = indexes.add_index(tx.db, kind, profile, fence=tx.fence(), now_ms=now_ms)
        return f"{table} was made again, and {owed} vectors are owed to it"
    if table not in there:
        return RIGHT_ALREADY
    shadow.drop(tx.db, table, shadow.VEC0)
    tx.vectors.drop(table)
    return f"{table}, which no index has, was dropped"


def _drop_table(tx: Transaction, kind: str, profile_id: int) -> None:
    shadow.drop(tx.db, vectors.table_name(kind, profile_id), shadow.VEC0)
    vectors.drop(tx.db, [kind], profile_id, tx.vectors)


# --- the queue ------------------------------------------------------------------------------------


def stuck(tx: Transaction) -> str | None:
    """Has what nothing works on wait again, with the attempts that it had."""
    tx.db.execute(
        "UPDATE vector_projection_work SET state = 'pending', fence = ? WHERE state = 'inflight'",
        (tx.fence(),),
    )
    rows = tx.db.changes()
    return f"{rows} rows wait again" if rows else None


# --- full text ------------------------------------------------------------------------------------


def begin_text(tx: Transaction) -> bool:
    """Begins to make the full-text index again, with the tokenizer that is wanted."""
    target = fts.rebuild_target(tx.db)
    wanted = target[0] if target is not None and target[0] in fts.TOKENIZERS else None
    fts.rebuild_begin(tx.db, wanted if wanted is not None else fts.tokenizer(tx.db))
    return True
