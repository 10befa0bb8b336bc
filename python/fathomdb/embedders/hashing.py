"""A lexical embedder without a model: hashed character n-grams, the same on every platform."""

from __future__ import annotations

import functools
import re
import unicodedata
from typing import TYPE_CHECKING
from zlib import crc32

import numpy as np

from fathomdb.embedders.protocol import EmbedderLimits
from fathomdb.errors import InvalidInputError
from fathomdb.identity import MAX_DIMENSION, EmbedderIdentity

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

DEFAULT_DIMENSION = 256
NGRAM_SIZES: tuple[int, ...] = (3, 4, 5)
UNSPACED_NGRAM_SIZES: tuple[int, ...] = (1, 2)

_UNSPACED = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff"
"""Kana and Chinese characters: written without spaces, and with words of one or two characters."""

_WORD = re.compile(rf"[{_UNSPACED}]+|[^\W_{_UNSPACED}]+|[^\w\s]|_")
_UNSPACED_WORD = re.compile(rf"[{_UNSPACED}]")

_WORD_CACHE_SIZE = 65_536
"""About 20 MB when full."""

_LONGEST_CACHED_WORD = 64
_TEXTS_AT_ONCE = 64
"""Counters of so many texts stay in the cache of a core; 256 at once are 1.3 times slower."""


class HashingEmbedder:
    """Lexical: texts that share words and parts of words are near; it knows no meaning.

    Every word and its character n-grams (3 to 5, the word's bounds included) are hashed to one of
    ``dimension`` positions with a sign, counted, damped by a square root, and scaled to unit
    length. It needs no model and no other package, finds misspelt and inflected words, and is
    what tests and first steps use. For meaning, take ``"static"`` or ``"onnx"``.

    A vector depends on its text alone and is bit for bit the same on every platform: it comes from
    whole numbers, square roots and divisions, which IEEE 754 rounds in one way only. Every text
    with a character that is not white space has a vector that is not zero.

    Args:
        model: The dimension, 1 to 8,192; ``"hashing:512"``. Bigger ones rank better.

    Raises:
        InvalidInputError: The dimension is not such a number.
    """

    limits = EmbedderLimits(items=256)
    local = True

    def __init__(self, model: str | int = DEFAULT_DIMENSION) -> None:
        self._dimension = _dimension(model)
        self._identity = EmbedderIdentity(
            model_identity="fathomdb/hashing-lexical",
            model_version="1",
            dimension=self._dimension,
            normalization_policy="l2",
            preparation={
                "text": "NFKC, casefold",
                "features": "words, character 3-5-grams; kana and Chinese 1-2-grams",
                "hash": "CRC-32, murmur3 finalizer",
                "weight": "signed square root of counts",
            },
        )
        self.plugin_spec = (
            "hashing" if self._dimension == DEFAULT_DIMENSION else f"hashing:{self._dimension}"
        )

    def identity(self) -> EmbedderIdentity:
        """The identity: lexical, by name."""
        return self._identity

    def batch_embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Unit vectors, shape (n, dimension), float32; zero for a text of white space alone."""
        vectors = np.empty((len(texts), self._dimension), dtype=np.float32)
        for start in range(0, len(texts), _TEXTS_AT_ONCE):
            vectors[start : start + _TEXTS_AT_ONCE] = self._embed(
                texts[start : start + _TEXTS_AT_ONCE]
            )
        return vectors

    def __repr__(self) -> str:
        return f"<HashingEmbedder {self._identity}>"

    def _embed(self, texts: Sequence[str]) -> NDArray[np.float64]:
        features = [_features(text) for text in texts]
        hashes = _finalize(np.frombuffer(b"".join(features), dtype=np.uint32))
        # Two counters a position, one for each sign: counting needs no weights, and stays exact.
        counters = 2 * self._dimension
        rows = np.repeat(
            np.arange(len(texts)), [len(found) // hashes.itemsize for found in features]
        )
        counts = np.bincount(
            rows * counters + hashes % np.uint32(counters), minlength=len(texts) * counters
        ).reshape(len(texts), self._dimension, 2)
        signed = counts[:, :, 0] - counts[:, :, 1]
        for row in np.flatnonzero(~signed.any(axis=1)):
            # Every feature was cancelled by another one: the first of them stands for the text.
            if features[row]:
                first = _finalize(np.frombuffer(features[row], dtype=np.uint32, count=1))[0]
                signed[row, int(first) % counters // 2] = 1
        sizes = np.abs(signed)
        # The squares of the square roots are the counts again, so that the norm is exact as well.
        norms = np.sqrt(sizes.sum(axis=1, keepdims=True))
        vectors: NDArray[np.float64] = np.sign(signed) * np.sqrt(sizes)
        np.divide(vectors, norms, out=vectors, where=norms > 0)
        return vectors


def _dimension(model: str | int) -> int:
    if isinstance(model, str) and model.isascii() and model.isdigit() and len(model) < 10:
        model = int(model)
    if type(model) is not int or not 1 <= model <= MAX_DIMENSION:
        raise InvalidInputError(
            f"the hashing embedder needs a dimension from 1 to {MAX_DIMENSION}, got {model!r}"
        )
    return model


def _features(text: str) -> bytes:
    """The 32-bit checksums of all features of the text, in the machine's byte order."""
    words = _WORD.findall(unicodedata.normalize("NFKC", text).casefold())
    return b"".join(
        [
            _word_features(word)
            if len(word) <= _LONGEST_CACHED_WORD
            else _word_features.__wrapped__(word)
            for word in words
        ]
    )


@functools.lru_cache(maxsize=_WORD_CACHE_SIZE)
def _word_features(word: str) -> bytes:
    unspaced = _UNSPACED_WORD.match(word) is not None
    sizes = UNSPACED_NGRAM_SIZES if unspaced else NGRAM_SIZES
    bounded = word if unspaced else f"\x02{word}\x03"
    # Four bytes a character make an n-gram a slice, whatever the script.
    data = bounded.encode("utf-32-le", "surrogatepass")
    checksums = [
        crc32(data[start : start + 4 * size])
        for size in sizes
        for start in range(0, len(data) - 4 * size + 1, 4)
    ]
    if len(bounded) not in sizes:
        checksums.append(crc32(data))
    return np.array(checksums, dtype=np.uint32).tobytes()


def _finalize(checksums: NDArray[np.uint32]) -> NDArray[np.uint32]:
    """The finalizer of murmur3: CRC-32 is linear, so like words would land in like places."""
    hashes = checksums.copy()
    for shift, factor in ((16, 0x85EBCA6B), (13, 0xC2B2AE35)):
        hashes ^= hashes >> np.uint32(shift)
        hashes *= np.uint32(factor)
    hashes ^= hashes >> np.uint32(16)
    return hashes
