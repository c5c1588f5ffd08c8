"""Continuations: every continuation of a prompt whose probability reaches a bound."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fastdecode.display import Column, Table, Tabular
from fastdecode.results.items import Items

_SHOWN = 20


@dataclass(frozen=True, slots=True)
class Continuation:
    """One complete continuation: it has ended, or has the maximum number of tokens.

    Attributes:
        text: its text, without the prompt and without special tokens.
        token_ids: its tokens, with the end-of-sequence token that ended it.
        probability: its probability under the model, 0..1.
        logprob: the logarithm of `probability`, in nats.
        logprobs: the log-probability of each token.
        finish_reason: "eos", "length" or "context".
    """

    text: str
    token_ids: list[int]
    probability: float
    logprob: float
    logprobs: list[float]
    finish_reason: str


class Continuations(Tabular, Items[Continuation]):
    """All continuations of at least `min_probability`, likeliest first.

    Attributes:
        prompt: the prompt.
        min_probability: the bound; each continuation that is not listed is less likely than this.
        left_out: the total probability of those: 1 minus the sum of the listed ones.
    """

    def __init__(self, prompt: str, min_probability: float, items: Iterable[Continuation]) -> None:
        """Hold `items`, a complete list."""
        super().__init__(items)
        self.prompt = prompt
        self.min_probability = min_probability
        self.left_out = max(0.0, 1.0 - math.fsum(item.probability for item in self._items))

    def _table(self) -> Table:
        items = self._items[:_SHOWN]
        most = max((item.probability for item in items), default=1.0)
        notes = [f"{self.left_out:.6f} left out, each below {self.min_probability:g}"]
        if len(self) > _SHOWN:
            notes.insert(0, f"... {len(self) - _SHOWN} more")
        return Table(
            [
                Column("probability", [f"{item.probability:.6f}" for item in items], right=True),
                Column("", bars=[item.probability / most for item in items]),
                Column("continuation", [repr(item.text) for item in items], code=True),
                Column("ends", [item.finish_reason for item in items]),
            ],
            notes=notes,
        )

    def _columns(self) -> Mapping[str, Sequence[Any]]:
        items = self._items
        return {
            "text": [item.text for item in items],
            "token_ids": [item.token_ids for item in items],
            "probability": [item.probability for item in items],
            "logprob": [item.logprob for item in items],
            "finish_reason": [item.finish_reason for item in items],
        }
