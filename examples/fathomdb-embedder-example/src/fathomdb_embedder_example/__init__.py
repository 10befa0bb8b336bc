"""An embedder plugin for FathomDB: how often each byte occurs in a text."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from fathomdb import EmbedderIdentity, EmbedderLimits

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray


class ByteCounts:
    """Counts of the 256 bytes of UTF-8: texts of the same letters are near."""

    limits = EmbedderLimits(items=256)
    local = True
    plugin_spec = "example"  # what a file remembers, to open with the same embedder again

    def identity(self) -> EmbedderIdentity:
        """Whatever changes the vectors must change this."""
        return EmbedderIdentity("example/byte-counts", "1", 256, preparation={"case": "folded"})

    def batch_embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """One row a text, in order, shape (n, 256)."""
        counts = np.empty((len(texts), 256), dtype=np.float32)
        for row, text in enumerate(texts):
            letters = np.frombuffer(text.casefold().encode(), dtype=np.uint8)
            counts[row] = np.bincount(letters, minlength=256)
        return counts
