# Editors show these docstrings: a compiled module has no source to read.
"""The hot path in Rust: hashes, vectors, blobs and splitting, with the GIL released."""

from collections.abc import Sequence
from typing import Any, Final, Literal, Self, final, overload

__all__ = [
    "BUILD",
    "SPLITTER_VERSION",
    "CodeIndex",
    "ContentIndex",
    "PackedVectors",
    "__version__",
    "canonical_chunk_hash",
    "canonical_chunk_hashes",
    "content_hashes",
    "pack_vectors",
    "read_records",
    "split_text",
    "unpack_vectors",
    "verify_chunk_hashes",
]

__version__: Final[str]
"""The version of the package."""

BUILD: Final[str]
"""How the module was built, ``"release"`` or ``"debug"``; benches refuse ``"debug"``."""

SPLITTER_VERSION: Final[str]
"""The rules by which :func:`split_text` cuts; stored with the data, since others cut otherwise."""

def canonical_chunk_hash(chunk_id: str, text: str) -> str:
    """SHA-256 of the id (UTF-8), one NUL byte and the text (UTF-8), as lowercase hex.

    Raises:
        InvalidInputError: the id is empty or contains a NUL; id or text has a lone surrogate.
    """

@overload
def canonical_chunk_hashes(
    chunk_ids: Sequence[str], texts: Sequence[str], *, content: Literal[False] = False
) -> list[bytes]: ...
@overload
def canonical_chunk_hashes(
    chunk_ids: Sequence[str], texts: Sequence[str], *, content: Literal[True]
) -> tuple[list[bytes], list[bytes]]:
    """The canonical hash, 32 bytes, of each pair, in order.

    With ``content`` also the content hash, SHA-256 of the text alone, of each.

    Raises:
        InvalidInputError: as :func:`canonical_chunk_hash`, naming the index; or the sequences
            differ in length.
    """

@overload
def verify_chunk_hashes(
    chunk_ids: Sequence[str],
    texts: Sequence[str],
    expected: Sequence[bytes],
    *,
    content: Literal[False] = False,
) -> list[int]: ...
@overload
def verify_chunk_hashes(
    chunk_ids: Sequence[str],
    texts: Sequence[str],
    expected: Sequence[bytes],
    *,
    content: Literal[True],
) -> tuple[list[int], list[bytes]]:
    """The indices, ascending, whose canonical hash is not the expected one.

    With ``content`` also the content hash of each text.

    Raises:
        InvalidInputError: as :func:`canonical_chunk_hashes`; or an expected hash is not 32 bytes.
    """

def content_hashes(texts: Sequence[str]) -> list[bytes]:
    """SHA-256, 32 bytes, of each text alone, in order.

    Raises:
        InvalidInputError: a text has a lone surrogate; the message names its index.
    """

@final
class PackedVectors:
    """Checked vectors in one buffer, ready to be stored."""

    @property
    def count(self) -> int:
        """How many rows there are, bad ones included."""

    @property
    def dimension(self) -> int:
        """How many columns each row has."""

    @property
    def blob(self) -> bytes:
        """All rows, one after the other: ``count * dimension`` little-endian f32; bad rows are zero."""

    @property
    def bad(
        self,
    ) -> list[
        tuple[int, int | None, Literal["dimension", "not_finite", "zero", "not_numeric"], str]
    ]:
        """Every row that must not be stored: (row, column, cause, detail), rows ascending."""

    def rows(self) -> list[memoryview]:
        """One view a row into ``blob``, without a copy, ready to be bound by SQLite."""

    def __len__(self) -> int: ...

def pack_vectors(rows: Any, dimension: int | None, *, normalize: bool = False) -> PackedVectors:
    """Copies rows into one buffer of f32 and checks that copy.

    Args:
        rows: shape (n, dimension): a NumPy array or other buffer of native f16, f32 or f64, with
            any strides; an object with ``__array__`` that gives one; or a list or tuple of rows,
            each a list or tuple of numbers or an array of shape (dimension,).
        dimension: the columns of a row; None learns it from the first row that has any.
        normalize: scale every row to unit length (L2).

    Returns:
        All rows, and a list of the bad ones, each with its cause: ``"dimension"`` (another number
        of columns), ``"not_finite"`` (NaN or infinite as f32), ``"zero"`` (no direction) or
        ``"not_numeric"`` (the row is no vector, or a column no number). The arrays may be written
        to meanwhile: what was checked is what is returned.

    Raises:
        InvalidInputError: the dimension is not an integer of 1 or more.
        EmbedderContractError: ``rows`` is not an array of two dimensions, is masked, or has
            elements that are not floats; or a dimension of None cannot be learned.
    """

def unpack_vectors(blobs: Sequence[bytes | memoryview], dimension: int) -> bytes:
    """Joins stored vectors into one buffer, bit for bit: n times ``dimension`` little-endian f32.

    Raises:
        InvalidInputError: the dimension is not an integer of 1 or more, or a blob is not bytes.
        DimensionMismatchError: a blob has not 4 bytes a column; the message names its index.
    """

