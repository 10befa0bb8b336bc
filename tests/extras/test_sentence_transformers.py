"""The embedder of sentence-transformers, with all-MiniLM-L6-v2 and with tiny models of its own."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys

import numpy as np
import pytest

import fathomdb
from fathomdb import InvalidInputError, Node
from fathomdb.embedders.protocol import EmbedderLimits, limits_of
from fathomdb.embedders.registry import is_local, resolve, spec_of
from fathomdb.embedders.sentence_transformers import SentenceTransformersEmbedder
from fathomdb.testing import EmbedderContract

torch = pytest.importorskip("torch", reason="make test-extras runs this")
transformers = pytest.importorskip("transformers", reason="make test-extras runs this")
library = pytest.importorskip("sentence_transformers", reason="make test-extras runs this")

RICE = ["how do I cook rice", "recipe for boiled rice", "quantum field theory"]

NO_NETWORK = """
import sys

def refuse(event, arguments):
    if event in ("socket.getaddrinfo", "socket.connect", "socket.gethostbyname"):
        raise SystemExit(f"the network was used: {event} {arguments}")

sys.addaudithook(refuse)
"""


def make(model, **options):
    return SentenceTransformersEmbedder(model, device="cpu", **options)


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory, minilm_folder):
    """A real model of two small layers and random weights, with prompts of its own."""
    torch.manual_seed(7)
    folder = tmp_path_factory.mktemp("models") / "tiny"
    config = transformers.BertConfig(
        vocab_size=30522,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=64,
    )
    bare = folder.parent / "bare"
    transformers.BertModel(config).save_pretrained(bare)
    transformers.AutoTokenizer.from_pretrained(
        minilm_folder, local_files_only=True, model_max_length=64
    ).save_pretrained(bare)
    made = library.SentenceTransformer(
        str(bare),
        device="cpu",
        local_files_only=True,
        prompts={"query": "ask: ", "passage": "tell: "},
    )
    made.save(str(folder))
    return folder


@pytest.fixture
def tiny_copy(tiny_folder, tmp_path):
    """A copy of the tiny model, to be changed."""
    return shutil.copytree(tiny_folder, tmp_path / "tiny")


class TestMiniLM(EmbedderContract):
    @pytest.fixture
    def embedder(self, minilm):
        return minilm


class TestTinyWithPromptsAndRawVectors(EmbedderContract):
    @pytest.fixture
    def embedder(self, tiny_folder):
        return make(tiny_folder, normalization="none", batch_size=3)


class TestHalfAsPrecise(EmbedderContract):
    tolerance = 1e-2  # 8 bits of mantissa, and another order of additions in every batch

    @pytest.fixture
    def embedder(self, tiny_folder):
        return make(tiny_folder, dtype="bfloat16")


def test_meaning_counts(minilm):
    question, recipe, physics = minilm.batch_embed(RICE)
    assert question @ recipe > 0.7
    assert abs(question @ physics) < 0.2
    assert question.dtype == np.float32


def test_its_vectors_are_those_of_the_library(minilm, minilm_folder):
    plain = library.SentenceTransformer(str(minilm_folder), device="cpu", local_files_only=True)
    np.testing.assert_allclose(minilm.batch_embed(RICE), plain.encode(RICE), atol=1e-6)
    np.testing.assert_allclose(minilm.embed_query(RICE[0]), plain.encode(RICE[0]), atol=1e-6)


def test_texts_of_like_length_run_together_and_come_back_in_order(tiny_folder):
    embedder = make(tiny_folder, batch_size=4, document_prefix="")
    runs = []
    embedder._model[0].register_forward_pre_hook(
        lambda _module, given: runs.append(given[0]["attention_mask"].numpy())
    )
    random = np.random.default_rng(0)
    texts = ["word " * int(length) for length in random.permutation(np.arange(1, 49))]
    together = embedder.batch_embed(texts)

    assert len(runs) == 12
    padded, needed = sum(mask.size for mask in runs), sum(int(mask.sum()) for mask in runs)
    assert padded < 1.1 * needed  # in the order given it is 1.5
    alone = np.concatenate([embedder.batch_embed([text]) for text in texts])
    np.testing.assert_allclose(together, alone, atol=1e-5)


def test_a_batch_is_two_runs_of_the_model_and_it_is_never_entered_twice(tiny_folder):
    assert limits_of(make(tiny_folder)) == EmbedderLimits(items=32, concurrency=1)
    assert limits_of(make(tiny_folder, batch_size=128)).items == 256


def test_the_prompts_of_the_model_are_put_before_documents_and_queries(tiny_folder):
    own = make(tiny_folder)
    bare = make(tiny_folder, query_prefix="", document_prefix="")
    document, query = bare.batch_embed(["tell: rice", "ask: rice"])
    np.testing.assert_allclose(own.batch_embed(["rice"])[0], document, atol=1e-6)
    np.testing.assert_allclose(own.embed_query("rice"), query, atol=1e-6)
    assert np.abs(document - query).max() > 1e-3
    assert own.identity().preparation["query_prefix"] == "ask: "
    assert own.identity().preparation["document_prefix"] == "tell: "
    # Written out or found in the model, they are the same.
    assert (
        make(tiny_folder, query_prefix="ask: ", document_prefix="tell: ").identity()
        == own.identity()
    )


@pytest.mark.parametrize(
    "options",
    [
        {"query_prefix": "q: "},
        {"document_prefix": "d: "},
        {"max_tokens": 16},
        {"dimension": 16},
        {"dtype": "bfloat16"},
        {"normalization": "none"},
        {"model_identity": "mine"},
    ],
    ids=lambda options: next(iter(options)),
)
def test_what_changes_the_vectors_changes_the_fingerprint_and_is_not_remembered(
    tiny_folder, options
):
    plain, changed = make(tiny_folder), make(tiny_folder, **options)
    assert changed.identity().fingerprint != plain.identity().fingerprint
    assert spec_of(plain) == f"sentence-transformers:{tiny_folder}"
    assert spec_of(changed) is None


def test_where_and_how_many_at_once_it_runs_changes_neither(tiny_folder):
    other = SentenceTransformersEmbedder(tiny_folder, device=None, batch_size=5)
    assert other.identity() == make(tiny_folder).identity()
    assert spec_of(other) == spec_of(make(tiny_folder))


def test_a_changed_file_is_another_version_and_a_changed_document_is_not(tiny_copy):
    before = make(tiny_copy).identity()
    (tiny_copy / "README.md").write_text("read me")
    (tiny_copy / "onnx").mkdir()
    (tiny_copy / "onnx" / "config.json").write_text("{}")
    assert make(tiny_copy).identity() == before
    pooling = tiny_copy / "1_Pooling" / "config.json"
    pooling.write_text(pooling.read_text().replace("mean", "cls"))
    after = make(tiny_copy).identity()
    assert after.model_version != before.model_version


def test_weights_that_the_library_does_not_read_are_not_counted(tiny_copy):
    before = make(tiny_copy).identity()
    (tiny_copy / "pytorch_model.bin").write_bytes(b"the same in an older format")
    assert make(tiny_copy).identity() == before


def test_a_dimension_takes_the_first_numbers_alone(tiny_folder):
    short, whole = make(tiny_folder, dimension=16), make(tiny_folder)
    assert short.identity().dimension == 16
    np.testing.assert_allclose(short.batch_embed(RICE), whole.batch_embed(RICE)[:, :16], atol=1e-6)


def test_weights_stored_in_half_precision_are_computed_in_full(tiny_folder, tmp_path):
    stored = library.SentenceTransformer(str(tiny_folder), device="cpu", local_files_only=True)
    stored.to(torch.float16).save(str(tmp_path / "half"))
    embedder = make(tmp_path / "half")
    assert {parameter.dtype for parameter in embedder._model.parameters()} == {torch.float32}
    np.testing.assert_allclose(
        embedder.batch_embed(RICE), make(tiny_folder).batch_embed(RICE), atol=1e-2
    )


def test_a_text_is_cut_where_the_model_says_and_counted_with_its_prefix(tiny_folder):
    embedder = make(tiny_folder)
    assert embedder.max_tokens == 64
    exactly = "word " * 60  # "tell", ":", and two special tokens
    assert embedder.count_truncated(["a", exactly, exactly + "word"]) == 1
    one, other = embedder.batch_embed([exactly + "word", exactly + "other words"])
    np.testing.assert_allclose(one, other, atol=1e-6)
    short = make(tiny_folder, max_tokens=8, document_prefix="")
    assert (
        short.count_truncated(["one two three four five six", "one two three four five six 7"]) == 1
    )


def test_truncated_texts_are_counted_in_status(open_db, tiny_folder):
    db = open_db(embedder=make(tiny_folder))
    db.write([Node("Note", "short", "rice"), Node("Note", "long", "rice " * 150)])
    db.admin.drain_vector_projection(timeout=60)
    assert db.admin.status().counters["truncated"] == 1


def test_a_table_of_token_vectors_cuts_nothing(tmp_path, minilm_folder):
    from sentence_transformers.sentence_transformer.modules import StaticEmbedding
    from tokenizers import Tokenizer

    torch.manual_seed(7)
    table = StaticEmbedding(
        Tokenizer.from_file(str(minilm_folder / "tokenizer.json")), embedding_dim=24
    )
    library.SentenceTransformer(modules=[table], device="cpu").save(str(tmp_path / "table"))
    embedder = make(tmp_path / "table")
    assert (embedder.max_tokens, embedder.count_truncated) == (None, None)
    assert embedder.identity().dimension == 24
    assert embedder.batch_embed(RICE).shape == (3, 24)
    with pytest.raises(InvalidInputError, match="cuts no text, so max_tokens cannot be 8"):
        make(tmp_path / "table", max_tokens=8)


def test_a_model_of_two_halves_embeds_queries_with_the_one_and_documents_with_the_other(
    tmp_path, minilm_folder
):
    from sentence_transformers.base.modules import Router
    from sentence_transformers.sentence_transformer.modules import StaticEmbedding
    from tokenizers import Tokenizer

    torch.manual_seed(7)
    tokenizer = Tokenizer.from_file(str(minilm_folder / "tokenizer.json"))
    halves = [StaticEmbedding(tokenizer, embedding_dim=24) for _ in range(2)]
    router = Router.for_query_document(query_modules=halves[:1], document_modules=halves[1:])
    library.SentenceTransformer(modules=[router], device="cpu").save(str(tmp_path / "halves"))

    embedder = make(tmp_path / "halves")

    for vector, half in (
        (embedder.embed_query("rice"), halves[0]),
        (embedder.batch_embed(["rice"])[0], halves[1]),
    ):
        alone = library.SentenceTransformer(modules=[half], device="cpu").encode("rice")
        np.testing.assert_allclose(vector, alone, atol=1e-6)


def test_a_plain_transformer_is_pooled_by_the_mean(tiny_folder):
    """A folder without modules.json, as transformers itself saves a model."""
    bare = make(tiny_folder.parent / "bare", document_prefix="tell: ", query_prefix="ask: ")
    np.testing.assert_allclose(
        bare.batch_embed(RICE), make(tiny_folder).batch_embed(RICE), atol=1e-6
    )


# --- names, and the network -----------------------------------------------------------------------


@pytest.fixture
def cache(tmp_path, monkeypatch, tiny_folder):
    """A cache as a download leaves it, with one model: acme/tiny."""
    import huggingface_hub.constants

    commit = "0123456789abcdef0123456789abcdef01234567"
    repository = tmp_path / "hub" / "models--acme--tiny"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text(commit)
    shutil.copytree(tiny_folder, repository / "snapshots" / commit)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    return tmp_path / "hub"


def test_a_downloaded_model_is_found_by_its_name_and_remembered_by_it(cache, open_db, tiny_folder):
    db = open_db(embedder="sentence-transformers:acme/tiny")
    identity = make("acme/tiny").identity()
    assert identity.model_identity == "acme/tiny"
    assert identity.preparation == make(tiny_folder).identity().preparation
    db.write(Node("Note", "n1", "rice"))
    db.admin.drain_vector_projection(timeout=60)
    db.close()
    assert open_db(embedder=None).semantic_search("rice")[0].node_id == "n1"


def test_a_model_that_is_not_here_is_named_with_the_command_that_downloads_it(cache):
    with pytest.raises(InvalidInputError, match=r"run: hf download acme/other$"):
        make("acme/other")
    with pytest.raises(InvalidInputError, match=r"hf download sentence-transformers/all-MiniLM$"):
        resolve("sentence-transformers:all-MiniLM")


def test_a_file_whose_model_is_gone_opens_by_words_and_says_what_to_run(cache, open_db):
    db = open_db(embedder="sentence-transformers:acme/tiny")
    db.write(Node("Note", "n1", "rice"))
    db.close()
    shutil.rmtree(cache / "models--acme--tiny")
    db = open_db(embedder=None)
    result = db.search("rice")
    assert (result[0].node_id, result.degraded) == ("n1", "no_embedder")
    with pytest.raises(fathomdb.EmbedderNotConfiguredError, match="hf download acme/tiny"):
        db.semantic_search("rice")


@pytest.mark.parametrize("online", ["0", "1"], ids=["online", "offline by setting"])
def test_the_network_is_never_asked(tmp_path, tiny_folder, online):
    """Not even for a model that is here, or for what this one lacks of a model's usual files."""
    code = NO_NETWORK + (
        "from fathomdb.embedders.sentence_transformers import SentenceTransformersEmbedder as E\n"
        "from fathomdb import InvalidInputError\n"
        "embedder = E(sys.argv[1], device='cpu')\n"
        "embedder.batch_embed(['a', 'b']), embedder.embed_query('a'), embedder.count_truncated('a')\n"
        "try:\n    E('acme/other')\n"
        "except InvalidInputError:\n    print('refused')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tiny_folder)],
        env={**os.environ, "HF_HOME": str(tmp_path), "HF_HUB_OFFLINE": online},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, "refused\n"), done.stderr
    assert done.stderr == ""


