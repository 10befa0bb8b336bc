from __future__ import annotations

import hashlib
import json
import shutil
import sys

import numpy as np
import pytest

from fathomdb.embedders import onnx
from fathomdb.embedders.onnx import OnnxEmbedder
from fathomdb.embedders.registry import resolve, spec_of
from fathomdb.errors import InvalidInputError, MissingExtraError
from models import tiny_model

RICE = ["how do I cook rice", "recipe for boiled rice", "quantum field theory"]


@pytest.fixture
def folder(tmp_path, minilm_files):
    """A copy of the real folder, to be damaged."""
    for name in ("model.onnx", "tokenizer.json"):
        (tmp_path / name).symlink_to((minilm_files / name).resolve())
    return tmp_path


def test_meaning_counts(minilm):
    question, recipe, physics = minilm.batch_embed(RICE)
    assert question @ recipe > 0.7
    assert abs(question @ physics) < 0.2


def test_the_mean_is_over_the_tokens_of_the_mask_alone(minilm):
    """Beside a longer text the shorter one is padded; padding must not count."""
    alone = minilm.batch_embed(RICE[:1])[0]
    padded = minilm._run(
        [encoding.ids for encoding in minilm._tokenizer.encode_batch([RICE[0], "word " * 60])]
    )[0]
    np.testing.assert_allclose(padded, alone, atol=1e-5)
    assert alone.dtype == np.float32
    assert np.linalg.norm(alone) == pytest.approx(1, abs=1e-6)


def test_groups_are_of_like_length_bounded_in_tokens_and_lose_no_row():
    lengths = [int(length) for length in np.random.default_rng(0).integers(1, 129, 300)]
    lengths.append(4 * onnx.TOKENS_AT_ONCE)
    groups = list(onnx._by_length(lengths))
    assert sorted(row for rows in groups for row in rows) == list(range(len(lengths)))
    for rows in groups:
        longest = max(lengths[row] for row in rows)
        assert len(rows) == 1 or longest * len(rows) <= onnx.TOKENS_AT_ONCE
    padded = sum(max(lengths[row] for row in rows) * len(rows) for rows in groups)
    assert padded < 1.1 * sum(lengths)


def test_rows_come_back_in_the_order_of_the_texts(minilm):
    texts = ["word " * length for length in (40, 1, 30, 2, 50, 3)]
    alone = np.concatenate([minilm.batch_embed([text]) for text in texts])
    np.testing.assert_allclose(minilm.batch_embed(texts), alone, atol=1e-5)


def test_an_empty_batch_has_the_shape_of_no_rows(minilm):
    assert minilm.batch_embed([]).shape == (0, 384)


def test_a_text_is_cut_where_the_tokenizer_says_and_counted(minilm):
    assert minilm.max_tokens == 128
    exactly, over = "word " * 126, "word " * 127  # and two special tokens
    assert minilm.count_truncated(["a", exactly, over]) == 1
    one, other = minilm.batch_embed(["word " * 500, over])
    np.testing.assert_array_equal(one, other)


def test_max_tokens_can_be_given_and_is_part_of_the_fingerprint(minilm, minilm_files):
    short = OnnxEmbedder(minilm_files, max_tokens=8)
    assert short.max_tokens == 8
    assert (
        short.count_truncated(["one two three four five six", "one two three four five six 7"]) == 1
    )
    assert short.identity().fingerprint != minilm.identity().fingerprint


def test_a_tokenizer_without_truncation_means_256(folder):
    tokenizer = json.loads((folder / "tokenizer.json").read_text())
    tokenizer["truncation"] = None
    (folder / "tokenizer.json").unlink()
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
    assert OnnxEmbedder(folder).max_tokens == 256


@pytest.mark.parametrize("max_tokens", [0, 2, -1, True, 8.0])
def test_a_max_tokens_that_leaves_no_text_is_refused(minilm_files, max_tokens):
    with pytest.raises(InvalidInputError, match=f"must be 3 or more, got {max_tokens!r}"):
        OnnxEmbedder(minilm_files, max_tokens=max_tokens)


def test_the_identity_is_made_of_the_files(minilm, minilm_files):
    identity = minilm.identity()
    sha256 = hashlib.sha256((minilm_files / "model.onnx").read_bytes()).hexdigest()
    assert identity.model_identity == "minilm"
    assert identity.model_version == sha256[:12]
    assert identity.dimension == 384
    assert identity.preparation["model_sha256"] == sha256
    tokenizer = hashlib.sha256((minilm_files / "tokenizer.json").read_bytes()).hexdigest()
    assert identity.preparation["tokenizer_sha256"] == tokenizer


