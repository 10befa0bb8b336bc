#!/bin/sh
# Everything that can be known about the code without running its Python tests.
# Usage: tools/check.sh BIN, the bin folder of the virtual environment.

set -eu
cd "$(dirname "$0")/.."
bin=$1

step() {
    echo "--- $*"
    "$@"
}

# pyo3 asks an interpreter for its ABI; the one of the venv is known to be new enough.
PYO3_PYTHON="$PWD/$bin/python"
export PYO3_PYTHON

step "$bin/ruff" check .
step "$bin/ruff" format --check .
step "$bin/python" -m mypy
step "$bin/python" -m mypy tests/typed
MYPYPATH=python step "$bin/python" -m mypy.stubtest fathomdb._native
step cargo fmt --all --check
step cargo clippy --workspace --all-targets --locked -- -D warnings
step cargo test --workspace --locked --quiet
