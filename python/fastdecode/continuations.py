"""Continuations: every way that a prompt may go on, above a probability."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, overload

import numpy as np

from fastdecode._core import Listing
from fastdecode.text import continuation

if TYPE_CHECKING:
    from fastdecode.engines.base import Engine
    from fastdecode.loop import Prompt

_SHOWN = 20


@dataclass(frozen=True, slots=True)
class Continuation:
    """One complete continuation: it ended, or has as many tokens as were asked for.

    Attributes:
        text: its text, without the prompt and without special tokens.
        token_ids: its tokens, with the end-of-sequence token that ended it.
        probability: its probability under the model.
        logprob: the same in nats.
        logprobs: the log-probability of each token.
        finish_reason: "eos", "length" or "context".
    """

    text: str
    token_ids: list[int]
    probability: float
    logprob: float
    logprobs: list[float]
    finish_reason: str


class Continuations(Sequence[Continuation]):
    """All continuations of at least `min_probability`, likeliest first.

    Attributes:
        prompt: the prompt.
        min_probability: the bound; each continuation that is not listed is less likely than this.
        left_out: the probability of all those together: 1 minus the sum of what is listed.
    """

    def __init__(self, prompt: str, min_probability: float, items: Iterable[Continuation]) -> None:
        """Hold `items`, a complete list."""
        self._items = tuple(items)
        self.prompt = prompt
        self.min_probability = min_probability
        self.left_out = max(0.0, 1.0 - math.fsum(item.probability for item in self._items))

    def __len__(self) -> int:
        """How many there are."""
        return len(self._items)

    @overload
    def __getitem__(self, index: int) -> Continuation: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Continuation]: ...
    def __getitem__(self, index: int | slice) -> Continuation | Sequence[Continuation]:
        """One of them, or a slice of them."""
        return self._items[index]

    def __repr__(self) -> str:
        """A short table."""
        lines = [f"Continuations of {self.prompt!r} ({len(self)})"]
        lines += [f"{item.probability:10.6f}  {item.text!r}" for item in self._items[:_SHOWN]]
        if len(self) > _SHOWN:
            lines.append(f"{'':10}  ... {len(self) - _SHOWN} more")
        lines.append(f"{self.left_out:10.6f}  left out, each below {self.min_probability:g}")
        return "\n".join(lines)


def enumerate_continuations(
    engine: Engine, tokenizer: Any, prompt: str, job: Prompt, bound: float, eos: Sequence[int]
) -> Continuations:
    """List them, level by level; all arguments are checked but `bound`, which the core checks."""
    listing = Listing(bound, job.limit, eos)
    rows, logits = engine.start([job.ids], [1])
    while True:
        step = listing.step(logits)
        if listing.rows == 0:
            break
        tokens, parents = step.tokens, step.parents
        if len(parents) != len(logits) or (parents != np.arange(len(parents))).any():
            rows.keep(parents)
        logits = rows.step(tokens)
    return Continuations(
        prompt,
        bound,
        (
            Continuation(
                text=continuation(tokenizer, job.ids, outcome.token_ids),
                token_ids=outcome.token_ids,
                probability=math.exp(outcome.score),
                logprob=outcome.score,
                logprobs=outcome.logprobs,
                finish_reason="eos" if outcome.ending == "eos" else job.limit_reason,
            )
            for outcome in listing.outcomes()
        ),
    )
