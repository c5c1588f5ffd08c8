"""Checks of samplers that expose the uniform integer of a draw, which cover the whole map."""

from collections.abc import Callable
from typing import Any, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastdecode.options import checks
from fastdecode.testing import arguments
from fastdecode.testing.result import Result

# Up to this total, every ticket is tried.
EVERY_TICKET = 1 << 20


class Ledger(Protocol):
    """Draws with their tickets, as in `fastdecode.core.Draws`."""

    @property
    def tokens(self) -> NDArray[np.int64]:
        """The tokens drawn."""
        ...

    @property
    def tickets(self) -> NDArray[np.uint64]:
        """The uniform integers that selected them."""
        ...

    @property
    def totals(self) -> NDArray[np.uint64]:
        """The number of tickets of each draw's law."""
        ...


def check_ticket_map(token_at: Callable[[NDArray[np.uint64]], Any], weights: ArrayLike) -> Result:
    """Check that every ticket below the total maps to the token that owns it.

    Token i owns the tickets from C[i-1] to C[i] - 1, where C is the cumulative sum of the
    weights. The first and the last ticket of every token with a weight are tried, which
    determines a map that never decreases in the ticket, such as any walk along a cumulative sum;
    for totals up to 2**20 every ticket is tried, without that assumption.

    A sampler that turns a uniform float into a token can be checked too: give `token_at` as
    `lambda tickets: pick(tickets / total)`.

    Parameters
    ----------
    token_at : callable
        Maps an array of tickets (uint64) to one token each.
    weights : array of non-negative integers, (vocab,)
        The law; the sum is below 2**64.
    """
    arguments.function("token_at", token_at)
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
    """Check that each drawn token owns the ticket of its draw.

    Parameters
    ----------
    draws : Ledger
        Draws from one law, such as `fastdecode.core.sample` on copies of one row.
    weights : array of non-negative integers, (vocab,)
    """
    _, ends = _cumulative(weights)
    total = int(ends[-1])
    try:
        tokens, tickets, totals = draws.tokens, draws.tickets, draws.totals
    except AttributeError:
        raise TypeError(
            "draws must have tokens, tickets and totals, as fastdecode.core.Draws has; "
            f"{type(draws).__name__} ({checks.shown(draws)}) does not"
        ) from None
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
    """The weights, checked, and their cumulative sum."""
    given = arguments.array("weights", weights, None, "iu")
    if (given < 0).any():
        raise ValueError(f"weights must not be negative; got {arguments.shown(given)}")
    total = sum(given.tolist())
    if not 0 < total < 2**64:
        raise ValueError(f"the weights add up to {total}, which must be in 1..2**64-1")
    law = given.astype(np.uint64)
    return law, np.cumsum(law, dtype=np.uint64)


def _ticket(ticket: np.uint64, total: int) -> str:
    if ticket == 0:
        return "the first ticket"
    if int(ticket) == total - 1:
        return "the last ticket"
    return f"ticket {ticket:,}"
