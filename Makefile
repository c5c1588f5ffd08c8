# Two commands on a fresh machine with Python >= 3.11 and a Rust toolchain:
#   make demo    sets up .venv, installs the package, generates with the demo model, offline
#   make test    adds the development tools, then runs every test and lint
#   make docs    adds Sphinx, runs the notebooks and builds the pages into docs/_build/html
#   make bench-peers    the same work by fastdecode and its peers, side by side (an hour, 12 GB)
# Settings: PYTHON (the interpreter that makes the environment), VENV (where it lies).

PYTHON ?= python3
VENV ?= .venv
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

rust:
	if cargo nextest --version >/dev/null 2>&1; then cargo nextest run --locked; \
	    else cargo test --locked --all-targets; fi
	cargo test --locked --doc
	cargo clippy --locked --workspace --all-targets -- -D warnings

types: $(VENV)/.installed-dev
	$(BIN)/mypy
	MYPYPATH=python $(BIN)/stubtest fastdecode._core

pytest: $(VENV)/.installed-dev
	$(BIN)/python -m pytest

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

$(VENV)/.installed-docs: $(SOURCES) | $(BIN)/python
	$(BIN)/python -m pip install --editable '.[docs]'
	touch $@ $(VENV)/.installed
