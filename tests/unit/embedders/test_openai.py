"""The embedder for OpenAI-compatible endpoints, against a real server that goes wrong on cue."""

from __future__ import annotations

import threading
from datetime import UTC, datetime
from email.utils import format_datetime

import numpy as np
import pytest

from fathomdb.embedders.openai import OpenAIEmbedder
from fathomdb.embedders.protocol import EmbedderLimits
from fathomdb.embedders.registry import resolve, spec_of
from fathomdb.errors import (
    EmbedderContractError,
    EmbedderUnavailableError,
    InvalidInputError,
    MissingExtraError,
)
from fathomdb.testing import DeterministicEmbedder, ManualClock
from http_server import (
    MODEL,
    PATIENCE_SECONDS,
    Said,
    Slow,
    changed,
    cut_off,
    half_a_body,
    reset,
    serving,
)


@pytest.fixture
def server():
    with serving() as server:
        yield server


@pytest.fixture
def make(server):
    """Makes embedders of the server that wait for next to nothing between retries."""
    made = []

    def make(model=MODEL, **options):
        options.setdefault("base_url", server.url)
        options.setdefault("jitter", lambda low, high: 0.01)
        made.append(OpenAIEmbedder(model, **options))
        return made[-1]

    yield make
    for embedder in made:
        embedder.close()


def texts(count):
    return [f"text {n}" for n in range(count)]


def expected(some):
    return DeterministicEmbedder(16).batch_embed(some)


# --- what is sent ---------------------------------------------------------------------------------


def test_prefixes_and_parameters_tell_documents_from_queries_and_are_in_the_fingerprint(
    server, make
):
    embedder = make(
        document_prefix="passage: ",
        query_prefix="query: ",
        document_parameters={"input_type": "passage"},
        query_parameters={"input_type": "query"},
    )
    embedder.batch_embed(["one"])
    embedder.embed_query("one")
    document, query = (asked.body for asked in server.asked)
    assert (document["input"], document["input_type"]) == (["passage: one"], "passage")
    assert (query["input"], query["input_type"]) == (["query: one"], "query")

    same = {"document_prefix": "a", "query_parameters": {"input_type": "query", "a": 1}}
    fingerprints = [
        make(**options).identity().fingerprint
        for options in (
            {},
            {"model_version": "2"},
            {"dimensions": 8},
            {"normalization": "none"},
            {"document_prefix": "a"},
            {"query_prefix": "a"},
            {"document_parameters": {"input_type": "a"}},
            {"query_parameters": {"input_type": "a"}},
            {"max_tokens": 100},
            same,
        )
    ]
    assert len(set(fingerprints)) == len(fingerprints)
    assert make(**same).identity().fingerprint == fingerprints[-1]


def test_how_it_is_reached_and_how_fast_is_not_in_the_fingerprint(make):
    plain = make().identity().fingerprint
    other = make(
        base_url="https://user:secret-word@models.example:8443/v1?api-version=2",
        api_key_env="A_KEY",
        api_key_header="api-key",
        headers={"X-Team": "blue"},
        batch_items=3,
        concurrency=2,
        requests_per_minute=5,
        retries=0,
    )
    assert other.identity().fingerprint == plain
    assert "example" not in str(dict(other.identity().preparation))


@pytest.mark.parametrize(
    ("base_url", "path"),
    [("/v1", "/v1/embeddings"), ("/v1/", "/v1/embeddings"), ("/a?b=c", "/a/embeddings?b=c")],
)
def test_the_path_goes_before_the_query_of_the_address(server, make, base_url, path):
    make(base_url=server.url.removesuffix("/v1") + base_url).batch_embed(["one"])
    assert server.asked[0].path == path


def test_the_key_is_read_for_each_request(server, make, monkeypatch):
    embedder = make(api_key_env="TEST_KEY")
    for key in ("first-key", "second-key\n"):
        monkeypatch.setenv("TEST_KEY", key)
        embedder.batch_embed(["one"])
    monkeypatch.delenv("TEST_KEY")
    embedder.batch_embed(["one"])
    assert [asked.headers.get("Authorization") for asked in server.asked] == [
        "Bearer first-key",
        "Bearer second-key",
        None,
    ]


def test_a_key_may_go_into_another_header_beside_more_of_them(server, make, monkeypatch):
    monkeypatch.setenv("TEST_KEY", "the-key")
    url = server.url.replace("http://", "http://user:p%40ss@")
    make(
        base_url=url, api_key_env="TEST_KEY", api_key_header="api-key", headers={"X-Team": "blue"}
    ).batch_embed(["one"])
    headers = server.asked[0].headers
    assert headers["api-key"] == "the-key"
    assert headers["X-Team"] == "blue"
    assert headers["Authorization"] == "Basic dXNlcjpwQHNz"  # user:p@ss


