"""Canonical hashes of 20,000 texts of 580 bytes against a loop over hashlib, on one core and on all."""

from __future__ import annotations

import hashlib
import os
import random
import subprocess
import sys

from alternating import compare, header, oracle
from fathomdb._native import canonical_chunk_hashes, verify_chunk_hashes

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


def main() -> None:
    cores = len(os.sched_getaffinity(0))
    target = 2.5 if cores == 1 else 4.0
    rng = random.Random(0)
    letters = "abcdefghijklmnopqrstuvwxyz     "
    texts = ["".join(rng.choices(letters, k=LENGTH)) for _ in range(COUNT)]
    chunk_ids = [f"document-{n}#0" for n in range(COUNT)]
    digests = canonical_chunk_hashes(chunk_ids, texts)
    assert digests == hashlib_loop(chunk_ids, texts)
    assert digests == list(map(oracle.canonical_hash, chunk_ids, texts))
    both = canonical_chunk_hashes(chunk_ids, texts, content=True)
    assert both == hashlib_loop_with_content(chunk_ids, texts)
    assert verify_chunk_hashes(chunk_ids, texts, digests) == []

    header(f"hashlib, {cores} core" + "s" * (cores > 1))
    for count in (64, 1024, COUNT):
        keys, bodies = chunk_ids[:count], texts[:count]
        compare(
            f"{count} canonical hashes",
            lambda keys=keys, bodies=bodies: hashlib_loop(keys, bodies),
            lambda keys=keys, bodies=bodies: canonical_chunk_hashes(keys, bodies),
            target=target if count == COUNT else None,
            rounds=15 if count == COUNT else 201,
        )
    compare(
        f"{COUNT} canonical and content hashes",
        lambda: hashlib_loop_with_content(chunk_ids, texts),
        lambda: canonical_chunk_hashes(chunk_ids, texts, content=True),
        target=target,
    )
    compare(
        f"{COUNT} hashes verified",
        lambda: hashlib_loop(chunk_ids, texts) == digests,
        lambda: verify_chunk_hashes(chunk_ids, texts, digests),
        target=target,
    )


if __name__ == "__main__":
    if len(sys.argv) > 1:
        # The kernel asks once how many cores it may use, so each number has its own process.
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: int(sys.argv[1])])
        main()
    else:
        for cores in sorted({1, len(os.sched_getaffinity(0))}):
            subprocess.run([sys.executable, __file__, str(cores)], check=True)
