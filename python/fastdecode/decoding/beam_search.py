"""The beam search loop: an engine computes logits, the core's `BeamState` chooses, in batches.

The loop handles only rows of logits and tokens. After a step it tells the engine which row each new
row continues (`CachedBatch.keep`, where a row may occur several times or not at all), and only
where that changes anything.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from time import perf_counter
from typing import Any

import numpy as np

from fastdecode._core import Beam, BeamOutcome, BeamState
from fastdecode.decoding.beam_trees import beam_tree
from fastdecode.decoding.request import Prompt, Request, Timer
from fastdecode.decoding.scheduler import batches
from fastdecode.decoding.sequence import TokenSequence
from fastdecode.decoding.stop_strings import StoppableText, has_stop
from fastdecode.models.engines.base import Engine
from fastdecode.options.strategies import as_u32
from fastdecode.results.beam_tree import BeamTree
from fastdecode.results.step import Step


class BeamSearch:
    """The beam search of a request; iterate over it to run it.

    Each step yields the sequences that ended in it: for each prompt that is done, its best
    sequences, best first. `in_progress` returns the best sequences so far of the other prompts.

    Attributes:
        trees: the tree of each prompt that is done, by the prompt's index, where tracing.
    """

    def __init__(
        self, engine: Engine, request: Request, beam: Beam, timer: Timer, trace: bool
    ) -> None:
        """Search with `beam` from each prompt of `request`, whose own `n` is 1."""
        self.trees: dict[int, BeamTree] = {}
        self._engine = engine
        self._request = request
        self._beam = beam
        self._timer = timer
        self._trace = trace
        self._prompts: list[Prompt] = []
        self._state: BeamState | None = None
        self._done: set[int] = set()

    def __iter__(self) -> Iterator[list[TokenSequence]]:
        """Run, batch by batch; `batch_size` bounds the rows of a batch."""
        request = self._request
        prompts = max(1, request.batch_size // self._beam.num_beams)
        for batch in batches(replace(request, batch_size=prompts)):
            yield from self._batch([sequence.prompt for sequence in batch])

    def in_progress(self) -> list[TokenSequence]:
        """The best sequences so far of the prompts that are not done; their `reason` is None."""
        state = self._state
        if state is None:
            return []
        going = [i for i in range(len(self._prompts)) if i not in self._done]
        return [sequence for i in going for sequence in self._sequences(state, i)]

    def settled(self) -> Iterator[tuple[Prompt, list[int], list[float]]]:
        """For each prompt that is not done, the tokens that its best sequence must begin with."""
        state = self._state
        if state is not None:
            for i, prompt in enumerate(self._prompts):
                if i not in self._done:
                    yield (prompt, *state.settled(i))

    def _batch(self, prompts: list[Prompt]) -> Iterator[list[TokenSequence]]:
        request, timer = self._request, self._timer
        state = BeamState(
            self._beam,
            [prompt.ids for prompt in prompts],
            [prompt.limit for prompt in prompts],
            eos_token_ids=request.end_ids,
            seed=request.seed,
            streams=as_u32([prompt.stream for prompt in prompts]),
            indices=as_u32([prompt.index for prompt in prompts]),
            trace=self._trace,
        )
        self._prompts, self._state, self._done = prompts, state, set()
        allowed, stop = self._beam.allowed, self._stop()
        clock = perf_counter()
        cached, logits = self._engine.start([p.ids for p in prompts], [1] * len(prompts))
        timer.forward += perf_counter() - clock
        while True:
            held = None if allowed is None else self._held(state, allowed)
            clock = perf_counter()
            step = state.step(logits, held, stop)
            tokens, parents = step.tokens, step.parents
            timer.core += perf_counter() - clock
            count = len(logits)
            # An engine may reuse this memory for the next logits once nothing refers to it.
            del logits
            self._done.update(step.done)
            yield [sequence for i in step.done for sequence in self._finished(state, i)]
            if len(tokens) == 0:
                return
            clock = perf_counter()
            if len(parents) != count or (parents != np.arange(len(parents))).any():
                cached.keep(parents)
            logits = cached.step(tokens)
            timer.forward += perf_counter() - clock

    def _finished(self, state: BeamState, index: int) -> list[TokenSequence]:
        prompt = self._prompts[index]
        if self._trace:
            self.trees[prompt.index] = beam_tree(state, index, prompt, self._request.detokenizer)
        return self._sequences(state, index)

    def _sequences(self, state: BeamState, index: int) -> list[TokenSequence]:
        outcomes = enumerate(state.outcomes(index))
        return [self._sequence(self._prompts[index], rank, outcome) for rank, outcome in outcomes]

    def _sequence(self, prompt: Prompt, rank: int, outcome: BeamOutcome) -> TokenSequence:
        sequence = TokenSequence(prompt, rank, outcome.token_ids, outcome.logprobs)
        sequence.score, sequence.inclusion = outcome.score, outcome.inclusion
        sequence.reason = prompt.limit_reason if outcome.ending == "length" else outcome.ending
        if outcome.ending == "eos":
            sequence.reason = self._request.reason("eos", outcome.token_ids[-1])
        if self._request.stops:
            growing = StoppableText(self._request.detokenizer, prompt.ids, self._request.stops)
            last = len(sequence.ids) - 1 if outcome.ending == "eos" else None
            pieces = [growing.feed(token, ends=i == last) for i, token in enumerate(sequence.ids)]
            sequence.pieces = ["".join([*pieces, growing.finish()])]
            if growing.stopped:
                sequence.reason = "stop"
        return sequence

    def _held(
        self, state: BeamState, allowed: Callable[[int, list[int]], Sequence[int]]
    ) -> list[Sequence[int]]:
        """The tokens that the caller's function allows each live beam."""
        prompts = self._prompts
        return [
            _ids(allowed(prompts[i].index, prompts[i].ids + ids), prompts[i].index)
            for i, ids in state.live()
        ]

    def _stop(self) -> Callable[[int, list[int]], bool] | None:
        """A function that says whether a sequence's text contains a stop string."""
        stops, detokenizer = self._request.stops, self._request.detokenizer
        if not stops:
            return None

        def stop(index: int, ids: list[int]) -> bool:
            return has_stop(detokenizer, self._prompts[index].ids, ids, stops)

        return stop


def _ids(value: Any, index: int) -> list[int]:
    try:
        return [int(token) for token in value]
    except TypeError:
        raise TypeError(
            f"allowed({index}, ...) must return a sequence of token ids, not {value!r:.60}"
        ) from None


class SettledText:
    """Turns the settled prefix of one prompt, which only grows, into steps."""

    def __init__(self, request: Request, prompt: Prompt) -> None:
        """Begin after the prompt."""
        self._seed = request.seed
        self._prompt = prompt
        self._count = 0
        self._end_ids = request.end_ids
        self._growing = StoppableText(request.detokenizer, prompt.ids, request.stops)

    def grow(self, ids: list[int], logprobs: list[float], reason: str | None) -> Iterator[Step]:
        """A step for each new token of `ids`; `reason` is given where the sequence has ended."""
        prompt = self._prompt
        for token, logprob in list(zip(ids, logprobs, strict=True))[self._count :]:
            self._count += 1
            last = reason is not None and self._count == len(ids)
            text = self._growing.feed(token, ends=last and token in self._end_ids)
            if last:
                text += self._growing.finish()
            yield Step(
                text=text,
                token_id=token,
                position=len(prompt.ids) + self._count - 1,
                stream=prompt.stream,
                sample=0,
                prompt_index=prompt.index,
                logprob=logprob,
                finish_reason=reason if last else None,
                seed=self._seed,
            )
