"""Any endpoint that speaks OpenAI's embeddings API: OpenAI, Azure, Ollama, vLLM, LM Studio, TEI."""

from __future__ import annotations

import json
import os
import random
import re
from typing import TYPE_CHECKING, Any

import numpy as np

from fathomdb.config import SystemClock
from fathomdb.embedders.answer import used_tokens, vectors
from fathomdb.embedders.batch_limit import BatchLimit, Size
from fathomdb.embedders.calls import CHARS_PER_TOKEN, estimated_tokens
from fathomdb.embedders.endpoint import Endpoint
from fathomdb.embedders.protocol import EmbedderLimits
from fathomdb.embedders.retry_after import seconds_asked
from fathomdb.embedders.throttle import Throttle
from fathomdb.errors import EmbedderContractError, EmbedderUnavailableError, InvalidInputError
from fathomdb.identity import EmbedderIdentity, NormalizationPolicy
from fathomdb.redact import redact

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from numpy.typing import NDArray

    from fathomdb.config import Clock
    from fathomdb.embedders.answer import Answer

OPENAI_URL = "https://api.openai.com/v1"
OPENAI_URL_ENV = "OPENAI_BASE_URL"
OPENAI_KEY_ENV = "OPENAI_API_KEY"

BATCH_ITEMS = 64
BATCH_TOKENS = 16_384
"""What 64 chunks of 1,000 characters have, and what servers of one's own take by default."""

RETRY_SECONDS = 0.25
"""The first wait before a request is made again; doubles, and a half either way is drawn."""

_AWAY = frozenset({408, 425, 429, *range(500, 600)})
_SIZE_OR_TEXT = frozenset({400, 413, 422})
_NOBODYS_TEXT = frozenset({401, 402, 404, 405, *range(300, 400)})
"""The key, the bill, the model's name or the address: no other text would fare better."""

_LONGEST_MESSAGE = 300
"""Characters that are kept of a provider's words: they may quote a whole text."""

_OURS = frozenset({"model", "input", "dimensions", "encoding_format"})
_NO_BASE64 = re.compile(r"encoding[_ ]?format|base64", re.IGNORECASE)


