"""What an embedder says in an error is kept, shown and logged without the credentials in it."""

from __future__ import annotations

import logging
import time

import pytest

import fathomdb
from byte_scan import left_in_files
from fathomdb import EmbedderUnavailableError, InvalidInputError, Node
from fathomdb.identity import EmbedderIdentity
from fathomdb.redact import redact
from fathomdb.testing import DeterministicEmbedder

SECRETS = ("hunter2secret", "bm90LWEta2V5LWF0LWFsbA", "s3cr3tvalue", "sk-proj-0123456789abcdef")
SAID = (
    f"POST https://alice:{SECRETS[0]}@api.example.com/v1/embed?api_key={SECRETS[2]}&model=e5 failed "
    f"with 401; sent {{'Authorization': 'Bearer {SECRETS[1]}', 'X-Api-Key': '{SECRETS[2]}', "
    f"'Accept': 'json'}} key {SECRETS[3]}"
)
KEPT = ("api.example.com/v1/embed", "model=e5", "401", "'Accept': 'json'")


def clean(said: object) -> bool:
    return not any(secret in str(said) for secret in SECRETS)


@pytest.mark.parametrize(
    ("said", "kept"),
    [
        ("https://user:pw12@host/path", "https://***@host/path"),
        ("https://tok3n@host:8080/x", "https://***@host:8080/x"),
        ("redis://:p%40ss@host", "redis://***@host"),
        ("GET /v1?n=1&api_key=abc&x=2", "GET /v1?n=1&api_key=***&x=2"),
        ("GET /v1?key=abc&x=2", "GET /v1?key=***&x=2"),
        ("https://user:p@ss@host/path", "https://***@host/path"),
        ("https://user:p/w@host/path", "https://***@host/path"),
        ("https://user:pw@host/path@home", "https://***@host/path@home"),
        ("?access_token=abc.def", "?access_token=***"),
        ("Authorization: Bearer abcdefgh.ijk", "Authorization: ***"),
        ("authorization=Basic dXNlcjpwdw==", "authorization=***"),
        ('{"x-api-key": "abc"}', '{"x-api-key": "***"}'),
        ("used Bearer abcdefghij for it", "used Bearer *** for it"),
        ("Incorrect API key provided: sk-abcdef0123456789.", "Incorrect API key provided: ***."),
        ("OPENAI_API_KEY=abcdef is wrong", "OPENAI_API_KEY=*** is wrong"),
        ("Incorrect API key provided: abcd1234.", "Incorrect API key provided: ***."),
        ("password: hunter2, host: x", "password: ***, host: x"),
        ("password: 'my secret pass' host: x", "password: '***' host: x"),
        ('{"api_key": "abc \\" def", "n": 1}', '{"api_key": "***", "n": 1}'),
        (r"{\"api_key\": \"abc\", \"n\": 1}", r"{\"api_key\": \"***\", \"n\": 1}"),
        ("password='it has no end", "password='*** has no end"),
        ("Cookie: a=b; session=abc, host: x", "Cookie: ***, host: x"),
        ("'Set-Cookie': 'a=b; session=abc'", "'Set-Cookie': '***'"),
        ("auth=('user', 'abc') failed", "auth=*** failed"),
        ("clientSecret=abc, db_password=def", "clientSecret=***, db_password=***"),
        ("hf_abcdefghij and ghp_abcdefghij", "*** and ***"),
        ("AKIAIOSFODNN7EXAMPLE", "***"),
        ("eyJhbGciOi.eyJzdWIiOi.SflKxwRJ", "***"),
    ],
)
def test_a_credential_is_hidden_and_the_rest_stays(said, kept):
    assert redact(said) == kept


@pytest.mark.parametrize(
    "said",
    [
        "connection refused by 127.0.0.1:8080",
        "maximum of 512 tokens exceeded, got 700 tokens",
        "the tokenizer: wordpiece is not there",
        "https://example.com:8080/a@b and http://[::1]:80/a@b",
        "a primary key: 7, the keys: 3",
        "shape (3, 4): 12 numbers at https://example.com/a@b",
        "ask-me anything about risk-assessment-of-desk-chairs",
    ],
)
def test_words_that_are_no_credential_stay(said):
    assert redact(said) == said


REPEATED = ("a-", "api-", "-", "token ", "password='", 'password="\\', "password=(", "api key ")
REPEATED += ("://a", "://u:p", "eyJaaaaaaa.", "-eyJaaaaaa", "sk-", "xoxa-", "bearer ", "cookie:a;b")
REPEATED += ("=", "token: ", "a_token_", "set-cookie: ", "\\", ".", " ", "'")
BEGINNINGS = ("", "token=", "token", "://", "://u:", "cookie: a;")


@pytest.mark.parametrize("part", REPEATED)
def test_it_takes_no_longer_for_words_that_nearly_are_one(part):
    # Tenths of a second; minutes, in which no other thread runs, where each place looks at the rest.
    began = time.monotonic()
    for beginning in BEGINNINGS:
        redact(beginning + part * (50_000 // len(part)))
    assert time.monotonic() - began < 20.0


class Refusing(DeterministicEmbedder):
    """Quotes its own request, as HTTP clients do."""

    def __init__(self, error):
        super().__init__()
        self.error = error

    def batch_embed(self, texts):
        if self.error is EmbedderUnavailableError or any("bad" in text for text in texts):
            raise self.error(SAID)
        return super().batch_embed(texts)


@pytest.mark.parametrize("error", [EmbedderUnavailableError, RuntimeError])
def test_no_credential_is_in_the_status_the_queue_an_error_the_log_or_the_file(
    open_db, path, caplog, error
):
    caplog.set_level(logging.DEBUG)
    shown = []
    config = fathomdb.EngineConfig(max_attempts=1)
    with open_db(embedder=Refusing(error), config=config) as db:
        receipt = db.write(Node("Doc", "a", "bad text"))
        shown.append(db.admin.drain_vector_projection())
        shown.extend((db.admin.status(), db.admin.get_vec_index_status("Doc")))
        shown.append(db.admin.failed_work())
        shown.extend((db.admin.inspect("a"), db.admin.inspect("a", "bad")))
        shown.append(db.search("bad text"))
        shown.append(db.wait(receipt, timeout=0))
        with pytest.raises(EmbedderUnavailableError) as caught:
            db.semantic_search("bad text")
        shown.append(caught.value)
        last_error = db.admin.get_vec_index_status("Doc").last_error
    assert all(part in last_error for part in KEPT), last_error
    for item in shown:
        assert clean(item), item
    assert clean(caplog.text)
    assert left_in_files(path, ["api.example.com"]), "the scan sees what is there"
    assert left_in_files(path, SECRETS) == []


@pytest.mark.parametrize("name", ["model_identity", "model_version"])
def test_a_model_whose_name_has_a_credential_is_refused_without_repeating_it(name):
    parts = {"model_identity": "acme/e5", name: f"https://alice:{SECRETS[0]}@host/e5"}
    with pytest.raises(InvalidInputError, match="looks like a credential") as caught:
        EmbedderIdentity(**parts)
    assert clean(caught.value)
