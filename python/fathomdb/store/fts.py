"""Full text: an FTS5 index with external content over the live chunks, and words as queries.

While it is rebuilt there is a second index beside it. That one holds the chunks up to a key that
``engine_state`` keeps; the first goes on serving, and both are kept current, until they swap.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Literal, get_args

import apsw

from fathomdb.errors import InvalidInputError
from fathomdb.store import keys, shadow
from fathomdb.store.connection import only_row, quote

if TYPE_CHECKING:
    from fathomdb.store.conditions import Condition

Tokenizer = Literal["porter unicode61", "unicode61", "trigram"]
TOKENIZERS: tuple[Tokenizer, ...] = get_args(Tokenizer)
DEFAULT_TOKENIZER: Tokenizer = "porter unicode61"
MAIN = "chunks_fts"
NEXT = "chunks_fts_next"
SETTINGS = {
    # Deleted words must leave the index at once, not at some later merge.
    "secure-delete": 1,
    # Measured: a sixth off the time of a write, the same for a search.
    "pgsz": 8000,
    "automerge": 16,
}

Rows = Sequence[tuple[int, str]]

_AROUND_WORDS = re.compile(r"^[\W_]+|[\W_]+$")


def check_tokenizer(tokenizer: object) -> Tokenizer:
    """Refuses a tokenizer that is not one of ours: its name goes into a statement."""
    for name in TOKENIZERS:
        if tokenizer == name:
            return name
    raise InvalidInputError(f"tokenizer must be one of {TOKENIZERS}, got {tokenizer!r}")


def create(db: apsw.Connection, table: str, tokenizer: Tokenizer) -> None:
    """Makes an index, empty, in the caller's transaction."""
    db.execute(
        f"CREATE VIRTUAL TABLE {quote(table)} USING fts5(text, content='live_chunk_text', "
        f"content_rowid='chunk_key', tokenize='{check_tokenizer(tokenizer)}')"
    )
    configure(db, table)


def configure(db: apsw.Connection, table: str) -> None:
    """Gives an index its settings."""
    for name, value in SETTINGS.items():
        db.execute(
            f"INSERT INTO {quote(table)} ({quote(table)}, rank) VALUES (?, ?)", (name, value)
        )


def exists(db: apsw.Connection, table: str) -> bool:
    """Whether an index of this name is there."""
    return bool(db.execute("SELECT count(*) FROM sqlite_master WHERE name = ?", (table,)).get)


def tokenizer(db: apsw.Connection) -> Tokenizer:
    """The tokenizer of the index that serves."""
    sql = db.execute("SELECT sql FROM sqlite_master WHERE name = ?", (MAIN,)).get or ""
    return next((name for name in TOKENIZERS if f"tokenize='{name}'" in sql), DEFAULT_TOKENIZER)


def _insert_chunks(db: apsw.Connection, table: str, chunk_keys: Iterable[int]) -> None:
    # One statement: row by row, each would wait for the interpreter while another thread has it.
    db.execute(
        f"INSERT INTO {quote(table)} (rowid, text) SELECT chunk_key, text FROM chunks "
        "WHERE chunk_key IN (SELECT value FROM carray(?)) ORDER BY chunk_key",
        (keys.ints(chunk_keys),),
    )


def _delete(db: apsw.Connection, table: str, rows: Rows) -> None:
    db.executemany(
        f"INSERT INTO {quote(table)} ({quote(table)}, rowid, text) VALUES ('delete', ?, ?)", rows
    )


# --- rebuilding -----------------------------------------------------------------------------------


def rebuild_target(db: apsw.Connection) -> tuple[Tokenizer, int] | None:
    """The tokenizer of a rebuild under way and the key it has come to, or None."""
    row = only_row(db.execute("SELECT fts_next_tokenizer, fts_next_upto FROM engine_state"))
    return None if row[0] is None else (row[0], int(row[1]))


def rebuild_begin(db: apsw.Connection, tokenizer: Tokenizer) -> None:
    """Makes the second index, empty; one that was begun before is dropped."""
    rebuild_cancel(db)
    create(db, NEXT, tokenizer)
    db.execute("UPDATE engine_state SET fts_next_tokenizer = ?, fts_next_upto = 0", (tokenizer,))


