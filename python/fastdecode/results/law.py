"""The law of one next token: a row of logits, and how to draw from it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastdecode import core
from fastdecode.core import Draws, Sample
from fastdecode.options.strategies import OneByOne, as_sample, as_u32


@dataclass(frozen=True, slots=True, eq=False)
class Law:
    """How the next token after one text is drawn.

    Attributes:
        logits: shape (vocab,), as the model gave them.
        sample: the parameters; temperature 0 is the greedy choice.
        history: the text's tokens, which penalties read.
    """

    logits: Any
    sample: Sample
    history: Sequence[int]

    @classmethod
    def of(cls, logits: Any, strategy: OneByOne | None, history: Sequence[int]) -> Law:
        """The law of a strategy; None is the model's own distribution."""
        return cls(logits, as_sample(strategy), history)

    @property
    def position(self) -> int:
        """The number of tokens before the drawn one, which is part of the generator's key."""
        return len(self.history)

    def draw(self, *, seed: int, stream: int, sample: int, alternatives: int = 0) -> Draws:
        """One token, with its ledger."""
        draws: Draws = core.sample(
            self._row(),
            self.sample,
            seed=seed,
            samples=as_u32([sample]),
            ledger=True,
            alternatives=alternatives,
            **self._place(stream),
        )
        return draws

    def tokens(self, count: int, *, seed: int, stream: int) -> NDArray[np.int64]:
        """The tokens of samples 0 to count-1, shape (count,)."""
        tokens: NDArray[np.int64] = core.multinomial(
            self._row(), count, self.sample, seed=seed, **self._place(stream)
        )[0]
        return tokens

    def weights(
        self, *, seed: int | None = None, stream: int = 0, sample: int = 0
    ) -> NDArray[np.uint64]:
        """The number of tickets of each token, shape (vocab,). Only xtc depends on `seed`."""
        weights: NDArray[np.uint64] = core.weights(
            self._row(), self.sample, seed=seed, samples=as_u32([sample]), **self._place(stream)
        )[0]
        return weights

    def _row(self) -> Any:
        return self.logits[None]

    def _place(self, stream: int) -> dict[str, Any]:
        place: dict[str, Any] = {
            "streams": as_u32([stream]),
            "positions": as_u32([self.position]),
        }
        if self.sample.needs_history:
            place["histories"] = [as_u32(list(self.history))]
            place["prompt_lengths"] = as_u32([len(self.history)])
        return place


def entropy(weights: NDArray[np.uint64]) -> float:
    """Entropy in nats of the law with these weights."""
    shares = weights[weights > 0] / weights.sum(dtype=np.float64)
    return abs(float(-(shares * np.log(shares)).sum()))
