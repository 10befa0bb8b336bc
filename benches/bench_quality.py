"""How well the right tools are found, over the demo's corpus: each embedder, each way to search.

Arguments choose among ``hashing``, ``static`` and ``onnx``; all three without.
"""

from __future__ import annotations

import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import fathomdb
from alternating import keep
from materials import folder

sys.path.append(str(Path(__file__).resolve().parent.parent))
sys.path.append(str(Path(__file__).resolve().parent.parent / "tests"))
from demo import corpus
from demo.measure import DEPTH, quality

import models

if TYPE_CHECKING:
    from collections.abc import Callable

    from demo.corpus import Corpus
    from demo.measure import Quality

WHEEL = Path(__file__).resolve().parent.parent / ".cache" / corpus.WHEEL_NAME
EMBEDDERS: dict[str, Callable[[], str]] = {
    "hashing": lambda: "hashing",
    "static": lambda: "static",
    "onnx": lambda: f"onnx:{models.minilm_folder()}",  # all-MiniLM-L6-v2, int8
}
# (nDCG@10, recall@100) at least; the words are the same under any embedder.
TARGETS = {
    ("static", "text"): (0.645, 0.95),
    ("static", "hybrid"): (0.66, 0.97),
    ("onnx", "hybrid"): (0.68, 0.97),
}
DRAIN_SECONDS = 600.0


def main() -> None:
    tools = corpus.load(WHEEL)
    print(f"{len(tools.documents):,} tools, {len(tools.queries):,} requests, default settings")
    print(f"{'':20}{'nDCG@10':>10}{'recall@100':>12}")
    for name in sys.argv[1:] or EMBEDDERS:
        with (
            folder() as scratch,
            fathomdb.open(scratch / "tools.db", embedder=EMBEDDERS[name](), background=False) as db,
        ):
            db.ingest(map(asdict, tools.documents), kind="Tool", id="key")
            drained = db.admin.drain_vector_projection(timeout=DRAIN_SECONDS)
            assert drained.stopped_by == "idle", drained
            assert drained.processed >= len(tools.documents), drained
            for mode in ("text", "semantic", "hybrid"):
                found = measured(db, tools, mode)
                ndcg, recall = found.ndcg_at_10, found.recall_at_100
                least = TARGETS.get((name, mode), (0.0, 0.0))
                wanted = keep(
                    f"{name} {mode}",
                    ndcg,
                    "nDCG@10",
                    recall=recall,
                    target=f"{least[0]:.3f} {least[1]:.2f}" if any(least) else None,
                    met=ndcg >= least[0] and recall >= least[1],
                )
                print(f"{name + ' ' + mode:20}{ndcg:10.4f}{recall:12.4f}{wanted}", flush=True)


def measured(db: fathomdb.Engine, tools: Corpus, mode: str) -> Quality:
    rankings = {}
    for query in tools.queries:
        result = db.search(query.text, kind="Tool", limit=DEPTH, mode=mode)
        assert result.degraded is None, result.reason
        assert result.freshness.pending == 0, result.freshness
        rankings[query.query_id] = [hit.node_id for hit in result]
    return quality(tools.queries, rankings)


if __name__ == "__main__":
    main()