def test_the_key_of_openai_is_not_sent_to_an_address_that_was_named(server, make, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-of-somebody-else")
    make().batch_embed(["one"])
    monkeypatch.setenv("OPENAI_BASE_URL", server.url)
    make(base_url=None).batch_embed(["one"])
    sent = [asked.headers.get("Authorization") for asked in server.asked]
    assert sent == [None, "Bearer sk-of-somebody-else"]


def test_it_is_a_plugin_by_name_that_no_file_remembers(server, monkeypatch):
    monkeypatch.setenv("OPENAI_BASE_URL", server.url)
    embedder = resolve(f"openai:{MODEL}")
    assert embedder.batch_embed(["one"]).shape == (1, 16)
    assert embedder.local is False
    assert spec_of(embedder) is None
    embedder.close()
    with pytest.raises(InvalidInputError, match="needs a model"):
        resolve("openai")


def test_a_missing_httpx_is_named_with_what_to_install(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "httpx", None)
    with pytest.raises(MissingExtraError, match=r"fathomdb-py\[http\]"):
        OpenAIEmbedder(MODEL)


def test_two_credentials_for_one_header_are_refused(make):
    for options in (
        {"base_url": "http://user:password@host"},
        {"headers": {"authorization": "Bearer x"}},
    ):
        with pytest.raises(InvalidInputError, match="give one of them"):
            make(api_key_env="A_KEY", **options)


# --- batches --------------------------------------------------------------------------------------


def test_a_batch_goes_in_requests_of_so_many_texts_and_tokens(server, make):
    make(batch_items=3).batch_embed(texts(8))
    assert [len(asked.texts) for asked in server.asked] == [3, 3, 2]
    server.asked.clear()
    vectors = make(batch_tokens=4).batch_embed(some := texts(5))
    assert [len(asked.texts) for asked in server.asked] == [2, 2, 1]
    np.testing.assert_array_equal(vectors, expected(some))


@pytest.mark.parametrize("status", [400, 413, 422])
@pytest.mark.parametrize("words", ["maximum allowed batch size 10", "too much"])
def test_a_smaller_limit_of_the_provider_is_learned_from_its_refusal(server, make, status, words):
    server.refuse = lambda some: Said(status, words) if len(some) > 10 else None
    embedder = make()
    np.testing.assert_array_equal(embedder.batch_embed(texts(64)), expected(texts(64)))
    server.statuses.clear()
    np.testing.assert_array_equal(embedder.batch_embed(texts(64)), expected(texts(64)))
    assert status not in server.statuses
    most = max(len(asked.texts) for asked in server.asked[-3:])
    assert most == (10 if "10" in words else 8)


def test_a_limit_of_tokens_is_learned_too(server, make):
    server.refuse = lambda some: Said(400, "no") if sum(map(len, some)) > 2_000 else None
    embedder = make()
    embedder.batch_embed(["short"] * 64)
    long = [f"{n} " + "long " * 20 for n in range(64)]
    np.testing.assert_array_equal(embedder.batch_embed(long), expected(long))
    server.statuses.clear()
    embedder.batch_embed(long)
    assert 400 not in server.statuses
    embedder.batch_embed(["short"] * 64)
    assert len(server.asked[-1].texts) == 64, "few tokens still go in one request"


def test_a_text_that_is_refused_is_the_texts_fault_and_teaches_nothing(server, make):
    server.refuse = lambda some: Said(400, "this text is bad") if "bad" in some else None
    embedder = make()
    with pytest.raises(InvalidInputError, match="400 this text is bad"):
        embedder.batch_embed([*texts(20), "bad"])
    embedder.batch_embed(texts(64))
    assert len(server.asked[-1].texts) == 64
    before = len(server.asked)
    with pytest.raises(InvalidInputError, match="this text is bad"):
        embedder.batch_embed([*texts(20), "bad"])
    assert len(server.asked) == before + 1, "so many texts have passed: it is no matter of size"


def test_long_texts_are_cut_where_it_is_told_and_counted(server, make):
    embedder = make(max_tokens=5, document_prefix="doc ")
    embedder.batch_embed(["x" * 100, "short"])
    assert server.asked[0].texts == ["doc " + "x" * 16, "doc short"]
    assert embedder.count_truncated(["x" * 16, "x" * 17, "short"]) == 1
    assert make().count_truncated is None


# --- what is answered -----------------------------------------------------------------------------


@pytest.mark.parametrize("base64", [True, False], ids=["base64", "lists"])
def test_rows_are_placed_by_their_index(server, make, base64):
    server.base64 = base64
    server.script.append(changed(lambda data: data[::-1]))
    server.script.append(changed(lambda data: data[3:] + data[:3]))
    embedder = make()
    for _ in range(2):
        np.testing.assert_array_equal(
            embedder.batch_embed(texts(7)).astype(np.float32), expected(texts(7))
        )


def test_rows_without_an_index_are_in_order(server, make):
    server.script.append(changed(lambda data: [{"embedding": row["embedding"]} for row in data]))
    np.testing.assert_array_equal(make().batch_embed(texts(7)), expected(texts(7)))


@pytest.mark.parametrize(
    ("base64", "statuses"), [(True, [200] * 2), (False, [200] * 2), ("refuses", [422, 200, 200])]
)
def test_base64_is_asked_for_and_lists_are_taken_where_the_server_has_none(
    server, make, base64, statuses
):
    server.base64 = base64
    embedder = make()
    for _ in range(2):
        vectors = embedder.batch_embed(texts(5))
        np.testing.assert_array_equal(vectors.astype(np.float32), expected(texts(5)))
    assert server.statuses == statuses
    assert server.asked[0].body["encoding_format"] == "base64"
    assert ("encoding_format" in server.asked[-1].body) == (base64 != "refuses")


def _with(row, **changes):
    return [{**row[0], **changes}, *row[1:]]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda data: data[:-1], "2 embeddings came for 3 texts"),
        (lambda data: [*data, data[0]], "4 embeddings came for 3 texts"),
        (lambda data: [], "0 embeddings"),
        (lambda data: None, "no list of embeddings"),
        (lambda data: ["row"] * 3, "no list of embeddings"),
        (lambda data: _with(data, index=1), "two embeddings have the index 1"),
        (lambda data: _with(data, index=3), "index 3 came for 3 texts"),
        (lambda data: _with(data, index=-1), "index -1 came for 3 texts"),
        (lambda data: _with(data, index=True), "index True"),
        (lambda data: [{"embedding": [1.0]}, *data[1:]], "index None"),
        (lambda data: _with(data, embedding=[1.0]), "differ in dimension"),
        (lambda data: _with(data, embedding=[]), "neither a list"),
        (lambda data: _with(data, embedding="no base64!"), "neither a list"),
        (lambda data: _with(data, embedding="AAAA"), "neither a list"),
        (lambda data: _with(data, embedding=""), "neither a list"),
        (lambda data: _with(data, embedding=["a", "b"]), "neither a list"),
        (lambda data: _with(data, embedding=[[1.0], [2.0]]), "neither a list"),
        (lambda data: _with(data, embedding=[10**400]), "neither a list"),
        (lambda data: _with(data, embedding=None), "neither a list"),
    ],
)
def test_an_answer_that_is_not_the_vectors_of_the_texts_breaks_the_contract(
    server, make, change, message
):
    server.script.append(changed(change))
    with pytest.raises(EmbedderContractError, match=message):
        make().batch_embed(texts(3))


