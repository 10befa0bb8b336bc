"""``python -m torture``: runs the campaign and says what came of it."""

from __future__ import annotations

import argparse
import json
import os
import random
import sys
import tempfile

# Before NumPy comes: threads of its own would make every fork unsafe.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

from torture.campaign import Campaign, Summary


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m torture", description=__doc__)
    parser.add_argument("--kills", type=int, default=3000, help="at random instants")
    parser.add_argument("--stops", type=int, default=280, help="at named points")
    parser.add_argument("--stop-every", type=int, default=10, help="lives from stop to stop")
    parser.add_argument("--seed", type=int, help="of everything; drawn and printed if not given")
    parser.add_argument("--kill", type=int, help="replay: from its file's first life to this one")
    parser.add_argument("--json", metavar="FILE", help="write the summary here too")
    parser.add_argument("--folder", help="for the files; default a temporary one")
    options = parser.parse_args()
    seed = random.SystemRandom().randrange(10**9) if options.seed is None else options.seed
    folder = options.folder or tempfile.mkdtemp(prefix="fathomdb-torture-")
    os.makedirs(folder, exist_ok=True)
    print(f"seed {seed}, files in {folder}", flush=True)
    campaign = Campaign(folder, seed, stop_every=options.stop_every, tell=_tell)
    if options.kill is None:
        summary = campaign.run(options.kills, options.stops)
    else:
        summary = campaign.run(0, 0, first=options.kill, last=options.kill)
    print("\r" + _words(summary), flush=True)
    if options.json:
        with open(options.json, "w", encoding="utf-8") as file:
            json.dump(summary.to_dict(), file, indent=2)
            file.write("\n")
    return 1 if summary.violations else 0


def _tell(summary: Summary) -> None:
    if sys.stdout.isatty():
        print(
            f"\r{summary.kills:,} kills, {summary.acknowledged:,} acknowledged writes, "
            f"{len(summary.violations)} violations, {summary.seconds:.0f} s ",
            end="",
            flush=True,
        )


def _words(summary: Summary) -> str:
    lines = [
        f"{summary.kills:,} kills in {summary.seconds:.0f} s "
        f"({summary.kills / summary.seconds:.1f} a second), seed {summary.seed}",
        *(f"  {n:6,} while {name}" for name, n in sorted(summary.by_phase.items())),
        *(f"  {n:6,} in the middle of: {name}" for name, n in sorted(summary.by_stage.items())),
        f"{summary.closed:,} lives closed before they were killed; {summary.files:,} files",
        f"{summary.acknowledged:,} acknowledged operations, each found whole",
        f"{summary.unanswered:,} without an answer: {summary.committed_unanswered:,} were there "
        "whole, the others not at all",
        f"{summary.rows:,} rows compared, {summary.exports:,} exports verified, "
        f"{summary.process_died:,} rows requeued after process_died",
        f"{len(summary.violations):,} violations",
    ]
    return "\n".join([*lines, *(f"\n{violation}" for violation in summary.violations)])


if __name__ == "__main__":
    sys.exit(main())