class OpenAIEmbedder:
    """Embeds over HTTP by OpenAI's embeddings API, as fast as the provider bears it.

    Requests that find the provider away are made again a few times; what stays away is an
    :class:`~fathomdb.errors.EmbedderUnavailableError`, with the wait that the provider asked for.
    "Too many requests" halves the requests at once, which grow back. A smaller limit of texts a
    request is learned from the provider's refusal. Vectors come as base64 where the server can.

    ``"openai:MODEL"`` is :class:`OpenAIEmbedder` with the model alone, at OpenAI or at what the
    environment variable OPENAI_BASE_URL says. A file never opens it by itself.

    Args:
        model: The model's name, as the API knows it.
        base_url: The API's address, up to ``/embeddings``; a user and password in it are sent as
            such and shown nowhere.
        dimensions: How many numbers to ask for, of models that can give fewer; None takes what the
            model gives, which is learned from the first batch.
        api_key_env: The environment variable with the key, which is read for each request and never
            kept. Without ``base_url`` it is OPENAI_API_KEY; a key is never sent to an address that
            you name unless you name its variable too.
        api_key_header: Where the key goes: ``Authorization`` (as ``Bearer``), or ``api-key``.
        headers: More headers.
        model_identity: The model's name in the file; default ``model``. For a deployment that is
            named otherwise.
        model_version: Its version; a new one means new vectors for everything.
        normalization: ``"l2"`` scales every vector to unit length, ``"none"`` stores it as it is.
        document_prefix: Put before every document, for models trained so.
        query_prefix: Put before every query.
        document_parameters: More fields of a request for documents: ``{"input_type": "passage"}``.
        query_parameters: More fields of a request for queries.
        max_tokens: Where a text is cut, in tokens of 4 characters, its prefix included; None leaves
            long texts to the provider.
        batch_items: Texts in a request at most.
        batch_tokens: Estimated tokens in a request at most.
        concurrency: Requests at once at most.
        requests_per_minute: The provider's quota, kept without ever meeting it.
        tokens_per_minute: The same for tokens, as the provider counts them.
        connect_timeout_seconds: For a connection.
        read_timeout_seconds: From a request to the end of its answer.
        retries: How often a request that found the provider away is made again.
        clock: Where time comes from.
        jitter: Spreads the waits: a number between two, as ``random.Random(seed).uniform`` gives.

    Raises:
        InvalidInputError: An argument that cannot be used.
        MissingExtraError: httpx is not installed.
    """

    local = False

    def __init__(
        self,
        model: str,
        *,
        base_url: str | None = None,
        dimensions: int | None = None,
        api_key_env: str | None = None,
        api_key_header: str = "Authorization",
        headers: Mapping[str, str] | None = None,
        model_identity: str | None = None,
        model_version: str = "1",
        normalization: NormalizationPolicy = "l2",
        document_prefix: str = "",
        query_prefix: str = "",
        document_parameters: Mapping[str, Any] | None = None,
        query_parameters: Mapping[str, Any] | None = None,
        max_tokens: int | None = None,
        batch_items: int = BATCH_ITEMS,
        batch_tokens: int = BATCH_TOKENS,
        concurrency: int = 8,
        requests_per_minute: int | None = None,
        tokens_per_minute: int | None = None,
        connect_timeout_seconds: float = 5.0,
        read_timeout_seconds: float = 60.0,
        retries: int = 2,
        clock: Clock | None = None,
        jitter: Callable[[float, float], float] | None = None,
    ) -> None:
        _check_whole("max_tokens", max_tokens, least=1)
        _check_whole("requests_per_minute", requests_per_minute, least=1)
        _check_whole("tokens_per_minute", tokens_per_minute, least=1)
        _check_whole("retries", retries, least=0)
        _check_seconds("connect_timeout_seconds", connect_timeout_seconds)
        _check_seconds("read_timeout_seconds", read_timeout_seconds)
        self.limits = _within_quota(
            EmbedderLimits(batch_items, batch_tokens, concurrency),
            requests_per_minute,
            tokens_per_minute,
        )
        self._document = _Side(document_prefix, document_parameters, "document_parameters")
        self._query = _Side(query_prefix, query_parameters, "query_parameters")
        self.max_tokens = max_tokens
        self.count_truncated = None if max_tokens is None else self._count_truncated
        self._identity = EmbedderIdentity(
            model_identity=model if model_identity is None else model_identity,
            model_version=model_version,
            dimension=dimensions,
            normalization_policy=normalization,
            preparation={
                **self._document.preparation("document"),
                **self._query.preparation("query"),
                **({} if max_tokens is None else {"max_chars": str(max_tokens * CHARS_PER_TOKEN)}),
            },
        )
        self._model = model
        self._asked = {} if dimensions is None else {"dimensions": dimensions}
        self._dimension = dimensions
        self._clock = clock if clock is not None else SystemClock()
        self._jitter = jitter if jitter is not None else random.Random().uniform  # noqa: S311 - spreads waits
        self._retries = retries
        if base_url is None:
            base_url = os.environ.get(OPENAI_URL_ENV) or OPENAI_URL
            api_key_env = api_key_env or OPENAI_KEY_ENV
        self._endpoint = Endpoint(
            base_url,
            "/embeddings",
            key_env=api_key_env,
            key_header=api_key_header,
            headers={} if headers is None else headers,
            connect_timeout_seconds=connect_timeout_seconds,
            read_timeout_seconds=read_timeout_seconds,
            connections=concurrency,
            clock=self._clock,
        )
        self._throttle = Throttle(
            self.limits.concurrency, requests_per_minute, tokens_per_minute, self._clock
        )
        self._batch_limit = BatchLimit(Size(batch_items, self.limits.tokens))
        self._base64 = True

    def identity(self) -> EmbedderIdentity:
        """The model's name and whatever is put around a text; never the address."""
        return self._identity

    def batch_embed(self, texts: Sequence[str]) -> NDArray[Any]:
        """The vectors of documents, shape (n, dimension), float32 or float64.

        Raises:
            EmbedderUnavailableError: The provider is away, or refuses whatever it is asked.
            EmbedderContractError: What it answered are not the vectors of these texts.
            InvalidInputError: It refuses these texts.
        """
        return self._embed(texts, self._document, urgent=False)

    def embed_query(self, text: str) -> NDArray[Any]:
        """The vector of a query, shape (dimension,); goes before documents that wait."""
        vector: NDArray[Any] = self._embed([text], self._query, urgent=True)[0]
        return vector

    def interrupt(self) -> None:
        """Ends all waiting, for a quota or to try again, with an EmbedderUnavailableError."""
        self._throttle.close()

    def close(self) -> None:
        """Ends all waiting and closes the connections; a later call raises."""
        self.interrupt()
        self._endpoint.close()

    def __repr__(self) -> str:
        return f"<OpenAIEmbedder {self._identity}>"

    # --- batches ----------------------------------------------------------------------------------

    def _embed(self, texts: Sequence[str], side: _Side, *, urgent: bool) -> NDArray[Any]:
        prepared = [self._cut(side.prefix + text) for text in texts]
        known = size = self._batch_limit.size
        waiting = size.cut(prepared)[::-1]
        found: list[NDArray[Any]] = []
        while waiting:
            piece = waiting.pop()
            answered = self._request(piece, side, urgent=urgent)
            if isinstance(answered, np.ndarray):
                self._batch_limit.passed(piece)
                found.append(answered)
                continue
            smaller = self._batch_limit.smaller(size, piece, answered)
            if smaller is None:
                raise InvalidInputError(answered)
            size = smaller
            waiting = [part for more in (piece, *waiting[::-1]) for part in size.cut(more)][::-1]
        if size != known:
            self._batch_limit.learn(size)
        return np.concatenate(found)

    def _cut(self, text: str) -> str:
        return text if self.max_tokens is None else text[: self.max_tokens * CHARS_PER_TOKEN]

    def _count_truncated(self, texts: Sequence[str]) -> int:
        """How many of the documents are cut at ``max_tokens``."""
        return sum(
            self._cut(text) != text for text in (self._document.prefix + text for text in texts)
        )

    # --- one request ------------------------------------------------------------------------------

    def _request(self, texts: Sequence[str], side: _Side, *, urgent: bool) -> NDArray[Any] | str:
        """The vectors of the texts of one request, or why these texts, or so many, are refused."""
        body = {"model": self._model, "input": texts, **self._asked, **side.parameters}
        tokens = sum(map(estimated_tokens, texts))
        asked_base64 = self._base64
        if asked_base64:
            body["encoding_format"] = "base64"
        answer, payload = self._ask(body, tokens, urgent=urgent)
        status = answer.status or 0
        if 200 <= status < 300:
            return self._checked(vectors(payload, len(texts)))
        if asked_base64 and _NO_BASE64.search(answer.message()):
            self._base64 = False
            return self._request(texts, side, urgent=urgent)
        if status in _SIZE_OR_TEXT:
            return self._said(answer)
        if status in _NOBODYS_TEXT:
            raise EmbedderUnavailableError(self._said(answer))
        raise InvalidInputError(self._said(answer))

    def _ask(self, body: Mapping[str, Any], tokens: int, *, urgent: bool) -> tuple[Answer, Any]:
        """The answer to a request, and its JSON; made again while the provider is away."""
        attempt = 0
        while True:
            with self._throttle.request(tokens, urgent=urgent) as sent_at:
                answer = self._endpoint.post(body)
            status = answer.status
            payload = None if status is None else answer.json()
            half = status is not None and status < 300 and payload is None
            if status is not None and status not in _AWAY and not half:
                self._throttle.succeeded(tokens, used_tokens(payload))
                return answer, payload
            asked = self._asked_seconds(answer)
            wait = RETRY_SECONDS * 2**attempt * self._jitter(0.5, 1.5)
            everybody = asked is not None or status == 429
            if status == 429:
                self._throttle.too_many(sent_at)
            if everybody:
                self._throttle.pause(wait if asked is None else asked)
            if attempt == self._retries:
                raise EmbedderUnavailableError(self._said(answer), retry_after_seconds=asked)
            if not everybody:
                self._throttle.sleep(wait)
            attempt += 1

    def _asked_seconds(self, answer: Answer) -> float | None:
        headers = answer.headers
        asked = seconds_asked(headers.get("retry-after-ms", ""), 0.0)  # of OpenAI and Azure
        if asked is not None:
            asked /= 1000.0
        else:
            asked = seconds_asked(headers.get("retry-after", ""), self._clock.now())
        return asked if asked is not None and asked > 0 else None

    def _checked(self, found: NDArray[Any]) -> NDArray[Any]:
        dimension = found.shape[1]
        if self._dimension is None:
            self._dimension = dimension
        if dimension != self._dimension:
            raise EmbedderContractError(
                f"{self._identity} answered with {dimension} dimensions, not {self._dimension}"
                + ("; does it take another number than its own?" if self._asked else "")
            )
        return found

    def _said(self, answer: Answer) -> str:
        """What an answer means, in a line without secrets."""
        where = f"POST {self._endpoint.url}"
        if answer.status is None:
            return f"{where}: {answer.failure}"
        if answer.status < 300:
            return f"{where}: {answer.status} with a body that is not whole, or not JSON"
        # Cut last: half of a secret would not be known for one.
        message = self._endpoint.hide(answer.message())
        if len(message) > _LONGEST_MESSAGE:
            message = f"{message[:_LONGEST_MESSAGE]}..."
        said = f"{where}: {answer.status} {message}".rstrip()
        if answer.status == 401 and not self._endpoint.has_key():
            variable = self._endpoint.key_env
            said += (
                "; no key was sent: name its environment variable as api_key_env="
                if variable is None
                else f"; no key was sent: the environment variable {variable} is not set"
            )
        return said


