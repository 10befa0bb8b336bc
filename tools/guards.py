"""Takes one guard after the other out of a copy of the package, and sees that a test fails.

Run from the project's folder: ``python tools/guards.py [NAME ...]``. Ends with 1 where a guard can go
unseen, or where its line is not there any more.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "python" / "fathomdb"


@dataclass(frozen=True, slots=True)
class Guard:
    """A line that keeps something from going wrong, what it becomes, and the tests that must see it."""

    file: str
    line: str
    instead: str
    tests: str


GUARDS = {
    "fence: a late result writes nothing": Guard(
        "pipeline/apply.py",
        "    claimed = work.count_claimed(db, fence)\n",
        "    claimed = outcome.claim.count\n",
        "tests/unit/pipeline/test_fences.py",
    ),
    "hash re-check: a stale text is not embedded": Guard(
        "pipeline/verify.py",
        "    for n in reversed(differing):\n",
        "    for n in ():\n",
        "tests/unit/pipeline",
    ),
    "attempts are counted by the claim": Guard(
        "store/work.py",
        '"attempts = attempts + 1 WHERE work_id IN',
        '"attempts = attempts WHERE work_id IN',
        "tests/fault/test_poison.py",
    ),
    "attempts are given back by an outage": Guard(
        "store/work.py",
        "\"UPDATE vector_projection_work SET state = 'pending', fence = ?, attempts = attempts - 1 \"\n"
        '        "WHERE fence = ?',
        "\"UPDATE vector_projection_work SET state = 'pending', fence = ?, attempts = attempts \"\n"
        '        "WHERE fence = ?',
        "tests/fault/test_outage.py",
    ),
    "savepoint: one bad request of a group fails alone": Guard(
        "store/transaction.py",
        '        self.db.execute("ROLLBACK TO request")\n',
        "",
        "tests/unit/actors/test_writer.py",
    ),
    "a writer that dies closes its connection": Guard(
        "actors/writer.py",
        "            self._db.close()  # or the file",
        "            pass  # or the file",
        "tests/unit/actors/test_writer.py",
    ),
    "answers: a write that is undone leaves none to the next of its group": Guard(
        "store/transaction.py",
        "        self._kept_answers = None\n        self._unread()\n",
        "        self._unread()\n",
        "tests/unit/pipeline/test_group_answers.py",
    ),
    "answers: what comes between two writes of a group has the second ask again": Guard(
        "store/transaction.py",
        "self._answers, self._kept_answers = self._kept_answers, None",
        "self._answers = self._kept_answers",
        "tests/unit/pipeline/test_group_answers.py",
    ),
    "answers: versions that were superseded took keys": Guard(
        "pipeline/write.py",
        "        answers.node_key = None  # the versions that were superseded took keys\n",
        "",
        "tests/unit/pipeline/test_group_answers.py",
    ),
    "a rewrite takes the old vector with it": Guard(
        "pipeline/write.py",
        "                _unproject(changes, row.kind, [before])\n",
        "",
        "tests/unit/pipeline/test_staleness.py",
    ),
    "a bad row is never stored": Guard(
        "pipeline/outcome.py",
        "            if bad and (id(packed), n) in bad:\n",
        "            if False:\n",
        "tests/fault/test_bad_vectors.py",
    ),
    "what a dead process had claimed is pending again": Guard(
        "pipeline/recover.py",
        "    work.recover(tx.db, tx.fence(), now_ms)\n",
        "",
        "tests/fault/test_process_death.py",
    ),
    "only a row that died alone is failed": Guard(
        "store/work.py",
        "WHERE state = 'inflight' AND attempts >= ?2 AND last_error = ?3 AND 1 = \"",
        "WHERE state = 'inflight' AND attempts >= ?2 AND last_error = ?3 AND 0 < \"",
        "tests/unit/pipeline/test_recover.py",
    ),
    "codes forget what was rolled back": Guard(
        "store/transaction.py",
        "        self.vectors.undo()\n",
        "",
        "tests/unit/search/test_codes.py",
    ),
    "a search reads what the codes may not have yet": Guard(
        "store/codes.py",
        "besides = changed if where",
        "besides = set() if where",
        "tests/unit/search/test_codes.py",
    ),
    "a short answer of the codes beside a change is not complete": Guard(
        "store/codes.py",
        "        if is_all and changed:\n",
        "        if False:\n",
        "tests/unit/search/test_codes.py",
    ),
    "what a filter allows is not what codes named": Guard(
        "store/codes.py",
        "            if are_listed:\n",
        "            if False:\n",
        "tests/unit/search/test_codes.py",
    ),
    "a commit that raised and stands is in no codes": Guard(
        "store/transaction.py",
        "            self._codes.withdraw()\n",
        "            pass\n",
        "tests/unit/search/test_codes.py",
    ),
    "nothing is committed to a file that is gone": Guard(
        "actors/writer.py",
        "            self._presence.check_owned()\n",
        "",
        "tests/fault/test_damaged_files.py",
    ),
    "the log of another database is refused": Guard(
        "actors/runtime.py",
        "                schema.check_log(db, path)\n",
        "                pass\n",
        "tests/fault/test_damaged_files.py",
    ),
    "erasing reaches the gaps of pages": Guard(
        "store/residue.py",
        "        _clear_gaps(db)\n",
        "        pass\n",
        "tests/fault/test_erasure.py",
    ),
    "credentials in messages are hidden": Guard(
        "pipeline/embed.py",
        'said = redact(" ".join(str(error)[:_MOST_READ].split()))',
        'said = " ".join(str(error)[:_MOST_READ].split())',
        "tests/fault/test_secrets.py",
    ),
    "one bad text does not fail its batch": Guard(
        "pipeline/embed.py",
        "            if not alone:\n",
        "            if False:\n",
        "tests/fault/test_poison.py",
    ),
    "a rewritten text is what its work asks for": Guard(
        "store/work.py",
        '"canonical_hash = excluded.canonical_hash, priority = excluded.priority, "',
        '"priority = excluded.priority, "',
        "tests/unit/pipeline/test_staleness.py",
    ),
    "equal texts are embedded once": Guard(
        "pipeline/embed.py",
        "        first = first_of.setdefault(content_hash, place)\n",
        "        first = first_of.setdefault((content_hash, place), place)\n",
        "tests/unit/pipeline/test_staleness.py",
    ),
    "an embedder of another identity is refused": Guard(
        "actors/models.py",
        "        if found.fingerprint != profile.fingerprint:\n",
        "        if False:\n",
        "tests/unit/engine/test_model_at_open.py",
    ),
    "a query takes the query method": Guard(
        "actors/model.py",
        'method = getattr(self.embedder, "embed_query", None)',
        "method = None",
        "tests/unit/pipeline/test_staleness.py",
    ),
    "a query is text, whatever syntax is in it": Guard(
        "store/fts.py",
        """    return '"' + word.replace('"', '""') + '"'\n""",
        "    return word\n",
        "tests/unit/search/test_query_text.py",
    ),
    "the vector arm filters before its cut": Guard(
        "store/vectors.py",
        "AND k = ? {only}",
        "AND k = ?{only[:0]}",
        "tests/unit/search/test_nearest.py",
    ),
    "offsets of another library are not trusted": Guard(
        "ingest/table.py",
        "            batch.validate(full=True)\n",
        "",
        "tests/unit/ingest/test_table.py",
    ),
}


def fails_without(guard: Guard, folder: Path) -> bool:
    """Whether the guard's tests fail in a copy of the package that does without it."""
    copy = folder / "fathomdb"
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(PACKAGE, copy, ignore=shutil.ignore_patterns("__pycache__"))
    file = copy / guard.file
    text = file.read_text(encoding="utf-8")
    if text.count(guard.line) != 1:
        sys.exit(f"{guard.file} has this line {text.count(guard.line)} times:\n{guard.line}")
    file.write_text(text.replace(guard.line, guard.instead), encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", guard.tests],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(folder)},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode > 1:  # it did not come to testing
        sys.exit(done.stdout + done.stderr)
    return done.returncode != 0  # below 0 a signal ended it, which is seen too


def main() -> int:
    names = [name for name in GUARDS if not sys.argv[1:] or name in sys.argv[1:]]
    unseen = 0
    with tempfile.TemporaryDirectory() as folder:
        for name in names:
            seen = fails_without(GUARDS[name], Path(folder))
            unseen += not seen
            sys.stdout.write(f"{'seen' if seen else 'UNSEEN':8}{name}: {GUARDS[name].tests}\n")
            sys.stdout.flush()
    return min(unseen, 1)


if __name__ == "__main__":
    sys.exit(main())
