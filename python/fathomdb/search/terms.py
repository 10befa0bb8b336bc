"""Terms: which words of a query select chunks at scale, and which only rank those that are selected.

FTS5 ranks every chunk that it finds, a microsecond each, so that a question of sixteen words took
2.7 s among 1,000,000 chunks (docs/decisions/0044). What is chosen here is a function of the snapshot
alone.
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass
from itertools import accumulate
from typing import TYPE_CHECKING

from fathomdb.store import fts, postings

if TYPE_CHECKING:
    from fathomdb.store.connection import Connection
    from fathomdb.store.postings import Corpus

MAX_WORDS = 256
"""Distinct words of a query that are looked at; what follows them in a longer text is ignored."""
MAX_TERMS = 32
"""Distinct words that are searched for: of more, those found in the fewest chunks."""
EXACT_CHUNKS = 4_000
"""Up to as many chunks in the file every word selects, however often it is found."""
EXACT_ROWS = 10_000
"""The same where the words are found in no more chunks than this, added up."""
SELECTING_SHARE = 0.1
"""The words that select are found in a tenth of all chunks at most, added up (but for the rarest)."""


@dataclass(frozen=True, slots=True)
class Term:
    """A word that some chunk has, and in about how many it is found."""

    word: str
    found_in: int


@dataclass(frozen=True, slots=True)
class Terms:
    """The terms of a query, rarest first.

    ``exact`` says that an OR of all of them is ranked; else the first ``selecting`` of them select,
    of each at most the newest ``most_rows`` chunks that have it.
    """

    every: tuple[Term, ...]
    corpus: Corpus
    exact: bool
    selecting: int
    most_rows: int

    @property
    def expression(self) -> str | None:
        """All terms as an FTS5 expression; None where there is none."""
        return " OR ".join(fts.phrase(term.word) for term in self.every) or None


def choose(db: Connection, query: str, *, exact: bool = False) -> Terms:
    """The terms of a query, and how many of them select: all where it is to be ``exact``."""
    words = fts.words(db, query, MAX_WORDS)
    corpus = postings.corpus(db)
    small = corpus.chunks <= EXACT_CHUNKS
    most = max(EXACT_ROWS, int(SELECTING_SHARE * corpus.chunks))
    if exact or (small and len(words) <= MAX_TERMS):
        every = tuple(Term(word, 0) for word in words)
        return Terms(every, corpus, exact=True, selecting=len(every), most_rows=most)
    found = (Term(word, postings.about(db, fts.phrase(word), corpus)) for word in words)
    rarest = sorted((term for term in found if term.found_in), key=lambda term: term.found_in)
    every = tuple(rarest[:MAX_TERMS])
    rows = [*accumulate(term.found_in for term in every)]
    ranks_all = small or not rows or rows[-1] <= EXACT_ROWS
    selecting = len(every) if ranks_all else max(1, bisect_right(rows, most))
    return Terms(every, corpus, ranks_all, selecting, most)