def test_a_number_that_is_none_is_left_for_its_own_row_to_fail(server, make):
    server.base64 = False
    server.script.append(
        changed(lambda data: _with(data, embedding=[None, *data[0]["embedding"][1:]]))
    )
    vectors = make().batch_embed(texts(3))
    assert np.isnan(vectors[0, 0])
    assert np.isfinite(vectors[1:]).all()


def test_the_dimension_is_held_against_the_first_answer(server, make):
    assert make(dimensions=8).batch_embed(["one"]).shape == (1, 8)
    with pytest.raises(EmbedderContractError, match="16 dimensions, not 32"):
        make(dimensions=32).batch_embed(["one"])
    embedder = make()
    embedder.batch_embed(["one"])
    server.embedder = DeterministicEmbedder(24)
    with pytest.raises(EmbedderContractError, match="24 dimensions, not 16"):
        embedder.batch_embed(["one"])
    assert embedder.identity().dimension is None, "an identity is the same for life"


# --- when it is away ------------------------------------------------------------------------------


AWAY = [
    Said(429, "slow down"),
    Said(500, "oops"),
    Said(503, "overloaded", body=b"<html>Service Unavailable</html>"),
    Said(408),
    reset,
    cut_off,
    half_a_body,
]


@pytest.mark.parametrize(
    "planned", AWAY, ids=lambda value: str(getattr(value, "status", getattr(value, "__name__", "")))
)
def test_a_failure_that_may_pass_is_tried_again_and_what_stays_is_an_outage(server, make, planned):
    embedder = make()
    server.script.extend([planned] * 2)
    np.testing.assert_array_equal(embedder.batch_embed(texts(3)), expected(texts(3)))
    assert len(server.asked) == 3
    assert server.asked[0].body == server.asked[2].body

    server.script.extend([planned] * 3)
    with pytest.raises(EmbedderUnavailableError, match=server.url) as caught:
        embedder.batch_embed(texts(3))
    assert len(server.asked) == 6
    assert caught.value.retry_after_seconds is None
    if isinstance(planned, Said):
        assert str(planned.status) in str(caught.value)
    np.testing.assert_array_equal(embedder.batch_embed(texts(3)), expected(texts(3)))


