"""Exact, replayable, fast text generation: GPT-2 in Python, decoding in Rust.

>>> import fastdecode
>>> fastdecode.generate("Once upon a time", model="demo", temperature=0.8, seed=7).texts
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from fastdecode import core
from fastdecode._core import Beam, Sample, __version__
from fastdecode.api import (
    classify,
    compare,
    enumerate_continuations,
    generate,
    next_token,
    replay,
    score,
    stream,
    surprising,
    tokens,
    verify,
    vocabulary,
)

if TYPE_CHECKING:
    from fastdecode.anomalies import Surprises
    from fastdecode.candidates import Candidate, Candidates, Raffle, Tally
    from fastdecode.classifications import Classification, Classifications
    from fastdecode.comparisons import Comparison
    from fastdecode.continuations import Continuation, Continuations
    from fastdecode.decoder import Decoder
    from fastdecode.errors import Interrupted
    from fastdecode.generations import Generation, Generations, Stats
    from fastdecode.replays import Difference, Replay
    from fastdecode.scores import Score, Scores
    from fastdecode.steps import Step
    from fastdecode.strategies import Greedy
    from fastdecode.tree import BeamTree
    from fastdecode.vocabularies import Token, Tokens, Vocabulary

# Imported when they are first asked for: the import of the package needs not even NumPy.
_LATER = {
    "anomalies": ("Surprises",),
    "candidates": ("Candidate", "Candidates", "Raffle", "Tally"),
    "classifications": ("Classification", "Classifications"),
    "comparisons": ("Comparison",),
    "continuations": ("Continuation", "Continuations"),
    "decoder": ("Decoder",),
    "errors": ("Interrupted",),
    "generations": ("Generation", "Generations", "Stats"),
    "replays": ("Difference", "Replay"),
    "scores": ("Score", "Scores"),
    "steps": ("Step",),
    "strategies": ("Greedy",),
    "tree": ("BeamTree",),
    "vocabularies": ("Token", "Tokens", "Vocabulary"),
}
_HOME = {name: module for module, names in _LATER.items() for name in names}


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
    "generate",
    "next_token",
    "replay",
    "score",
    "stream",
    "surprising",
    "tokens",
    "verify",
    "vocabulary",
]
