"""A batch: sequences that step together, and the arrays that the core needs for them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastdecode.decoding.request import Request
from fastdecode.decoding.sequence import TokenSequence
from fastdecode.options.strategies import Sample, as_u32


@dataclass(slots=True)
class Batch:
    """Sequences that take a token together. Entry i of each array belongs to sequence i.

    Attributes:
        sequences: the sequences.
        streams: their random streams, uint32.
        samples: which samples of their prompts they are, uint32.
        positions: the position of each sequence's next token, uint32.
        last: the position of the last token that each sequence may have, uint32.
        mus: mirostat's states, NaN before the first token; None without mirostat.
    """

    sequences: list[TokenSequence]
    streams: NDArray[np.uint32]
    samples: NDArray[np.uint32]
    positions: NDArray[np.uint32]
    last: NDArray[np.uint32]
    mus: NDArray[np.float64] | None

    @classmethod
    def of(cls, request: Request, sequences: list[TokenSequence]) -> Batch:
        """A batch of sequences that have no token yet."""
        adapts = isinstance(request.strategy, Sample) and request.strategy.adapts
        return cls(
            sequences,
            streams=as_u32([one.prompt.stream for one in sequences]),
            samples=as_u32([one.sample for one in sequences]),
            positions=as_u32([len(one.prompt.ids) for one in sequences]),
            last=as_u32([one.prompt.longest - 1 for one in sequences]),
            mus=np.full(len(sequences), np.nan) if adapts else None,
        )

    def take(self, index: NDArray[np.int64]) -> Batch:
        """The sequences at the places `index`."""
        return Batch(
            [self.sequences[i] for i in index],
            self.streams[index],
            self.samples[index],
            self.positions[index],
            self.last[index],
            None if self.mus is None else self.mus[index],
        )

    def join(self, others: Batch) -> Batch:
        """The sequences of both, these first."""
        return Batch(
            self.sequences + others.sequences,
            np.concatenate([self.streams, others.streams]),
            np.concatenate([self.samples, others.samples]),
            np.concatenate([self.positions, others.positions]),
            np.concatenate([self.last, others.last]),
            None
            if self.mus is None or others.mus is None
            else np.concatenate([self.mus, others.mus]),
        )

    def place(self, request: Request) -> dict[str, Any]:
        """The keys and histories of the next tokens, as keywords of `strategies.choose`."""
        some = self.sequences
        remembers = isinstance(request.strategy, Sample) and request.strategy.needs_history
        return {
            "seed": request.seed,
            "streams": self.streams,
            "samples": self.samples,
            "positions": self.positions,
            "histories": [as_u32(s.prompt.ids + s.ids) for s in some] if remembers else None,
            "prompt_lengths": as_u32([len(s.prompt.ids) for s in some]) if remembers else None,
            "mus": self.mus,
        }
