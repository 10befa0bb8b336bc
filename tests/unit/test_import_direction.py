"""The house of the design, held by a test: who may import whom, and what lives in one room only.

The source is parsed, never imported, so an import inside a function or under TYPE_CHECKING counts
as well: a name that is only needed for a type is still knowledge of the other room.
"""

from __future__ import annotations

import ast
import re
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "python" / "fathomdb"
MOST_LINES = 600

# Lowest first. A room imports from its own floor only within itself, and from any floor below.
FLOORS = (
    (
        "errors",
        "identity",
        "records",
        "config",
        "redact",
        "cancellation",
        "_extras",
        "_interpreter",
    ),
    ("_native",),
    ("store", "embedders"),
    ("pipeline", "search", "ingest"),
    ("actors",),
    ("admin",),
    ("engine",),
    ("cli", "aio"),
)
FLOOR_OF = {room: floor for floor, rooms in enumerate(FLOORS) for room in rooms}
# The lowest floor is one vocabulary; its rooms may know each other.
FOUNDATION = frozenset(FLOORS[0])
# `__init__` gives the public names and `testing` serves every room's tests; nothing imports either.
OUTSIDE = frozenset({"__init__", "__main__", "testing"})

# Upper case, as SQL is written here: a message may well say "select a model from the list".
SQL_STATEMENT = re.compile(
    r"\b(SELECT\s.*\bFROM|INSERT\s+(OR\s+\w+\s+)?INTO|UPDATE\s+\w+\s+SET|DELETE\s+FROM"
    r"|(CREATE|DROP|ALTER)\s+(VIRTUAL\s+)?(TABLE|INDEX|VIEW)|PRAGMA\s|(BEGIN|COMMIT|ROLLBACK)\b)",
    re.DOTALL,
)

STARTS_THREADS = frozenset(
    {
        "threading.Thread",
        "threading.Timer",
        "_thread.start_new_thread",
        "concurrent.futures",
        "multiprocessing",
        "asyncio",
    }
)

# What the asynchronous face may use of it: nothing that runs something on a thread.
EVENT_LOOP = frozenset(
    {
        "asyncio",
        "asyncio.CancelledError",
        "asyncio.Semaphore",
        "asyncio.create_task",
        "asyncio.get_running_loop",
        "asyncio.shield",
        "asyncio.wait",
        "asyncio.wrap_future",
    }
)


def _package_of(module: str, *, is_package: bool) -> str:
    return module if is_package else module.rpartition(".")[0]