def rebuild_page(db: apsw.Connection, chunk_keys: Sequence[int]) -> None:
    """Adds chunks in key order, and remembers how far the second index has come."""
    _insert_chunks(db, NEXT, chunk_keys)
    db.execute("UPDATE engine_state SET fts_next_upto = ?", (chunk_keys[-1],))


def rebuild_swap(db: apsw.Connection) -> None:
    """Has the second index, which is complete, take the place of the first."""
    shadow.drop(db, MAIN, shadow.FTS5)
    db.execute(f"ALTER TABLE {quote(NEXT)} RENAME TO {quote(MAIN)}")
    db.execute("UPDATE engine_state SET fts_next_tokenizer = NULL, fts_next_upto = NULL")


def rebuild_cancel(db: apsw.Connection) -> None:
    """Drops the second index."""
    shadow.drop(db, NEXT, shadow.FTS5)
    db.execute("UPDATE engine_state SET fts_next_tokenizer = NULL, fts_next_upto = NULL")


# --- erasing --------------------------------------------------------------------------------------


def forget_separators(db: apsw.Connection) -> None:
    """Has no index keep the beginning of a word that is gone.

    FTS5 finds a word's page by separators: the beginning of the first word that a page had when it
    was written, long enough to differ from the word before it. They stay when the word is deleted,
    ``secure-delete`` or not. Where one is of no word any more, the index is merged anew.
    """
    for table in (MAIN, *([NEXT] if rebuild_target(db) is not None else [])):
        if _has_stale_separator(db, table):
            _merge_all(db, table)


def _has_stale_separator(db: apsw.Connection, table: str) -> bool:
    db.execute(
        f"CREATE VIRTUAL TABLE temp.indexed_words USING fts5vocab('main', {quote(table)}, 'row')"
    )
    try:
        # Of the nearest word from there on; a word is not always whole UTF-8 where it is cut.
        return bool(
            db.execute(
                "SELECT EXISTS (SELECT 1 FROM (SELECT substr(CAST(term AS BLOB), 2) AS separator "
                f"FROM {quote(table + '_idx')} WHERE length(CAST(term AS BLOB)) > 1) "
                "WHERE separator IS NOT substr(CAST((SELECT term FROM temp.indexed_words "
                "WHERE term >= CAST(separator AS TEXT) ORDER BY term LIMIT 1) AS BLOB), 1, length(separator)))"
            ).get
        )
    finally:
        db.execute("DROP TABLE temp.indexed_words")


def _merge_all(db: apsw.Connection, table: str) -> None:
    # An index of one segment counts as merged, and is left as it is: a row of our own, of a key that
    # no chunk has, makes it two.
    marker = [(0, "aaa")]
    db.executemany(f"INSERT INTO {quote(table)} (rowid, text) VALUES (?, ?)", marker)
    db.execute(f"INSERT INTO {quote(table)} ({quote(table)}) VALUES ('optimize')")
    _delete(db, table, marker)


# --- reading --------------------------------------------------------------------------------------


def words(db: apsw.Connection, text: str, limit: int) -> list[str]:
    """The distinct words of a text as the index would cut them, in order, at most ``limit``."""
    name = tokenizer(db)
    if name == "trigram":
        # A word is looked up as it stands, and without the punctuation around it. The index cuts
        # it into trigrams by itself; one shorter than three characters matches nothing.
        found_words = text.replace("\0", " ").split()
        forms = (form for word in found_words for form in (word, _AROUND_WORDS.sub("", word)))
        return list(dict.fromkeys(form for form in forms if len(form) >= 3))[:limit]
    tokenize = _tokenizer(db, name)
    # By stem, so that a word and its plural count once; the word itself is what FTS5 stems again.
    by_stem: dict[str, str] = {}
    encoded = text.encode()
    found: Any = tokenize(encoded, apsw.FTS5_TOKENIZE_QUERY, None)
    for start, end, *stems in found:
        by_stem.setdefault(stems[0], encoded[start:end].decode())
        if len(by_stem) == limit:
            break
    return list(by_stem.values())


