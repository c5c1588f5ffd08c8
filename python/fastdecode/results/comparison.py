"""Comparisons: which of several texts is likeliest, and at which token that is decided."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from difflib import SequenceMatcher
from typing import Any, Self

from fastdecode.display import Column, Table, Tabular, flow
from fastdecode.display.html import escape, fragment
from fastdecode.results.items import Items, summary
from fastdecode.results.scores import Score, one_line

# Up to this many tokens, each has a column; longer texts are shown as running text.
_COLUMNS = 16


@dataclass(frozen=True, slots=True)
class Segment:
    """Tokens of a text aligned with tokens of the likeliest text.

    Where both have the same token, each is one segment; elsewhere a segment is as long as the
    difference, and may be empty on one side.

    Attributes:
        best: the range of tokens in the likeliest text, end exclusive.
        own: the range of tokens in this text, end exclusive.
        difference: log-probability of the own tokens minus that of the likeliest text's, in nats.
    """

    best: tuple[int, int]
    own: tuple[int, int]
    difference: float


@dataclass(frozen=True, slots=True, repr=False)
class Compared:
    """One of the texts compared.

    Attributes:
        index: its index in the call.
        score: its score.
        difference: its log-probability minus the likeliest's, in nats (of the means, where they
            rank the texts).
        probability: its probability given that it is one of these texts, 0..1.
        segments: its tokens aligned with the likeliest text's, in order; their differences add up
            to the difference of the two sums.
        decides: the segment with the largest loss against the likeliest text; None for the
            likeliest text itself and for its equal.
    """

    index: int
    score: Score
    difference: float
    probability: float
    segments: list[Segment]
    decides: Segment | None

    def __repr__(self) -> str:
        """Its text and numbers, without the segments."""
        return summary(
            self,
            index=self.index,
            text=self.score.text,
            logprob=self.score.logprob,
            difference=self.difference,
            probability=self.probability,
            deciding=self.deciding,
        )

    @property
    def deciding(self) -> str:
        """The tokens of `decides` in readable form; empty where there are none."""
        if self.decides is None:
            return ""
        return "".join(self.score.shown[slice(*self.decides.own)])


class Comparison(Tabular, Items[Compared]):
    """Texts by their log-probability, the likeliest first; ties in the order of the call.

    A notebook shows the texts below each other, aligned and coloured by surprisal; the deciding
    tokens are framed.

    Attributes:
        per_token: whether the mean log-probability of a token ranks the texts, not the sum.
    """

    def __init__(self, scores: Sequence[Score], *, per_token: bool = False) -> None:
        """Rank and align scores."""
        self.per_token = per_token

        def value(score: Score) -> float:
            return score.mean if per_token else score.logprob

        order = sorted(range(len(scores)), key=lambda i: -value(scores[i]))
        best = scores[order[0]]
        shares = [math.exp(value(scores[i]) - value(best)) for i in order]
        items = []
        for i, share in zip(order, shares, strict=True):
            score = scores[i]
            segments = _segments(best, score)
            worst = min(segments, key=lambda s: s.difference, default=None)
            if worst is not None and worst.difference >= 0:
                worst = None
            items.append(
                Compared(
                    index=i,
                    score=score,
                    difference=value(score) - value(best),
                    probability=share / math.fsum(shares),
                    segments=segments,
                    decides=worst,
                )
            )
        super().__init__(items)

    def _part(self, items: tuple[Compared, ...]) -> Self:
        """The comparison of some of the texts; their indices stay those of the call."""
        if not items:
            return super()._part(items)
        part = type(self)([item.score for item in items], per_token=self.per_token)
        part._items = tuple(replace(one, index=items[one.index].index) for one in part._items)
        return part

    @property
    def best(self) -> Score:
        """The likeliest text's score."""
        return self._items[0].score

    def explain(self) -> str:
        """What decides between the two likeliest texts, in one sentence."""
        if len(self) < 2:
            return "There are not two texts to compare."
        first, second = self._items[:2]
        best, other = one_line(first.score.text), one_line(second.score.text)
        mean = " a token" if self.per_token else ""
        if second.difference == 0 or (second.decides is None and not self.per_token):
            same = first.score.token_ids == second.score.token_ids
            return f"{best} and {other} are {'equal' if same else 'equally likely' + mean}."
        lead = f"{best} is likelier by {-second.difference:.2f} nats{mean}"
        if second.decides is None:
            # Only means can rank a text lower that loses nowhere: it has fewer tokens.
            counts = len(first.score.token_ids), len(second.score.token_ids)
            return f"{lead}, though not in sum: it has {counts[0]} tokens, {other} {counts[1]}."
        tokens = "".join(first.score.shown[slice(*second.decides.best)])
        against = f'"{tokens}" against "{second.deciding}"'
        if not tokens:
            against = f'"{second.deciding}", which {best} does without'
        return f"{lead}; most is decided at {against} ({-second.decides.difference:.2f} nats)."

    def _table(self) -> Table:
        items = self._items
        return Table(
            [
                Column("logprob", [f"{c.score.logprob:.4f}" for c in items], right=True),
                Column("mean", [f"{c.score.mean:.4f}" for c in items], right=True),
                Column("difference", [f"{c.difference:.4f}" for c in items], right=True),
                Column("share", [f"{c.probability:.4f}" for c in items], right=True),
                Column("decided at", [c.deciding for c in items], code=True),
                Column("text", [one_line(c.score.text, 40) for c in items]),
            ],
            [self.explain()],
        )

    def _columns(self) -> Mapping[str, Sequence[Any]]:
        items = self._items
        return {
            "index": [c.index for c in items],
            "text": [c.score.text for c in items],
            "logprob": [c.score.logprob for c in items],
            "mean": [c.score.mean for c in items],
            "difference": [c.difference for c in items],
            "probability": [c.probability for c in items],
            "decided_at": [c.deciding for c in items],
        }

    def _repr_html_(self) -> str:
        if not self._items:
            return self._table().html()
        second = self._items[1].decides if len(self) > 1 else None
        rows = []
        for compared in self._items:
            mark = second if compared is self._items[0] else compared.decides
            side = "best" if compared is self._items[0] else "own"
            framed = frozenset(range(*getattr(mark, side))) if mark else frozenset[int]()
            tokens = [flow.token_html(t) for t in compared.score.flow(framed)]
            if len(self.best.token_ids) <= _COLUMNS:
                cells = "".join(
                    f'<td class="side"{_span(first, end)}>{"".join(tokens[a:b])}</td>'
                    for first, end, (a, b) in _cells(compared.segments)
                )
            else:
                cells = f'<td class="flow">{"".join(tokens)}</td>'
            rows.append(f'<tr><td class="n">{compared.score.logprob:.2f}</td>{cells}</tr>')
        grid = f"<table><tbody>{''.join(rows)}</tbody></table>"
        note = f'<p class="note">{escape(self.explain())}</p>'
        return fragment(grid + note + flow.key())


