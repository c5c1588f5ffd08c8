"""A batch: sequences that step together, and the core's state of them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fastdecode.core import DecodeState
from fastdecode.decoding.request import Request
from fastdecode.decoding.sequence import TokenSequence
from fastdecode.options.strategies import Beam, as_sample, as_u32


@dataclass(slots=True)
class Batch:
    """Sequences that take a token together.

    Attributes:
        sequences: what is recorded of each sequence.
        state: what the next token of each depends on, in the same order.
    """

    sequences: list[TokenSequence]
    state: DecodeState

    @classmethod
    def of(cls, request: Request, sequences: list[TokenSequence]) -> Batch:
        """A batch of sequences that have no token yet."""
        if isinstance(request.strategy, Beam):
            raise TypeError("the sequences of a beam search are in a BeamState")
        # Samples of one prompt share its array.
        prompts = {one.prompt.index: one.prompt for one in sequences}
        ids = {index: as_u32(prompt.ids) for index, prompt in prompts.items()}
        state = DecodeState(
            [ids[one.prompt.index] for one in sequences],
            as_sample(request.strategy),
            seed=request.seed,
            limits=as_u32([one.prompt.limit for one in sequences]),
            streams=as_u32([one.prompt.stream for one in sequences]),
            samples=as_u32([one.sample for one in sequences]),
            limit_reasons=[one.prompt.limit_reason for one in sequences],
            eos_token_ids=request.end_ids,
        )
        return cls(sequences, state)

    def keep(self, rows: NDArray[np.int64]) -> None:
        """Keep only the sequences at the indices `rows`."""
        self.state.keep(rows)
        self.sequences = [self.sequences[row] for row in rows]

    def join(self, others: Batch) -> None:
        """Take over the sequences of another batch, after these."""
        self.state.join(others.state)
        self.sequences = self.sequences + others.sequences