def imported_names(source: str, module: str, *, is_package: bool = False) -> Iterator[str]:
    """Dotted names that the source imports, relative imports made absolute."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parts = _package_of(module, is_package=is_package).split(".")
                parents = parts[: len(parts) - node.level + 1]
                base = ".".join([*parents, *([base] if base else [])])
            yield from (f"{base}.{alias.name}" for alias in node.names)


def room_of(name: str) -> str | None:
    """The room of a dotted name inside the package; None for a name outside it."""
    parts = name.split(".")
    if parts[0] != "fathomdb":
        return None
    return parts[1] if len(parts) > 1 else "__init__"


def wrong_imports(source: str, module: str, *, is_package: bool = False) -> list[str]:
    """Imports of the source that go against the direction, each as a sentence."""
    here = room_of(module)
    if here in OUTSIDE:
        return []
    if here not in FLOOR_OF:
        return [f"{module} is in no room of the design"]
    wrong = []
    for name in imported_names(source, module, is_package=is_package):
        there = room_of(name)
        if there is None or there == here:
            continue
        if there not in FLOOR_OF:
            wrong.append(f"{module} imports {name}: not a room to import from")
        elif FLOOR_OF[there] > FLOOR_OF[here]:
            wrong.append(f"{module} imports {name}: {there} stands above {here}")
        elif FLOOR_OF[there] == FLOOR_OF[here] and not {here, there} <= FOUNDATION:
            wrong.append(f"{module} imports {name}: {there} stands beside {here}")
    return wrong


def sqlite_modules(source: str, module: str, *, is_package: bool = False) -> list[str]:
    """What the source imports of SQLite: without any of it nobody can speak SQL."""
    return [
        name
        for name in imported_names(source, module, is_package=is_package)
        if name.split(".")[0] in {"apsw", "sqlite3", "sqlite_vec"}
    ]


def sql_statements(source: str) -> list[str]:
    """Strings of the source that hold a SQL statement; docstrings are prose and do not count."""
    tree = ast.parse(source)
    prose = {
        id(node.value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    }
    texts = [
        _text_of(node)
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant | ast.JoinedStr) and id(node) not in prose
    ]
    return [text for text in texts if SQL_STATEMENT.search(text)]


def _text_of(node: ast.expr) -> str:
    """A string literal, with a word in the place of each value of an f-string."""
    if isinstance(node, ast.JoinedStr):
        return "".join(map(_text_of, node.values))
    if isinstance(node, ast.Constant):
        return node.value if isinstance(node.value, str) else ""
    return "value"


def starts_threads(source: str) -> list[str]:
    """Things in the source that start threads or processes, by their full names."""
    tree = ast.parse(source)
    found: set[str] = set()
    known_as: dict[str, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                found.add(alias.name)
                bound = alias.asname or alias.name.split(".")[0]
                known_as[bound] = alias.name if alias.asname else bound
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            for alias in node.names:
                known_as[alias.asname or alias.name] = f"{node.module}.{alias.name}"
    found |= set(known_as.values())
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            found.add(f"{known_as.get(node.value.id, node.value.id)}.{node.attr}")
    return sorted(
        name
        for name in found
        if any(name == banned or name.startswith(f"{banned}.") for banned in STARTS_THREADS)
    )


def _modules() -> list[tuple[str, Path]]:
    """Every module of the package: its dotted name and its file."""
    found = []
    for path in sorted([*PACKAGE.rglob("*.py"), *PACKAGE.rglob("*.pyi")]):
        parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
        found.append((".".join(parts[:-1] if parts[-1] == "__init__" else parts), path))
    return found


MODULES = [pytest.param(name, path, id=name) for name, path in _modules()]


@pytest.mark.parametrize(("module", "path"), MODULES)
def test_imports_point_one_way(module, path):
    is_package = path.stem == "__init__"

    assert wrong_imports(path.read_text(), module, is_package=is_package) == []


@pytest.mark.parametrize(("module", "path"), MODULES)
def test_only_the_store_speaks_sql(module, path):
    if room_of(module) in {"store", *OUTSIDE}:
        return

    source = path.read_text()
    assert sqlite_modules(source, module, is_package=path.stem == "__init__") == []
    assert sql_statements(source) == []


@pytest.mark.parametrize(("module", "path"), MODULES)
def test_only_actors_start_threads(module, path):
    if room_of(module) in {"actors", *OUTSIDE}:
        return

    allowed = EVENT_LOOP if room_of(module) == "aio" else frozenset()
    assert [name for name in starts_threads(path.read_text()) if name not in allowed] == []


def test_the_package_gives_explicit_names_and_has_no_logic():
    tree = ast.parse((PACKAGE / "__init__.py").read_text())

    for node in tree.body:
        assert isinstance(node, ast.Import | ast.ImportFrom | ast.Assign | ast.AnnAssign | ast.Expr)
        if isinstance(node, ast.ImportFrom):
            assert [alias.name for alias in node.names if alias.name == "*"] == []


def test_the_kernels_know_nothing_of_python():
    manifest = tomllib.loads((ROOT / "rust" / "core" / "Cargo.toml").read_text())
    tables = [manifest.get(name, {}) for name in ("dependencies", "build-dependencies")]

    assert {name for table in tables for name in table if "py" in name} == set()


def test_no_file_is_two_rooms():
    files = [
        path
        for folder, endings in (("python", {".py", ".pyi"}), ("rust", {".rs"}))
        for path in (ROOT / folder).rglob("*")
        if path.suffix in endings
    ]

    too_long = {
        str(path.relative_to(ROOT)): lines
        for path in files
        if (lines := len(path.read_text().splitlines())) > MOST_LINES
    }
    assert files
    assert too_long == {}


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("fathomdb.store.work", "from fathomdb.pipeline.claim import claim"),
        ("fathomdb.store.work", "from fathomdb.embedders.protocol import Embedder"),
        ("fathomdb.store.work", "import fathomdb.engine"),
        ("fathomdb.store.work", "from fathomdb import engine"),
        ("fathomdb.store.work", "from fathomdb import Engine"),
        ("fathomdb.store.work", "def f():\n    from fathomdb.actors import writer"),
        ("fathomdb.store.work", "if TYPE_CHECKING:\n    from fathomdb.cli import main"),
        ("fathomdb.store.work", "from ..actors.writer import WriterActor"),
        ("fathomdb.search.hybrid", "from fathomdb.pipeline import embed"),
        ("fathomdb.errors", "from fathomdb import _native"),
        ("fathomdb.engine", "from fathomdb.testing import temporary"),
        ("fathomdb.attic", ""),
    ],
)
def test_an_import_against_the_direction_is_found(module, source):
    assert wrong_imports(source, module) != []


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("fathomdb.cli.ingest", "from fathomdb.engine import Engine"),
        ("fathomdb.pipeline.embed", "from fathomdb.embedders import protocol\nimport numpy"),
        ("fathomdb.store.work", "from .schema import MIGRATIONS\nfrom ..errors import FathomError"),
        ("fathomdb.records", "from fathomdb.errors import InvalidInputError"),
        ("fathomdb.testing", "from fathomdb.engine import Engine"),
    ],
)
def test_an_import_along_the_direction_is_not_found(module, source):
    assert wrong_imports(source, module) == []


@pytest.mark.parametrize(
    "source", ["import apsw", "import apsw.ext", "from sqlite3 import connect"]
)
def test_sql_outside_the_store_is_found(source):
    assert sqlite_modules(source, "fathomdb.pipeline.claim") != []


@pytest.mark.parametrize(
    "source",
    [
        "import threading\nthreading.Thread(target=print)",
        "import threading as t\nt.Thread(target=print)",
        "from threading import Timer",
        "from concurrent.futures import ThreadPoolExecutor",
        "import concurrent.futures",
        "import multiprocessing",
    ],
)
def test_a_thread_outside_the_actors_is_found(source):
    assert starts_threads(source) != []


def test_a_lock_outside_the_actors_is_allowed():
    assert starts_threads("import threading\nthreading.Lock()") == []
