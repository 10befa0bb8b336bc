"""Any local model of sentence-transformers, on the CPU or an accelerator; nothing is downloaded."""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

from fathomdb._extras import require
from fathomdb.embedders.protocol import EmbedderLimits
from fathomdb.errors import InvalidInputError
from fathomdb.identity import MAX_DIMENSION, EmbedderIdentity, NormalizationPolicy

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    import numpy as np
    from numpy.typing import NDArray

EXTRA = "sentence-transformers"
DEFAULT_ORGANIZATION = "sentence-transformers"
"""Where a name without a slash belongs, as in sentence-transformers itself."""

DType = Literal["float32", "float16", "bfloat16"]

WEIGHTS = frozenset({".safetensors", ".bin"})
READ = frozenset({".json", ".txt", ".model", *WEIGHTS})
"""What a model is loaded from: weights, configuration and vocabulary, not its documents."""

DOCUMENT_PROMPTS = ("document", "passage", "corpus")
"""What models call the prompt of a document, in the order in which the library looks."""

UNLIMITED_TOKENS = 1_000_000
"""Tokenizers that know no limit say so with a number like 1e30."""

_HUB_NAME = re.compile(r"[\w.-]+(/[\w.-]+)?", re.ASCII)


class SentenceTransformersEmbedder:
    """A model of sentence-transformers (or a plain transformer) from a folder on this machine.

    A model is a folder, or the name of one that was downloaded before into the cache of Hugging
    Face. Nothing is ever fetched, and no code that comes with a model is run.

    Texts of like length run together, and come back in the order in which they were given. A text
    longer than ``max_tokens`` is cut there, special tokens and prefix included.

    Args:
        model: The folder or the name; ``"sentence-transformers:BAAI/bge-small-en-v1.5"``.
        device: ``"cpu"``, ``"cuda"``, ``"cuda:1"``, ``"mps"``; by default an accelerator where there
            is one. It changes where vectors are made, not which, and is no part of the identity.
        dtype: What the weights are computed in, whatever they are stored in.
        query_prefix: Put before every query; by default the model's own prompt for queries.
        document_prefix: Put before every document; by default the model's own prompt for documents.
        dimension: Take so many of the first numbers alone, for models trained so (Matryoshka).
        max_tokens: Where a text is cut; by default what the model says.
        normalization: ``"l2"`` scales every vector to unit length, ``"none"`` leaves it as it is.
        model_identity: The model's name; by default the name given, or that of the folder.
        batch_size: Texts in one run of the model; more of them suit an accelerator.

    Raises:
        InvalidInputError: There is no such model here (the message has the command that downloads
            it), it cannot be loaded, or an argument is not one that it can bear.
        MissingExtraError: sentence-transformers is not installed.
    """

    local = True

    def __init__(
        self,
        model: str | Path,
        *,
        device: str | None = None,
        dtype: DType = "float32",
        query_prefix: str | None = None,
        document_prefix: str | None = None,
        dimension: int | None = None,
        max_tokens: int | None = None,
        normalization: NormalizationPolicy = "l2",
        model_identity: str | None = None,
        batch_size: int = 16,
    ) -> None:
        _whole("dimension", dimension, MAX_DIMENSION)
        _whole("batch_size", batch_size)
        if dtype not in get_args(DType):
            raise InvalidInputError(f"dtype must be one of {get_args(DType)}, got {dtype!r}")
        library = require("sentence_transformers", EXTRA)
        folder, name = _find(model)
        files = _files_sha256(folder)
        self._model: Any = _load(library, folder, device, dtype, dimension)
        self._batch_size = batch_size
        # Twice what runs at once, so that there is something to sort by length.
        self.limits = EmbedderLimits(items=2 * batch_size, concurrency=1)
        self.max_tokens = _max_tokens(self._model, max_tokens)
        self.count_truncated = None if self.max_tokens is None else self._count_truncated
        prompts = _prompts(self._model)
        self._query_prefix = prompts[0] if query_prefix is None else query_prefix
        self._document_prefix = prompts[1] if document_prefix is None else document_prefix
        self._identity = EmbedderIdentity(
            model_identity=model_identity or name or folder.name,
            model_version=files[:12],
            dimension=_dimension(self._model, dimension),
            normalization_policy=normalization,
            preparation={
                "files_sha256": files,
                "dtype": dtype,
                "max_tokens": str(self.max_tokens),
                "query_prefix": self._query_prefix,
                "document_prefix": self._document_prefix,
            },
        )
        made_again_by_name = (
            query_prefix,
            document_prefix,
            dimension,
            max_tokens,
            model_identity,
        ) == (None,) * 5 and (dtype, normalization) == ("float32", "l2")
        self.plugin_spec = f"{EXTRA}:{name or folder}" if made_again_by_name else None

    def identity(self) -> EmbedderIdentity:
        """The model's name, and the checksum of the files that it was loaded from."""
        return self._identity

    def batch_embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Vectors of documents, shape (n, dimension), float32."""
        return self._embed(self._open().encode_document, list(texts), self._document_prefix)

    def embed_query(self, text: str) -> NDArray[np.float32]:
        """The vector of a query, shape (dimension,), float32."""
        vector: NDArray[np.float32] = self._embed(
            self._open().encode_query, [text], self._query_prefix
        )[0]
        return vector

    def close(self) -> None:
        """Free the model; a later call raises."""
        self._model = None

    def __repr__(self) -> str:
        return f"<SentenceTransformersEmbedder {self._identity}>"

    def _embed(self, encode: Any, texts: list[str], prefix: str) -> NDArray[np.float32]:
        vectors: NDArray[np.float32] = encode(
            texts,
            prompt=prefix,
            batch_size=self._batch_size,
            show_progress_bar=False,
            convert_to_numpy=True,
        ).astype("float32", copy=False)
        return vectors

    def _count_truncated(self, texts: Sequence[str]) -> int:
        """How many of the documents are cut at ``max_tokens``."""
        whole = self._open().tokenizer(
            [self._document_prefix + text for text in texts], truncation=False, verbose=False
        )
        limit = self.max_tokens or 0
        return sum(len(tokens) > limit for tokens in whole["input_ids"])

    def _open(self) -> Any:
        if self._model is None:
            raise InvalidInputError(f"the embedder {self._identity} is closed; make a new one")
        return self._model


# --- finding the model ----------------------------------------------------------------------------


def _find(model: str | Path) -> tuple[Path, str | None]:
    """The folder, and the name where it was found by one."""
    folder = Path(model).expanduser()
    if folder.is_dir():
        return folder.resolve(), None
    name = str(model)
    if isinstance(model, Path) or not _HUB_NAME.fullmatch(name):
        raise InvalidInputError(f"there is no folder {folder}, to load a model from")
    if "/" not in name:
        name = f"{DEFAULT_ORGANIZATION}/{name}"
    hub = require("huggingface_hub", EXTRA)
    try:
        return Path(hub.snapshot_download(name, local_files_only=True)), name
    except (OSError, ValueError) as error:  # what it raises for what it does not have
        raise InvalidInputError(
            f"{str(model)!r} is neither a folder nor a model that was downloaded before, and "
            f"nothing is fetched unasked; run: hf download {name}"
        ) from error


def _files_sha256(folder: Path) -> str:
    """One checksum over the names and contents of all files that the model is loaded from.

    By files, not by the tensors in memory, whose names and layout change with the library.
    """
    digest = hashlib.sha256()
    for path in _files(folder):
        with path.open("rb") as file:
            content = hashlib.file_digest(file, "sha256").digest()
        digest.update(path.relative_to(folder).as_posix().encode() + b"\0" + content)
    return digest.hexdigest()


def _files(folder: Path) -> list[Path]:
    found = [path for path in folder.iterdir() if path.is_file()]
    # Beside these, a folder may hold the same model for other libraries, which is not read.
    for path in _module_folders(folder):
        found += [file for file in (folder / path).rglob("*") if file.is_file()]
    found = [path for path in found if path.suffix in READ]
    if not any(path.suffix in WEIGHTS for path in found):
        raise InvalidInputError(f"{folder} has no weights (model.safetensors), so it is no model")
    safe = {path.parent for path in found if path.suffix == ".safetensors"}
    return sorted(path for path in found if path.suffix != ".bin" or path.parent not in safe)


def _module_folders(folder: Path) -> list[str]:
    """Of all modules that have one; the first lies in the folder itself, or is a router's parts."""
    listings: dict[str, Callable[[Any], list[str]]] = {
        "modules.json": lambda modules: [module["path"] for module in modules],
        "router_config.json": lambda router: [*router["types"]],
    }
    paths: list[str] = []
    for name, listed in listings.items():
        file = folder / name
        if not file.is_file():
            continue
        try:
            paths += listed(json.loads(file.read_text(encoding="utf-8")))
        except (ValueError, TypeError, KeyError) as error:
            raise InvalidInputError(f"{file} is not a list of modules: {error!r}") from error
    return [path for path in paths if path]


