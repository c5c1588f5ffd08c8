"""Traces: what led to a token, as a table of its alternatives and as one sentence."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fastdecode.display import Column, Table, Tabular
from fastdecode.files.shapes import shaped


@dataclass(frozen=True, slots=True)
class Chance:
    """One of the likeliest tokens at a step.

    Attributes:
        token_id: its index in the vocabulary.
        shown: readable on one line.
        logprob: under the model, in nats.
        after: its probability under the strategy, 0..1; 0 where it is cut.
    """

    token_id: int
    shown: str
    logprob: float
    after: float


@dataclass(frozen=True, repr=False)
class Trace(Tabular):
    """What led to one token.

    Attributes:
        token_id: the token.
        shown: the token, readable on one line.
        logprob: its log-probability under the model, in nats.
        after: its probability under the strategy, that is, in the draw, 0..1.
        rank: its rank under the model, from 1.
        strategy: the strategy in a few words.
        kept: the number of tokens that could be drawn.
        vocabulary: the number of tokens in the vocabulary.
        kept_mass: share of the probability that the truncations kept, after logits processors and
            temperature, 0..1.
        ticket: the ticket drawn, in 0..total-1; None for a greedy choice.
        total: the number of tickets; None for a greedy choice.
        entropy: of the model's distribution, in nats.
        entropy_after: of the distribution that was drawn from, in nats.
        candidates: the model's likeliest tokens, likeliest first, followed by this one where it is
            not among them.
    """

    token_id: int
    shown: str
    logprob: float
    after: float
    rank: int
    strategy: str
    kept: int
    vocabulary: int
    kept_mass: float
    ticket: int | None
    total: int | None
    entropy: float
    entropy_after: float
    candidates: list[Chance]

    def explain(self) -> str:
        """The step in one sentence."""
        probability = math.exp(self.logprob)
        said = f"{_named(self.shown)}, p = {_short(probability)}"
        if self.ticket is None or self.total is None:
            if self.rank == 1:
                return f"{said}; the likeliest of {self.vocabulary:,}"
            return f"{said}; the likeliest once edited ({self.strategy}), rank {self.rank} before"
        if self.rank > 1:
            said += f", rank {self.rank:,}"
        if self.kept == self.vocabulary:
            said += f"; {self.strategy}, all {self.vocabulary:,} tokens kept"
        else:
            said += f"; {self.strategy} kept {self.kept:,} of {self.vocabulary:,}"
        # A probability that only a truncation has scaled is not worth a clause.
        if not math.isclose(self.after, probability / self.kept_mass, rel_tol=5e-3):
            said += f", where its p = {_short(self.after)}"
        return f"{said}; ticket {_fraction(self.ticket, self.total)}"

    @classmethod
    def restore(cls, data: Mapping[str, Any]) -> Trace:
        """From plain data, as `Generations.save` writes it.

        Raises:
            ValueError: for anything else.
        """
        return shaped(cls, data, "a saved trace")

    def _table(self) -> Table:
        some = self.candidates
        top = max((c.logprob for c in some), default=0.0)
        most = max((c.after for c in some), default=1.0) or 1.0
        return Table(
            [
                Column("token", [c.shown for c in some], code=True),
                Column("probability", [f"{math.exp(c.logprob):.6f}" for c in some], right=True),
                Column("", bars=[math.exp(c.logprob - top) for c in some]),
                Column("after", [f"{c.after:.6f}" if c.after else "-" for c in some], right=True),
                Column("", bars=[c.after / most for c in some]),
            ],
            [self.explain()],
            cut=frozenset(i for i, c in enumerate(some) if not c.after),
            won=frozenset(i for i, c in enumerate(some) if c.token_id == self.token_id),
        )

    def _columns(self) -> Mapping[str, Sequence[Any]]:
        names = ("token_id", "shown", "logprob", "after")
        return {name: [getattr(c, name) for c in self.candidates] for name in names}


def _named(shown: str) -> str:
    """A token in a sentence, quoted where it could be mistaken for punctuation."""
    return shown if any(c.isalnum() for c in shown) else f"‘{shown}’"


def _short(probability: float) -> str:
    """Two digits: 0.12, 0.0034, 1e-06."""
    return f"{probability:.2g}"


def _fraction(ticket: int, total: int) -> str:
    """The ticket's share of the total, in three digits, rounded down: .431."""
    return f".{1000 * ticket // total:03d}"