def test_a_server_that_is_not_there_is_an_outage(make):
    with serving() as gone:
        url = gone.url
    with pytest.raises(EmbedderUnavailableError, match="ConnectError"):
        make(base_url=url).batch_embed(["one"])


@pytest.mark.parametrize("status", [301, 401, 402, 404, 405])
def test_what_no_other_text_would_change_is_an_outage_at_once(server, make, status):
    server.script.append(Said(status, "go away"))
    with pytest.raises(EmbedderUnavailableError, match=f"{status} go away"):
        make().batch_embed(texts(3))
    assert len(server.asked) == 1


@pytest.mark.parametrize("status", [403, 409, 451])
def test_what_may_be_about_a_text_is_not_an_outage(server, make, status):
    server.script.append(Said(status, "not this"))
    with pytest.raises(InvalidInputError, match=f"{status} not this"):
        make().batch_embed(texts(3))
    assert len(server.asked) == 1


def test_a_missing_key_is_named_by_its_variable(server, make, monkeypatch):
    server.key = "the-key"
    monkeypatch.delenv("TEST_KEY", raising=False)
    with pytest.raises(EmbedderUnavailableError, match="variable TEST_KEY is not set"):
        make(api_key_env="TEST_KEY").batch_embed(["one"])
    with pytest.raises(EmbedderUnavailableError, match="as api_key_env="):
        make().batch_embed(["one"])


def _date(clock, seconds):
    return format_datetime(datetime.fromtimestamp(clock.now() + seconds, UTC), usegmt=True)


@pytest.mark.parametrize(
    "header",
    [
        lambda clock: {"Retry-After": "90"},
        lambda clock: {"Retry-After": _date(clock, 90)},
        lambda clock: {"retry-after-ms": "90000", "Retry-After": "91"},
    ],
    ids=["seconds", "date", "milliseconds"],
)
@pytest.mark.parametrize("status", [429, 503])
def test_a_long_wait_that_is_asked_for_is_an_outage_of_that_length(server, make, header, status):
    clock = ManualClock()
    embedder = make(clock=clock)
    server.script.append(Said(status, "later", headers=header(clock)))
    with pytest.raises(EmbedderUnavailableError) as caught:
        embedder.batch_embed(["one"])
    assert caught.value.retry_after_seconds == pytest.approx(90.0)
    # Nothing is sent before it is over, by whatever call.
    with pytest.raises(EmbedderUnavailableError, match="left alone for another 90 s"):
        embedder.embed_query("one")
    assert len(server.asked) == 1
    clock.advance(90.0)
    assert embedder.embed_query("one").shape == (16,)


def test_a_short_wait_that_is_asked_for_is_waited_for(server, make):
    clock = ManualClock()
    embedder = make(clock=clock)
    server.script.append(Said(429, "later", headers={"Retry-After": "10"}))
    done = threading.Event()
    thread = threading.Thread(target=lambda: (embedder.batch_embed(["one"]), done.set()))
    thread.start()
    server.wait_asked(1)
    while not done.wait(0.01):
        assert len(server.asked) == 1 or clock.monotonic() >= 10.0
        clock.advance(0.5)
    thread.join(PATIENCE_SECONDS)
    assert server.statuses == [429, 200]


def test_too_many_requests_halve_the_requests_at_once(server, make):
    embedder = make()
    for status, allowed in ((500, 8), (429, 4), (429, 2)):
        server.script.append(Said(status))
        embedder.batch_embed(["one"])
        assert embedder._throttle.allowed == allowed