class _Side:
    """What is done to documents, or to queries: it belongs to the model's identity."""

    def __init__(self, prefix: str, parameters: Mapping[str, Any] | None, name: str) -> None:
        if not isinstance(prefix, str):
            raise InvalidInputError(f"a prefix must be a string, got {prefix!r}")
        self.prefix = prefix
        self.parameters = {} if parameters is None else dict(parameters)
        if ours := sorted(_OURS.intersection(self.parameters)):
            raise InvalidInputError(
                f"{name} must not have {', '.join(ours)}: there are arguments of their own for them"
            )
        try:
            self._said = json.dumps(self.parameters, sort_keys=True, allow_nan=False)
        except (TypeError, ValueError) as error:
            raise InvalidInputError(f"{name} must be JSON: {error}") from None
        if (shown := redact(self._said)) != self._said:
            raise InvalidInputError(
                f"{name} has what looks like a credential ({shown}), and it is kept in the file; "
                "use headers= or api_key_env="
            )

    def preparation(self, side: str) -> dict[str, str]:
        """Its part of the identity; nothing where it changes nothing."""
        parts = {f"{side}_prefix": self.prefix, f"{side}_parameters": self._said}
        return {name: value for name, value in parts.items() if value not in {"", "{}"}}


def _within_quota(
    limits: EmbedderLimits, requests_per_minute: int | None, tokens_per_minute: int | None
) -> EmbedderLimits:
    """Limits under which all that is on its way at once is worth a minute of quota at most.

    So no call waits for much longer than that. Requests have a twentieth of the tokens of a minute
    at most, which keeps any minute below the quota; more where few requests are allowed.
    """
    tokens, concurrency = limits.tokens, limits.concurrency
    if requests_per_minute is not None:
        concurrency = min(concurrency, requests_per_minute)
    if tokens_per_minute is not None and tokens is not None:
        share = max(tokens_per_minute // 20, tokens_per_minute // (requests_per_minute or 20), 1)
        tokens = min(tokens, share)
        concurrency = min(concurrency, max(1, tokens_per_minute // tokens))
    return EmbedderLimits(limits.items, tokens, concurrency)


def _check_whole(name: str, value: object, *, least: int) -> None:
    if value is not None and (type(value) is not int or value < least):
        raise InvalidInputError(f"{name} must be {least} or more, got {value!r}")


def _check_seconds(name: str, value: object) -> None:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < 1e9:
        raise InvalidInputError(f"{name} must be a number of seconds greater than 0, got {value!r}")
