"""What an embeddings API answers: vectors by their ``index``, or an error in words."""

from __future__ import annotations

import base64
import binascii
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from fathomdb.errors import EmbedderContractError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

_LONGEST_READ = 10_000
"""Characters of an error that are read at all: some servers send a whole page."""


@dataclass(frozen=True, slots=True, repr=False)
class Answer:
    """One answer of HTTP; ``status`` is None where none came, and ``failure`` then says why."""

    status: int | None
    headers: Mapping[str, str]
    content: bytes
    failure: str = ""

    def json(self) -> Any:
        """The body as JSON; None where it is none, a part of one for example."""
        try:
            return json.loads(self.content)
        except ValueError:
            return None

    def message(self) -> str:
        """The provider's own words about an error, on one line."""
        said = self.json()
        for name in ("error", "message", "detail", "msg"):
            if isinstance(said, dict) and said.get(name):
                said = said[name]
        if said is None:
            said = self.content.decode("utf-8", "replace")
        text = said if isinstance(said, str) else json.dumps(said, ensure_ascii=False)
        return " ".join(text[:_LONGEST_READ].split())


def used_tokens(payload: Any) -> int | None:
    """The tokens that the provider counted; None where it does not say."""
    usage = payload.get("usage") if isinstance(payload, dict) else None
    used = usage.get("total_tokens") if isinstance(usage, dict) else None
    return used if type(used) is int and used > 0 else None


def vectors(payload: Any, count: int) -> NDArray[Any]:
    """The vectors of ``count`` texts, (count, dimension), in the order of the texts.

    Each row has its text's number in ``index``, and may come anywhere. Base64 gives float32, lists
    of numbers float64.

    Raises:
        EmbedderContractError: Too few or too many, one twice, or something that is no vector.
    """
    data = payload.get("data") if isinstance(payload, dict) else None
    if not isinstance(data, list) or not all(isinstance(row, dict) for row in data):
        raise EmbedderContractError(
            "the answer has no list of embeddings in data; is base_url the address of an "
            "OpenAI-compatible API?"
        )
    if len(data) != count:
        raise EmbedderContractError(f"{len(data)} embeddings came for {count} texts")
    rows: list[NDArray[Any] | None] = [None] * count
    unnumbered = not any("index" in row for row in data)
    for number, row in enumerate(data):
        index = number if unnumbered else row.get("index")
        if type(index) is not int or not 0 <= index < count:
            raise EmbedderContractError(f"index {index!r} came for {count} texts")
        if rows[index] is not None:
            raise EmbedderContractError(f"two embeddings have the index {index}")
        rows[index] = _vector(row.get("embedding"))
    sizes = {row.shape for row in rows if row is not None}
    if len(sizes) != 1:
        raise EmbedderContractError(
            f"the embeddings of one answer differ in dimension: {sorted(size[0] for size in sizes)}"
        )
    return np.array(rows)


def _vector(embedding: Any) -> NDArray[Any]:
    try:
        if isinstance(embedding, str):
            data = base64.b64decode(embedding, validate=True)
            vector: NDArray[Any] = np.frombuffer(data, dtype="<f4")
        else:
            # null becomes NaN, and its text fails alone.
            vector = np.array(embedding, dtype=np.float64)
    except (ValueError, TypeError, OverflowError, binascii.Error):
        vector = np.empty(0)
    if vector.ndim != 1 or not vector.size:
        raise EmbedderContractError(
            "an embedding is neither a list of numbers nor base64 of 32-bit floats"
        )
    return vector
