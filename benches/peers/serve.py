"""The loop of every store's program: jobs in as lines of JSON, answers out, one line each.

Runs under each store's own Python, so it imports nothing but what Python has, and NumPy where there
are vectors. A store has the methods that it can do; ids are ``document-N`` of text N.
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import sys
import time
from pathlib import Path
from typing import Any


def serve(open_store: Any) -> None:
    answers = sys.stdout
    with contextlib.redirect_stdout(sys.stderr):  # what a library prints is no answer
        for line in sys.stdin:
            job = json.loads(line)
            store = open_store(job["folder"])
            answer = _search(store, job) if job["do"] == "search" else _write(store, job)
            store.close()
            answer["bytes"] = _bytes(Path(job["folder"]))
            answer["peak_kb"] = _peak_kb()
            print(json.dumps(answer), file=answers, flush=True)


def _write(store: Any, job: dict[str, Any]) -> dict[str, Any]:
    """Texts, with their vectors where the job has some, and whether all are there after it."""
    texts = json.loads(Path(job["texts"]).read_text(encoding="utf-8"))
    ids = [f"document-{n}" for n in range(len(texts))]
    rows = _rows(job["vectors"]) if "vectors" in job else None
    starts = range(0, len(texts), job["batch"])
    batches = [slice(start, start + job["batch"]) for start in starts]
    start = time.perf_counter()
    for some in batches:
        if rows is None:
            store.write(ids[some], texts[some])
        else:
            store.write_with_vectors(ids[some], texts[some], rows[some])
    return {"seconds": time.perf_counter() - start, "rows": store.count()}


def _search(store: Any, job: dict[str, Any]) -> dict[str, Any]:
    """Every query of the job, its seconds and its hits; the first is asked once more before."""
    by_text = "queries" in job
    search = store.text_search if by_text else store.vector_search
    queries = job["queries"] if by_text else _rows(job["vectors"])
    start = time.perf_counter()
    if hasattr(store, "prepare_search"):
        store.prepare_search(by_text)
    prepared = time.perf_counter() - start
    search(queries[0], job["limit"])
    seconds, hits = [], []
    for query in queries:
        start = time.perf_counter()
        hits.append(search(query, job["limit"]))
        seconds.append(time.perf_counter() - start)
    return {"seconds": seconds, "hits": hits, "prepared": prepared}


def _rows(path: str) -> Any:
    import numpy as np

    return np.load(path)


def _peak_kb() -> int:
    status = Path("/proc/self/status")
    if status.exists():
        return int(status.read_text(encoding="ascii").split("VmHWM:")[1].split()[0])
    # Linux counts in this what the parent had before the fork, so it is second best; macOS counts bytes.
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024


def _bytes(folder: Path) -> int:
    paths = [Path(at) / name for at, _, names in os.walk(folder) for name in names]
    return sum(path.stat().st_size for path in paths)
