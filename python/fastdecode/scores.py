"""Scores: the log-probability of whole texts."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from fastdecode.sequences import Items


@dataclass(frozen=True, slots=True)
class Score:
    """How likely a text is under the model.

    Attributes:
        text: the text.
        token_ids: its tokens, with the end-of-sequence token where that is scored.
        logprob: the sum of `token_logprobs`, in nats.
        token_logprobs: the log-probability of each token given all before it, in nats. None for a
            first token with nothing before it (no BOS, no context).
        perplexity: exp of minus the mean log-probability of a scored token; NaN if none is.
    """

    text: str
    token_ids: list[int]
    logprob: float
    token_logprobs: list[float | None]
    perplexity: float

    @classmethod
    def of(cls, text: str, token_ids: list[int], token_logprobs: list[float | None]) -> Score:
        """Sum up the log-probabilities of the tokens of `text`."""
        known = [value for value in token_logprobs if value is not None]
        total = math.fsum(known)
        perplexity = math.exp(min(-total / len(known), 700.0)) if known else math.nan
        return cls(text, token_ids, total, token_logprobs, perplexity)


class Scores(Items[Score]):
    """Scores in the order of the texts."""

    def __init__(self, items: Iterable[Score]) -> None:
        """Hold `items`."""
        super().__init__(items)

    @property
    def logprobs(self) -> list[float]:
        """The log-probability of each text, in nats."""
        return [item.logprob for item in self._items]

    def __repr__(self) -> str:
        """A table: log-probability, perplexity, text."""
        lines = [f"{'logprob':>12}  {'perplexity':>12}  text"]
        lines += [f"{s.logprob:12.4f}  {s.perplexity:12.2f}  {s.text!r}" for s in self._items]
        return "\n".join(lines)
