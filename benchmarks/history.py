"""The core's share of a step with a repetition penalty, by the length of the text so far.

A decode whose model costs nothing: 32 sequences, a vocabulary of 50,257. Prints the median time of
a step in the core at 100 and at 1,000 tokens of history, and their ratio. The two take turns, so
that both meet the same machine.

    python benchmarks/history.py
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from statistics import median
from typing import Any

import numpy as np
from fastdecode import Sample
from fastdecode.decoding.loop import Decoding
from fastdecode.decoding.request import Prompt, Request, Timer
from numpy.typing import NDArray

VOCABULARY = 50_257
LENGTHS = (100, 1_000)
STEPS = 40


class FreeBatch:
    """Sequences whose logits are known beforehand."""

    def __init__(self, logits: NDArray[np.float32]) -> None:
        self._logits = logits

    def step(self, tokens: NDArray[np.int64]) -> NDArray[np.float32]:
        return self._logits[: len(tokens)]

    def keep(self, rows: NDArray[np.int64]) -> None:
        pass


class FreeEngine:
    """A model that computes nothing."""

    joins = False

    def __init__(self, rows: int) -> None:
        rng = np.random.default_rng(0)
        self._logits = rng.normal(0, 3, (rows, VOCABULARY)).astype(np.float32)

    def start(self, prompts: Sequence[Any], repeats: Sequence[int]) -> tuple[FreeBatch, Any]:
        return FreeBatch(self._logits), self._logits[: sum(repeats)]


def seconds_per_step(engine: Any, length: int, rows: int, sample: Sample) -> list[float]:
    """The core's seconds of each step, whose histories are about `length` tokens."""
    rng = np.random.default_rng(length)
    begin = length - STEPS // 2
    prompts = [
        Prompt(i, rng.integers(0, VOCABULARY, begin).tolist(), i, STEPS, "length")
        for i in range(rows)
    ]
    request = Request(prompts, 1, sample, 1, rows, (), (), None, None)
    timer, times, before = Timer(), [], 0.0
    for _ in Decoding(engine, request, timer):
        times.append(timer.core - before)
        before = timer.core
    return times[1:]


def main() -> None:
    """Print the times and their ratio."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=21)
    parser.add_argument("--repetition-penalty", type=float, default=1.3)
    arguments = parser.parse_args()
    sample = Sample(repetition_penalty=arguments.repetition_penalty)
    engine = FreeEngine(arguments.rows)
    found: dict[int, list[float]] = {length: [] for length in LENGTHS}
    for _ in range(arguments.rounds):
        for length in LENGTHS:
            found[length] += seconds_per_step(engine, length, arguments.rows, sample)
    short, long = (median(found[length]) for length in LENGTHS)
    for length, value in zip(LENGTHS, (short, long), strict=True):
        print(f"{length:>6,} tokens of history: {value * 1e3:.3f} ms a step in the core")
    print(f"ratio: {long / short:.3f}")


if __name__ == "__main__":
    main()
