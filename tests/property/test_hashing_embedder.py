from __future__ import annotations

import math
import re
import unicodedata
from zlib import crc32

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from fathomdb.embedders.hashing import HashingEmbedder

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=60)
words = st.lists(
    st.sampled_from(["alpha", "beta", "gamma", "データ", "数据", "x_y", "3.14", "🎉"]), max_size=20
)
batches = st.lists(texts | words.map(" ".join), min_size=1, max_size=8)


def oracle(text, dimension):
    """The definition, one feature at a time."""
    kana_or_han = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff"
    prepared = unicodedata.normalize("NFKC", text).casefold()
    vector = [0] * dimension
    first = None
    for word in re.findall(rf"[{kana_or_han}]+|[^\W_{kana_or_han}]+|[^\w\s]|_", prepared):
        unspaced = re.match(f"[{kana_or_han}]", word)
        sizes, whole = ((1, 2), word) if unspaced else ((3, 4, 5), f"\2{word}\3")
        features = [whole[i : i + n] for n in sizes for i in range(len(whole) - n + 1)]
        if len(whole) not in sizes:
            features.append(whole)
        for feature in features:
            value = crc32(feature.encode("utf-32-le"))
            value = (value ^ value >> 16) * 0x85EBCA6B % 2**32
            value = (value ^ value >> 13) * 0xC2B2AE35 % 2**32
            position, negative = divmod((value ^ value >> 16) % (2 * dimension), 2)
            vector[position] += -1 if negative else 1
            first = position if first is None else first
    if first is not None and not any(vector):
        vector[first] = 1
    norm = math.sqrt(sum(map(abs, vector))) or 1.0
    return [math.copysign(math.sqrt(abs(count)), count) / norm for count in vector]


@given(batches, st.integers(1, 40))
def test_vectors_follow_the_definition(batch, dimension):
    expected = np.array([oracle(text, dimension) for text in batch], dtype=np.float32)
    np.testing.assert_array_equal(HashingEmbedder(dimension).batch_embed(batch), expected)


@given(batches)
def test_a_vector_is_of_unit_length_or_its_text_is_white_space(batch):
    for text, vector in zip(batch, HashingEmbedder(64).batch_embed(batch), strict=True):
        assert math.isclose(np.linalg.norm(vector), 1 if text.strip() else 0, abs_tol=1e-6)


@given(batches)
def test_a_vector_depends_on_its_text_alone(batch):
    embedder = HashingEmbedder(64)
    alone = np.concatenate([embedder.batch_embed([text]) for text in batch])
    assert embedder.batch_embed(batch).tobytes() == alone.tobytes()
