from __future__ import annotations

import asyncio

import pytest

from fathomdb.embedders.function import FunctionEmbedder, embedder
from fathomdb.embedders.protocol import EmbedderLimits, limits_of
from fathomdb.errors import InvalidInputError
from fathomdb.identity import EmbedderIdentity


def lengths(texts):
    """Lengths as vectors."""
    return [[float(len(text)), 1.0] for text in texts]


def test_a_decorated_function_has_the_identity_it_was_given():
    made = embedder("acme/e5", version="3", dimension=2, preparation={"prefix": "query: "})(lengths)
    assert made.identity() == EmbedderIdentity("acme/e5", "3", 2, "l2", {"prefix": "query: "})
    assert isinstance(made, FunctionEmbedder)


def test_a_dimension_may_be_left_to_the_first_batch():
    assert embedder("acme/e5")(lengths).identity().dimension is None


def test_the_function_can_still_be_called_and_read():
    made = embedder("acme/e5")(lengths)
    assert made(["abc"]) == made.batch_embed(["abc"]) == [[3.0, 1.0]]
    assert made.__name__ == "lengths"
    assert made.__doc__ == "Lengths as vectors."


def test_what_is_declared_is_found():
    made = embedder("acme/e5", items=16, tokens=9, concurrency=4, max_tokens=512, local=False)(
        lengths
    )
    assert limits_of(made) == EmbedderLimits(items=16, tokens=9, concurrency=4)
    assert (made.max_tokens, made.local) == (512, False)


def test_a_query_function_is_used_where_one_is_given():
    assert embedder("acme/e5")(lengths).embed_query is None
    made = embedder("acme/e5", query=lambda text: lengths([f"query: {text}"])[0])(lengths)
    assert made.embed_query("abc") == [10.0, 1.0]


def test_an_error_of_the_function_passes_through():
    @embedder("acme/e5")
    def broken(texts):
        raise KeyError(texts[0])

    with pytest.raises(KeyError, match="abc"):
        broken.batch_embed(["abc"])


def test_a_decorator_without_an_identity_says_what_to_write():
    with pytest.raises(InvalidInputError, match=r'@fathomdb\.embedder\("acme/e5"'):
        embedder(lengths)


async def generator(texts):
    yield lengths(texts)


@pytest.mark.parametrize("wrong", [generator, None, "lengths"])
def test_what_is_not_a_function_that_returns_is_refused(wrong):
    with pytest.raises(InvalidInputError, match="the embedding function must be a function"):
        embedder("acme/e5")(wrong)


def test_a_query_that_is_not_a_function_that_returns_is_refused():
    with pytest.raises(InvalidInputError, match="query must be a function"):
        embedder("acme/e5", query=generator)(lengths)


def test_an_async_function_can_still_be_awaited():
    @embedder("acme/e5")
    async def awaited(texts):
        return lengths(texts)

    assert asyncio.run(awaited(["abc"])) == [[3.0, 1.0]]


def test_an_invalid_declaration_is_refused_before_the_function_is_seen():
    with pytest.raises(InvalidInputError, match="got 0"):
        embedder("acme/e5", dimension=0)
    with pytest.raises(InvalidInputError, match=r"limits\.concurrency"):
        embedder("acme/e5", concurrency=0)
