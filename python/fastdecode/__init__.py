"""Exact, replayable, fast text generation: GPT-2 in Python, decoding in Rust.

>>> import fastdecode
>>> fastdecode.generate("Once upon a time", model="demo", temperature=0.8, seed=7).texts
"""

from fastdecode import core
from fastdecode._core import Sample, __version__
from fastdecode.anomalies import Surprises
from fastdecode.api import (
    classify,
    compare,
    generate,
    next_token,
    replay,
    score,
    stream,
    surprising,
    tokens,
    vocabulary,
)
from fastdecode.candidates import Candidate, Candidates, Raffle, Tally
from fastdecode.classifications import Classification, Classifications
from fastdecode.comparisons import Comparison
from fastdecode.decoder import Decoder
from fastdecode.errors import Interrupted
from fastdecode.generations import Generation, Generations, Stats
from fastdecode.scores import Score, Scores
from fastdecode.steps import Step
from fastdecode.strategies import Greedy
from fastdecode.vocabularies import Token, Tokens, Vocabulary

__all__ = [
    "Candidate",
    "Candidates",
    "Classification",
    "Classifications",
    "Comparison",
    "Decoder",
    "Generation",
    "Generations",
    "Greedy",
    "Interrupted",
    "Raffle",
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
    "generate",
    "next_token",
    "replay",
    "score",
    "stream",
    "surprising",
    "tokens",
    "vocabulary",
]
