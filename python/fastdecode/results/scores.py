"""Scores: the log-probability of whole texts, token by token."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from fastdecode.display import Column, Table, Tabular, flow
from fastdecode.display.flow import Alternative, Shown
from fastdecode.results.items import Items, restore, summary


@dataclass(frozen=True, slots=True, repr=False)
class Score:
    """How likely a text is under the model. A notebook shows it coloured by surprisal.

    Attributes:
        text: the text.
        token_ids: its tokens, including the end-of-sequence token where that is scored.
        logprob: the sum of `token_logprobs`, in nats.
        token_logprobs: the log-probability of each token given all before it, in nats; None for a
            first token with nothing before it (no BOS, no context).
        perplexity: exp of minus the mean log-probability of a scored token; NaN if none is.
        ranks: the rank of each token under the model, from 1; None where it is not scored.
        shown: each token, readable on one line.
        alternatives: for each token the likeliest tokens at its position, likeliest first; None
            unless requested, and for a token that is not scored.
        entropies: the entropy of the model's distribution of each token, given all before it, in
            nats; None for a token that is not scored.
    """

    text: str
    token_ids: list[int]
    logprob: float
    token_logprobs: list[float | None]
    perplexity: float
    ranks: list[int | None]
    shown: list[str]
    alternatives: list[list[Alternative] | None] | None = None
    entropies: list[float | None] = field(default_factory=list)

    @classmethod
    def of(
        cls,
        text: str,
        token_ids: list[int],
        token_logprobs: list[float | None],
        ranks: list[int | None],
        shown: list[str],
        alternatives: list[list[Alternative] | None] | None = None,
        entropies: list[float | None] | None = None,
    ) -> Score:
        """Sum the log-probabilities of the tokens of a text.

        Args:
            text: the text.
            token_ids: its tokens.
            token_logprobs: the log-probability of each, in nats; None where it is not scored.
            ranks: the rank of each, from 1; None where it is not scored.
            shown: each token, readable on one line.
            alternatives: the likeliest tokens at each place, or None.
            entropies: the entropy of the model's distribution of each, in nats; None where it is
                not scored.
        """
        known = [value for value in token_logprobs if value is not None]
        total = math.fsum(known)
        perplexity = math.exp(min(-total / len(known), 700.0)) if known else math.nan
        return cls(
            text,
            token_ids,
            total,
            token_logprobs,
            perplexity,
            ranks,
            shown,
            alternatives,
            entropies or [],
        )

    def __repr__(self) -> str:
        """Its text and sums, without the tokens."""
        return summary(
            self,
            text=self.text,
            tokens=len(self.token_ids),
            logprob=self.logprob,
            perplexity=self.perplexity,
        )

    def __setstate__(self, state: Sequence[Any]) -> None:
        """Restore a pickle, also one of a version that recorded less."""
        restore(self, state)

    @property
    def mean(self) -> float:
        """The mean log-probability of a scored token, in nats; NaN if none is."""
        known = [value for value in self.token_logprobs if value is not None]
        return self.logprob / len(known) if known else math.nan

    def flow(self, decides: frozenset[int] = frozenset()) -> Iterator[Shown]:
        """The tokens as running text; those at the positions `decides` are framed."""
        some = self.alternatives or [None] * len(self.token_ids)
        for place, (shown, logprob, rank, others) in enumerate(
            zip(self.shown, self.token_logprobs, self.ranks, some, strict=True)
        ):
            lines = []
            if rank is not None and logprob is not None:
                lines = [f"rank {rank:,}, surprisal {abs(logprob):.2f} nats"]
            yield Shown(shown, logprob, lines, others or (), place in decides)

    def _repr_html_(self) -> str:
        return flow.html(self.flow())

    def to_html(self) -> str:
        """What a notebook shows: self-contained HTML without scripts."""
        return self._repr_html_()

    def __rich__(self) -> Any:
        """The text coloured by surprisal, for `rich.print`."""
        return flow.rich(self.flow())

    def plot(self, ax: Any = None) -> Any:
        """Surprisal of each scored token, in nats, by matplotlib.

        Args:
            ax: the matplotlib axes to draw on; None makes a figure.

        Returns:
            The axes.

        Raises:
            ImportError: where matplotlib is not installed.
        """
        from fastdecode.display import plots

        pairs = zip(self.shown, self.token_logprobs, strict=True)
        scored = [(shown, value) for shown, value in pairs if value is not None]
        return plots.surprisal([s for s, _ in scored], [-value for _, value in scored], [], ax)

    def to_pandas(self) -> Any:
        """A pandas DataFrame with a row for each token.

        Raises:
            ImportError: where pandas is not installed.
        """
        return TokenRows(self).to_pandas()

    def to_polars(self) -> Any:
        """A polars DataFrame with a row for each token.

        Raises:
            ImportError: where polars is not installed.
        """
        return TokenRows(self).to_polars()


class TokenRows(Tabular):
    """The tokens of a text as a table."""

    def __init__(self, score: Score) -> None:
        """Show the tokens of `score`."""
        self._score = score

    def _table(self) -> Table:
        score = self._score
        pairs = list(zip(score.token_logprobs, score.ranks, strict=True))
        most = max((-p for p, _ in pairs if p is not None), default=0.0) or 1.0
        return Table(
            [
                Column("id", [str(token) for token in score.token_ids], right=True),
                Column("token", score.shown, code=True),
                Column("logprob", ["-" if p is None else f"{p:.4f}" for p, _ in pairs], right=True),
                Column("rank", ["-" if r is None else f"{r:,}" for _, r in pairs], right=True),
                Column("", bars=[0.0 if p is None else -p / most for p, _ in pairs]),
            ],
            notes=[f"sum {score.logprob:.4f}, perplexity {score.perplexity:.2f}"],
            title=one_line(score.text),
        )

    def _columns(self) -> Mapping[str, Sequence[Any]]:
        score = self._score
        return {
            "token_id": score.token_ids,
            "shown": score.shown,
            "logprob": score.token_logprobs,
            "rank": score.ranks,
            "entropy": score.entropies or [None] * len(score.token_ids),
        }


class Scores(Tabular, Items[Score]):
    """Scores in the order of the texts."""

    @property
    def logprobs(self) -> list[float]:
        """The log-probability of each text, in nats."""
        return [item.logprob for item in self._items]

    @property
    def entropies(self) -> list[list[float | None]]:
        """For each text, the entropy of the model's distribution of each token, in nats.

        None for a token that is not scored.
        """
        return [item.entropies for item in self._items]

    @property
    def perplexity(self) -> float:
        """Of all texts together: exp of minus the mean over scored tokens; NaN if there is none."""
        count = sum(v is not None for item in self._items for v in item.token_logprobs)
        total = math.fsum(self.logprobs)
        return math.exp(min(-total / count, 700.0)) if count else math.nan

    def _table(self) -> Table:
        items = self._items
        return Table(
            [
                Column("logprob", [f"{s.logprob:.4f}" for s in items], right=True),
                Column("tokens", [str(len(s.token_ids)) for s in items], right=True),
                Column("mean", [f"{s.mean:.4f}" for s in items], right=True),
                Column("perplexity", [f"{s.perplexity:.2f}" for s in items], right=True),
                Column("text", [one_line(s.text) for s in items]),
            ]
        )

    def _columns(self) -> Mapping[str, Sequence[Any]]:
        return {
            "text": [s.text for s in self._items],
            "tokens": [len(s.token_ids) for s in self._items],
            "logprob": self.logprobs,
            "mean": [s.mean for s in self._items],
            "perplexity": [s.perplexity for s in self._items],
        }


def one_line(text: str, width: int = 72) -> str:
    """A text quoted on one line, shortened to `width` characters."""
    return repr(text if len(text) <= width else text[: width - 1] + "…")
