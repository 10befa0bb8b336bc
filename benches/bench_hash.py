"""Canonical hashes of 20,000 texts of 580 bytes against a loop over hashlib, on one core and on all."""

from __future__ import annotations

import hashlib
import os
import random
import subprocess
import sys
from typing import TYPE_CHECKING

from alternating import Case, compare, header, oracle
from fathomdb._native import canonical_chunk_hashes, verify_chunk_hashes

if TYPE_CHECKING:
    from collections.abc import Iterator

COUNT, LENGTH = 20_000, 580


def hashlib_loop(chunk_ids: list[str], texts: list[str]) -> list[bytes]:
    sha256 = hashlib.sha256
    pairs = zip(chunk_ids, texts, strict=True)
    return [sha256(b"%b\0%b" % (key.encode(), text.encode())).digest() for key, text in pairs]


def hashlib_loop_with_content(
    chunk_ids: list[str], texts: list[str]
) -> tuple[list[bytes], list[bytes]]:
    sha256 = hashlib.sha256
    canonical, content = [], []
    for key, text in zip(chunk_ids, texts, strict=True):
        body = text.encode()
        canonical.append(sha256(b"%b\0%b" % (key.encode(), body)).digest())
        content.append(sha256(body).digest())
    return canonical, content


def cases(count: int) -> Iterator[Case]:
    rng = random.Random(0)
    letters = "abcdefghijklmnopqrstuvwxyz     "
    texts = ["".join(rng.choices(letters, k=LENGTH)) for _ in range(count)]
    chunk_ids = [f"document-{n}#0" for n in range(count)]
    digests = canonical_chunk_hashes(chunk_ids, texts)
    assert digests == hashlib_loop(chunk_ids, texts)
    assert digests == list(map(oracle.canonical_hash, chunk_ids, texts))
    both = canonical_chunk_hashes(chunk_ids, texts, content=True)
    assert both == hashlib_loop_with_content(chunk_ids, texts)
    assert verify_chunk_hashes(chunk_ids, texts, digests) == []

    target = 2.5 if len(os.sched_getaffinity(0)) == 1 else 4.0
    yield Case(
        f"{count} canonical hashes",
        "a hashlib loop",
        lambda: hashlib_loop(chunk_ids, texts),
        lambda: canonical_chunk_hashes(chunk_ids, texts),
        target=target if count == COUNT else None,
        rounds=15 if count == COUNT else 201,
    )
    if count < COUNT:
        return
    yield Case(
        f"{count} canonical and content hashes",
        "a hashlib loop",
        lambda: hashlib_loop_with_content(chunk_ids, texts),
        lambda: canonical_chunk_hashes(chunk_ids, texts, content=True),
        target=target,
    )
    yield Case(
        f"{count} hashes verified",
        "a hashlib loop",
        lambda: hashlib_loop(chunk_ids, texts) == digests,
        lambda: verify_chunk_hashes(chunk_ids, texts, digests),
        target=target,
    )


def main() -> None:
    cores = len(os.sched_getaffinity(0))
    header(f"hashlib, {cores} core" + "s" * (cores > 1))
    for count in (64, 1024, COUNT):
        for case in cases(count):
            compare(case)


if __name__ == "__main__":
    if len(sys.argv) > 1:
        # The kernel asks once how many cores it may use, so each number has its own process.
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: int(sys.argv[1])])
        main()
    else:
        for cores in sorted({1, len(os.sched_getaffinity(0))}):
            subprocess.run([sys.executable, __file__, str(cores)], check=True)
