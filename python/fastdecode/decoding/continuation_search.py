"""Enumerates every continuation of a prompt whose probability reaches a bound."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from fastdecode._core import Listing
from fastdecode.decoding.request import Prompt
from fastdecode.decoding.text import continuation
from fastdecode.models.engines.base import Engine
from fastdecode.results.continuations import Continuation, Continuations


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
