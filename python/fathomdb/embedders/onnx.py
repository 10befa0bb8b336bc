"""A transformer from a folder: model.onnx and tokenizer.json, run by onnxruntime on the CPU."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fathomdb._extras import require
from fathomdb.embedders.protocol import EmbedderLimits
from fathomdb.errors import InvalidInputError
from fathomdb.identity import MAX_DIMENSION, EmbedderIdentity

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

DEFAULT_MAX_TOKENS = 256
"""Where tokenizer.json says nothing: what most small sentence models were trained with."""

TOKENS_AT_ONCE = 512
"""Padded tokens in one run of the model. On two cores, int8 MiniLM with texts of 60 and of 300
characters is 1.4 times slower with 4,096, and 1.6 and 1.1 times slower with one text a run."""

_TO_FETCH = (
    "nothing is fetched unasked; for both files of a model run: "
    "hf download sentence-transformers/all-MiniLM-L6-v2 tokenizer.json onnx/model.onnx "
    "--local-dir models/all-MiniLM-L6-v2, and move the model up beside the tokenizer"
)

INPUTS = frozenset({"input_ids", "attention_mask", "token_type_ids"})


class OnnxEmbedder:
    """A sentence transformer exported to ONNX: mean of the token states by mask, unit length.

    The folder holds one ``*.onnx`` file (or several, one of them ``model.onnx``) and
    ``tokenizer.json``. Nothing is ever downloaded. A text longer than ``max_tokens`` is cut there,
    special tokens included.

    Args:
        model: The folder; ``"onnx:/path/to/folder"``.
        model_file: The model, where it is not in the folder.
        tokenizer_file: The tokenizer, where it is not in the folder.
        model_identity: The model's name; by default the name of the folder.
        max_tokens: Where a text is cut; by default what tokenizer.json says, or 256.
        query_prefix: Put before every query, for models trained so (``"query: "`` for E5).
        document_prefix: Put before every document.

    Raises:
        InvalidInputError: A file is missing or is not what it should be; the message names it.
        MissingExtraError: onnxruntime or tokenizers is not installed.
    """

    # One call uses all cores already, and takes about 0.2 s for this many full texts on two.
    limits = EmbedderLimits(items=16, concurrency=1)
    local = True

    def __init__(
        self,
        model: str | Path | None = None,
        *,
        model_file: str | Path | None = None,
        tokenizer_file: str | Path | None = None,
        model_identity: str | None = None,
        max_tokens: int | None = None,
        query_prefix: str = "",
        document_prefix: str = "",
    ) -> None:
        onnxruntime = require("onnxruntime", "onnx")
        tokenizers = require("tokenizers", "onnx")
        folder = _folder(model)
        model_path = _file(model_file, folder, _find_model, "model_file")
        tokenizer_path = _file(tokenizer_file, folder, _find_tokenizer, "tokenizer_file")

        self._tokenizer: Any = _load_tokenizer(tokenizers, tokenizer_path)
        self.max_tokens = _max_tokens(max_tokens, self._tokenizer)
        self._tokenizer.no_padding()
        self._tokenizer.enable_truncation(self.max_tokens)
        self._session = _load_session(onnxruntime, model_path)
        self._inputs = _inputs(self._session, model_path)
        self._output, dimension = _output(self._session, model_path)
        self._query_prefix = query_prefix
        self._document_prefix = document_prefix

        version = _model_sha256(model_path)
        self._identity = EmbedderIdentity(
            model_identity=model_identity or (folder or model_path.parent).name,
            model_version=version[:12],
            dimension=dimension,
            normalization_policy="l2",
            preparation={
                "model_sha256": version,
                "tokenizer_sha256": hashlib.sha256(tokenizer_path.read_bytes()).hexdigest(),
                "pooling": "mean",
                "max_tokens": str(self.max_tokens),
                "query_prefix": query_prefix,
                "document_prefix": document_prefix,
            },
        )
        only_a_folder = (model_file, tokenizer_file, model_identity, max_tokens) == (None,) * 4
        plain = only_a_folder and not query_prefix and not document_prefix
        self.plugin_spec = f"onnx:{folder}" if folder is not None and plain else None

    def identity(self) -> EmbedderIdentity:
        """The model's name and the checksums of its files."""
        return self._identity

    def batch_embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Unit vectors, shape (n, dimension), float32."""
        return self._embed([self._document_prefix + text for text in texts])

    def embed_query(self, text: str) -> NDArray[np.float32]:
        """The unit vector of a query, shape (dimension,), float32."""
        vector: NDArray[np.float32] = self._embed([self._query_prefix + text])[0]
        return vector

    def count_truncated(self, texts: Sequence[str]) -> int:
        """How many of the documents are cut at ``max_tokens``."""
        encodings = self._tokenizer.encode_batch_fast(
            [self._document_prefix + text for text in texts]
        )
        return sum(bool(encoding.overflowing) for encoding in encodings)

    def close(self) -> None:
        """Free the model; a later call raises."""
        self._session = None

    def __repr__(self) -> str:
        return f"<OnnxEmbedder {self._identity}>"

    def _embed(self, texts: list[str]) -> NDArray[np.float32]:
        if self._session is None:
            raise InvalidInputError(f"the embedder {self._identity} is closed; make a new one")
        encodings = [encoding.ids for encoding in self._tokenizer.encode_batch_fast(texts)]
        vectors = np.zeros((len(texts), self._identity.dimension or 0), dtype=np.float32)
        for rows in _by_length([len(ids) for ids in encodings]):
            vectors[rows] = self._run([encodings[row] for row in rows])
        return vectors

    def _run(self, batch: list[list[int]]) -> NDArray[np.float32]:
        ids = np.zeros((len(batch), max(map(len, batch))), dtype=np.int64)
        mask = np.zeros_like(ids)
        for row, tokens in enumerate(batch):
            ids[row, : len(tokens)] = tokens
            mask[row, : len(tokens)] = 1
        every = {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}
        (states,) = self._session.run([self._output], {name: every[name] for name in self._inputs})
        weights = mask.astype(np.float32)[:, :, np.newaxis]
        # The length of a mean and of its sum differ, their direction does not.
        pooled = (states.astype(np.float32, copy=False) * weights).sum(axis=1)
        norms = np.linalg.norm(pooled, axis=1, keepdims=True)
        unit: NDArray[np.float32] = np.divide(
            pooled, norms, out=np.zeros_like(pooled), where=norms > 0
        )
        return unit


def _by_length(lengths: list[int]) -> Iterator[list[int]]:
    """Rows in groups of like length, so that little of a run is spent on padding."""
    group: list[int] = []
    for row in sorted(range(len(lengths)), key=lambda row: lengths[row]):
        # In rising order the newest row is the longest: the whole group is padded to it.
        if group and (len(group) + 1) * lengths[row] > TOKENS_AT_ONCE:
            yield group
            group = []
        group.append(row)
    if group:
        yield group


# --- finding and checking the files ---------------------------------------------------------------


def _folder(model: str | Path | None) -> Path | None:
    if model is None:
        return None
    folder = Path(model).expanduser().resolve()
    if not folder.is_dir():
        raise InvalidInputError(
            f"the onnx embedder wants a folder with model.onnx and tokenizer.json, got {model!r}; "
            f"{_TO_FETCH}"
        )
    return folder


def _file(given: str | Path | None, folder: Path | None, find: Any, name: str) -> Path:
    if given is not None:
        path = Path(given).expanduser().resolve()
    elif folder is not None:
        path = find(folder)
    else:
        raise InvalidInputError(f"the onnx embedder needs a folder, or {name}=")
    if not path.is_file():
        raise InvalidInputError(f"the onnx embedder found no file {path}; {_TO_FETCH}")
    return path


def _find_model(folder: Path) -> Path:
    found = sorted(folder.glob("*.onnx"))
    if folder / "model.onnx" in found or not found:
        return folder / "model.onnx"
    if len(found) > 1:
        names = ", ".join(path.name for path in found)
        raise InvalidInputError(f"{folder} has several models ({names}); name one as model_file=")
    return found[0]


def _find_tokenizer(folder: Path) -> Path:
    return folder / "tokenizer.json"


def _load_tokenizer(tokenizers: Any, path: Path) -> Any:
    try:
        return tokenizers.Tokenizer.from_file(str(path))
    except Exception as error:  # tokenizers raises bare Exception for everything
        raise InvalidInputError(f"{path} is not a tokenizer: {error}") from error


def _load_session(onnxruntime: Any, path: Path) -> Any:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors only: a library writes nothing to stderr on its own
    try:
        return onnxruntime.InferenceSession(
            str(path), sess_options=options, providers=["CPUExecutionProvider"]
        )
    except Exception as error:  # its errors share no base class but this one
        raise InvalidInputError(
            f"{path} is not a model that onnxruntime can load: {error}"
        ) from error


def _max_tokens(given: int | None, tokenizer: Any) -> int:
    if given is None:
        return int((tokenizer.truncation or {}).get("max_length", DEFAULT_MAX_TOKENS))
    least = tokenizer.num_special_tokens_to_add(is_pair=False) + 1
    if type(given) is not int or given < least:
        raise InvalidInputError(f"max_tokens must be {least} or more, got {given!r}")
    return given


def _inputs(session: Any, path: Path) -> list[str]:
    names = [value.name for value in session.get_inputs()]
    if "input_ids" not in names or not INPUTS.issuperset(names):
        raise InvalidInputError(
            f"{path} wants the inputs {', '.join(names)}; "
            f"an encoder with {', '.join(sorted(INPUTS))} is needed"
        )
    return names


def _output(session: Any, path: Path) -> tuple[str, int]:
    """The token states, (batch, tokens, dimension): the only output that can be pooled."""
    outputs = session.get_outputs()
    for value in outputs:
        if len(value.shape) == 3 and isinstance(value.shape[2], int):
            if value.shape[2] > MAX_DIMENSION:
                raise InvalidInputError(
                    f"{path} has {value.shape[2]} dimensions, more than {MAX_DIMENSION}"
                )
            return value.name, value.shape[2]
    shapes = ", ".join(f"{value.name} {value.shape}" for value in outputs)
    raise InvalidInputError(
        f"{path} has no output of token states (batch, tokens, dimension), only: {shapes}"
    )


def _model_sha256(path: Path) -> str:
    """SHA-256 of the model file, followed by its external weights (model.onnx_data) if it has any."""
    weights = sorted(
        other
        for other in path.parent.iterdir()
        if other.name.startswith((f"{path.name}_data", f"{path.name}.data"))
    )
    digest = hashlib.sha256()
    for part in [path, *weights]:
        with part.open("rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()
