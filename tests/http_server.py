"""A server on loopback that speaks OpenAI's embeddings API, and goes wrong as real ones do.

``tests/unit/embedders/test_http_server.py`` holds it against the official client.
"""

from __future__ import annotations

import base64
import contextlib
import json
import socket
import struct
import sys
import threading
import time
from collections import deque
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from fathomdb.config import SystemClock
from fathomdb.testing import DeterministicEmbedder

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from email.message import Message

    from fathomdb.config import Clock

MODEL = "test-embed-3"
PATIENCE_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class Said:
    """An answer that is not embeddings."""

    status: int
    message: str = "no"
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes | None = None


def reset(handler: Handler, _: bytes) -> None:
    """Ends the connection with RST, before a byte of the answer."""
    handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    handler.close_connection = True
    handler.connection.close()


def cut_off(handler: Handler, body: bytes) -> None:
    """Promises the whole body and ends half way through it."""
    handler.head(200, len(body))
    handler.wfile.write(body[: len(body) // 2])
    handler.close_connection = True


def half_a_body(handler: Handler, body: bytes) -> None:
    """Half of the body, as if that were all: no client can see that anything is missing."""
    handler.answer(200, body[: len(body) // 2])


class Slow:
    """Sends half of the body, and the rest once it is released."""

    def __init__(self) -> None:
        self.halfway = threading.Event()
        self.released = threading.Event()

    def __call__(self, handler: Handler, body: bytes) -> None:
        handler.head(200, len(body))
        handler.wfile.write(body[: len(body) // 2])
        handler.wfile.flush()
        self.halfway.set()
        self.released.wait(PATIENCE_SECONDS)
        # Whoever asked may be gone by now.
        with contextlib.suppress(ConnectionError):
            handler.wfile.write(body[len(body) // 2 :])


def changed(change: Callable[[list[dict[str, Any]]], Any]) -> Callable[[Handler, bytes], None]:
    """The embeddings of the answer, after ``change`` was done to their list."""

    def send(handler: Handler, body: bytes) -> None:
        answer = json.loads(body)
        answer["data"] = change(answer["data"])
        handler.answer(200, json.dumps(answer).encode())

    return send


@dataclass(frozen=True, slots=True)
class Asked:
    """A request as it came."""

    path: str
    headers: Message
    body: dict[str, Any]
    at: float

    @property
    def texts(self) -> list[str]:
        given = self.body["input"]
        return [given] if isinstance(given, str) else given


class EmbeddingServer:
    """Answers with the vectors of ``embedder``; what goes wrong is said by its attributes.

    Args:
        embedder: Where the vectors come from.
        clock: What quotas are counted by.

    Attributes:
        script: What the next requests get instead, in order: a Said, a function of handler and good
            body, or None for a good answer.
        refuse: A function of a request's texts: a Said for those that it refuses, else None.
        quota: Requests in any ``quota_seconds``; more get 429.
        retry_after: Whether such a 429 says how long to wait.
        base64: Whether it knows ``encoding_format``; "refuses" names it in an error.
        key: The key that it wants as Bearer.
        seconds_per_call: Spent waiting in every call.
        asked: All requests, in the order in which they came.
        most_at_once: The greatest number that was being answered together.
    """

    def __init__(
        self, embedder: DeterministicEmbedder | None = None, clock: Clock | None = None
    ) -> None:
        self.embedder = embedder if embedder is not None else DeterministicEmbedder(16)
        self.clock = clock if clock is not None else SystemClock()
        self.script: deque[Said | Callable[[Handler, bytes], None] | None] = deque()
        self.refuse: Callable[[list[str]], Said | None] = lambda _: None
        self.quota: int | None = None
        self.quota_seconds = 60.0
        self.retry_after = True
        self.base64: bool | str = True
        self.key: str | None = None
        self.seconds_per_call = 0.0
        self.asked: list[Asked] = []
        self.statuses: list[int] = []
        self.most_at_once = 0
        self._at_once = 0
        self._taken: deque[float] = deque()
        self._open = threading.Event()
        self._open.set()
        self._changed = threading.Condition()
        self._server = _Server(self)
        self._thread = threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True
        )

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}/v1"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.release()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def hold(self) -> None:
        """Let every request wait until ``release``."""
        self._open.clear()

    def release(self) -> None:
        self._open.set()

    def wait_inside(self, count: int) -> None:
        """Returns once so many requests are being answered together."""
        with self._changed:
            assert self._changed.wait_for(lambda: self._at_once >= count, PATIENCE_SECONDS), (
                f"{self._at_once} requests are inside, not {count}"
            )

    def wait_asked(self, count: int) -> None:
        """Returns once so many requests have come."""
        with self._changed:
            assert self._changed.wait_for(lambda: len(self.asked) >= count, PATIENCE_SECONDS), (
                f"{len(self.asked)} requests came, not {count}"
            )

    # --- one request ------------------------------------------------------------------------------

    def handle(self, handler: Handler) -> None:
        size = int(handler.headers["Content-Length"])
        body = json.loads(handler.rfile.read(size))
        asked = Asked(handler.path, handler.headers, body, self.clock.monotonic())
        with self._changed:
            self.asked.append(asked)
            planned = self.script.popleft() if self.script else None
            self._at_once += 1
            self.most_at_once = max(self.most_at_once, self._at_once)
            self._changed.notify_all()
        try:
            self._open.wait(PATIENCE_SECONDS)
            if self.seconds_per_call:
                time.sleep(self.seconds_per_call)
            said = planned if isinstance(planned, Said) else self._refusal(asked)
        finally:
            with self._changed:
                self._at_once -= 1
                self._changed.notify_all()
        if said is not None:
            self.statuses.append(said.status)
            error = {"error": {"message": said.message, "type": "error", "code": said.status}}
            body = json.dumps(error).encode() if said.body is None else said.body
            handler.answer(said.status, body, said.headers)
            return
        self.statuses.append(200)
        good = json.dumps(self._answer(asked)).encode()
        if callable(planned):
            planned(handler, good)
        else:
            handler.answer(200, good)

    def _refusal(self, asked: Asked) -> Said | None:
        if self.key is not None and asked.headers.get("Authorization") != f"Bearer {self.key}":
            sent = asked.headers.get("Authorization", "no key")
            return Said(401, f"Incorrect API key provided: {sent}.")
        if asked.body.get("model") != MODEL:
            return Said(404, f"The model {asked.body.get('model')!r} does not exist")
        if not isinstance(asked.body.get("input"), (str, list)) or not asked.texts:
            return Said(400, "'input' must be a string or a list of strings")
        if self.base64 == "refuses" and "encoding_format" in asked.body:
            return Said(422, "encoding_format: Extra inputs are not permitted")
        return self._over_quota() or self.refuse(asked.texts)

    def _over_quota(self) -> Said | None:
        if self.quota is None:
            return None
        with self._changed:
            now = self.clock.monotonic()
            while self._taken and self._taken[0] <= now - self.quota_seconds:
                self._taken.popleft()
            if len(self._taken) < self.quota:
                self._taken.append(now)
                return None
            wait = self._taken[0] + self.quota_seconds - now
        headers = {"Retry-After": str(max(1, round(wait)))} if self.retry_after else {}
        return Said(429, f"Rate limit reached: {self.quota} requests", headers)

    def _answer(self, asked: Asked) -> dict[str, Any]:
        vectors = np.asarray(self.embedder.batch_embed(asked.texts), dtype="<f4")
        vectors = vectors[:, : asked.body.get("dimensions", vectors.shape[1])]
        encoded = self.base64 is True and asked.body.get("encoding_format") == "base64"
        rows = [
            {
                "object": "embedding",
                "index": index,
                "embedding": base64.b64encode(row.tobytes()).decode() if encoded else row.tolist(),
            }
            for index, row in enumerate(vectors)
        ]
        used = sum(-(-len(text) // 4) for text in asked.texts)
        usage = {"prompt_tokens": used, "total_tokens": used}
        return {"object": "list", "data": rows, "model": MODEL, "usage": usage}


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def __init__(self, service: EmbeddingServer) -> None:
        self.service = service
        super().__init__(("127.0.0.1", 0), Handler)

    def handle_error(self, request: object, client_address: object) -> None:
        """Clients go away in the middle, by design of the tests."""


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: _Server

    def do_POST(self) -> None:
        if self.path.partition("?")[0].endswith("/embeddings"):
            self.server.service.handle(self)
        else:
            self.answer(404, b'{"error": {"message": "no such path"}}')

    def head(self, status: int, size: int, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(size))
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.end_headers()

    def answer(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        with contextlib.suppress(ConnectionError):
            self.head(status, len(body), headers)
            self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Nothing: a test's output is its own."""


@contextlib.contextmanager
def serving(**options: Any) -> Iterator[EmbeddingServer]:
    with EmbeddingServer(**options) as server:
        yield server


def main(options: str) -> None:
    """Serves from a process of its own: prints its URL, and once it is told, what it answered.

    Args:
        options: Attributes as JSON, and the dimension.
    """
    given = json.loads(options)
    with serving(embedder=DeterministicEmbedder(given.pop("dimension"))) as server:
        for name, value in given.items():
            setattr(server, name, value)
        print(server.url, flush=True)
        sys.stdin.readline()
        figures = {"statuses": server.statuses, "most_at_once": server.most_at_once}
        figures["at"] = [asked.at for asked in server.asked]
        print(json.dumps(figures), flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
