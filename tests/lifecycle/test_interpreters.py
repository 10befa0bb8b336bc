"""Pythons that FathomDB does not work in are told so when they import it."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.util import find_spec

import pytest

INSIDE = "_interpreters" if find_spec("_interpreters") else "_xxsubinterpreters"

IMPORT = """
import sys
sys.path[:] = {path!r}
try:
    import fathomdb
except ImportError as error:
    print(error)
else:
    print("imported")
"""

IN_A_SUB_INTERPRETER = f"""
import {INSIDE} as interpreters
there = interpreters.create()
run = getattr(interpreters, "run_string", None) or interpreters.exec
run(there, {IMPORT!r}.format(path=sys.path))
interpreters.destroy(there)
"""

USE = """
import fathomdb.testing
with fathomdb.testing.temporary(embedder=fathomdb.testing.DeterministicEmbedder()) as db:
    assert db.wait(db.write(fathomdb.Node("Doc", "a", "text"))).complete
    print("used")
"""


def _python(script):
    # What measures the coverage of child processes does not load in a sub-interpreter, and says so.
    environment = {name: at for name, at in os.environ.items() if not name.startswith("COVERAGE")}
    ran = subprocess.run(
        [sys.executable, "-W", "error", "-c", "import sys\n" + script],
        check=True,
        capture_output=True,
        text=True,
        timeout=120,
        env=environment,
    )
    assert ran.stderr == ""
    return ran.stdout.splitlines()


@pytest.mark.parametrize("first", ["", USE], ids=["imported-there-first", "used-here-before"])
def test_a_sub_interpreter_is_refused_and_the_main_one_goes_on(first):
    *before, said, after = _python(first + IN_A_SUB_INTERPRETER + USE)
    assert before == (["used"] if first else [])
    assert "does not run in a sub-interpreter" in said
    assert "import it in the main interpreter" in said
    assert after == "used"


def test_a_free_threaded_build_is_refused():
    pretend = "import sysconfig; sysconfig.get_config_vars()['Py_GIL_DISABLED'] = 1\n"
    (said,) = _python(pretend + IMPORT.replace("sys.path[:] = {path!r}", ""))
    assert "does not run on a free-threaded build" in said
    assert f"python{sys.version_info.major}.{sys.version_info.minor}, without the t" in said
