"""Batches for peers that take one batch at a time, so that a queue costs them little padding."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

ROWS = 32


def by_length(prompts: Sequence[Sequence[int]], rows: int = ROWS) -> Iterator[list[int]]:
    """Indices of the prompts, `rows` at a time, like lengths together."""
    order = sorted(range(len(prompts)), key=lambda i: len(prompts[i]))
    for first in range(0, len(order), rows):
        yield order[first : first + rows]
