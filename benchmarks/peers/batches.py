"""Batches for peers that take one batch at a time, so that a queue costs them little padding."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

ROWS = 32


def by_length(prompts: Sequence[Sequence[int]], rows: int = ROWS) -> Iterator[list[int]]:
    """Indices of the prompts, `rows` at a time, like lengths together."""
    order = sorted(range(len(prompts)), key=lambda i: len(prompts[i]))
    for first in range(0, len(order), rows):
        yield order[first : first + rows]


def in_batches(
    generate: Callable[[Sequence[Sequence[int]]], list[Any]], prompts: Sequence[Sequence[int]]
) -> list[Any]:
    """What `generate` makes of the prompts, batch by batch, in the prompts' order."""
    found: list[Any] = [None] * len(prompts)
    for batch in by_length(prompts):
        rows = generate([prompts[i] for i in batch])
        for i, row in zip(batch, rows, strict=True):
            found[i] = row
    return found
