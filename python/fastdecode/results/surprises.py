"""Anomalies: the texts that are most surprising to a model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fastdecode.display import Column, Table, Tabular, flow
from fastdecode.display.html import fragment
from fastdecode.options import checks
from fastdecode.results.items import Items
from fastdecode.results.scores import Score, one_line

# A notebook shows the running text of this many; the table lists all.
_COLOURED = 10


@dataclass(frozen=True, slots=True)
class Surprise:
    """One text.

    Attributes:
        index: its index in the call.
        score: its score, token by token.
        surprisal: minus the mean log-probability of its tokens, in nats per token.
    """

    index: int
    score: Score
    surprisal: float

    @property
    def token(self) -> str:
        """Its least likely token, in readable form."""
        places = [(v, i) for i, v in enumerate(self.score.token_logprobs) if v is not None]
        return self.score.shown[min(places)[1]]


class Surprises(Tabular, Items[Surprise]):
    """Texts by their mean surprisal, the most surprising first; ties in the order of the call.

    It is the mean and not the sum, so that a long text does not count as surprising for its length.
    """

    def __init__(self, scores: Sequence[Score]) -> None:
        """Rank scores."""
        items = (Surprise(i, score, -score.mean) for i, score in enumerate(scores))
        super().__init__(sorted(items, key=lambda item: -item.surprisal))

    def top(self, count: int) -> Surprises:
        """The `count` most surprising ones."""
        some = Surprises([])
        some._items = self._items[: checks.integer("count", count, 1)]
        return some

    def _table(self) -> Table:
        items = self._items
        most = max((item.surprisal for item in items), default=1.0) or 1.0
        return Table(
            [
                Column("index", [str(item.index) for item in items], right=True),
                Column("nats a token", [f"{item.surprisal:.3f}" for item in items], right=True),
                Column("", bars=[item.surprisal / most for item in items]),
                Column("worst token", [item.token for item in items], code=True),
                Column("text", [one_line(item.score.text, 48) for item in items]),
            ]
        )

    def _columns(self) -> Mapping[str, Sequence[Any]]:
        items = self._items
        return {
            "index": [item.index for item in items],
            "surprisal": [item.surprisal for item in items],
            "token": [item.token for item in items],
            "text": [item.score.text for item in items],
        }

    def _repr_html_(self) -> str:
        some = "".join(flow.paragraph(s.score.flow()) for s in self._items[:_COLOURED])
        return fragment(self._table().html_body() + some + flow.key())
