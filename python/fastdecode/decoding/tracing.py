"""Traces of the tokens of a step: what led to each."""

from __future__ import annotations

import numpy as np

from fastdecode.core import DecodeStep
from fastdecode.models.pieces import Pieces
from fastdecode.options.strategies import OneByOne, as_sample, spoken
from fastdecode.results.trace import Chance, Trace

# The number of likeliest tokens recorded at each step.
CANDIDATES = 10


def traces(step: DecodeStep, strategy: OneByOne, vocabulary: int, pieces: Pieces) -> list[Trace]:
    """A trace of each token of `step`, which was run with the ledger.

    Args:
        step: the tokens that the core has chosen by `strategy`, with their ledger.
        strategy: how they were chosen.
        vocabulary: how many tokens there are.
        pieces: the tokens in readable form.
    """
    greedy = as_sample(strategy).temperature == 0
    words = spoken(strategy)
    kept, totals, tickets = step.kept.tolist(), step.totals.tolist(), step.tickets.tolist()
    ranks, weights = step.ranks.tolist(), step.weights.tolist()
    masses = np.exp(step.kept_logprobs).tolist()
    before, after = step.entropies_before.tolist(), step.entropies_after.tolist()
    found = []
    for row, (token, some) in enumerate(zip(step.tokens.tolist(), step.candidates, strict=True)):
        total = totals[row]
        found.append(
            Trace(
                token_id=token,
                shown=pieces.readable(token),
                logprob=next(logprob for i, logprob, _ in some if i == token),
                after=weights[row] / total,
                rank=ranks[row],
                strategy=words,
                kept=kept[row],
                vocabulary=vocabulary,
                kept_mass=masses[row],
                ticket=None if greedy else tickets[row],
                total=None if greedy else total,
                entropy=before[row],
                entropy_after=after[row],
                candidates=[
                    Chance(i, pieces.readable(i), logprob, weight / total)
                    for i, logprob, weight in some
                ],
            )
        )
    return found
