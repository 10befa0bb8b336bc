"""How the module is built: a panic stays an exception, and unsafe code stays where it is named."""

from __future__ import annotations

import pathlib
import re
import tomllib

import pytest

ROOT = pathlib.Path(__file__).parents[3]
UNSAFE = {
    "rust/core/examples/portable.rs",
    "rust/core/src/blob.rs",
    "rust/core/src/codes/kernels.rs",
    "rust/core/src/sha256.rs",
    "rust/core/tests/golden.rs",
    "rust/core/tests/properties.rs",
    "rust/py/src/blob.rs",
    "rust/py/src/convert/columns.rs",
    "rust/py/src/convert/memory.rs",
    "rust/py/src/convert/vectors.rs",
    "rust/py/src/vector.rs",
}


@pytest.fixture(scope="module")
def workspace():
    return tomllib.loads((ROOT / "Cargo.toml").read_text(encoding="utf-8"))


def test_a_panic_unwinds_in_every_profile_and_so_becomes_an_exception(workspace):
    assert workspace["profile"]["release"]["panic"] == "unwind"
    assert {profile.get("panic", "unwind") for profile in workspace["profile"].values()} == {
        "unwind"
    }


def test_unsafe_code_is_denied_but_in_the_files_that_say_why(workspace):
    lints = workspace["workspace"]["lints"]
    assert lints["rust"]["unsafe_code"] == lints["rust"]["unsafe_op_in_unsafe_fn"] == "deny"
    assert lints["clippy"]["undocumented_unsafe_blocks"] == "deny"
    for member in workspace["workspace"]["members"]:
        manifest = tomllib.loads((ROOT / member / "Cargo.toml").read_text(encoding="utf-8"))
        assert manifest["lints"] == {"workspace": True}
    found = {
        str(file.relative_to(ROOT))
        for file in (ROOT / "rust").rglob("*.rs")
        if re.search(r"(expect|allow)\(\s*unsafe_code", file.read_text(encoding="utf-8"))
    }
    assert found == UNSAFE
