"""The module names of version 0.1, by which pickles written then refer to results.

An import of such a name gets a module with the classes of the module that has them now.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib import import_module
from importlib.machinery import ModuleSpec
from types import ModuleType

_MOVED = {
    "anomalies": "results.surprises",
    "candidates": "results.candidates",
    "classifications": "results.classification",
    "comparisons": "results.comparison",
    "continuations": "results.continuations",
    "generations": "results.generations",
    "laws": "results.law",
    "pieces": "models.pieces",
    "replays": "jobs.replay",
    "scores": "results.scores",
    "selfchecks": "jobs.selfcheck",
    "steps": "results.step",
    "strategies": "options.strategies",
    "throughputs": "jobs.throughput",
    "tokenizer": "models.tokenizer",
    "traces": "results.trace",
    "tree": "results.beam_tree",
    "vocabularies": "results.tokens",
}


class _OldNames:
    """Finds the old names, and loads them."""

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        package, _, module = name.partition(".")
        known = package == "fastdecode" and module in _MOVED
        return ModuleSpec(name, self) if known else None  # type: ignore[arg-type]

    def create_module(self, spec: ModuleSpec) -> None:
        """Leave the creation to the import system."""

    def exec_module(self, module: ModuleType) -> None:
        """Fill the module with what has moved."""
        home = import_module(f"fastdecode.{_MOVED[module.__name__.partition('.')[2]]}")
        module.__dict__.update((k, v) for k, v in vars(home).items() if not k.startswith("__"))


def install() -> None:
    """Let the old names be imported, where nothing else has them."""
    sys.meta_path.append(_OldNames())
