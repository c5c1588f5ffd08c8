"""Batches of similar lengths, for peers that run one batch at a time and pad it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

ROWS = 32


def by_length(prompts: Sequence[Sequence[int]], rows: int = ROWS) -> Iterator[list[int]]:
    """Yield the prompts' indices, `rows` at a time, with similar lengths together."""
    order = sorted(range(len(prompts)), key=lambda i: len(prompts[i]))
    for first in range(0, len(order), rows):
        yield order[first : first + rows]


def in_batches(
    generate: Callable[[Sequence[Sequence[int]]], list[Any]], prompts: Sequence[Sequence[int]]
) -> list[Any]:
    """The results of `generate` for all prompts, run in batches, in the order of the prompts."""
    found: list[Any] = [None] * len(prompts)
    for batch in by_length(prompts):
        rows = generate([prompts[i] for i in batch])
        for i, row in zip(batch, rows, strict=True):
            found[i] = row
    return found