def test_the_audit_hook_of_the_last_test_sees_the_network():
    code = NO_NETWORK + "import socket\nsocket.create_connection(('127.0.0.1', 9))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "the network was used" in done.stderr


# --- what is refused ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"dtype": "int8"}, "dtype must be one of .* got 'int8'"),
        ({"dimension": 33}, "the model has 32 dimensions, so 33 cannot be taken"),
        ({"dimension": 0}, "dimension must be a whole number from 1 to 8192, got 0"),
        ({"batch_size": 0}, "batch_size must be a whole number .* got 0"),
        ({"max_tokens": 2}, "max_tokens must be from 3 to 64, got 2"),
        ({"max_tokens": 65}, "max_tokens must be from 3 to 64, got 65"),
        ({"max_tokens": True}, "max_tokens must be from 3 to 64, got True"),
        ({"normalization": "l1"}, "normalization_policy must be one of"),
    ],
    ids=str,
)
def test_an_option_that_the_model_cannot_bear_is_refused(tiny_folder, options, message):
    with pytest.raises(InvalidInputError, match=message):
        make(tiny_folder, **options)


def test_a_device_that_is_not_there_is_named(tiny_folder):
    with pytest.raises(InvalidInputError, match="on the device 'abacus'"):
        SentenceTransformersEmbedder(tiny_folder, device="abacus")


