"""The decode loop: each step chooses one token for every sequence of a batch.

An engine computes logits, the core chooses tokens, and this loop records them. `generate` and
`stream` are both built on it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from time import perf_counter
from typing import Any, cast

import numpy as np

from fastdecode.core import DecodeStep
from fastdecode.decoding import tracing
from fastdecode.decoding.batch import Batch
from fastdecode.decoding.request import Prompt, Request, Timer
from fastdecode.decoding.scheduler import Scheduler, by_length, in_order
from fastdecode.decoding.sequence import TokenSequence
from fastdecode.models.engines.base import CachedBatch, Engine, JoinableBatch
from fastdecode.options.strategies import Beam

# Waiting sequences join once this share of the batch is free, so that several prompts are
# prefilled together (benchmarks/ragged.py compares other shares).
_REFILL = 1 / 4


class Decoding:
    """Decodes a request; iterate over it to run it.

    Each step yields the sequences that took a token. They are updated in place and take part in
    the next step unless their `reason` is set. `in_progress` returns all that have begun.

    Where the engine supports joining, waiting sequences take the places of those that end;
    otherwise a batch begins when the one before it has ended. Either way memory does not grow
    with the number of prompts.
    """

    def __init__(self, engine: Engine, request: Request, timer: Timer) -> None:
        """Decode `request`, whose strategy is not a beam search."""
        if isinstance(request.strategy, Beam):
            raise TypeError("a beam search is run by fastdecode.decoding.beam_search.BeamSearch")
        self._engine = engine
        self._request = request
        self._strategy = request.strategy
        self._timer = timer
        order = in_order(request) if engine.joins else by_length(request)
        self._scheduler = Scheduler(request, order)
        self._batch = Batch.of(request, [])
        self._cached: CachedBatch | None = None

    def __iter__(self) -> Iterator[list[TokenSequence]]:
        """Run until every sequence has ended."""
        while True:
            self._drop_ended()
            fresh = self._scheduler.take(self._room(), self._batch.sequences)
            if fresh:
                yield self._begin(fresh)
            elif self._batch.sequences:
                yield self._step()
            else:
                return

    def in_progress(self) -> list[TokenSequence]:
        """The sequences that have begun and have not been dropped; some may just have ended."""
        return self._batch.sequences

    def _drop_ended(self) -> None:
        sequences = self._batch.sequences
        going = np.array([i for i, s in enumerate(sequences) if s.reason is None], dtype=np.int64)
        if len(going) == len(sequences):
            return
        clock = perf_counter()
        if len(going) == 0:
            self._cached = None
        elif self._cached is not None:
            self._cached.keep(going)
        self._timer.forward += perf_counter() - clock
        self._batch.keep(going)

    def _room(self) -> int:
        """How many sequences may begin now."""
        free = self._request.batch_size - len(self._batch.sequences)
        if not self._batch.sequences:
            return free
        if not self._engine.joins:
            return 0
        worth = max(1, int(self._request.batch_size * _REFILL))
        return free if free >= min(worth, len(self._scheduler)) else 0

    def _begin(self, sequences: list[TokenSequence]) -> list[TokenSequence]:
        """Prefill the prompts of `sequences`, which take their first token."""
        prompts, repeats = _unique(sequences)
        ids = [prompt.ids for prompt in prompts]
        clock = perf_counter()
        if self._cached is None:
            self._cached, logits = self._engine.start(ids, repeats)
        else:
            logits = cast(JoinableBatch, self._cached).join(ids, repeats)
        self._timer.forward += perf_counter() - clock
        fresh = Batch.of(self._request, sequences)
        self._choose(fresh, logits)
        self._batch.join(fresh)
        return sequences

    def _step(self) -> list[TokenSequence]:
        """Run the last tokens through the model; every sequence takes its next token."""
        batch, cached = self._batch, self._cached
        if cached is None:
            raise RuntimeError("no sequence is in progress")
        clock = perf_counter()
        logits = cached.step(np.array([one.ids[-1] for one in batch.sequences], dtype=np.int64))
        self._timer.forward += perf_counter() - clock
        self._choose(batch, logits)
        return batch.sequences

    def _choose(self, batch: Batch, logits: Any) -> None:
        """Let the core choose a token for each sequence of `batch`, and record it."""
        request, sequences = self._request, batch.sequences
        clock = perf_counter()
        step = batch.state.step(
            logits,
            raw_logprobs=request.logprobs is not None,
            alternatives=request.logprobs or 0,
            ledger=request.trace,
            candidates=tracing.CANDIDATES,
        )
        if request.trace:
            seen = tracing.traces(step, self._strategy, logits.shape[-1], request.pieces)
            for sequence, trace in zip(sequences, seen, strict=True):
                sequence.traces.append(trace)
        if request.logprobs is not None:
            _record_logprobs(sequences, step, request.logprobs)
        self._timer.core += perf_counter() - clock
        _advance(request, sequences, step.tokens.tolist(), batch.state.reasons)


def _advance(
    request: Request,
    sequences: list[TokenSequence],
    tokens: list[int],
    reasons: Sequence[str | None],
) -> None:
    """Append each sequence's token and text, and set the reason of those that end."""
    for sequence, token, reason in zip(sequences, tokens, reasons, strict=True):
        sequence.ids.append(token)
        sequence.reason = request.reason(reason, token)
        growing = sequence.growing
        if growing is not None and sequence.pieces is not None:
            piece = growing.feed(token, ends=reason == "eos")
            if reason is not None:
                piece += growing.finish()
            sequence.pieces.append(piece)
            if growing.stopped:
                sequence.reason = "stop"


def _record_logprobs(sequences: list[TokenSequence], step: DecodeStep, count: int) -> None:
    """Record the log-probability of each token, and of the `count` likeliest ones."""
    for sequence, logprob in zip(sequences, step.raw_logprobs.tolist(), strict=True):
        sequence.logprobs.append(logprob)
    if count > 0:
        for sequence, some in zip(sequences, step.alternatives, strict=True):
            sequence.alternatives.append(some)


def _unique(sequences: list[TokenSequence]) -> tuple[list[Prompt], list[int]]:
    """The prompts of adjacent sequences, and how many sequences each has."""
    prompts: list[Prompt] = []
    repeats: list[int] = []
    for sequence in sequences:
        if prompts and prompts[-1] is sequence.prompt:
            repeats[-1] += 1
        else:
            prompts.append(sequence.prompt)
            repeats.append(1)
    return prompts, repeats
