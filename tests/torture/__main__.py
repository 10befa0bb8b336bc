"""``python -m torture``: runs the campaign and says what came of it."""

from __future__ import annotations

import argparse
import json
import logging
import os
import random
import shutil
import sys
import tempfile

# Before NumPy comes: threads of its own would make every fork unsafe.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

from torture import switches
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
    parser.add_argument("--switch-kills", type=int, help="instead: over switches of models")
    options = parser.parse_args()
    # The engine says that it brings a file forward: here that is the point.
    logging.getLogger("fathomdb").setLevel(logging.ERROR)
    seed = random.SystemRandom().randrange(10**9) if options.seed is None else options.seed
    folder = options.folder or tempfile.mkdtemp(prefix="fathomdb-torture-")
    os.makedirs(folder, exist_ok=True)
    _say(f"seed {seed}, files in {folder}\n")
    if options.switch_kills is not None:
        switched = switches.run(folder, options.switch_kills, seed)
        _say(json.dumps(switched.to_dict(), indent=2) + "\n")
        return 0
    campaign = Campaign(folder, seed, stop_every=options.stop_every, tell=_tell)
    try:
        if options.kill is None:
            campaign.run(options.kills, options.stops)
        else:
            campaign.run(0, 0, first=options.kill, last=options.kill)
    except KeyboardInterrupt:
        _say("\ninterrupted; until then:\n")
    finally:
        summary = campaign.summary
        _say(f"\n{_words(summary)}\n" if sys.stdout.isatty() else f"{_words(summary)}\n")
        if options.json:
            with open(options.json, "w", encoding="utf-8") as file:
                json.dump(summary.to_dict(), file, indent=2)
                file.write("\n")
        if not summary.violations and options.folder is None:
            shutil.rmtree(folder)
    return 1 if summary.violations else 0


def _say(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()


def _tell(summary: Summary) -> None:
    if sys.stdout.isatty():
        _say(
            f"\r{summary.kills:,} kills, {summary.acknowledged:,} acknowledged operations, "
            f"{len(summary.violations)} violations, {summary.seconds:.0f} s "
        )


def _words(summary: Summary) -> str:
    seed, rate = summary.seed, summary.to_dict()["kills_per_second"]
    where = [*sorted(summary.by_phase.items()), *sorted(summary.by_stage.items())]
    answered = f"{summary.unanswered:,} had no answer: {summary.committed_unanswered:,} were there"
    lines = [
        f"{summary.kills:,} kills in {summary.seconds:.0f} s, {rate:.1f} a second, seed {seed}:",
        *(f"  {count:6,}  {name}" for name, count in where),
        f"{summary.closed:,} lives closed before they were killed; {summary.files:,} files",
        f"{summary.acknowledged:,} operations were acknowledged, and each was there whole",
        f"{answered} whole, the others not at all",
        f"{summary.rows:,} rows were compared, {summary.exports:,} exports verified",
        f"{summary.process_died:,} rows were requeued after process_died",
        f"{len(summary.violations):,} violations",
    ]
    return "\n\n".join(["\n".join(lines), *summary.violations])


if __name__ == "__main__":
    sys.exit(main())
