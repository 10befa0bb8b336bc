"""Candidates: text search at scale. Chunks are selected by their rarest words, read, and scored.

A selected chunk first counts the weights of the selecting words that it has, which takes no more
than their keys. The best by that are read, cut into tokens as the index cuts them, and get the score
that FTS5 would give them for the whole query.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import numpy as np

from fathomdb.search import bm25
from fathomdb.search.ranked import Ranked
from fathomdb.store import chunks, fts, postings
from fathomdb.store.conditions import EVERYTHING

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from fathomdb.search.filters import Filter
    from fathomdb.search.terms import Terms
    from fathomdb.store.connection import Connection
    from fathomdb.store.postings import Keys

SPARE = 200
"""Chunks that are read beyond those asked for (measured: more change nothing, fewer lose recall)."""
SPARE_OF_ONE = 800
"""The same where one word selects: then nothing tells its chunks apart before they are read."""
PAGE = 400
"""Selected chunks that the filter is asked about at once; each further page is four times that."""
RARELY = 0.015
"""Where fewer of the first page pass, the filter is read and not the selection (measured)."""
WHOLE_FILTER = 500
"""Chunks of such a filter that are all read, whichever words of the query they have."""
READ_PER_NODE = 4
"""Chunks of a node that are read for each that is asked for."""


def scored(
    db: Connection, terms: Terms, where: Filter, *, limit: int, per_node: int
) -> list[Ranked]:
    """Candidates with their score for all terms, best first, ties by key."""
    selection = _Selection(db, terms)
    found_in = [*selection.found_in, *(term.found_in for term in terms.every[terms.selecting :])]
    spare = SPARE_OF_ONE if terms.selecting == 1 else SPARE
    rows = _passing(db, selection, where, limit + spare, per_node)
    cut, cut_word = fts.cutters(db)
    words = [
        bm25.Word(tuple(cut_word(term.word)), bm25.weight(terms.corpus.chunks, count))
        for term, count in zip(terms.every, found_in, strict=True)
    ]
    scorer = bm25.Scorer(words, terms.corpus.tokens / terms.corpus.chunks)
    ranked = (
        Ranked(key, rows[key], score)
        for key, text in chunks.texts(db, rows)
        if (score := scorer.score(cut(text))) > 0
    )
    return sorted(ranked, key=lambda row: (-row.score, row.chunk_key))


class _Selection:
    """The chunks that have a selecting word, each with the weights of those that it has, added."""

    def __init__(self, db: Connection, terms: Terms) -> None:
        of_word = [
            postings.newest(db, fts.phrase(term.word), terms.most_rows)
            for term in terms.every[: terms.selecting]
        ]
        self.found_in = [len(keys) for keys in of_word]
        weights = [bm25.weight(terms.corpus.chunks, count) for count in self.found_in]
        keys = np.concatenate(of_word)
        order = np.argsort(keys, kind="stable")
        keys = keys[order]
        first = np.flatnonzero(np.diff(keys, prepend=-1))
        self.keys: Keys = keys[first]
        self._weights: NDArray[np.float64] = np.add.reduceat(
            np.repeat(weights, self.found_in)[order], first
        )

    def best(self, count: int, of: NDArray[np.bool_] | None = None) -> Keys:
        """The ``count`` keys that have most weight, in that order, ties by key."""
        keys = self.keys if of is None else self.keys[of]
        weights = self._weights if of is None else self._weights[of]
        if len(keys) > count:
            least = np.partition(weights, -count)[-count]
            more, as_much = np.flatnonzero(weights > least), np.flatnonzero(weights == least)
            places = np.concatenate([more, as_much[: count - len(more)]])
            keys, weights = keys[places], weights[places]
        return keys[np.lexsort((keys, -weights))]


def _passing(
    db: Connection, selection: _Selection, where: Filter, wanted: int, per_node: int
) -> dict[int, int]:
    """The node of each chunk to read, by chunk key: the best that pass the filter."""
    kept: dict[int, int] = {}
    taken: Counter[int] = Counter()
    useful = looked = 0
    page = wanted if where.condition == EVERYTHING else max(PAGE, wanted)
    allowed: NDArray[np.bool_] | None = None
    while True:
        keys = selection.best(looked + page, allowed)[looked:]
        if not len(keys):
            return kept
        passing = chunks.passing(db, keys, where.condition)
        is_first = allowed is None and not looked and where.condition != EVERYTHING
        if is_first and len(passing) < RARELY * len(keys):
            # A filter that few chunks pass: all of them, or those that are selected too.
            of_filter = postings.of_filter(db, where.condition)
            if len(of_filter) <= WHOLE_FILTER:
                return dict(chunks.passing(db, of_filter, EVERYTHING))
            allowed = np.isin(selection.keys, of_filter, assume_unique=True)
            continue
        for chunk_key, node_key in passing:
            taken[node_key] += 1
            if taken[node_key] <= READ_PER_NODE * per_node:
                kept[chunk_key] = node_key
            useful += taken[node_key] <= per_node
            if useful == wanted:
                return kept
        looked, page = looked + len(keys), 4 * page
