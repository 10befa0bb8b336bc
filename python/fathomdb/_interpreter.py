"""Refuses, on import, the interpreters that FathomDB does not work in; imported before all else.

What belongs here: whether this Python is one that the package was proved on.
What does not: optional packages (``_extras.py``).
"""

from __future__ import annotations

import importlib
import sys
import sysconfig


def check() -> None:
    """Refuses a free-threaded build and a sub-interpreter.

    Raises:
        ImportError: It says which of the two this is, and what to do.
    """
    if sysconfig.get_config_var("Py_GIL_DISABLED"):
        raise ImportError(
            f"fathomdb does not run on a free-threaded build of Python, and {sys.executable} is "
            "one: it was never shown to be right without the GIL; use a build that has it "
            f"(python{sys.version_info.major}.{sys.version_info.minor}, without the t)"
        )
    if not _is_main_interpreter():
        raise ImportError(
            "fathomdb does not run in a sub-interpreter: its native module, APSW and NumPy belong "
            "to the main one, and its actors are daemon threads, which a sub-interpreter does not "
            "end well with; import it in the main interpreter (under mod_wsgi: WSGIApplicationGroup "
            "%{GLOBAL}), or in a process of its own"
        )


def _is_main_interpreter() -> bool:
    # CPython 3.14 has a public module for this, which is slow to import; this one it always had.
    for name in ("_interpreters", "_xxsubinterpreters"):
        try:
            interpreters = importlib.import_module(name)
        except ImportError:
            continue
        return bool(interpreters.get_current() == interpreters.get_main())
    return True  # a Python without either was built without sub-interpreters


check()
