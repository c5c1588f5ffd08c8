"""Exact, replayable, fast text generation: GPT-2 in Python, decoding in Rust.

>>> import fastdecode
>>> fastdecode.generate("Once upon a time", model="demo", temperature=0.8, seed=7).texts
"""

from fastdecode import core
from fastdecode._core import Beam, Sample, __version__
from fastdecode.api import generate, next_token, replay, score, stream
from fastdecode.candidates import Candidate, Candidates
from fastdecode.decoder import Decoder
from fastdecode.errors import Interrupted
from fastdecode.generations import Generation, Generations, Stats
from fastdecode.scores import Score, Scores
from fastdecode.steps import Step
from fastdecode.strategies import Greedy
from fastdecode.tree import BeamTree

__all__ = [
    "Beam",
    "BeamTree",
    "Candidate",
    "Candidates",
    "Decoder",
    "Generation",
    "Generations",
    "Greedy",
    "Interrupted",
    "Sample",
    "Score",
    "Scores",
    "Stats",
    "Step",
    "__version__",
    "core",
    "generate",
    "next_token",
    "replay",
    "score",
    "stream",
]
