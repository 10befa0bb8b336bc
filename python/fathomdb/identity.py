"""The identity of an embedding model: what the store compares before two vectors may meet."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Literal

from fathomdb.errors import InvalidInputError
from fathomdb.redact import redact

if TYPE_CHECKING:
    from collections.abc import Mapping

NormalizationPolicy = Literal["l2", "none"]
NORMALIZATION_POLICIES: tuple[NormalizationPolicy, ...] = ("l2", "none")


@dataclass(frozen=True, slots=True)
class EmbedderIdentity:
    """The identity of the model that makes vectors: vectors of two identities never meet.

    ``dimension`` None means: learned from the first batch. ``normalization_policy`` ``"l2"`` has
    every vector scaled to unit length at the border, ``"none"`` stores them as they come.
    ``preparation`` names everything else that changes the vector space: prefixes, pooling,
    truncation, text preparation and its version, checksums of weights. Strings only.
    """

    model_identity: str
    model_version: str = "1"
    dimension: int | None = None
    normalization_policy: NormalizationPolicy = "l2"
    preparation: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in ("model_identity", "model_version"):
            value = getattr(self, name)
            if not isinstance(value, str) or not value or "\0" in value:
                raise InvalidInputError(f"{name} must be a non-empty string, got {value!r}")
            if (shown := redact(value)) != value:
                raise InvalidInputError(
                    f"{name} has what looks like a credential ({shown!r}), and it is kept in the "
                    "file; name the model alone"
                )
        if self.dimension is not None and (
            isinstance(self.dimension, bool)
            or not isinstance(self.dimension, int)
            or not 1 <= self.dimension <= MAX_DIMENSION
        ):
            raise InvalidInputError(
                f"dimension must be None or from 1 to {MAX_DIMENSION}, got {self.dimension!r}"
            )
        if self.normalization_policy not in NORMALIZATION_POLICIES:
            raise InvalidInputError(
                f"normalization_policy must be one of {NORMALIZATION_POLICIES}, "
                f"got {self.normalization_policy!r}"
            )
        for key, value in self.preparation.items():
            if not isinstance(key, str) or not isinstance(value, str):
                raise InvalidInputError(
                    f"preparation must map strings to strings, got {key!r}: {value!r}"
                )
        try:
            for text in (self.model_identity, self.model_version, *self.preparation.items()):
                "".join(text).encode()
        except UnicodeEncodeError as error:
            raise InvalidInputError(f"an identity must have a UTF-8 form: {error}") from None
        object.__setattr__(self, "preparation", MappingProxyType(dict(self.preparation)))

    @property
    def fingerprint(self) -> str:
        """SHA-256, lowercase hex, of everything above: equal means the same vector space."""
        canonical = json.dumps(
            [
                self.model_identity,
                self.model_version,
                self.dimension,
                self.normalization_policy,
                dict(self.preparation),
            ],
            sort_keys=True,
            ensure_ascii=True,
            separators=(",", ":"),
        )
        return hashlib.sha256(canonical.encode()).hexdigest()

    def __hash__(self) -> int:
        # The generated one would hash the mapping, which has no hash.
        return hash(self.fingerprint)

    def __str__(self) -> str:
        dimension = "?" if self.dimension is None else self.dimension
        return f"{self.model_identity}@{self.model_version} ({dimension} dimensions)"


MAX_DIMENSION = 8192
"""The most that sqlite-vec takes in one vector column."""
