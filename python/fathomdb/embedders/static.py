"""A static embedder: the mean of token vectors, from the table inside the wordllama package.

The table is read from the installed wheel of wordllama (MIT), which is found but never imported:
its own loader downloads what it does not find, this one never does. FathomDB does not ship the
table. It derives from the token tables of Llama 2 and Phi-3, whose terms may apply; see NOTICE.
"""

from __future__ import annotations

import hashlib
import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fathomdb._extras import install_command, require
from fathomdb.embedders.protocol import EmbedderLimits
from fathomdb.errors import InvalidInputError, MissingExtraError
from fathomdb.identity import EmbedderIdentity

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

DIMENSIONS = (256, 128, 64)
"""What the table was trained for: its first 128 or 64 columns are an embedding of their own."""

TABLE_FILE = "weights/l2_supercat_256.safetensors"
TOKENIZER_FILE = "tokenizers/l2_supercat_tokenizer_config.json"
TENSOR = "embedding.weight"

TABLE_SHA256 = "64b47a2dc493cb8e85944076601189739852d7b64e0e1eedcb1937a251cd9fd5"
"""The same bytes in wordllama 0.2.2.post0 (any platform) and 0.4.0.post1."""

TOKENIZER_SHA256 = "bf467c9e0f536bda271283c6ef85eb1a943e3196b621c8a912d64953b205df83"
"""Of the file without a newline at its end: 0.4.0.post1 has one, 0.2.2.post0 has none, and a
database made with the one must open with the other."""

TOKENS_AT_ONCE = 16_384
"""A longer text is summed in pieces of this many rows, so that memory stays at 16 MB."""


class StaticEmbedder:
    """The mean of a text's token vectors, scaled to unit length: semantic, fast, and no network.

    Token vectors do not know their context, so this ranks paraphrases well below a transformer and
    well above word overlap. Nothing is truncated: every token of a text counts. A vector depends
    on its text alone, never on the batch. A text without any token, which only the empty string
    is, gives a zero vector, which FathomDB reports as that row's failure.

    ``tokenizers`` works on all cores, with the GIL released, and goes on working in a forked
    child. Its environment variable ``TOKENIZERS_PARALLELISM`` is the program's: FathomDB leaves it
    alone.

    Args:
        model: The dimension: 256, or a cut of the same table to 128 or 64; ``"static:128"``.

    Raises:
        InvalidInputError: The dimension is none of these.
        MissingExtraError: wordllama, tokenizers or safetensors is not installed, or wordllama has
            another table than the one known here (checked by SHA-256).
    """

    limits = EmbedderLimits(items=256)
    local = True

    def __init__(self, model: str | int = DIMENSIONS[0]) -> None:
        dimension = {str(known): known for known in DIMENSIONS}.get(str(model))
        if dimension is None:
            raise InvalidInputError(
                f"the static embedder has {', '.join(map(str, DIMENSIONS))} dimensions, "
                f"got {model!r}"
            )
        tokenizers = require("tokenizers", "static")
        safetensors = require("safetensors.numpy", "static")
        package = _wordllama()
        table = _read(package / TABLE_FILE, TABLE_SHA256)
        tokenizer = _read(package / TOKENIZER_FILE, TOKENIZER_SHA256)
        self._table: NDArray[np.float32] = np.ascontiguousarray(
            safetensors.load(table)[TENSOR][:, :dimension], dtype=np.float32
        )
        self._tokenizer: Any = tokenizers.Tokenizer.from_str(tokenizer.decode())
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        self._identity = EmbedderIdentity(
            model_identity="wordllama/l2_supercat_256",
            model_version=TABLE_SHA256[:12],
            dimension=dimension,
            normalization_policy="l2",
            preparation={
                "table_sha256": TABLE_SHA256,
                "tokenizer_sha256": TOKENIZER_SHA256,
                "pooling": "mean",
                "special_tokens": "none",
                "truncation": "none",
            },
        )
        self.plugin_spec = "static" if dimension == DIMENSIONS[0] else f"static:{dimension}"

    def identity(self) -> EmbedderIdentity:
        """The table's identity; equal for every wordllama that ships the same table."""
        return self._identity

    def batch_embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Unit vectors, shape (n, dimension), float32; a zero vector for a text without tokens."""
        vectors = np.zeros((len(texts), self._table.shape[1]), dtype=np.float32)
        encodings = self._tokenizer.encode_batch_fast(list(texts), add_special_tokens=False)
        for row, encoding in enumerate(encodings):
            ids = np.array(encoding.ids, dtype=np.intp)
            # One text at a time: a fixed order of additions, so that a batch changes no bit. And
            # 4 to 6 times faster than one np.add.reduceat over the batch.
            for start in range(0, len(ids), TOKENS_AT_ONCE):
                piece = self._table.take(ids[start : start + TOKENS_AT_ONCE], axis=0)
                vectors[row] += piece.sum(axis=0)
        # The length of a mean and of its sum differ, their direction does not.
        norms = np.linalg.norm(vectors, axis=1, keepdims=True)
        np.divide(vectors, norms, out=vectors, where=norms > 0)
        return vectors

    def __repr__(self) -> str:
        return f"<StaticEmbedder {self._identity}>"


def _wordllama() -> Path:
    spec = importlib.util.find_spec("wordllama")
    if spec is None or not spec.submodule_search_locations:
        raise MissingExtraError(f"wordllama is not installed; run: {install_command('static')}")
    return Path(next(iter(spec.submodule_search_locations)))


def _read(path: Path, sha256: str) -> bytes:
    """The file's bytes, without newlines at their end where it is text, checked."""
    advice = f"FathomDB knows wordllama 0.4.0.post1; run: {install_command('static')}"
    try:
        data = path.read_bytes()
    except FileNotFoundError as error:
        raise MissingExtraError(f"wordllama has no {path.name}: {path}; {advice}") from error
    if path.suffix == ".json":
        data = data.rstrip(b"\r\n")
    found = hashlib.sha256(data).hexdigest()
    if found != sha256:
        raise MissingExtraError(
            f"{path} is not the file known here: its SHA-256 is {found}, not {sha256}; {advice}"
        )
    return data