def test_an_answer_that_drips_is_given_up_after_the_read_time_out(server, make):
    slow = Slow()
    server.script.append(slow)
    clock = ManualClock()
    embedder = make(clock=clock, retries=0, read_timeout_seconds=20.0)
    failed = threading.Event()

    def embed():
        with pytest.raises(EmbedderUnavailableError, match="no whole answer within 20 s"):
            embedder.batch_embed(["one"])
        failed.set()

    thread = threading.Thread(target=embed)
    thread.start()
    assert slow.halfway.wait(PATIENCE_SECONDS)
    clock.advance(21.0)
    slow.released.set()
    assert failed.wait(PATIENCE_SECONDS)
    thread.join()


def test_an_answer_that_does_not_come_is_given_up(server, make):
    server.hold()
    with pytest.raises(EmbedderUnavailableError, match="ReadTimeout"):
        make(read_timeout_seconds=0.05, retries=0).batch_embed(["one"])


def test_a_slow_answer_is_waited_for(server, make):
    slow = Slow()
    server.script.append(slow)
    embedder = make()
    found = []
    thread = threading.Thread(target=lambda: found.append(embedder.batch_embed(["one"])))
    thread.start()
    assert slow.halfway.wait(PATIENCE_SECONDS)
    slow.released.set()
    thread.join(PATIENCE_SECONDS)
    np.testing.assert_array_equal(found[0], expected(["one"]))


@pytest.mark.parametrize("where", ["held by the server", "pausing", "at the quota"])
def test_close_ends_what_is_inside_and_what_comes_later(server, make, where):
    embedder = make(clock=ManualClock(), requests_per_minute=1, batch_items=1)
    if where == "held by the server":
        server.hold()
    else:
        said = Said(429, "later", headers={"Retry-After": "5"})
        server.script.append(said if where == "pausing" else None)
    ended = threading.Event()

    def embed():
        with pytest.raises(EmbedderUnavailableError):
            embedder.batch_embed(["one", "two"])
        ended.set()

    thread = threading.Thread(target=embed)
    thread.start()
    server.wait_asked(1)
    if where == "held by the server":
        server.wait_inside(1)
        embedder.close()
        server.release()
    else:
        embedder.close()
    assert ended.wait(PATIENCE_SECONDS)
    thread.join()
    with pytest.raises(EmbedderUnavailableError, match="closed"):
        embedder.batch_embed(["one"])
    assert len(server.asked) == 1


# --- what it declares -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "limits"),
    [
        ({}, EmbedderLimits(64, 16_384, 8)),
        ({"batch_items": 7, "batch_tokens": 9, "concurrency": 2}, EmbedderLimits(7, 9, 2)),
        ({"requests_per_minute": 3}, EmbedderLimits(64, 16_384, 3)),
        ({"tokens_per_minute": 100_000}, EmbedderLimits(64, 5_000, 8)),
        (
            {"requests_per_minute": 3, "tokens_per_minute": 30_000},
            EmbedderLimits(64, 10_000, 3),
        ),
        ({"tokens_per_minute": 1}, EmbedderLimits(64, 1, 1)),
    ],
)
def test_what_is_on_its_way_at_once_is_a_minute_of_quota_at_most(make, options, limits):
    assert make(**options).limits == limits


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"base_url": "localhost:1234"}, "http or https"),
        ({"base_url": "http://"}, "http or https"),
        ({"base_url": "http://host:port"}, "http or https"),
        ({"base_url": 5}, "must be a string"),
        ({"headers": {"X": 1}}, "strings to strings"),
        ({"headers": {"a b": "c"}}, "no name of a header"),
        ({"headers": {"X": "a\nb"}}, "value of the header X"),
        ({"document_prefix": None}, "prefix"),
        ({"document_parameters": {"input": "x"}}, "must not have input"),
        ({"query_parameters": {"a": object()}}, "must be JSON"),
        ({"dimensions": 0}, "dimension"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"batch_items": 0}, "items"),
        ({"batch_tokens": 0}, "tokens"),
        ({"concurrency": 0}, "concurrency"),
        ({"requests_per_minute": 0}, "requests_per_minute"),
        ({"tokens_per_minute": 1.5}, "tokens_per_minute"),
        ({"retries": -1}, "retries"),
        ({"connect_timeout_seconds": 0}, "connect_timeout_seconds"),
        ({"read_timeout_seconds": float("nan")}, "read_timeout_seconds"),
        ({"model_identity": ""}, "model_identity"),
        ({"normalization": "max"}, "normalization"),
    ],
)
def test_an_argument_that_cannot_be_used_is_refused(options, message):
    with pytest.raises(InvalidInputError, match=message):
        OpenAIEmbedder(MODEL, **options)
