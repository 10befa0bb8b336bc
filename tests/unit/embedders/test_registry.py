from __future__ import annotations

import importlib
import sys

import numpy as np
import pytest

from fathomdb.embedders.function import embedder
from fathomdb.embedders.hashing import HashingEmbedder
from fathomdb.embedders.registry import available, is_local, resolve, spec_of
from fathomdb.errors import InvalidInputError, MissingExtraError
from fathomdb.testing import DeterministicEmbedder

PLUGIN = """
from fathomdb.testing import DeterministicEmbedder

class Acme(DeterministicEmbedder):
    def __init__(self, model="small"):
        super().__init__({"small": 8, "large": 16}[model])
        self.plugin_spec = f"acme:{model}"

class NoModel(DeterministicEmbedder):
    def __init__(self):
        super().__init__(8)

class NeedsModel(DeterministicEmbedder):
    def __init__(self, model):
        super().__init__(int(model))

def makes_nonsense():
    return 42

not_a_factory = 42
"""


@pytest.fixture
def install(tmp_path, monkeypatch):
    """Install a distribution with plugins, as pip would lay it out."""
    monkeypatch.syspath_prepend(tmp_path)

    def install_distribution(name, entry_points, code=PLUGIN):
        info = tmp_path / f"{name}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        lines = "\n".join(f"{key} = {value}" for key, value in entry_points.items())
        (info / "entry_points.txt").write_text(f"[fathomdb.embedders]\n{lines}\n")
        (tmp_path / f"{name}.py").write_text(code)
        monkeypatch.delitem(sys.modules, name, raising=False)
        importlib.invalidate_caches()

    return install_distribution


def test_an_embedder_passes_through():
    mine = DeterministicEmbedder()
    assert resolve(mine) is mine


def test_the_plugins_of_the_package_are_there():
    assert {"hashing", "static", "onnx"} <= set(available())
    assert resolve("hashing").identity() == HashingEmbedder().identity()
    assert resolve("hashing:512").identity().dimension == 512


def test_a_plugin_of_another_package_is_found_by_name_and_model(install):
    install("acme_plugin", {"acme": "acme_plugin:Acme"})
    assert "acme" in available()
    assert resolve("acme").identity().dimension == 8
    assert resolve("acme:large").identity().dimension == 16


def test_an_unknown_name_lists_what_is_there():
    with pytest.raises(InvalidInputError, match=r"named 'hashin'; there are: .*hashing, onnx"):
        resolve("hashin")


def test_a_colon_without_a_model_is_refused():
    with pytest.raises(InvalidInputError, match="'hashing:' has a colon"):
        resolve("hashing:")


def test_a_model_for_a_plugin_that_takes_none_is_refused(install):
    install("acme_plugin", {"plain": "acme_plugin:NoModel", "choosy": "acme_plugin:NeedsModel"})
    with pytest.raises(InvalidInputError, match="'plain' takes no model"):
        resolve("plain:large")
    with pytest.raises(InvalidInputError, match="'choosy' needs a model: \"choosy:<model>\""):
        resolve("choosy")
    assert resolve("choosy:5").identity().dimension == 5


def test_two_packages_with_one_name_are_told_apart_by_nobody(install):
    install("acme_one", {"acme": "acme_one:Acme"})
    install("acme_two", {"acme": "acme_two:Acme"})
    with pytest.raises(InvalidInputError, match="acme_one:Acme, acme_two:Acme"):
        resolve("acme")


def test_a_plugin_that_cannot_be_imported_says_why(install):
    install("acme_plugin", {"acme": "acme_plugin:Acme"}, code="import no_such_module_at_all")
    with pytest.raises(MissingExtraError, match=r"'acme'.*no_such_module_at_all"):
        resolve("acme")


def test_a_plugin_that_is_no_factory_or_makes_no_embedder_is_refused(install):
    install(
        "acme_plugin",
        {"constant": "acme_plugin:not_a_factory", "nonsense": "acme_plugin:makes_nonsense"},
    )
    with pytest.raises(InvalidInputError, match="is not a factory: 42"):
        resolve("constant")
    with pytest.raises(InvalidInputError, match="plugin 'nonsense' made must be"):
        resolve("nonsense")


def test_a_bare_function_is_refused_with_the_line_to_write():
    def embed(texts):
        return np.ones((len(texts), 3))

    with pytest.raises(InvalidInputError, match=r"function embed.*which model") as caught:
        resolve(embed)
    line = str(caught.value).split("above it: ")[1]
    assert line == '@fathomdb.embedder("acme/e5", version="3", dimension=384, normalization="l2")'
    decorated = eval(line.removeprefix("@fathomdb."), {"embedder": embedder})(embed)
    assert resolve(decorated) is decorated


def test_a_class_is_refused_with_the_call_to_write():
    with pytest.raises(
        InvalidInputError, match=r"the class HashingEmbedder; write HashingEmbedder"
    ):
        resolve(HashingEmbedder)


@pytest.mark.parametrize("wrong", [None, True, 3, b"hashing", ["hashing"], object()])
def test_anything_else_is_refused_with_its_value(wrong):
    with pytest.raises(InvalidInputError, match="must be the name of a plugin or an object"):
        resolve(wrong)


def test_an_object_without_a_proper_identity_is_refused():
    class Nameless:
        def batch_embed(self, texts):
            return []

    class Wrong(Nameless):
        def identity(self):
            return "acme/e5"

    with pytest.raises(InvalidInputError, match=r"no identity\(\)"):
        resolve(Nameless())
    with pytest.raises(InvalidInputError, match="must return an EmbedderIdentity, got 'acme/e5'"):
        resolve(Wrong())


@pytest.mark.parametrize("spec", ["hashing", "hashing:512", "static", "static:64"])
def test_a_local_plugin_is_remembered_by_a_name_that_makes_it_again(spec):
    made = resolve(spec)
    assert spec_of(made) == spec
    assert resolve(spec_of(made)).identity() == made.identity()


def test_a_default_model_written_out_is_remembered_in_its_short_form():
    assert spec_of(resolve("hashing:256")) == "hashing"
    assert spec_of(resolve("static:256")) == "static"


def test_what_is_remote_or_has_a_url_or_is_no_plugin_is_never_remembered():
    class Plugin(DeterministicEmbedder):
        plugin_spec = "acme:large"

    class Remote(Plugin):
        local = False

    class Url(Plugin):
        plugin_spec = "acme:http://localhost:8080/v1"

    assert spec_of(Plugin()) == "acme:large"
    assert spec_of(Remote()) is None
    assert spec_of(Url()) is None
    assert spec_of(DeterministicEmbedder()) is None
    assert spec_of(embedder("acme/e5")(lambda texts: texts)) is None


def test_an_embedder_is_local_unless_it_says_otherwise():
    class Silent:
        pass

    assert is_local(Silent())
    assert not is_local(embedder("acme/e5", local=False)(lambda texts: texts))