def phrase(word: str) -> str:
    """A word as an FTS5 expression: a quoted string, whatever is in it."""
    return '"' + word.replace('"', '""') + '"'


Cut = Callable[[str], list[str]]
"""A text to its tokens, in order, as the index has them."""


def cutters(db: apsw.Connection) -> tuple[Cut, Cut]:
    """How the index that serves cuts a text that is stored, and a word that is looked for."""
    tokenize = _tokenizer(db, tokenizer(db))

    def cut(reason: int) -> Cut:
        return lambda text: tokenize(
            text.encode(), reason, None, include_offsets=False, include_colocated=False
        )

    return cut(apsw.FTS5_TOKENIZE_DOCUMENT), cut(apsw.FTS5_TOKENIZE_QUERY)


def _tokenizer(db: apsw.Connection, name: Tokenizer) -> Any:
    first, *arguments = name.split()
    return db.fts5_tokenizer(first, arguments)


def matches(
    db: apsw.Connection, match: str, condition: Condition
) -> Iterator[tuple[int, int, float]]:
    """(chunk_key, node_key, score) of what an expression finds, best first; higher is better.

    ``condition`` is over the node ``n``. Lazy: who reads only the best
    rows pays only for these.
    """
    rows = db.execute(
        f"SELECT f.rowid, c.node_key, -f.rank FROM {MAIN} AS f "
        "CROSS JOIN chunks AS c ON c.chunk_key = f.rowid CROSS JOIN nodes AS n USING (node_key) "
        f"WHERE {MAIN} MATCH ? AND {condition.sql} ORDER BY f.rank",
        (match, *condition.parameters),
    )
    return iter(rows)


def integrity_check(db: apsw.Connection) -> str | None:
    """What FTS5 finds wrong with the index against its content, or None; needs the writer."""
    try:
        db.execute(f"INSERT INTO {MAIN} ({MAIN}, rank) VALUES ('integrity-check', 1)")
    except (apsw.CorruptError, apsw.SQLError) as error:  # the second where a part of it is gone
        return str(error)
    return None


# --- writing --------------------------------------------------------------------------------------


class PendingRows:
    """Chunks of a transaction whose text waits to be indexed at its end, with an undo of a request.

    A chunk that waits and is deleted again never reaches FTS5. A deletion of one that is already
    indexed runs at once: before the chunk's own row changes.
    """

    def __init__(self, db: apsw.Connection) -> None:
        self._db = db
        self._keys: set[int] = set()
        self._before: set[int] = set()

    def insert(self, chunk_keys: Iterable[int]) -> None:
        """Has chunks indexed at the end of the transaction, with the text that they have then."""
        self._keys.update(chunk_keys)

    def delete(self, rows: Rows) -> None:
        """Removes (chunk_key, text) rows from the index; ``text`` must be what was indexed."""
        indexed = [row for row in rows if row[0] not in self._keys]
        self._keys.difference_update(key for key, _ in rows)
        if indexed:
            _delete(self._db, MAIN, indexed)
            upto = self._next_upto()
            if also := [row for row in indexed if row[0] <= upto]:
                _delete(self._db, NEXT, also)

    def mark(self) -> None:
        """Begins a request: ``undo`` comes back to here."""
        self._before = self._keys.copy()

    def undo(self) -> None:
        """Forgets what the request added and brings back what it removed."""
        self._keys = self._before.copy()

    def flush(self) -> None:
        """Indexes what waits."""
        if self._keys:
            ordered = sorted(self._keys)
            _insert_chunks(self._db, MAIN, ordered)
            upto = self._next_upto()
            if also := [key for key in ordered if key <= upto]:
                _insert_chunks(self._db, NEXT, also)
            self._keys.clear()

    def _next_upto(self) -> int:
        """How far a rebuild under way has come; it comes to what is beyond by itself."""
        target = rebuild_target(self._db)
        return -1 if target is None else target[1]
