"""Checks of samplers that show the uniform integer behind a draw: the whole map, proved."""

from collections.abc import Callable
from typing import Any, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastdecode.testing.result import Result

# A law with no more tickets than this has every one of them tried.
EVERY_TICKET = 1 << 20


class Ledger(Protocol):
    """Draws with the tickets that bought them, as `fastdecode.core.Draws`."""

    @property
    def tokens(self) -> NDArray[np.int64]:
        """The tokens drawn."""
        ...

    @property
    def tickets(self) -> NDArray[np.uint64]:
        """The uniform integers that picked them."""
        ...

    @property
    def totals(self) -> NDArray[np.uint64]:
        """What the tickets are below."""
        ...


def check_ticket_map(token_at: Callable[[NDArray[np.uint64]], Any], weights: ArrayLike) -> Result:
    """See that every ticket below the total goes to the token that the weights say.

    Token i owns the tickets from C[i-1] to C[i] - 1, where C is the cumulative sum of the
    weights. Its first and its last ticket are tried, for every token with a weight. A map that
    never decreases in the ticket, as any walk along a cumulative sum, is thereby known in full;
    for totals up to 2**20 every ticket is tried, and nothing is assumed.

    A sampler that turns a uniform float into a token can be checked too: give `token_at` as
    `lambda tickets: pick(tickets / total)`.

    Parameters
    ----------
    token_at : callable
        From an array of tickets (uint64) to as many tokens.
    weights : array of non-negative integers, (vocab,)
        The law; the sum is below 2**64.
    """
    law, ends = _cumulative(weights)
    owners = np.flatnonzero(law)
    total = int(ends[-1])
    if total <= EVERY_TICKET:
        tickets = np.arange(total, dtype=np.uint64)
        expected = np.repeat(owners, law[owners].astype(np.int64))
    else:
        first = ends[owners] - law[owners]
        last = ends[owners] - np.uint64(1)
        tickets = np.stack([first, last], axis=1).ravel()
        expected = np.repeat(owners, 2)
    got = np.asarray(token_at(tickets)).astype(np.int64)
    if got.shape != tickets.shape:
        raise ValueError(f"token_at gave tokens of shape {got.shape} for {len(tickets)} tickets")
    if (got != expected).any():
        at = int((got != expected).argmax())
        explanation = f"{_ticket(tickets[at], total)} gave token {got[at]}; it is {expected[at]}'s."
        return Result("ticket map", False, explanation, len(tickets))
    which = "every ticket" if total <= EVERY_TICKET else "the first and last ticket of every token"
    explanation = f"{which} of {total:,} went to its owner, for {len(owners):,} tokens."
    return Result("ticket map", True, explanation, len(tickets))


def check_ledger(draws: Ledger, weights: ArrayLike) -> Result:
    """See that draws with tickets are the draws that those tickets buy.

    Parameters
    ----------
    draws : Ledger
        From one law: `fastdecode.core.sample` on copies of one row, for example.
    weights : array of non-negative integers, (vocab,)
    """
    _, ends = _cumulative(weights)
    total = int(ends[-1])
    tokens, tickets, totals = draws.tokens, draws.tickets, draws.totals
    if (totals != ends[-1]).any():
        got = totals[(totals != ends[-1]).argmax()]
        explanation = f"a draw was from {got:,} tickets; the weights add up to {total:,}."
        return Result("ledger", False, explanation, len(tokens))
    expected = np.searchsorted(ends, tickets, side="right")
    if (tokens != expected).any():
        at = int((tokens != expected).argmax())
        explanation = (
            f"draw {at} has {_ticket(tickets[at], total)} and gave token {tokens[at]}; "
            f"it is {expected[at]}'s."
        )
        return Result("ledger", False, explanation, len(tokens))
    explanation = f"{len(tokens):,} draws are what their tickets buy."
    return Result("ledger", True, explanation, len(tokens))


def _cumulative(weights: ArrayLike) -> tuple[NDArray[np.uint64], NDArray[np.uint64]]:
    """The weights and their cumulative sum, where they are weights."""
    law = np.asarray(weights)
    if law.ndim != 1 or not np.issubdtype(law.dtype, np.integer) or (law < 0).any():
        raise ValueError("weights must be one non-negative integer a token, (vocab,)")
    total = sum(law.tolist())
    if not 0 < total < 2**64:
        raise ValueError(f"the weights add up to {total}, which must be in 1..2**64-1")
    law = law.astype(np.uint64)
    return law, np.cumsum(law, dtype=np.uint64)


def _ticket(ticket: np.uint64, total: int) -> str:
    if ticket == 0:
        return "the first ticket"
    if int(ticket) == total - 1:
        return "the last ticket"
    return f"ticket {ticket:,}"
