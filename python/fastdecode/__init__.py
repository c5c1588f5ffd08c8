"""Exact, replayable, fast text generation: GPT-2 in Python, decoding in Rust.

>>> import fastdecode
>>> fastdecode.generate("Once upon a time", model="demo", temperature=0.8, seed=7).texts
"""

from fastdecode import _interrupts

_interrupts.watch()

# ruff: noqa: E402
from importlib import import_module
from typing import TYPE_CHECKING, Any

from fastdecode import _moved, core, forks
from fastdecode._core import Beam, Sample, __version__
from fastdecode.api import (
    classify,
    compare,
    enumerate_continuations,
    fingerprint,
    generate,
    next_token,
    replay,
    score,
    stream,
    surprising,
    tokens,
    unload,
    verify,
    vocabulary,
)

if TYPE_CHECKING:
    from fastdecode.decoder import Decoder
    from fastdecode.errors import Interrupted
    from fastdecode.jobs.replay import Difference, Replay
    from fastdecode.models.identity.fingerprint import Fingerprint
    from fastdecode.options.strategies import Greedy
    from fastdecode.results.beam_tree import BeamTree
    from fastdecode.results.candidates import Candidate, Candidates, Raffle, Tally
    from fastdecode.results.classification import Classification, Classifications
    from fastdecode.results.comparison import Comparison
    from fastdecode.results.continuations import Continuation, Continuations
    from fastdecode.results.generations import Generation, Generations, Stats
    from fastdecode.results.scores import Score, Scores
    from fastdecode.results.step import Step
    from fastdecode.results.surprises import Surprises
    from fastdecode.results.tokens import Token, Tokens, Vocabulary

# Imported on first access, so that importing the package does not import NumPy.
_LATER = {
    "results.surprises": ("Surprises",),
    "results.candidates": ("Candidate", "Candidates", "Raffle", "Tally"),
    "results.classification": ("Classification", "Classifications"),
    "results.comparison": ("Comparison",),
    "results.continuations": ("Continuation", "Continuations"),
    "decoder": ("Decoder",),
    "errors": ("Interrupted",),
    "results.generations": ("Generation", "Generations", "Stats"),
    "jobs.replay": ("Difference", "Replay"),
    "models.identity.fingerprint": ("Fingerprint",),
    "results.scores": ("Score", "Scores"),
    "results.step": ("Step",),
    "options.strategies": ("Greedy",),
    "results.beam_tree": ("BeamTree",),
    "results.tokens": ("Token", "Tokens", "Vocabulary"),
}
_HOME = {name: module for module, names in _LATER.items() for name in names}


_moved.install()
forks.register()


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(import_module(f"fastdecode.{_HOME[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


__all__ = [
    "Beam",
    "BeamTree",
    "Candidate",
    "Candidates",
    "Classification",
    "Classifications",
    "Comparison",
    "Continuation",
    "Continuations",
    "Decoder",
    "Difference",
    "Fingerprint",
    "Generation",
    "Generations",
    "Greedy",
    "Interrupted",
    "Raffle",
    "Replay",
    "Sample",
    "Score",
    "Scores",
    "Stats",
    "Step",
    "Surprises",
    "Tally",
    "Token",
    "Tokens",
    "Vocabulary",
    "__version__",
    "classify",
    "compare",
    "core",
    "enumerate_continuations",
    "fingerprint",
    "generate",
    "next_token",
    "replay",
    "score",
    "stream",
    "surprising",
    "tokens",
    "unload",
    "verify",
    "vocabulary",
]
