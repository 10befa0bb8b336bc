from __future__ import annotations

import hashlib
import subprocess
import sys
import threading

import numpy as np
import pytest

from fathomdb.embedders import hashing
from fathomdb.embedders.hashing import HashingEmbedder
from fathomdb.errors import InvalidInputError

GOLDEN_TEXTS = [
    "An embedded datastore keeps its records in one file.",
    "Größe, naïve, coöperate, ﬁne",
    "数据库 データベース 데이터베이스",
    "🎉 ?! 3.14159",
    "x" * 200,
]
GOLDEN_SHA256 = "e438489bc26b891b61b28cfbfc16be4cfceb9ea4e89dfff57cc543342c8136c8"


def cosine(embedder, one, other):
    first, second = embedder.batch_embed([one, other])
    return float(first @ second)


def test_vectors_are_the_same_bits_on_every_platform():
    vectors = HashingEmbedder().batch_embed(GOLDEN_TEXTS)
    assert hashlib.sha256(vectors.astype("<f4").tobytes()).hexdigest() == GOLDEN_SHA256


def test_vectors_do_not_depend_on_the_hash_seed_of_the_process():
    code = (
        "from fathomdb.embedders.hashing import HashingEmbedder\n"
        "print(HashingEmbedder(16).batch_embed(['one two three']).tobytes().hex())"
    )
    found = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={"PYTHONHASHSEED": seed},
            check=True,
            capture_output=True,
            text=True,
        ).stdout.strip()
        for seed in ("1", "2")
    }
    assert found == {HashingEmbedder(16).batch_embed(["one two three"]).tobytes().hex()}


def test_shared_words_bring_texts_near_and_order_does_not_matter():
    embedder = HashingEmbedder()
    assert cosine(embedder, "resize the image", "the image resize") == pytest.approx(1)
    near = cosine(embedder, "resize an image file", "image file resizing")
    far = cosine(embedder, "resize an image file", "stock price of a company")
    assert near > 0.5
    assert far < 0.2


def test_a_misspelt_or_inflected_word_stays_near():
    embedder = HashingEmbedder()
    assert cosine(embedder, "recieve", "receive") > 0.2
    assert cosine(embedder, "embedding", "embeddings") > 0.6
    assert abs(cosine(embedder, "embedding", "quarterly")) < 0.2


def test_case_and_compatibility_forms_do_not_matter():
    embedder = HashingEmbedder()
    assert cosine(embedder, "Straße ﬁne \uff21\uff22\uff23", "STRASSE fine abc") == pytest.approx(1)


def test_underscores_separate_words():
    assert cosine(HashingEmbedder(512), "get_stock_price", "get stock price") > 0.8


def test_chinese_texts_are_near_by_their_characters():
    embedder = HashingEmbedder(512)
    assert cosine(embedder, "北京的天气预报", "天气预报") > 0.5
    assert abs(cosine(embedder, "北京的天气预报", "股票价格")) < 0.2


def test_every_character_that_is_not_white_space_has_a_vector():
    embedder = HashingEmbedder(8)
    every = [
        chr(code) for code in [*range(0xD800), *range(0xE000, 0x10000), *range(0x1F300, 0x1FB00)]
    ]
    vectors = embedder.batch_embed(every)
    zero = [character for character, vector in zip(every, vectors, strict=True) if not vector.any()]
    assert [character for character in zero if not character.isspace()] == []


def test_a_text_whose_features_cancel_has_a_vector_all_the_same():
    # With one dimension, half of the texts with an even number of features cancel to zero.
    texts = [f"word{number}" for number in range(64)]
    vectors = HashingEmbedder(1).batch_embed(texts)
    assert np.abs(vectors).tolist() == [[1.0]] * 64


def test_white_space_alone_and_the_empty_text_are_zero_and_never_nan():
    vectors = HashingEmbedder().batch_embed(["", " \t\n", "\u3000", "word"])
    assert vectors.any(axis=1).tolist() == [False, False, False, True]
    assert np.isfinite(vectors).all()


def test_an_empty_batch_has_the_shape_of_no_rows():
    assert HashingEmbedder(16).batch_embed([]).shape == (0, 16)


def test_a_batch_longer_than_a_slice_is_one_batch():
    texts = [f"text number {number}" for number in range(3 * hashing._TEXTS_AT_ONCE + 1)]
    embedder = HashingEmbedder()
    together = embedder.batch_embed(texts)
    alone = np.concatenate([embedder.batch_embed([text]) for text in texts])
    assert together.dtype == np.float32
    assert together.tobytes() == alone.tobytes()


def test_the_word_cache_is_bounded_and_holds_no_long_words():
    hashing._word_features.cache_clear()
    embedder = HashingEmbedder(4)
    embedder.batch_embed(["y" * (hashing._LONGEST_CACHED_WORD + 1)])
    assert hashing._word_features.cache_info().currsize == 0
    embedder.batch_embed(["y" * hashing._LONGEST_CACHED_WORD])
    assert hashing._word_features.cache_info().currsize == 1
    assert hashing._word_features.cache_info().maxsize == hashing._WORD_CACHE_SIZE


def test_threads_that_share_the_cache_agree():
    texts = [f"alpha{number} beta{number % 7} gamma" for number in range(500)]
    expected = HashingEmbedder(32).batch_embed(texts).tobytes()
    hashing._word_features.cache_clear()
    found = []
    threads = [
        threading.Thread(
            target=lambda: found.append(HashingEmbedder(32).batch_embed(texts).tobytes())
        )
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [expected] * 4


@pytest.mark.parametrize(
    "model", ["0", "8193", "-1", "abc", "", "2.5", "٣", 0, True, 2.0, None, "9" * 99]
)
def test_a_wrong_dimension_is_refused_with_its_value(model):
    with pytest.raises(InvalidInputError, match="a dimension from 1 to 8192, got"):
        HashingEmbedder(model)


def test_the_identity_says_that_it_is_lexical():
    identity = HashingEmbedder("512").identity()
    assert "lexical" in identity.model_identity
    assert identity.dimension == 512
    assert identity.normalization_policy == "l2"
    assert identity.fingerprint != HashingEmbedder().identity().fingerprint