def test_files_from_two_places_make_the_same_model(minilm, minilm_files):
    apart = OnnxEmbedder(
        model_file=(minilm_files / "model.onnx").resolve(),
        tokenizer_file=minilm_files / "tokenizer.json",
        model_identity="minilm",
    )
    assert apart.identity() == minilm.identity()
    assert spec_of(apart) is None


def test_a_folder_is_remembered_and_options_are_not(minilm, minilm_files):
    assert spec_of(minilm) == f"onnx:{minilm_files}"
    assert resolve(spec_of(minilm)).identity() == minilm.identity()
    assert spec_of(OnnxEmbedder(minilm_files, query_prefix="query: ")) is None
    assert spec_of(OnnxEmbedder(minilm_files, model_identity="mine")) is None


def test_a_relative_folder_is_remembered_as_an_absolute_one(minilm_files, monkeypatch):
    monkeypatch.chdir(minilm_files.parent)
    assert spec_of(OnnxEmbedder(minilm_files.name)) == f"onnx:{minilm_files}"


def test_prefixes_go_before_documents_and_queries(minilm, minilm_files):
    prefixed = OnnxEmbedder(minilm_files, query_prefix="query: ", document_prefix="passage: ")
    document, query = minilm.batch_embed([f"passage: {RICE[0]}", f"query: {RICE[0]}"])
    np.testing.assert_allclose(prefixed.batch_embed(RICE[:1])[0], document, atol=1e-6)
    np.testing.assert_allclose(prefixed.embed_query(RICE[0]), query, atol=1e-6)
    assert prefixed.identity().fingerprint != minilm.identity().fingerprint
    # The prefix of a document takes its place among the tokens.
    assert prefixed.count_truncated(["word " * 125]) == 1


def test_another_file_name_is_found_where_it_is_the_only_one(folder, minilm):
    (folder / "model.onnx").rename(folder / "model_quantized.onnx")
    assert OnnxEmbedder(folder).identity().preparation == minilm.identity().preparation


def test_several_models_without_a_model_onnx_are_refused_by_name(folder):
    (folder / "model.onnx").rename(folder / "a.onnx")
    shutil.copy(folder / "tokenizer.json", folder / "b.onnx")
    with pytest.raises(InvalidInputError, match=r"several models \(a\.onnx, b\.onnx\)"):
        OnnxEmbedder(folder)


def test_external_weights_are_part_of_the_version(folder, minilm):
    (folder / "model.onnx_data").write_bytes(b"weights")
    changed = OnnxEmbedder(folder).identity()
    assert changed.model_version != minilm.identity().model_version


@pytest.mark.parametrize("name", ["model.onnx", "tokenizer.json"])
def test_a_missing_file_is_named(folder, name):
    (folder / name).unlink()
    with pytest.raises(InvalidInputError, match=rf"no file .*{name}"):
        OnnxEmbedder(folder)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("model.onnx", "not a model that onnxruntime can load"),
        ("tokenizer.json", "not a tokenizer"),
    ],
)
def test_a_damaged_file_is_named(folder, name, message):
    (folder / name).unlink()
    (folder / name).write_text("{}")
    with pytest.raises(InvalidInputError, match=f"{name} is {message}"):
        OnnxEmbedder(folder)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (tiny_model(), r"no output of token states .* only: out \['batch'"),
        (tiny_model("pixels"), "wants the inputs pixels; an encoder with"),
        (tiny_model(shape=("batch", "sequence", 9000)), "9000 dimensions, more than"),
    ],
    ids=["pooled already", "no text", "too many dimensions"],
)
def test_a_model_of_another_sort_is_refused(folder, model, message):
    (folder / "model.onnx").unlink()
    (folder / "model.onnx").write_bytes(model)
    with pytest.raises(InvalidInputError, match=message):
        OnnxEmbedder(folder)


def test_no_folder_and_no_files_is_refused(tmp_path):
    with pytest.raises(InvalidInputError, match="needs a folder, or model_file="):
        OnnxEmbedder()
    with pytest.raises(InvalidInputError, match=r"wants a folder.*nowhere.*hf download"):
        OnnxEmbedder(str(tmp_path / "nowhere"))


@pytest.mark.parametrize("module", ["onnxruntime", "tokenizers"])
def test_without_its_packages_the_error_says_what_to_install(minilm_files, monkeypatch, module):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MissingExtraError, match=r'pip install "fathomdb-py\[onnx\]"'):
        OnnxEmbedder(minilm_files)


def test_a_closed_embedder_says_so(minilm_files):
    closed = OnnxEmbedder(minilm_files)
    closed.close()
    closed.close()
    with pytest.raises(InvalidInputError, match=r"minilm.* is closed"):
        closed.batch_embed(["a"])


def test_nothing_is_written_to_stderr(minilm_files, capfd):
    OnnxEmbedder(minilm_files).batch_embed(["a", "b c d"])
    assert capfd.readouterr() == ("", "")