@final
class CodeIndex:
    """The signs of the vectors of an index, one bit a number, and with ``int8`` a byte a number.

    About 62 bytes a vector at 384 dimensions, 449 with ``int8``. It begins as being loaded: what is
    put or removed meanwhile is newer than what ``load`` brings. Any number of threads may search
    while one changes rows; a search sees each row as it was or as it is.
    """

    def __new__(cls, dimension: int, *, int8: bool) -> Self:
        """An empty index.

        Raises:
            InvalidInputError: the dimension is not an integer of 1 or more.
        """

    def __len__(self) -> int:
        """How many vectors it has codes of."""

    @property
    def nbytes(self) -> int:
        """The memory that it holds, in bytes."""

    def keys(self) -> list[int]:
        """All keys, in no order."""

    def load(
        self, validity: Sequence[bytes], keys: Sequence[bytes], vectors: Sequence[bytes]
    ) -> None:
        """Adds what blocks of a vec0 table have, as they are read from its own tables.

        A block has a bit a row, little-endian i64 keys and f32 vectors. Keys that were put or
        removed since loading began are left as they are.

        Raises:
            CorruptDatabaseError: the parts of a block do not fit together, or a vector is not
                finite.
            InvalidInputError: the three differ in length, or an item is not bytes.
        """

    def finish_loading(self) -> None:
        """Ends loading."""

    def candidates_needed(self, samples: int, nearest: int) -> int:
        """How many rows have signs as near as those of a row that is truly near, at worst.

        Asked for ``samples`` of its own rows, each with the ``nearest`` to it by their bytes; 0
        without ``int8``. Takes about 40 ms a sample and million rows.

        Raises:
            InvalidInputError: a number is not 1 or more.
        """

    def put(self, keys: Sequence[int], blob: bytes, places: Sequence[int]) -> None:
        """Stores the codes of vectors, of ``keys[n]`` row ``places[n]`` of ``blob``.

        ``blob`` has rows of little-endian f32. Codes of the same keys are replaced.

        Raises:
            DimensionMismatchError: the blob has no such row, or is not rows of this dimension.
            CorruptDatabaseError: a vector is not finite.
            InvalidInputError: keys and places differ in length, or are not integers.
        """

    def remove(self, keys: Sequence[int]) -> None:
        """Forgets the codes of these keys; those that it does not have are fine.

        Raises:
            InvalidInputError: a key is not an integer of 64 bits.
        """

    def search(
        self, query: bytes, candidates: int, most: int, within: Sequence[int] | None = None
    ) -> list[int]:
        """At most ``most`` keys, the nearest first, of the ``candidates`` with the nearest signs.

        ``query`` is a vector of little-endian f32, compared by angle; ``within`` are the keys that
        may be found, None for all.

        Raises:
            DimensionMismatchError: the query has another dimension.
            InvalidInputError: ``candidates`` or ``most`` is not 1 or more, or a key no integer.
        """

@final
class ContentIndex:
    """Which chunks had a vector of a text, by the first four bytes of its content hash.

    About 7 bytes a chunk, and half a MB. What was added is always found; what is found may be gone, or of
    another text, so whoever asks compares the whole hash.
    """

    def __init__(self) -> None: ...
    def __len__(self) -> int:
        """How many chunks were noted."""

    def add(self, hashes: Sequence[bytes], keys: Sequence[int]) -> None:
        """Notes that chunk ``keys[n]`` has a vector of the text of ``hashes[n]``.

        Raises:
            InvalidInputError: the two differ in length, a hash is not bytes or a key no integer of
                64 bits.
        """

    def find(self, hashes: Sequence[bytes], most: int) -> list[int]:
        """At most ``most`` chunks for each hash, all in one list, of each hash the newest first.

        Raises:
            InvalidInputError: a hash is not bytes, or ``most`` is not an integer of 1 or more.
        """

def split_text(text: str, chunk_chars: int) -> list[tuple[int, int, str]]:
    """Cuts a text into pieces of at most ``chunk_chars`` characters: (start, end, piece).

    Cuts at the highest of paragraph, line, sentence and word that fits. The pieces, one after
    the other, are the text. No piece is white space alone, unless the text is: white space goes
    to the piece before it (at the start to the one after), which it may make longer. ``start``
    and ``end`` are offsets in bytes of UTF-8. An empty text has no pieces.

    Raises:
        InvalidInputError: the text has a lone surrogate, or ``chunk_chars`` is not an integer of
            1 or more.
    """

def read_records(
    rows: int,
    *,
    kind: str,
    ids: Sequence[Any],
    id_is_optional: bool,
    texts: Sequence[Any],
    keys: Sequence[str],
    properties: Sequence[Any],
    are_json: Sequence[bool],
    id_bytes: int,
    text_bytes: int,
    chunk_chars: int,
) -> (
    tuple[
        list[str],
        list[str | None],
        list[str | None],
        list[str | None],
        list[int],
        list[bytes | None],
    ]
    | None
):
    """The records of a table by column: ids, texts, properties, chunk ids, sizes, hashes.

    Args:
        rows: How many rows each column has.
        kind: The kind of all records; an id that is missing is made from it and the text.
        ids: Columns of the id, joined by ``/``; none has every id made. Columns are arrays that have
            ``__arrow_c_array__``: null, boolean, int64, uint64, float64 or large_string, native and
            aligned, with or without gaps, from any offset.
        id_is_optional: Whether an id is made for a row that has none in the one column.
        texts: Columns of the text, joined by a blank line; blank ones are left out.
        keys: The key of each property, as JSON.
        properties: Their columns.
        are_json: Of each, whether its texts are JSON and no strings.
        id_bytes: The longest id.
        text_bytes: The longest text, and JSON.
        chunk_chars: The most characters of a text that is one chunk.

    Returns:
        Lists of one item a row. A text is None where it is blank, properties where there are no
        columns of them; sizes are bytes of UTF-8. A chunk id and its canonical hash are None where
        the text is to be cut, or there is none. None instead of all lists where a record cannot be
        stored as it is, or has the id of another.

    Raises:
        InvalidInputError: A column is no array of these types or has another number of rows.
    """
