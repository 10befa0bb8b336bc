from __future__ import annotations

import pytest

from fathomdb.embedders.batch_limit import BatchLimit, Size, said_limit
from fathomdb.embedders.calls import cut_calls, estimated_tokens

# In the words of the providers.
SAID = [
    ("batch size 33 > maximum allowed batch size 32", 33, 32),
    ("Too many inputs. The max number of inputs is 16. We hope to increase it soon.", 64, 16),
    (
        "Invalid 'input': array too long. Expected an array with maximum length 2048, but got 3000",
        3000,
        2048,
    ),
    ("batch size is invalid, it should not be larger than 10.: input.contents", 64, 10),
    ("The batch size limit is 128. Your batch size is 256.", 256, 128),
    ("BatchEmbedContentsRequest.requests: at most 100 requests can be in one batch", 256, 100),
    ("invalid request: total number of texts must be at most 96 - received 97", 97, 96),
    ("List should have at most 512 items after validation, not 600", 600, 512),
    ("1000 instance(s) is not allowed, exceeds the max batch limit of 250", 1000, 250),
]
SAYS_NOTHING = [
    "This model's maximum context length is 8192 tokens, however you requested 9000 tokens",
    "input must have less than 48 tokens: the inputs have 60",
    "Invalid 'input[3]': string too long. Expected a string with maximum length 20",
    "the text at index 7 of the inputs is empty",
    "Too many inputs in request, split into more batches.",
    "batch size 33 > maximum allowed batch size 320",
    "",
]


@pytest.mark.parametrize(("message", "count", "limit"), SAID, ids=lambda value: str(value)[:40])
def test_the_limit_is_read_in_the_words_of_a_provider(message, count, limit):
    assert said_limit(message, count) == limit


@pytest.mark.parametrize("message", SAYS_NOTHING)
def test_a_number_that_is_no_limit_of_texts_is_not_taken_for_one(message):
    assert said_limit(message, 64) is None


def test_a_refusal_without_a_number_halves_what_never_passed():
    limit = BatchLimit(Size(64, None))
    assert limit.smaller(limit.size, ["text"] * 64, "no") == Size(32, None)
    assert limit.smaller(Size(32, None), ["text"] * 7, "no") == Size(4, None)


def test_a_size_that_passed_is_not_what_is_refused():
    limit = BatchLimit(Size(64, None))
    limit.passed(["text"] * 64)
    assert limit.smaller(limit.size, ["text"] * 64, "no") is None
    assert limit.smaller(limit.size, ["text"] * 5, "no") is None
    assert limit.smaller(limit.size, ["a longer text"] * 64, "no") == Size(64, 128)


def test_one_text_is_refused_for_itself():
    limit = BatchLimit(Size(64, None))
    assert limit.smaller(limit.size, ["text"], "maximum batch size 0") is None


def test_what_is_learned_never_grows():
    limit = BatchLimit(Size(64, None))
    limit.learn(Size(16, 1000))
    limit.learn(Size(32, 2000))
    assert limit.size == Size(16, 1000)


def test_texts_are_cut_by_number_and_by_tokens():
    texts = ["four"] * 5 + ["more than four tokens"] + ["four"] * 2
    assert [estimated_tokens(text) for text in texts[4:6]] == [1, 6]
    assert cut_calls(texts, items=3) == [(0, 3), (3, 6), (6, 8)]
    assert cut_calls(texts, tokens=4) == [(0, 4), (4, 5), (5, 6), (6, 8)]
    assert cut_calls(texts, items=2, tokens=8) == [(0, 2), (2, 4), (4, 6), (6, 8)]
    assert cut_calls(texts) == [(0, 8)]
    assert cut_calls([]) == []