def _segments(best: Score, own: Score) -> list[Segment]:
    """The alignment of two texts."""

    def total(score: Score, first: int, end: int) -> float:
        return math.fsum(v for v in score.token_logprobs[first:end] if v is not None)

    segments = []
    for same, i1, i2, j1, j2 in _aligned(best.token_ids, own.token_ids):
        spans = [(i1, i2, j1, j2)]
        if same:
            spans = [(i1 + k, i1 + k + 1, j1 + k, j1 + k + 1) for k in range(i2 - i1)]
        for a, b, c, d in spans:
            difference = total(own, c, d) - total(best, a, b)
            segments.append(Segment((a, b), (c, d), difference))
    return segments


def _aligned(best: Sequence[int], own: Sequence[int]) -> Iterator[tuple[bool, int, int, int, int]]:
    """Runs that are equal or not: whether they are, and the ranges in both.

    A shared beginning and end are aligned first; between them, the longest shared runs.
    """
    short = min(len(best), len(own))
    head = next((i for i in range(short) if best[i] != own[i]), short)
    room = short - head
    tail = next((i for i in range(room) if best[-1 - i] != own[-1 - i]), room)
    if head:
        yield True, 0, head, 0, head
    ends = len(best) - tail, len(own) - tail
    middle = SequenceMatcher(None, best[head : ends[0]], own[head : ends[1]], autojunk=False)
    for tag, i1, i2, j1, j2 in middle.get_opcodes():
        yield tag == "equal", head + i1, head + i2, head + j1, head + j2
    if tail:
        yield True, ends[0], len(best), ends[1], len(own)


def _cells(segments: Sequence[Segment]) -> Iterator[tuple[int, int, tuple[int, int]]]:
    """Columns of the likeliest text, and the own tokens in each.

    Tokens that the likeliest text lacks go to the column after them, or to the last one.
    """
    wide = [s for s in segments if s.best[0] < s.best[1]]
    start = 0
    for place, segment in enumerate(wide):
        last = place == len(wide) - 1
        end = segments[-1].own[1] if last else segment.own[1]
        yield *segment.best, (start, end)
        start = end


def _span(first: int, end: int) -> str:
    return f' colspan="{end - first}"' if end - first > 1 else ""
