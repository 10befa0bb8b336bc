"""One address that takes JSON: how it is reached, and what of it may be shown."""

from __future__ import annotations

import base64
import json
import os
import threading
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit, urlunsplit

from fathomdb._extras import require
from fathomdb.embedders.answer import Answer
from fathomdb.errors import EmbedderUnavailableError, InvalidInputError
from fathomdb.redact import HIDDEN, redact

if TYPE_CHECKING:
    from collections.abc import Mapping

    from fathomdb.config import Clock

_SHORTEST_SECRET = 6
"""Shorter values of headers are words such as "json", and hiding them would hide the message."""


class _Secret:
    """A value that no repr, log or traceback shows by itself."""

    __slots__ = ("value",)

    def __init__(self, value: Any) -> None:
        self.value = value

    def __repr__(self) -> str:
        return HIDDEN


class Endpoint:
    """Posts JSON over httpx; safe for any thread.

    The key is read from the environment for each request, and is in no attribute. What it says of
    itself and of an answer is without the key, the headers that were given, and the user and
    password of the URL.

    Args:
        base_url: The address, with or without user and password.
        path: What is added to its path.
        key_env: The environment variable that holds the key; None sends none.
        key_header: Where the key goes, after ``Bearer`` if it is ``Authorization``.
        headers: Sent with each request.
        connect_timeout_seconds: For a connection.
        read_timeout_seconds: From the request to the end of its answer.
        connections: Connections that are kept open.
        clock: Where time comes from.

    Raises:
        InvalidInputError: The URL or a header cannot be used; the message repeats no secret.
        MissingExtraError: httpx is not installed.
    """

    def __init__(
        self,
        base_url: str,
        path: str,
        *,
        key_env: str | None,
        key_header: str,
        headers: Mapping[str, str],
        connect_timeout_seconds: float,
        read_timeout_seconds: float,
        connections: int,
        clock: Clock,
    ) -> None:
        self._httpx = require("httpx", "http")
        self.url, user, password = _without_user(base_url, path)
        self._basic = None if user is None else _Secret(self._httpx.BasicAuth(user, password))
        for name, value in headers.items():
            _check_header(name, value)
        self._headers = _Secret(dict(headers))
        names = {name.lower() for name in headers}
        if key_env is not None and (
            key_header.lower() in names or (user is not None and _is_authorization(key_header))
        ):
            raise InvalidInputError(
                f"the key of {key_env} and another credential would both be the header "
                f"{key_header}; give one of them"
            )
        self.key_env = key_env
        self._key_header = key_header
        given = [*headers.values()]
        if user is not None:
            pair = base64.b64encode(f"{user}:{password}".encode()).decode()
            given += [part for part in (user, password) if part] + [pair, *_userinfo(base_url)]
        secrets = {value for value in given if len(value) >= _SHORTEST_SECRET}
        self._secrets = _Secret(sorted(secrets, key=len, reverse=True))
        self._timeout = self._httpx.Timeout(
            read_timeout_seconds, connect=connect_timeout_seconds, pool=None
        )
        self._read_timeout_seconds = read_timeout_seconds
        self._connections = connections
        self._clock = clock
        self._lock = threading.Lock()
        self._client: Any = None

    def __repr__(self) -> str:
        return f"<Endpoint {self.url}>"

    def post(self, body: Mapping[str, Any]) -> Answer:
        """The answer to ``body``, whatever it is; one without a status where none came.

        Raises:
            EmbedderUnavailableError: What the environment holds cannot be a key.
        """
        content = json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode()
        began = self._clock.monotonic()
        try:
            with self._opened().stream("POST", self.url, content=content) as response:
                parts = []
                for part in response.iter_bytes():
                    parts.append(part)
                    # The time-out of httpx is for each part: some servers send one a minute.
                    if self._clock.monotonic() - began > self._read_timeout_seconds:
                        limit = f"no whole answer within {self._read_timeout_seconds:g} s"
                        return Answer(None, {}, b"", limit)
                return Answer(response.status_code, response.headers, b"".join(parts))
        except (self._httpx.HTTPError, self._httpx.StreamError) as error:
            said = str(error) or "no words"
            return Answer(None, {}, b"", f"{type(error).__name__}: {self.hide(said)}")

    def hide(self, text: str) -> str:
        """The text without any secret that this endpoint knows, or that looks like one."""
        for secret in (self._key(), *self._secrets.value):
            if secret:
                text = text.replace(secret, HIDDEN)
        return redact(text)

    def has_key(self) -> bool:
        """Whether there is a key to send."""
        return bool(self._key())

    def close(self) -> None:
        """Closes the connections; a later request opens new ones."""
        with self._lock:
            client, self._client = self._client, None
        if client is not None:
            client.close()

    def _key(self) -> str:
        return "" if self.key_env is None else os.environ.get(self.key_env, "").strip()

    def _opened(self) -> Any:
        with self._lock:
            if self._client is None:
                self._client = self._httpx.Client(
                    auth=self._authorize,
                    headers={"Content-Type": "application/json", **self._headers.value},
                    timeout=self._timeout,
                    limits=self._httpx.Limits(
                        max_connections=None, max_keepalive_connections=self._connections
                    ),
                )
            return self._client

    def _authorize(self, request: Any) -> Any:
        if self._basic is not None:
            request = next(self._basic.value.auth_flow(request))
        if self.has_key():
            if not (self._key().isascii() and self._key().isprintable()):
                raise EmbedderUnavailableError(
                    f"the environment variable {self.key_env} has characters that no key has, such "
                    "as a line break in its middle; set it again"
                )
            before = "Bearer " if _is_authorization(self._key_header) else ""
            request.headers[self._key_header] = before + self._key()
        return request


def _is_authorization(header: str) -> bool:
    return header.lower() == "authorization"


def _userinfo(url: str) -> list[str]:
    """User and password as they are written in the URL, escapes and all."""
    return [part for part in urlsplit(url).netloc.rpartition("@")[0].split(":", 1) if part]


def _without_user(url: str, path: str) -> tuple[str, str | None, str]:
    """The URL as it may be shown, and the user and password that it had.

    httpx logs the URL of each request, so they must not stay in it.
    """
    if not isinstance(url, str):
        raise InvalidInputError(f"base_url must be a string, got {type(url).__name__}")
    try:
        parts = urlsplit(url)
        usable = parts.scheme in {"http", "https"} and bool(parts.hostname)
        user = None if parts.username is None else unquote(parts.username)
        password = unquote(parts.password or "")
        _ = parts.port  # raises where it is no number
    except ValueError:
        usable = False
    if not usable:
        raise InvalidInputError(
            f"base_url must be the http or https address of an API, such as "
            f"http://localhost:11434/v1, got {redact(url)!r}"
        )
    shown = urlunsplit(
        parts._replace(
            netloc=parts.netloc.rpartition("@")[2],
            path=parts.path.rstrip("/") + path,
            fragment="",
        )
    )
    if redact(shown) != shown:
        raise InvalidInputError(
            f"base_url has what looks like a credential ({redact(shown)!r}), and addresses are "
            "logged; put it into an environment variable and name that as api_key_env="
        )
    return shown, user, password


def _check_header(name: object, value: object) -> None:
    if not isinstance(name, str) or not isinstance(value, str):
        raise InvalidInputError(f"headers must map strings to strings, got {name!r}")
    if not (name.isascii() and name.isprintable() and name and " " not in name):
        raise InvalidInputError(f"{name!r} is no name of a header")
    if not (value.isascii() and value.isprintable()):
        raise InvalidInputError(f"the value of the header {name} has characters that none may have")
