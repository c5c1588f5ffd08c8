"""Checks of many draws from one row: support, fit, cumulative distribution."""

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastdecode.testing import arguments
from fastdecode.testing.betting import Bets
from fastdecode.testing.result import Result
from fastdecode.testing.samplers import Sampler, many_draws

# A test costs time proportional to the vocabulary, so draws grow by this factor between tests.
NEXT_LOOK = 1.2


def check_support(
    sampler: Sampler,
    row: NDArray[np.float32],
    allowed: ArrayLike,
    *,
    draws: int = 100_000,
    seed: int = 0,
) -> Result:
    """Draw many times from a row, and check that every token has a positive probability.

    Parameters
    ----------
    sampler : Sampler
    row : float32 array, (vocab,)
    allowed : bool array, (vocab,)
        True where the token's probability is above zero.
    draws : int
        The number of draws; a token drawn wrongly once in m draws is found with probability
        1 - (1 - 1/m)**draws.
    seed : int
    """
    draws = arguments.draws(draws)
    pieces = many_draws(sampler, row, draws, seed)
    row = arguments.row(row)
    mask = arguments.array("allowed", allowed, bool, "b", shape=row.shape)
    done = 0
    for tokens in pieces:
        wrong = ~mask[tokens]
        if wrong.any():
            first = int(wrong.argmax())
            done += first + 1
            explanation = (
                f"draw {done:,} is token {tokens[first]}, whose probability is zero "
                f"(its logit is {row[tokens[first]]})."
            )
            return Result("support", False, explanation, done)
        done += len(tokens)
    explanation = f"{done:,} draws, all among the {mask.sum():,} tokens that can be drawn."
    return Result("support", True, explanation, done)


def check_fit(
    sampler: Sampler,
    row: NDArray[np.float32],
    expected: ArrayLike,
    *,
    draws: int = 1_000_000,
    false_alarm: float = 1e-6,
    seed: int = 0,
) -> Result:
    """Draw until the draws contradict the expected probabilities, or `draws` times.

    A betting test (see `Bets`), which is valid at every stopping time, so it runs after each piece
    of draws and stops at the first contradiction. A correct sampler fails with probability at most
    `false_alarm`, whatever `draws` is. To detect that a set of tokens (a node of the trees) gets an
    excess of mass t, allow about 15 / t**2 draws: 20 million detect an excess of 0.1%.

    Parameters
    ----------
    sampler : Sampler
    row : float32 array, (vocab,)
    expected : float array, (vocab,)
        The probabilities the sampler should draw with.
    draws : int
        The maximum number of draws.
    false_alarm : float
        In (0, 1).
    seed : int
        Seeds `seed`, `seed + 1`, ... are used, one for each piece.
    """
    draws = arguments.draws(draws)
    pieces = many_draws(sampler, row, draws, seed)
    false_alarm = arguments.false_alarm(false_alarm)
    needed = -math.log(false_alarm)
    bets = Bets(_law(expected, row))
    next_look = 0.0
    for tokens in pieces:
        bets.add(tokens)
        if bets.draws < min(next_look, draws):
            continue
        next_look = NEXT_LOOK * bets.draws
        evidence = bets.log_evidence
        if evidence >= needed:
            wrong, drawn, fair = bets.worst()
            explanation = (
                f"after {bets.draws:,} draws the odds against the expected law are "
                f"{_odds(evidence)} ({_odds(needed)} decide): {_tokens(wrong)} drawn {drawn:,} "
                f"times where {fair:,.1f} are expected."
            )
            return Result("fit", False, explanation, bets.draws, false_alarm, evidence)
    explanation = (
        f"after {bets.draws:,} draws the odds against the expected law are {_odds(evidence)}; "
        f"{_odds(needed)} would decide."
    )
    return Result("fit", True, explanation, bets.draws, false_alarm, evidence)


def check_cumulative(
    sampler: Sampler,
    row: NDArray[np.float32],
    expected: ArrayLike,
    *,
    draws: int = 1_000_000,
    false_alarm: float = 1e-6,
    seed: int = 0,
    key: Callable[[NDArray[np.int64]], NDArray[np.int64]] | None = None,
) -> Result:
    """Compare the draws' cumulative distribution with the expected one, after `draws` draws.

    By the Dvoretzky-Kiefer-Wolfowitz inequality with Massart's constant the largest distance
    exceeds sqrt(ln(2 / false_alarm) / (2 draws)) with probability `false_alarm` at most. The
    bound is simple to verify; `check_fit` needs fewer draws for most errors.

    Parameters
    ----------
    sampler, row, expected, draws, false_alarm, seed
        As for `check_fit`.
    key : callable, optional
        Tokens are ordered by `key(ids)`; by default by id.
    """
    draws = arguments.draws(draws)
    pieces = many_draws(sampler, row, draws, seed)
    false_alarm = arguments.false_alarm(false_alarm)
    law = _law(expected, row)
    if key is not None:
        arguments.function("key", key)
    counts = np.zeros(len(law), dtype=np.int64)
    for tokens in pieces:
        counts += np.bincount(tokens, minlength=len(law))
    ids = np.arange(len(law))
    order = ids if key is None else np.argsort(key(ids), kind="stable")
    gaps = np.abs(np.cumsum(counts[order]) / draws - np.cumsum(law[order]))
    bound = math.sqrt(math.log(2 / false_alarm) / (2 * draws))
    worst = int(gaps.argmax())
    explanation = (
        f"after {draws:,} draws the cumulative distribution is off by {gaps[worst]:.2e} at token "
        f"{order[worst]}; up to {bound:.2e} is chance."
    )
    return Result("cumulative", bool(gaps[worst] <= bound), explanation, draws, false_alarm)


def _law(expected: ArrayLike, row: NDArray[np.float32]) -> NDArray[np.float64]:
    return arguments.probabilities("expected", expected, np.shape(row))


def _odds(log_evidence: float) -> str:
    if log_evidence == math.inf:
        return "infinite"
    exponent = round(log_evidence / math.log(10), 3)
    whole = math.floor(exponent) if abs(exponent) >= 3 else 0
    number = f"{10 ** (exponent - whole):.2g}"
    return f"{number}e{whole} to 1" if whole else f"{number} to 1"


def _tokens(ids: NDArray[np.int64]) -> str:
    if len(ids) == 1:
        return f"token {ids[0]} was"
    if len(ids) <= 4:
        return f"tokens {', '.join(map(str, ids))} were"
    if ids[-1] - ids[0] == len(ids) - 1:
        return f"tokens {ids[0]}..{ids[-1]} were"
    return f"{len(ids):,} tokens ({ids[0]}, {ids[1]}, ...) were"
