"""Chooses tokens as `strategies.choose` does, and records what led to each."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastdecode import core
from fastdecode.models.pieces import Pieces
from fastdecode.options.strategies import OneByOne, as_sample, spoken
from fastdecode.results.trace import Chance, Trace

# The number of likeliest tokens recorded at each step.
CANDIDATES = 10


def choose(
    logits: Any, strategy: OneByOne, pieces: Pieces, **place: Any
) -> tuple[NDArray[np.int64], NDArray[np.float64] | None, list[Trace]]:
    """One token a row, as `strategies.choose` with the same `place`, and what led to each.

    Returns:
        Token ids, mirostat's next states, traces.
    """
    sample = as_sample(strategy)
    draws = core.sample(logits, sample, ledger=True, alternatives=CANDIDATES, **place)
    weights = core.weights(logits, sample, **place)
    greedy = sample.temperature == 0
    words = spoken(strategy)
    kept, totals, tickets = draws.kept.tolist(), draws.totals.tolist(), draws.tickets.tolist()
    ranks, raw = draws.ranks.tolist(), draws.raw_logprobs.tolist()
    masses = np.exp(draws.kept_logprobs).tolist()
    before, after = draws.entropies_before.tolist(), draws.entropies_after.tolist()
    traces = []
    for row, (token, some) in enumerate(
        zip(draws.tokens.tolist(), draws.alternatives, strict=True)
    ):
        law, total = weights[row], totals[row]
        if all(i != token for i, _ in some):
            some.append((token, raw[row]))
        traces.append(
            Trace(
                token_id=token,
                shown=pieces.readable(token),
                logprob=raw[row],
                after=int(law[token]) / total,
                rank=ranks[row],
                strategy=words,
                kept=kept[row],
                vocabulary=len(law),
                kept_mass=masses[row],
                ticket=None if greedy else tickets[row],
                total=None if greedy else total,
                entropy=before[row],
                entropy_after=after[row],
                candidates=[
                    Chance(i, pieces.readable(i), logprob, int(law[i]) / total)
                    for i, logprob in some
                ],
            )
        )
    return draws.tokens, draws.mus if sample.adapts else None, traces
