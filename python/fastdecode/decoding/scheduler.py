"""The scheduler: the sequences of a request that have not begun, and when they may."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

from fastdecode.decoding.request import Request
from fastdecode.decoding.sequence import TokenSequence

# Prompts are sorted by length within a window of this many batches.
_WINDOW = 16


class Scheduler:
    """A queue of waiting sequences, each constructed when it is taken."""

    def __init__(self, request: Request, sequences: Iterator[TokenSequence]) -> None:
        """Take from `sequences`, which are those of the request in some order."""
        self._sequences = sequences
        self._next = next(sequences, None)
        self._count = len(request.prompts) * request.n
        self._most = request.cache_tokens

    def __len__(self) -> int:
        """The number of waiting sequences."""
        return self._count

    def take(self, most: int, in_progress: list[TokenSequence]) -> list[TokenSequence]:
        """The next sequences: at most `most`, and no more than `cache_tokens` has room for."""
        taken: list[TokenSequence] = []
        used = sum(map(self._cost, in_progress))
        while self._next is not None and len(taken) < most:
            used += self._cost(self._next)
            if self._most is not None and used > self._most:
                break
            taken.append(self._next)
            self._next = next(self._sequences, None)
        self._count -= len(taken)
        return taken

    def _cost(self, sequence: TokenSequence) -> int:
        """Its tokens at its longest, capped at the whole cache, so that it fits on its own."""
        longest = sequence.prompt.longest
        return longest if self._most is None else min(longest, self._most)


def in_order(request: Request) -> Iterator[TokenSequence]:
    """The sequences of the request, prompt by prompt."""
    for prompt in request.prompts:
        for sample in range(request.n):
            yield TokenSequence.of(request, prompt, sample)


def by_length(request: Request) -> Iterator[TokenSequence]:
    """The same with similar lengths together, for engines that pad to the longest."""
    window = request.batch_size * _WINDOW
    for first in range(0, len(request.prompts), window):
        for prompt in sorted(request.prompts[first : first + window], key=lambda p: len(p.ids)):
            for sample in range(request.n):
                yield TokenSequence.of(request, prompt, sample)


def batches(request: Request) -> Iterator[list[TokenSequence]]:
    """The sequences in batches of at most `batch_size`, similar lengths together."""
    sequences = by_length(request)
    while batch := list(islice(sequences, request.batch_size)):
        yield batch
