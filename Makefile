# Two commands on a fresh machine with Python >= 3.11 and a Rust toolchain:
#   make demo    sets up .venv, installs the package, generates with the demo model, offline
#   make test    adds the development tools, then runs every test and lint
#   make docs    adds Sphinx, runs the notebooks and builds the pages into docs/_build/html
# Settings: PYTHON (the interpreter that makes the environment), VENV (where it lies).

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin

# What an installation is made of. pip leaves torch and the rest alone once they are there, so a
# change here costs a rebuild of the extension; the Python files are used in place and cost nothing.
SOURCES := pyproject.toml Cargo.toml Cargo.lock rust-toolchain.toml \
    $(shell find rust/*/src -name '*.rs') $(wildcard rust/*/Cargo.toml)

.PHONY: demo test lint rust types pytest docs clean

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

clean:
	rm -rf docs/_build docs/_made $(VENV) target python/fastdecode/*.so

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
