"""The example of a plugin is built, installed and used as its reader would."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

EXAMPLE = Path(__file__).parents[2] / "examples" / "fathomdb-embedder-example"
PIP = ("-m", "pip", "--disable-pip-version-check", "--quiet")
ONLY_FROM_HERE = ("--no-index", "--no-deps")

WRITE = """
import sys, fathomdb
with fathomdb.open(sys.argv[1], embedder="example") as db:
    receipt = db.write([fathomdb.Node("Word", "w1", "parrot"), fathomdb.Node("Word", "w2", "mouse")])
    print(db.wait(receipt).complete)
"""

REOPEN = """
import sys, fathomdb
with fathomdb.open(sys.argv[1]) as db:
    print(db.semantic_search("raptor")[0].text, db.admin.get_vec_index_status("Word").embedding_identity)
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """Built in a copy, with the backend that is installed: nothing is fetched, nothing left behind."""
    folder = tmp_path_factory.mktemp("example")
    shutil.copytree(EXAMPLE, folder / "source")
    options = ["--no-build-isolation", *ONLY_FROM_HERE, "--wheel-dir", str(folder)]
    _python(*PIP, "wheel", *options, str(folder / "source"))
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory):
    """A folder of its own, so that the environment of the tests stays as it is."""
    folder = tmp_path_factory.mktemp("site")
    _python(*PIP, "install", *ONLY_FROM_HERE, "--target", str(folder), str(wheel))
    return str(folder)


def test_the_wheel_holds_the_package_and_its_entry_point(wheel):
    with zipfile.ZipFile(wheel) as archive:
        assert "fathomdb_embedder_example/__init__.py" in archive.namelist()
        entry_points = archive.read(f"{_dist_info(wheel)}/entry_points.txt").decode()
    assert "[fathomdb.embedders]\nexample=fathomdb_embedder_example:ByteCounts" in entry_points


def test_it_is_used_by_its_name_and_a_file_remembers_it(installed, path):
    assert _python("-c", WRITE, path, site=installed) == "True\n"
    printed = _python("-c", REOPEN, path, site=installed)
    assert printed == "parrot example/byte-counts@1 (256 dimensions)\n"


def test_where_it_is_not_installed_a_file_says_which_plugin_is_missing(installed, path):
    _python("-c", WRITE, path, site=installed)
    with pytest.raises(AssertionError, match="no embedder plugin is named 'example'"):
        _python("-c", REOPEN, path)


def test_its_own_tests_hold_it_to_the_contract(installed, tmp_path):
    shutil.copytree(EXAMPLE / "tests", tmp_path / "tests")
    printed = _python("-m", "pytest", "-q", "-p", "no:cacheprovider", str(tmp_path), site=installed)
    assert " passed" in printed
    assert "failed" not in printed


def _dist_info(wheel):
    name, version, _ = wheel.name.split("-", 2)
    return f"{name}-{version}.dist-info"


def _python(*arguments, site=None):
    environment = dict(os.environ)
    if site is not None:
        paths = [site, *filter(None, [environment.get("PYTHONPATH")])]
        environment["PYTHONPATH"] = os.pathsep.join(paths)
    done = subprocess.run(
        [sys.executable, *arguments],
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
