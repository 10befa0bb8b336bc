"""A drain over HTTP: at a provider's quota, and with eight requests on their way against one."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import fathomdb
from alternating import keep, rates
from fathomdb.embedders.openai import OpenAIEmbedder
from fathomdb.testing import DeterministicEmbedder
from materials import KIND, documents, folder, texts

if TYPE_CHECKING:
    from collections.abc import Iterator

SERVER = Path(__file__).resolve().parent.parent / "tests" / "http_server.py"
MODEL = "test-embed-3"
DIMENSION, CALLS, BATCH, SECONDS = 32, 120, 8, 0.032
QUOTA, QUOTA_SECONDS = 1_200, 3.0
"""A minute, but counted in any 3 seconds, so that a bench of 15 seconds meets it."""


class Server:
    """The tests' server in a process of its own, so that it does not share our GIL."""

    def __init__(self, **options: object) -> None:
        self.process = subprocess.Popen(
            [sys.executable, SERVER, json.dumps({"dimension": DIMENSION, **options})],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout is not None
        self.url = self.process.stdout.readline().strip()

    def end(self) -> dict[str, Any]:
        """What it answered."""
        out, _ = self.process.communicate("end\n", timeout=60)
        figures: dict[str, Any] = json.loads(out)
        return figures


@contextlib.contextmanager
def embedding(url: str, **options: Any) -> Iterator[OpenAIEmbedder]:
    embedder = OpenAIEmbedder(MODEL, base_url=url, dimensions=DIMENSION, **options)
    yield embedder
    embedder.close()


def drain(path: Path, embedder: OpenAIEmbedder, bodies: list[str]) -> float:
    """Seconds until each text has the vector of its own."""
    with fathomdb.open(path, embedder=embedder, background=False) as db:
        db.write(documents(bodies))
        start = time.perf_counter()
        while db.admin.drain_vector_projection(timeout=600).remaining:
            time.sleep(0.01)
        elapsed = time.perf_counter() - start
        counters = db.admin.status().counters
        assert (counters["applied"], counters["failed"]) == (len(bodies), 0), counters
        expected = DeterministicEmbedder(DIMENSION).batch_embed(bodies[:50])
        for number, vector in enumerate(expected):
            (hit,) = db.raw_vector_search(vector, kind=KIND, limit=1)
            assert hit.node_id == f"document-{number}", hit
    return elapsed


def overlap(scratch: Path) -> None:
    bodies = texts(CALLS * BATCH, length=60)
    server = Server(seconds_per_call=SECONDS)
    turn = 0

    def requests_at_once(concurrency: int) -> float:
        nonlocal turn
        turn += 1
        with embedding(server.url, batch_items=BATCH, concurrency=concurrency) as embedder:
            embedder.batch_embed(bodies[:1])  # TLS is set up with the first request, once
            return drain(scratch / f"{turn}.db", embedder, bodies)

    print(f"{'':38}{'one in flight':>19}{'eight':>19}{'ratio':>8}")
    rates(
        f"{SECONDS * 1e3:.0f} ms a request of {BATCH}",
        lambda: requests_at_once(1),
        lambda: requests_at_once(8),
        against="one request at once",
        count=len(bodies),
        unit="rows/s",
        target=7.0,
    )
    figures = server.end()
    assert figures["most_at_once"] == 8, figures["most_at_once"]


def quota(scratch: Path, *, told: bool) -> None:
    allowed = round(QUOTA * QUOTA_SECONDS / 60)
    server = Server(quota=allowed, quota_seconds=QUOTA_SECONDS, seconds_per_call=SECONDS)
    bodies = texts(300, length=60)
    requests_per_minute = QUOTA if told else None
    with embedding(
        server.url, batch_items=1, concurrency=8, requests_per_minute=requests_per_minute
    ) as embedder:
        elapsed = drain(scratch / f"{told}.db", embedder, bodies)
    figures = server.end()
    statuses = figures["statuses"]
    share = statuses.count(200) / (figures["at"][-1] - figures["at"][0]) * 60 / QUOTA
    refused = statuses.count(429) / len(statuses)
    name = "quota told" if told else "quota not told"
    wanted = keep(
        name,
        share,
        "of the quota",
        refused=refused,
        count=len(bodies),
        target="0.90, 5% refused" if told else None,
        met=share >= 0.9 and refused < 0.05,
    )
    print(f"{name:38}{elapsed:>17.1f} s{share:>12.2f} of it{refused:>8.1%} refused {wanted}")


def main() -> None:
    with folder() as scratch:
        overlap(scratch)
        print(f"{QUOTA} requests a minute, counted in any {QUOTA_SECONDS:g} s; 300 requests")
        quota(scratch, told=True)
        quota(scratch, told=False)


if __name__ == "__main__":
    main()
