"""Traces a switch of models under queries, and draws it: ``docs/switch.json``, ``docs/switch.svg``.

From the static embedder (256 dimensions) to MiniLM under onnx (384) and back, over definitions of
WordNet, while clients search at a steady rate. The trace needs what ``make develop`` installs and the
package wordnet-base of Debian, the drawing ``pip install --group report``::

    .venv/bin/python docs/switch.py /usr/share/wordnet  # traces, then draws
    .venv/bin/python docs/switch.py --draw              # draws what was traced before

Every answer is compared with an exact search in NumPy over the vectors that the file holds, under the
model that the answer names. The trace fails where a query failed, where the model that answers
changed more than once by the switch and once by the rollback, or where the recall fell.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path.append(str(ROOT / "tests"))  # where the test model is

JSON, SVG = ROOT / "docs" / "switch.json", ROOT / "docs" / "switch.svg"
TEXTS, QUERIES, LIMIT, SEED = 6_000, 400, 10, 4
CLIENTS, ASKED_PER_SECOND = 2, 24  # together, where each is answered in time
WINDOW_SECONDS, STEADY_SECONDS, SAMPLE_SECONDS = 1.0, 25.0, 0.2
SAME_SIMILARITY = 1e-5
"""Similarities nearer to each other than this are a tie, and either text may be the tenth."""


# --- the trace ------------------------------------------------------------------------------------


def definitions(folder: Path) -> tuple[list[str], list[str]]:
    """Texts for the file, and others, of which none is in it, for queries."""
    found = set()
    for name in ("data.noun", "data.verb"):
        for line in (folder / name).read_text(encoding="utf-8").splitlines():
            if not line.startswith(" "):
                found.add(line.partition(" | ")[2].partition(';  "')[0].partition('; "')[0].strip())
    drawn = random.Random(SEED).sample(sorted(found), TEXTS + QUERIES)
    return drawn[:TEXTS], drawn[TEXTS:]


class Load:
    """Clients that search one after the other, and what they were answered."""

    def __init__(self, db: Any, queries: list[str]) -> None:
        self.db, self.queries = db, queries
        self.answers: list[tuple[float, float, int, str, list[str]]] = []
        self.errors: Counter[str] = Counter()
        self.pending: list[tuple[float, int]] = []
        self.start = time.perf_counter()
        self._ended = threading.Event()
        threads = [threading.Thread(target=self._search, args=(n,)) for n in range(CLIENTS)]
        self._threads = [*threads, threading.Thread(target=self._sample)]
        for thread in self._threads:
            thread.start()

    def now(self) -> float:
        return time.perf_counter() - self.start

    def _search(self, seed: int) -> None:
        rng, every = random.Random(seed), CLIENTS / ASKED_PER_SECOND
        due = self.now() + every * seed / CLIENTS
        while not self._ended.wait(max(0.0, due - self.now())):
            due = max(due + every, self.now())  # who was late catches nothing up
            query, begun = rng.randrange(len(self.queries)), self.now()
            try:
                found = self.db.semantic_search(self.queries[query], limit=LIMIT, explain=True)
            except Exception as error:
                self.errors[type(error).__name__] += 1
                continue
            ended, profile = self.now(), found.explanation["profile"]
            ids = [hit.chunk_id for hit in found]
            self.answers.append((ended, ended - begun, query, profile, ids))

    def _sample(self) -> None:
        while not self._ended.wait(SAMPLE_SECONDS):
            switch = self.db.admin.status().switch
            self.pending.append((self.now(), 0 if switch is None else switch.pending))

    def end(self) -> None:
        self._ended.set()
        for thread in self._threads:
            thread.join()


def trace(folder: Path) -> dict[str, Any]:
    import fathomdb
    from fathomdb.embedders.onnx import OnnxEmbedder
    from fathomdb.embedders.static import StaticEmbedder
    from models import minilm_folder

    texts, queries = definitions(folder)
    old, new = StaticEmbedder(), OnnxEmbedder(minilm_folder(), model_identity="all-MiniLM-L6-v2")
    (ROOT / ".bench").mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=ROOT / ".bench") as scratch:
        path = f"{scratch}/switch.db"
        with fathomdb.open(path, embedder=old) as db:
            db.write(fathomdb.Node("Definition", f"d{n}", text) for n, text in enumerate(texts))
            db.admin.drain_vector_projection(timeout=600)
            load = Load(db, queries)
            try:
                time.sleep(STEADY_SECONDS)
                asked = load.now()
                db.admin.configure_embedding(new, acknowledge_rebuild_impact=True)
                while db.admin.status().switch is not None:
                    time.sleep(SAMPLE_SECONDS)
                time.sleep(STEADY_SECONDS)
                back = load.now()
                db.admin.rollback()
                time.sleep(STEADY_SECONDS)
            finally:
                load.end()
        answers = sorted(load.answers)
        recalls = recall(path, (old, new), queries, answers)
    served = [answer[3] for answer in answers]
    changes = [n for n in range(1, len(served)) if served[n] != served[n - 1]]
    expected = [str(old.identity()), str(new.identity()), str(old.identity())]
    # Two clients: an answer of the model before may end just after the first one of the model after.
    if [*dict.fromkeys(served)] != expected[:2] or not expected[0] == served[0] == served[-1]:
        raise SystemExit(f"the models that answered are not {expected}")
    flip = next(answers[n][0] for n in changes if served[n] == expected[1])
    events = {"switch": asked, "flip": flip, "rollback": back}
    late = [
        n for n in changes if min(abs(answers[n][0] - events[e]) for e in ("flip", "rollback")) > 2
    ]
    if late or load.errors:
        raise SystemExit(f"models changed at {late}; failed queries: {dict(load.errors)}")
    steady = min(value for answer, value in zip(answers, recalls, strict=True) if answer[0] < asked)
    if min(recalls) < steady:
        raise SystemExit(f"recall fell from {steady} to {min(recalls)}")
    return {
        "texts": len(texts),
        "clients": CLIENTS,
        "asked_per_second": ASKED_PER_SECOND,
        "models": expected[:2],
        "queries": len(answers),
        "failed_queries": sum(load.errors.values()),
        "flips": 1,
        "rollbacks": 1,
        "lowest_recall": {"before": steady, "ever": min(recalls)},
        "events": {name: round(at, 2) for name, at in events.items()},
        "windows": windows(answers, recalls),
        "pending": [[round(at, 2), count] for at, count in each_second(load.pending)],
    }


def recall(path: str, embedders: Any, queries: list[str], answers: list[Any]) -> list[float]:
    """Of each answer, the part of its hits that an exact search has among its nearest too."""
    import apsw
    import sqlite_vec

    from fathomdb.store.vectors import table_name

    db = apsw.Connection(path, flags=apsw.SQLITE_OPEN_READONLY)
    db.enable_load_extension(True)
    db.load_extension(sqlite_vec.loadable_path())
    similar: dict[str, tuple[dict[str, int], Any]] = {}
    for embedder in embedders:
        identity = embedder.identity()
        (profile_id,) = db.execute(
            "SELECT profile_id FROM vector_embedding_profiles WHERE fingerprint = ?",
            (identity.fingerprint,),
        ).fetchone()
        rows = db.execute(
            f"SELECT c.chunk_id, v.embedding FROM {table_name('Definition', profile_id)} AS v "
            "JOIN chunks AS c USING (chunk_key)"
        ).fetchall()
        vectors = np.stack([np.frombuffer(blob, "<f4") for _, blob in rows])
        as_query = getattr(
            embedder, "embed_query", lambda text, e=embedder: e.batch_embed([text])[0]
        )
        asked = np.stack([np.asarray(as_query(text), "f4").ravel() for text in queries])
        asked /= np.linalg.norm(asked, axis=1, keepdims=True)
        place = {chunk_id: n for n, (chunk_id, _) in enumerate(rows)}
        similar[str(identity)] = (place, vectors @ asked.T)
    db.close()
    found = []
    for _, _, query, profile, ids in answers:
        place, similarity = similar[profile]
        column = similarity[:, query]
        least = np.partition(column, -LIMIT)[-LIMIT] - SAME_SIMILARITY
        found.append(sum(column[place[item]] >= least for item in ids) / LIMIT)
    return found


def windows(answers: list[Any], recalls: list[float]) -> list[list[float | None]]:
    """A second each: its end, queries a second, ms (median, 95 %, slowest), recall (mean, least).

    Of a second without an answer only the first two are known.
    """
    found: list[list[float | None]] = []
    for n in range(int(answers[-1][0] / WINDOW_SECONDS)):
        start, end = n * WINDOW_SECONDS, (n + 1) * WINDOW_SECONDS
        here = [k for k, answer in enumerate(answers) if start <= answer[0] < end]
        if not here:
            found.append([end, 0.0, *[None] * 5])
            continue
        ms = np.array([answers[k][1] for k in here]) * 1000
        of = np.array([recalls[k] for k in here])
        known = (*np.percentile(ms, [50, 95, 100]), of.mean(), of.min())
        rate = len(here) / WINDOW_SECONDS
        found.append([end, rate, *(round(float(figure), 3) for figure in known)])
    return found


def each_second(samples: list[tuple[float, int]]) -> list[tuple[float, int]]:
    """The first sample of each second, and those beside a change from or to nothing."""
    kept = {int(at): n for n, (at, _) in reversed([*enumerate(samples)])}.values()
    edges = (n for n in range(1, len(samples)) if (samples[n][1] == 0) != (samples[n - 1][1] == 0))
    wanted = {*kept, *(m for n in edges for m in (n - 1, n))}
    return [samples[n] for n in sorted(wanted)]


# --- the picture ----------------------------------------------------------------------------------

# Okabe and Ito's colours, told apart by everyone.
OLD, NEW, LINE, SOFT = "#0072B2", "#D55E00", "#1A1A1A", "#8C8C8C"


def draw(data: dict[str, Any], to: Path) -> None:
    import matplotlib as mpl
    from matplotlib import pyplot as plt

    mpl.rcParams.update(
        {
            "svg.hashsalt": "fathomdb",  # the same bytes for the same figures
            "svg.fonttype": "none",
            "font.sans-serif": ["Helvetica", "Arial", "DejaVu Sans"],
            "font.size": 9.5,
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.titlesize": 10,
            "axes.titlelocation": "left",
        }
    )
    events, last = data["events"], data["windows"][-1][0]
    at, rate, median, slow, slowest, mean, least = np.array(data["windows"], dtype=float).T
    at -= WINDOW_SECONDS / 2
    figure, (rates, latency, recalls, pending) = plt.subplots(
        4, 1, figsize=(8.4, 7.4), sharex=True, height_ratios=[1, 1, 0.8, 0.9], layout="constrained"
    )
    asked, count, failed = data["asked_per_second"], data["queries"], data["failed_queries"]
    rates.plot(at, rate, color=LINE)
    rates.set(ylabel="queries / s", ylim=(0, max(rate) * 1.55), yticks=[0, asked / 2, asked])
    rates.set_title(f"Answered, of {asked} a second asked: {failed} of {count:,} queries failed")
    latency.plot(at, median, color=LINE, label="median")
    latency.plot(at, slow, color=SOFT, label="95th percentile")
    latency.plot(at, slowest, color=SOFT, linestyle="none", marker=".", ms=3, label="slowest")
    limits = (np.nanmin(median) / 1.5, np.nanmax(slowest) * 6)
    latency.set(ylabel="ms", yscale="log", ylim=limits)
    latency.yaxis.set_major_formatter("{x:g}")
    latency.set_title("Latency of a semantic search")
    latency.legend(loc="upper left", framealpha=1, edgecolor="none", ncols=3, fontsize=8.5)
    recalls.plot(at, mean, color=LINE, label="mean of a second")
    recalls.plot(
        at, least, color=SOFT, linestyle="dotted", linewidth=2.5, label="least of a second"
    )
    recalls.set(ylabel=f"recall@{LIMIT}", ylim=(0, 1.12), yticks=[0, 0.5, 1])
    recalls.set_title("Recall of the index that answers, against exact search under its model")
    recalls.legend(loc="lower left", framealpha=1, edgecolor="none", ncols=3, fontsize=8.5)
    waits = np.array(data["pending"])
    pending.fill_between(waits[:, 0], waits[:, 1], color=NEW, alpha=0.3, linewidth=0)
    pending.plot(waits[:, 0], waits[:, 1], color=NEW)
    pending.set(ylabel="chunks", xlabel="seconds", xlim=(0, last), ylim=(0, data["texts"] * 1.1))
    pending.yaxis.set_major_formatter("{x:,.0f}")
    pending.set_title("Vectors that the new model has still to make")
    spans = (
        (0, events["switch"], OLD, "static"),
        (events["switch"], events["flip"], OLD, "static answers, MiniLM is built"),
        (events["flip"], events["rollback"], NEW, "MiniLM"),
        (events["rollback"], last, OLD, "static"),
    )
    for axes in (rates, latency, recalls, pending):
        for start, end, colour, _ in spans:
            axes.axvspan(start, end, color=colour, alpha=0.07, linewidth=0)
        for name in events:
            axes.axvline(events[name], color=LINE, linewidth=0.9, linestyle=(0, (4, 3)))
    for start, end, colour, said in spans:
        rates.text(
            (start + end) / 2,
            0.05,
            said,
            transform=rates.get_xaxis_transform(),
            color=colour,
            ha="center",
            weight="bold",
        )
    said = {"switch": "configure_embedding(...)", "flip": "flip", "rollback": "rollback()"}
    for name, text in said.items():
        rates.annotate(
            text,
            (events[name], 1.0),
            xycoords=rates.get_xaxis_transform(),
            xytext=(4, -2),
            textcoords="offset points",
            va="top",
            fontsize=8.5,
            family="monospace",
        )
    figure.suptitle(
        f"A switch of models over {data['texts']:,} texts: static (256 dimensions) to MiniLM (384), and back",
        fontsize=11.5,
        x=0.01,
        ha="left",
    )
    figure.savefig(to, metadata={"Date": None} if to.suffix == ".svg" else None)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folder", type=Path, nargs="?", help="of WordNet's data.noun and data.verb")
    parser.add_argument("--draw", action="store_true", help="only what was traced before")
    parser.add_argument("--to", type=Path, default=SVG, help="another picture, say a PNG")
    options = parser.parse_args()
    if not options.draw:
        if options.folder is None:
            parser.error("name the folder of WordNet, or --draw what was traced before")
        data = trace(options.folder)
        lines = json.dumps(data).replace("], [", "],\n[")
        JSON.write_text(lines + "\n", encoding="utf-8")
    draw(json.loads(JSON.read_text(encoding="utf-8")), options.to)


if __name__ == "__main__":
    main()
