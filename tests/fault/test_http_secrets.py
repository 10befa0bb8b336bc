"""The key of a provider, and the password of its address, are nowhere but in its requests."""

from __future__ import annotations

import logging
import pickle
import subprocess
import sys
import traceback

import pytest

from fathomdb import EmbedderUnavailableError, EngineConfig, InvalidInputError, Node
from fathomdb.embedders.openai import OpenAIEmbedder
from http_server import MODEL, Said, cut_off, reset, serving

KEY = "tr0ub4dor-and-three"  # like no provider's, so that no shape gives it away
PASSWORD = "correct horse/battery"
WRITTEN = "correct%20horse%2Fbattery"
HEADER = "staple-of-the-team"
SECRETS = (KEY, PASSWORD, WRITTEN, HEADER, "YWxpY2U6Y29ycmVjdCBob3JzZS9iYXR0ZXJ5")

READ_ALL = """
import pathlib, sys
for file in pathlib.Path(sys.argv[1]).iterdir():
    sys.stdout.buffer.write(file.read_bytes())
"""


def clean(said: object) -> bool:
    return not any(secret in str(said) or secret in repr(said) for secret in SECRETS)


@pytest.fixture
def server():
    with serving() as server:
        yield server


@pytest.fixture
def embedder(server, monkeypatch):
    monkeypatch.setenv("TEST_KEY", KEY)
    made = OpenAIEmbedder(
        MODEL,
        base_url=server.url.replace("http://", f"http://alice:{WRITTEN}@"),
        api_key_env="TEST_KEY",
        api_key_header="X-Api-Key",
        headers={"X-Team": HEADER},
        retries=0,
    )
    yield made
    made.close()


def _echo(asked):
    """A provider that quotes all it was sent."""
    sent = "; ".join(f"{name} is {value}" for name, value in asked.headers.items())
    return Said(400, f"refused {sent} {PASSWORD} {WRITTEN}")


def test_no_secret_is_in_a_file_a_log_an_error_a_status_or_a_repr(
    open_db, tmp_path, caplog, server, embedder
):
    caplog.set_level(logging.DEBUG)
    server.refuse = lambda texts: (
        _echo(server.asked[-1]) if any("bad" in text for text in texts) else None
    )
    shown = [embedder, embedder.identity(), *vars(embedder).values()]
    shown += vars(embedder._endpoint).values()
    with open_db(embedder=embedder, config=EngineConfig(max_attempts=1)) as db:
        receipt = db.write([Node("Doc", "a", "a bad text"), Node("Doc", "b", "good")])
        shown.append(db.admin.drain_vector_projection())
        (failed,) = db.admin.failed_work()
        assert "X-Team is ***" in failed.message, "what was sent was quoted"
        server.script.extend([Said(503, f"key {KEY} of alice:{PASSWORD}"), reset, cut_off])
        for _ in range(3):
            with pytest.raises(EmbedderUnavailableError) as caught:
                embedder.batch_embed(["good"])
            shown += [caught.value, "".join(traceback.format_exception(caught.value))]
            shown.append(pickle.dumps(caught.value.args))
        server.refuse = lambda _: _echo(server.asked[-1])
        db.write(Node("Doc", "c", "another"))
        shown.append(db.admin.drain_vector_projection())
        with pytest.raises(EmbedderUnavailableError) as caught:
            db.semantic_search("bad text")
        shown.append(caught.value)
        shown += [db.admin.status(), db.admin.get_vec_index_status("Doc"), failed]
        shown += [db.admin.inspect("a"), db.admin.inspect("a", "bad"), db.search("bad text")]
        shown.append(db.wait(receipt, timeout=0))
    for item in shown:
        assert clean(item), item
    assert "HTTP Request: POST http://127.0.0.1" in caplog.text, "httpx logs the address"
    assert clean(caplog.text)
    files = subprocess.run(
        [sys.executable, "-c", READ_ALL, str(tmp_path)], check=True, capture_output=True
    ).stdout
    assert b"refused" in files, "the scan sees what is there"
    assert not any(secret.encode() in files for secret in SECRETS)
    sent = server.asked[0].headers
    assert sent["X-Api-Key"] == KEY, "and the server was sent them all"
    assert sent["X-Team"] == HEADER
    assert sent["Authorization"] == f"Basic {SECRETS[-1]}"


@pytest.mark.parametrize("before", range(280, 301, 4))
def test_no_half_of_a_secret_is_where_a_long_message_is_cut(server, embedder, before):
    server.script.append(Said(400, "x" * before + KEY + " " + "y" * 300))
    with pytest.raises(InvalidInputError) as caught:
        embedder.batch_embed(["text"])
    assert KEY[:4] not in str(caught.value)
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize("key", [f"{KEY}\nX-Evil: 1", f"{KEY}\t{KEY}", f"{KEY}é"])
def test_a_key_that_no_header_can_hold_is_refused_without_repeating_it(
    embedder, monkeypatch, server, key
):
    monkeypatch.setenv("TEST_KEY", key)
    with pytest.raises(EmbedderUnavailableError, match="variable TEST_KEY") as caught:
        embedder.batch_embed(["text"])
    assert clean("".join(traceback.format_exception(caught.value)))
    assert server.asked == []


@pytest.mark.parametrize(
    "options",
    [
        {"base_url": f"http://host/v1?api_key={KEY}"},
        {"base_url": f"ftp://alice:{WRITTEN}@host/v1"},
        {"base_url": f"http://alice:{WRITTEN}@host:port/v1"},
        {"headers": {"X-Team": f"{HEADER}\n"}},
        {"document_parameters": {"api_key": KEY}},
        {"model_identity": f"http://alice:{WRITTEN}@host/e5"},
    ],
)
def test_an_argument_with_a_secret_is_refused_without_repeating_it(options):
    with pytest.raises(InvalidInputError) as caught:
        OpenAIEmbedder(MODEL, **options)
    assert clean(caught.value)
