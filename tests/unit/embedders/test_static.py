from __future__ import annotations

import hashlib
import importlib
import importlib.metadata
import importlib.util
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file
from tokenizers import Tokenizer

from fathomdb.embedders import static
from fathomdb.embedders.static import TABLE_FILE, TOKENIZER_FILE, StaticEmbedder
from fathomdb.errors import InvalidInputError, MissingExtraError

TEXTS = [
    "Resize an image to the given width and height.",
    "Make a picture smaller.",
    "Get the closing price of a stock.",
    "数据库 🎉 ?!",
]


@pytest.fixture(scope="module")
def embedder():
    return StaticEmbedder()


@pytest.fixture
def fake_wordllama(tmp_path, monkeypatch):
    """A package named wordllama, found before the real one, with the files of the real one."""
    real = static._wordllama()
    package = tmp_path / "wordllama"
    for name in (TABLE_FILE, TOKENIZER_FILE):
        (package / name).parent.mkdir(parents=True)
        (package / name).symlink_to(real / name)
    (package / "__init__.py").write_text("raise AssertionError('wordllama was imported')")
    monkeypatch.syspath_prepend(tmp_path)
    importlib.invalidate_caches()
    return package


def replace(path: Path, content: bytes) -> None:
    path.unlink()
    path.write_bytes(content)


def test_a_vector_is_the_mean_of_its_token_rows_as_wordllama_makes_it(embedder):
    package = static._wordllama()
    table = load_file(package / TABLE_FILE)["embedding.weight"].astype(np.float64)
    tokenizer = Tokenizer.from_file(str(package / TOKENIZER_FILE))
    for text, vector in zip(TEXTS, embedder.batch_embed(TEXTS), strict=True):
        mean = table[tokenizer.encode(text, add_special_tokens=False).ids].mean(axis=0)
        np.testing.assert_allclose(vector, mean / np.linalg.norm(mean), atol=1e-6)


@pytest.mark.parametrize("dimension", [128, 64])
def test_a_cut_is_the_first_columns_scaled_to_unit_length(embedder, dimension):
    whole = embedder.batch_embed(TEXTS)[:, :dimension]
    cut = StaticEmbedder(str(dimension)).batch_embed(TEXTS)
    expected = whole / np.linalg.norm(whole, axis=1, keepdims=True)
    np.testing.assert_allclose(cut, expected, atol=1e-6)


def test_meaning_counts_where_no_word_is_shared(embedder):
    image, picture, stock, _ = embedder.batch_embed(TEXTS)
    assert image @ picture > image @ stock + 0.1


def test_a_text_without_tokens_is_zero_and_never_nan(embedder):
    vectors = embedder.batch_embed(["", "word"])
    assert vectors.any(axis=1).tolist() == [False, True]
    assert np.isfinite(vectors).all()


def test_an_empty_batch_has_the_shape_of_no_rows(embedder):
    assert embedder.batch_embed([]).shape == (0, 256)


def test_no_token_of_a_long_text_is_cut(embedder, monkeypatch):
    # The end of the text counts, and the size of the pieces does not.
    start = "alpha " * 1_000
    one, other = embedder.batch_embed([start + "beta " * 1_000, start])
    assert one @ other < 0.99
    monkeypatch.setattr(static, "TOKENS_AT_ONCE", 7)
    in_pieces = embedder.batch_embed([start + "beta " * 1_000])[0]
    np.testing.assert_allclose(in_pieces, one, atol=1e-5)


def test_wordllama_is_read_and_never_imported(fake_wordllama, embedder):
    assert StaticEmbedder().batch_embed(TEXTS).tobytes() == embedder.batch_embed(TEXTS).tobytes()


def test_nothing_that_downloads_is_imported():
    code = (
        "import sys\n"
        "from fathomdb.embedders.static import StaticEmbedder\n"
        "StaticEmbedder().batch_embed(['a'])\n"
        "print({'wordllama', 'requests', 'huggingface_hub', 'httpx'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.strip() == "set()"


@pytest.mark.parametrize(
    ("version", "ending", "sha256"),
    [
        ("0.2.2.post0", b"", "bf467c9e0f536bda271283c6ef85eb1a943e3196b621c8a912d64953b205df83"),
        (
            "0.4.0.post1",
            b"\n",
            "93248f2a9ec36c7b35f700a033d5f36228aae48db61aee31007fa49062cdeb68",
        ),
    ],
)
def test_the_files_of_both_versions_have_one_fingerprint(
    fake_wordllama, embedder, version, ending, sha256
):
    tokenizer = fake_wordllama / TOKENIZER_FILE
    content = tokenizer.read_bytes().rstrip(b"\n") + ending
    # The checksum is of the file in that version's wheel: what is tried here is what it ships.
    assert hashlib.sha256(content).hexdigest() == sha256
    replace(tokenizer, content)
    assert StaticEmbedder().identity().fingerprint == embedder.identity().fingerprint


def test_the_installed_version_is_one_of_those_known():
    assert importlib.metadata.version("wordllama") in {"0.2.2.post0", "0.4.0.post1"}


@pytest.mark.parametrize("name", [TABLE_FILE, TOKENIZER_FILE])
def test_a_changed_file_is_refused_with_its_checksum(fake_wordllama, name):
    path = fake_wordllama / name
    content = bytearray(path.read_bytes())
    content[-100] ^= 1
    replace(path, bytes(content))
    found = hashlib.sha256(bytes(content).rstrip(b"\n")).hexdigest()
    with pytest.raises(MissingExtraError, match=found) as caught:
        StaticEmbedder()
    assert 'pip install "fathomdb-py[static]"' in str(caught.value)


@pytest.mark.parametrize("name", [TABLE_FILE, TOKENIZER_FILE])
def test_a_missing_file_is_named(fake_wordllama, name):
    (fake_wordllama / name).unlink()
    with pytest.raises(MissingExtraError, match=Path(name).name):
        StaticEmbedder()


def test_without_wordllama_the_error_says_what_to_install(monkeypatch):
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util,
        "find_spec",
        lambda name, *rest: None if name == "wordllama" else find_spec(name, *rest),
    )
    with pytest.raises(MissingExtraError, match=r'pip install "fathomdb-py\[static\]"'):
        StaticEmbedder()


@pytest.mark.parametrize("model", ["512", "abc", "", 100, 256.5])
def test_another_dimension_is_refused_with_its_value(model):
    with pytest.raises(InvalidInputError, match=f"256, 128, 64 dimensions, got {model!r}"):
        StaticEmbedder(model)


def test_a_forked_child_embeds_without_a_deadlock():
    code = (
        "import os, signal\n"
        "from fathomdb.embedders.static import StaticEmbedder\n"
        "embedder = StaticEmbedder()\n"
        "expected = embedder.batch_embed(['one', 'two'] * 100).tobytes()\n"
        "child = os.fork()\n"
        "if child == 0:\n"
        "    signal.alarm(60)\n"
        "    same = embedder.batch_embed(['one', 'two'] * 100).tobytes() == expected\n"
        "    os._exit(0 if same else 1)\n"
        "print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))"
    )
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code], check=True, capture_output=True, text=True
    )
    assert done.stdout.strip() == "0"
