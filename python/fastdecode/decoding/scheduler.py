"""The rows of a plan that have not begun, in the order in which they will."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

from fastdecode.decoding.request import Plan, Row

# A window of this many batches is sorted by length, so that a batch holds like with like.
_WINDOW = 16


class Waiting:
    """A queue of rows, each made when it is taken."""

    def __init__(self, plan: Plan, rows: Iterator[Row]) -> None:
        """Take from `rows`, which are those of the plan in some order."""
        self._rows = rows
        self._next = next(rows, None)
        self._count = len(plan.prompts) * plan.n
        self._most = plan.cache_tokens

    def __len__(self) -> int:
        """Rows that wait."""
        return self._count

    def take(self, most: int, under_way: list[Row]) -> list[Row]:
        """The next rows: at most so many, and as the plan's `cache_tokens` has room for them."""
        taken: list[Row] = []
        used = sum(map(self._cost, under_way))
        while self._next is not None and len(taken) < most:
            used += self._cost(self._next)
            if self._most is not None and used > self._most:
                break
            taken.append(self._next)
            self._next = next(self._rows, None)
        self._count -= len(taken)
        return taken

    def _cost(self, row: Row) -> int:
        """Its tokens at its longest; all there are for a row that has to be alone."""
        return row.prompt.longest if self._most is None else min(row.prompt.longest, self._most)


def in_order(plan: Plan) -> Iterator[Row]:
    """The rows of the plan, prompt by prompt."""
    for prompt in plan.prompts:
        for sample in range(plan.n):
            yield Row.of(plan, prompt, sample)


def by_length(plan: Plan) -> Iterator[Row]:
    """The same, with similar lengths together, for engines that fill up to the longest."""
    window = plan.batch_size * _WINDOW
    for first in range(0, len(plan.prompts), window):
        for prompt in sorted(plan.prompts[first : first + window], key=lambda p: len(p.ids)):
            for sample in range(plan.n):
                yield Row.of(plan, prompt, sample)


def batches(plan: Plan) -> Iterator[list[Row]]:
    """The rows of the plan in batches of at most `batch_size`, similar lengths together."""
    rows = by_length(plan)
    while batch := list(islice(rows, plan.batch_size)):
        yield batch
