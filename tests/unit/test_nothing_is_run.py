"""No text becomes code: the package never evaluates, unpickles or hands anything to a shell."""

from __future__ import annotations

import ast
import pathlib

import fathomdb

PACKAGE = pathlib.Path(fathomdb.__file__).parent
MODULES = {"pickle", "cPickle", "dill", "marshal", "shelve", "joblib", "cloudpickle", "subprocess"}
BUILT_IN = {"eval", "exec", "compile", "__import__"}
OF_OS = {"system", "popen", "execv", "execve", "spawnv", "posix_spawn"}


def faults(source: str) -> list[str]:
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            names = [alias.name for alias in node.names]
            if isinstance(node, ast.ImportFrom):
                names = [node.module or ""]
            found.extend(name for name in names if name.split(".")[0] in MODULES)
        if isinstance(node, ast.Call):
            called = ast.unparse(node.func)
            if called in BUILT_IN or called in {f"os.{name}" for name in OF_OS}:
                found.append(called)
            found.extend(
                f"{keyword.arg}="
                for keyword in node.keywords
                if keyword.arg in {"shell", "allow_pickle"}
                and ast.unparse(keyword.value) != "False"
            )
    return found


def test_the_package_runs_no_text_and_unpickles_nothing():
    files = sorted(PACKAGE.rglob("*.py"))
    assert len(files) > 80
    assert {str(f): found for f in files if (found := faults(f.read_text(encoding="utf-8")))} == {}


def test_the_walk_finds_what_it_looks_for():
    planted = (
        "import pickle\nfrom shelve import open\neval('1')\nos.system('x')\nrun(x, shell=True)"
    )
    assert faults(planted) == ["pickle", "shelve", "eval", "os.system", "shell="]
