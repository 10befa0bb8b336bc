from __future__ import annotations

import importlib
import tomllib
from pathlib import Path

import pytest

from fathomdb._extras import DISTRIBUTION, require
from fathomdb.errors import MissingExtraError

ROOT = Path(__file__).parents[3]


def test_the_distribution_has_the_name_of_the_project():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["name"] == DISTRIBUTION


def test_a_module_that_is_there_is_returned():
    assert require("json.decoder", "static").JSONDecoder


@pytest.mark.parametrize("module", ["no_such_module_at_all", "no_such_module_at_all.part"])
def test_a_missing_module_is_named_with_the_command_that_installs_it(module):
    with pytest.raises(MissingExtraError, match=r'pip install "fathomdb-py\[static\]"') as caught:
        require(module, "static")
    assert module in str(caught.value)
    assert isinstance(caught.value, ImportError)


def test_a_module_that_is_broken_itself_raises_its_own_error(tmp_path, monkeypatch):
    (tmp_path / "broken_module.py").write_text("import no_such_module_at_all")
    monkeypatch.syspath_prepend(tmp_path)
    importlib.invalidate_caches()
    with pytest.raises(ModuleNotFoundError) as caught:
        require("broken_module", "static")
    assert not isinstance(caught.value, MissingExtraError)