def test_a_path_that_leads_nowhere_is_named(tmp_path):
    with pytest.raises(InvalidInputError, match=f"there is no folder {tmp_path}/nowhere"):
        make(str(tmp_path / "nowhere"))


def test_a_folder_without_weights_is_no_model(tiny_copy):
    (tiny_copy / "model.safetensors").unlink()
    with pytest.raises(InvalidInputError, match=r"has no weights \(model.safetensors\)"):
        make(tiny_copy)


def test_damaged_weights_are_refused_with_the_folder(tiny_copy):
    (tiny_copy / "model.safetensors").write_bytes(b"\0" * 100)
    with pytest.raises(InvalidInputError, match=f"cannot load {tiny_copy}"):
        make(tiny_copy)


@pytest.mark.parametrize("damage", ["{", "[1]", '[{"idx": 0}]'])
def test_a_damaged_list_of_modules_is_named(tiny_copy, damage):
    (tiny_copy / "modules.json").write_text(damage)
    with pytest.raises(InvalidInputError, match=r"modules\.json is not a list of modules"):
        make(tiny_copy)


def test_code_that_comes_with_a_model_is_not_run(tiny_copy, tmp_path):
    (tiny_copy / "planted.py").write_text(
        f"open({str(tmp_path / 'ran')!r}, 'w')\nclass Mine: ...\n"
    )
    modules = json.loads((tiny_copy / "modules.json").read_text())
    modules[0]["type"] = "planted.Mine"
    (tiny_copy / "modules.json").write_text(json.dumps(modules))
    with pytest.raises(InvalidInputError, match="cannot load"):
        make(tiny_copy)
    assert not (tmp_path / "ran").exists()


def test_it_is_local_and_a_closed_one_says_so(tiny_folder):
    closed = make(tiny_folder)
    assert is_local(closed)
    closed.close()
    closed.close()
    for call in (closed.batch_embed, closed.count_truncated):
        with pytest.raises(InvalidInputError, match=r"tiny.* is closed"):
            call(["a"])
    with pytest.raises(InvalidInputError, match=r"tiny.* is closed"):
        closed.embed_query("a")


def test_nothing_is_written_to_stderr_and_the_progress_bars_are_left_as_they_were(
    tiny_folder, capfd
):
    from transformers.utils import logging

    assert logging.is_progress_bar_enabled()
    make(tiny_folder).batch_embed(RICE)
    assert capfd.readouterr() == ("", "")
    assert logging.is_progress_bar_enabled()