# --- loading it -----------------------------------------------------------------------------------


def _load(
    library: Any, folder: Path, device: str | None, dtype: DType, dimension: int | None
) -> Any:
    torch = require("torch", EXTRA)
    try:
        with _without_progress_bars():
            model = library.SentenceTransformer(
                str(folder), device=device, truncate_dim=dimension, local_files_only=True
            )
            # Every module, not the transformer alone, and whatever the weights are stored in.
            return model.to(dtype=getattr(torch, dtype)).eval()
    except Exception as error:  # of many libraries, which share no base class but this one
        where = "" if device is None else f" on the device {device!r}"
        raise InvalidInputError(
            f"sentence-transformers cannot load {folder}{where}: {type(error).__name__}: {error}"
        ) from error


@contextlib.contextmanager
def _without_progress_bars() -> Iterator[None]:
    """A library writes nothing to stderr on its own; transformers would, for every load."""
    bars = require("transformers.utils.logging", EXTRA)
    hub = require("huggingface_hub.utils", EXTRA)
    shown, shown_by_hub = bars.is_progress_bar_enabled(), not hub.are_progress_bars_disabled()
    if shown:
        bars.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            bars.enable_progress_bar()
            if not shown_by_hub:
                hub.disable_progress_bars()


def _max_tokens(model: Any, given: int | None) -> int | None:
    declared = model.max_seq_length
    own = int(declared) if declared is not None and declared < UNLIMITED_TOKENS else None
    if given is None:
        return own
    if own is None:
        raise InvalidInputError(f"the model cuts no text, so max_tokens cannot be {given!r}")
    least = model.tokenizer.num_special_tokens_to_add(pair=False) + 1
    most = max(own, int(min(model.tokenizer.model_max_length, UNLIMITED_TOKENS)))
    if type(given) is not int or not least <= given <= most:
        raise InvalidInputError(f"max_tokens must be from {least} to {most}, got {given!r}")
    model.max_seq_length = given
    return given


def _dimension(model: Any, given: int | None) -> int | None:
    # The older name of the same method warns where the newer one is there.
    ask = getattr(model, "get_embedding_dimension", None) or model.get_sentence_embedding_dimension
    found: int | None = ask()
    if given is not None and found != given:
        raise InvalidInputError(f"the model has {found} dimensions, so {given} cannot be taken")
    return found


def _prompts(model: Any) -> tuple[str, str]:
    """The model's own prompts for a query and for a document; empty where it has none."""
    prompts: dict[str, str] = model.prompts
    default = prompts.get(model.default_prompt_name or "", "")
    documents = [prompts[key] for key in DOCUMENT_PROMPTS if prompts.get(key)]
    return prompts.get("query") or default, next(iter(documents), default)


def _whole(name: str, value: object, most: int = UNLIMITED_TOKENS) -> None:
    if value is not None and (type(value) is not int or not 1 <= value <= most):
        raise InvalidInputError(f"{name} must be a whole number from 1 to {most}, got {value!r}")
