"""Candidates: the likeliest next tokens after a text, which a strategy keeps, and draws."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastdecode import core
from fastdecode.display import Column, Table, Tabular
from fastdecode.models.pieces import Pieces
from fastdecode.options import checks
from fastdecode.options.strategies import OneByOne, spoken
from fastdecode.results.items import Items
from fastdecode.results.law import Law, entropy
from fastdecode.results.tokens import Token

# The number of tokens of a raffle shown on either side of the winner.
_AROUND = 5
_TALLY_ROWS = 20


@dataclass(frozen=True, slots=True)
class Candidate:
    """A possible next token.

    Attributes:
        rank: its rank under the model, from 1.
        token_id: its index in the vocabulary.
        text: the text that it adds; empty for a special token.
        probability: under the model, 0..1, over the whole vocabulary.
        logprob: its logarithm, in nats.
        shown: readable on one line ("␣soon").
        cumulative: probability of this token and of all likelier ones, 0..1.
        after: probability under the strategy, 0..1; 0 where it is cut. Without a strategy it is
            `probability`.
        kept: whether it can be drawn.
    """

    rank: int
    token_id: int
    text: str
    probability: float
    logprob: float
    shown: str
    cumulative: float
    after: float
    kept: bool


class Candidates(Tabular, Items[Candidate]):
    """The likeliest next tokens, likeliest first; ties go to the lower token id.

    Attributes:
        prompt: the text before them.
        strategy: how the next token would be drawn; None: from the whole distribution.
        vocabulary: the number of tokens in the vocabulary.
        kept: the number of tokens that can be drawn.
        kept_mass: the probability, under the model, of those that can be drawn, 0..1.
        entropy: of the model's distribution, in nats.
        entropy_after: of the distribution that is drawn from, in nats.
        seed: the seed of the call, or None.
    """

    def __init__(
        self,
        items: Iterable[Candidate],
        *,
        prompt: str,
        strategy: OneByOne | None,
        law: Law,
        pieces: Pieces,
        weights: NDArray[np.uint64],
        seed: int | None,
    ) -> None:
        """Hold the candidates after `prompt` and the law with these weights; see `of`."""
        super().__init__(items)
        self.prompt = prompt
        self.strategy = strategy
        self.seed = seed
        self._law = law
        self._pieces = pieces
        shares = np.exp(core.log_softmax(law.logits))
        alive = weights > 0
        self.vocabulary = len(shares)
        self.kept = int(alive.sum())
        self.kept_mass = min(1.0, float(shares[alive].sum()))
        self.entropy = entropy(Law.of(law.logits, None, ()).weights())
        self.entropy_after = entropy(weights)

    @classmethod
    def of(
        cls,
        prompt: str,
        law: Law,
        k: int,
        *,
        strategy: OneByOne | None,
        pieces: Pieces,
        seed: int | None,
    ) -> Candidates:
        """The `k` likeliest tokens of a law, and what the law does to each.

        Args:
            prompt: the text before them.
            law: how the next token is drawn.
            k: the number of candidates.
            strategy: the strategy of the law, or None.
            pieces: the tokenizer's tokens in readable form.
            seed: the seed of the call, or None.
        """
        values, tokens = core.top_k(law.logits, k)
        logprobs = values.astype(np.float64) - float(core.logsumexp(law.logits))
        cumulative = np.cumsum(np.exp(logprobs)).tolist()
        weights = law.weights(seed=seed)
        total = float(weights.sum(dtype=np.float64))
        items = []
        for place, (token, logprob) in enumerate(
            zip(tokens.tolist(), logprobs.tolist(), strict=True)
        ):
            probability = math.exp(logprob)
            kept = bool(weights[token] > 0)
            items.append(
                Candidate(
                    rank=place + 1,
                    token_id=token,
                    text=pieces.text(token),
                    probability=probability,
                    logprob=logprob,
                    shown=pieces.readable(token),
                    cumulative=min(1.0, cumulative[place]),
                    after=probability if strategy is None else float(weights[token]) / total,
                    kept=kept,
                )
            )
        return cls(
            items,
            prompt=prompt,
            strategy=strategy,
            law=law,
            pieces=pieces,
            weights=weights,
            seed=seed,
        )

    def draw(self, seed: int | None = None, *, stream: int = 0, sample: int = 0) -> Raffle:
        """Draw the next token, and show how: the cumulative column, the ticket, the winner.

        It is the first token that `generate` draws after this prompt with the same strategy, seed,
        stream and sample.

        Args:
            seed: 0..2**64-1; None: the call's seed, or a fresh one, which the raffle reports.
            stream: the random stream, 0..2**32-1.
            sample: which sample, 0..2**32-1.
        """
        seed = checks.seed(self.seed if seed is None else seed)
        stream = checks.integer("stream", stream, 0, checks.U32)
        sample = checks.integer("sample", sample, 0, checks.U32)
        draws = self._law.draw(seed=seed, stream=stream, sample=sample)
        weights = self._law.weights(seed=seed, stream=stream, sample=sample)
        return Raffle.of(
            weights,
            int(draws.tokens[0]),
            ticket=int(draws.tickets[0]),
            key=(seed, stream, sample, self._law.position),
            pieces=self._pieces,
        )

    def sample(self, count: int, seed: int | None = None, *, stream: int = 0) -> Tally:
        """Draw `count` tokens with replacement: those of samples 0 to count-1.

        Args:
            count: the number of draws, at least 1.
            seed: 0..2**64-1; None: the call's seed, or a fresh one, which the tally reports.
            stream: the random stream, 0..2**32-1.
        """
        count = checks.integer("count", count, 1, checks.U32)
        seed = checks.seed(self.seed if seed is None else seed)
        stream = checks.integer("stream", stream, 0, checks.U32)
        tokens = self._law.tokens(count, seed=seed, stream=stream)
        weights = self._law.weights(seed=seed, stream=stream)
        total = float(weights.sum(dtype=np.float64))
        return Tally(
            (Token.of(self._pieces, token) for token in tokens.tolist()),
            {token: float(weights[token]) / total for token in set(tokens.tolist())},
            seed,
        )

    def _table(self) -> Table:
        top = self._items[0].probability if self._items else 1.0
        columns = [
            Column("rank", [str(c.rank) for c in self._items], right=True),
            Column("id", [str(c.token_id) for c in self._items], right=True),
            Column("token", [c.shown for c in self._items], code=True),
            Column("probability", [f"{c.probability:.6f}" for c in self._items], right=True),
            Column("cumulative", [f"{c.cumulative:.4f}" for c in self._items], right=True),
            Column("", bars=[c.probability / top for c in self._items]),
        ]
        notes = [f"entropy {self.entropy:.2f} nats over {self.vocabulary:,} tokens"]
        if self.strategy is not None:
            most = max((c.after for c in self._items), default=1.0) or 1.0
            columns += [
                Column("after", [f"{c.after:.6f}" if c.kept else "-" for c in self._items], True),
                Column("", bars=[c.after / most for c in self._items]),
            ]
            notes = [
                f"{spoken(self.strategy)}: {self.kept:,} of {self.vocabulary:,} tokens kept, "
                f"{self.kept_mass:.1%} of the probability; "
                f"entropy {self.entropy:.2f} nats before, {self.entropy_after:.2f} after"
            ]
        cut = frozenset(row for row, c in enumerate(self._items) if not c.kept)
        return Table(columns, notes, cut=cut)

    def _columns(self) -> Mapping[str, Sequence[Any]]:
        return {n: [getattr(c, n) for c in self._items] for n in Candidate.__slots__}


@dataclass(frozen=True, slots=True)
class Share:
    """One token's tickets in a raffle: the whole numbers from `first` up to, without, `end`.

    `probability` is their share of all tickets, 0..1.
    """

    token: Token
    first: int
    end: int
    probability: float


class Raffle(Tabular, Items[Share]):
    """One draw that can be followed by hand: every token that can be drawn, by token id.

    Each holds consecutive tickets, numbered after those of the token before it; one ticket is
    drawn, all of them equally likely, and the token that holds it is chosen.

    Attributes:
        ticket: the ticket drawn, in 0..total-1.
        total: the number of tickets.
        winner: the token that holds the ticket.
        probability: its share of the tickets, 0..1.
        seed: the seed of the draw.
        stream: its random stream.
        sample: which sample it is.
        position: the number of tokens before the drawn one.
    """

    def __init__(self, items: Iterable[Share], ticket: int, key: tuple[int, int, int, int]) -> None:
        """Hold the shares, the ticket, and (seed, stream, sample, position)."""
        super().__init__(items)
        self.ticket = ticket
        self.total = self._items[-1].end
        self.seed, self.stream, self.sample, self.position = key
        self._won = next(share for share in self._items if ticket < share.end)
        self.winner = self._won.token
        self.probability = self._won.probability

    @classmethod
    def of(
        cls,
        weights: NDArray[np.uint64],
        winner: int,
        *,
        ticket: int,
        key: tuple[int, int, int, int],
        pieces: Pieces,
    ) -> Raffle:
        """From the weights of all tokens.

        Args:
            weights: the number of tickets of each token, uint64, shape (vocab,).
            winner: the token that was drawn.
            ticket: the ticket that was drawn.
            key: seed, stream, sample and position of the draw.
            pieces: the tokenizer's tokens in readable form.

        Raises:
            RuntimeError: where the ticket is not the winner's, which would be a bug.
        """
        alive = np.flatnonzero(weights)
        ends = [int(end) for end in np.cumsum(weights[alive])]
        firsts = [0, *ends[:-1]]
        raffle = cls(
            (
                Share(Token.of(pieces, token), first, end, (end - first) / ends[-1])
                for token, first, end in zip(alive.tolist(), firsts, ends, strict=True)
            ),
            ticket,
            key,
        )
        if raffle.winner.id != winner:
            raise RuntimeError(
                f"ticket {ticket} belongs to token {raffle.winner.id}, but {winner} was drawn; "
                "please report this"
            )
        return raffle

    def explain(self) -> str:
        """The draw in one sentence."""
        share = self._won
        return (
            f"Ticket {self.ticket:,} of {self.total:,} (at {self.ticket / self.total:.4f}) lies in "
            f"{share.first:,} to {share.end - 1:,}, which {self.winner.shown} holds "
            f"(p = {self.probability:.4f})."
        )

    def _table(self) -> Table:
        place = self._items.index(self._won) if self._won in self._items else None
        first = max(0, (place or 0) - _AROUND)
        rows = self._items[first : (place or 0) + _AROUND + 1]
        most = max((share.probability for share in rows), default=1.0)
        left_out = len(self) - len(rows)
        notes = [self.explain()]
        if left_out:
            notes.append(f"{left_out:,} more tokens, before and after these, hold the rest.")
        notes.append(
            f"seed {self.seed}, stream {self.stream}, sample {self.sample}, position "
            f"{self.position}"
        )
        return Table(
            [
                Column("id", [str(s.token.id) for s in rows], right=True),
                Column("token", [s.token.shown for s in rows], code=True),
                Column("probability", [f"{s.probability:.6f}" for s in rows], right=True),
                Column("cumulative", [f"{s.end / self.total:.6f}" for s in rows], right=True),
                Column("", bars=[s.probability / most for s in rows]),
                Column("ticket", ["◀" if s is self._won else "" for s in rows]),
            ],
            notes,
            won=frozenset() if place is None else frozenset({place - first}),
        )

    def _columns(self) -> Mapping[str, Sequence[Any]]:
        return {
            "token_id": [s.token.id for s in self._items],
            "shown": [s.token.shown for s in self._items],
            "first": [s.first for s in self._items],
            "end": [s.end for s in self._items],
            "probability": [s.probability for s in self._items],
            "cumulative": [s.end / self.total for s in self._items],
            "won": [s is self._won for s in self._items],
        }


class Tally(Tabular, Items[Token]):
    """Tokens drawn with replacement, in the order they were drawn.

    Attributes:
        seed: the seed of the draws.
    """

    def __init__(
        self, items: Iterable[Token], probabilities: Mapping[int, float], seed: int
    ) -> None:
        """Hold the drawn tokens and the probability of each token id among them."""
        super().__init__(items)
        self.seed = seed
        self._probabilities = probabilities

    @property
    def token_ids(self) -> list[int]:
        """The ids, in the order they were drawn."""
        return [token.id for token in self._items]

    @property
    def counts(self) -> dict[str, int]:
        """How often each token was drawn, by its readable form, the most frequent first."""
        return {token.shown: count for token, count in self._counted()}

    def _counted(self) -> list[tuple[Token, int]]:
        counts = Counter(self._items)
        return sorted(counts.items(), key=lambda pair: (-pair[1], pair[0].id))

    def _table(self) -> Table:
        pairs = self._counted()
        rows = pairs[:_TALLY_ROWS]
        most = max((count for _, count in rows), default=1)
        notes = [f"{len(self)} draws, {len(pairs)} different tokens, seed {self.seed}"]
        if len(rows) < len(pairs):
            notes.insert(0, f"{len(pairs) - len(rows)} more tokens came")
        return Table(
            [
                Column("token", [t.shown for t, _ in rows], code=True),
                Column("drawn", [str(count) for _, count in rows], right=True),
                Column(
                    "expected",
                    [f"{self._probabilities[t.id] * len(self):.2f}" for t, _ in rows],
                    right=True,
                ),
                Column("", bars=[count / most for _, count in rows]),
            ],
            notes,
        )

    def _columns(self) -> Mapping[str, Sequence[Any]]:
        pairs = self._counted()
        return {
            "token_id": [t.id for t, _ in pairs],
            "shown": [t.shown for t, _ in pairs],
            "drawn": [count for _, count in pairs],
            "expected": [self._probabilities[t.id] * len(self) for t, _ in pairs],
        }
