"""The beam search loop: an engine gives logits, the core's `BeamState` chooses, for whole batches.

The loop sees rows and tokens alone. After a step it tells the engine which row each row goes on
from (`Rows.keep`, where a row may come several times or not at all), and only where that changes
anything.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from time import perf_counter
from typing import Any

import numpy as np

from fastdecode._core import Beam, BeamOutcome, BeamState
from fastdecode.decoding.request import Plan, Prompt, Row, Timer
from fastdecode.decoding.scheduler import batches
from fastdecode.decoding.stop_strings import StopCutter
from fastdecode.decoding.text import TextCursor, continuation
from fastdecode.models.engines.base import Engine
from fastdecode.options.strategies import as_u32
from fastdecode.results.beam_tree import BeamTree
from fastdecode.results.step import Step


class BeamSearch:
    """The beam search of a plan; iterate over it to run it.

    After each step comes a list of the rows that ended in it: for each prompt that is done, its
    best sequences, best first. `under_way` has the best of the others as they stand, and `trees`,
    by the prompts' indices, what was looked at.
    """

    def __init__(self, engine: Engine, plan: Plan, beam: Beam, timer: Timer, trace: bool) -> None:
        """Search with `beam` behind the prompts of `plan`, whose own `n` is 1."""
        self.trees: dict[int, BeamTree] = {}
        self._engine = engine
        self._plan = plan
        self._beam = beam
        self._timer = timer
        self._trace = trace
        self._prompts: list[Prompt] = []
        self._state: BeamState | None = None
        self._done: set[int] = set()

    def __iter__(self) -> Iterator[list[Row]]:
        """Run, batch by batch; `batch_size` bounds the rows of a batch."""
        plan = self._plan
        rows = max(1, plan.batch_size // self._beam.num_beams)
        for batch in batches(replace(plan, batch_size=rows)):
            yield from self._batch([row.prompt for row in batch])

    def under_way(self) -> list[Row]:
        """The best sequences so far of the prompts that are not done; their `reason` is None."""
        state = self._state
        if state is None:
            return []
        going = [i for i in range(len(self._prompts)) if i not in self._done]
        return [row for i in going for row in self._rows(state, i)]

    def settled(self) -> Iterator[tuple[Prompt, list[int], list[float]]]:
        """Of each prompt that is not done, the tokens that its best sequence surely begins with."""
        state = self._state
        if state is not None:
            for i, prompt in enumerate(self._prompts):
                if i not in self._done:
                    yield (prompt, *state.settled(i))

    def _batch(self, prompts: list[Prompt]) -> Iterator[list[Row]]:
        plan, timer = self._plan, self._timer
        state = BeamState(
            self._beam,
            [prompt.ids for prompt in prompts],
            [prompt.limit for prompt in prompts],
            eos_token_ids=plan.eos_ids,
            seed=plan.seed,
            streams=as_u32([prompt.stream for prompt in prompts]),
            indices=as_u32([prompt.index for prompt in prompts]),
            trace=self._trace,
        )
        self._prompts, self._state, self._done = prompts, state, set()
        allowed, stop = self._beam.allowed, self._stop()
        clock = perf_counter()
        rows, logits = self._engine.start([p.ids for p in prompts], [1] * len(prompts))
        timer.forward += perf_counter() - clock
        while True:
            held = None if allowed is None else self._held(state, allowed)
            clock = perf_counter()
            step = state.step(logits, held, stop)
            tokens, parents = step.tokens, step.parents
            timer.core += perf_counter() - clock
            count = len(logits)
            # An engine may write the next ones where these are, once nobody holds them.
            del logits
            self._done.update(step.done)
            yield [row for i in step.done for row in self._finished(state, i)]
            if len(tokens) == 0:
                return
            clock = perf_counter()
            if len(parents) != count or (parents != np.arange(len(parents))).any():
                rows.keep(parents)
            logits = rows.step(tokens)
            timer.forward += perf_counter() - clock

    def _finished(self, state: BeamState, index: int) -> list[Row]:
        prompt = self._prompts[index]
        if self._trace:
            self.trees[prompt.index] = BeamTree.of(state, index, prompt, self._plan.tokenizer)
        return self._rows(state, index)

    def _rows(self, state: BeamState, index: int) -> list[Row]:
        outcomes = enumerate(state.outcomes(index))
        return [self._row(self._prompts[index], rank, outcome) for rank, outcome in outcomes]

    def _row(self, prompt: Prompt, rank: int, outcome: BeamOutcome) -> Row:
        row = Row(prompt, rank, outcome.token_ids, outcome.logprobs)
        row.score, row.inclusion = outcome.score, outcome.inclusion
        row.reason = prompt.limit_reason if outcome.ending == "length" else outcome.ending
        if self._plan.stops:
            cutter = StopCutter(self._plan.stops)
            text = cutter.feed(continuation(self._plan.tokenizer, prompt.ids, row.ids))
            row.pieces = [text + cutter.flush()]
            if cutter.stopped:
                row.reason = "stop"
        return row

    def _held(
        self, state: BeamState, allowed: Callable[[int, list[int]], Sequence[int]]
    ) -> list[Sequence[int]]:
        """The tokens that each live beam may take, by the caller's function."""
        prompts = self._prompts
        return [
            _ids(allowed(prompts[i].index, prompts[i].ids + ids), prompts[i].index)
            for i, ids in state.live()
        ]

    def _stop(self) -> Callable[[int, list[int]], bool] | None:
        """Whether a prompt's sequence has a stop string in its text."""
        stops, tokenizer = self._plan.stops, self._plan.tokenizer
        if not stops:
            return None

        def stop(index: int, ids: list[int]) -> bool:
            text = continuation(tokenizer, self._prompts[index].ids, ids)
            return any(stop in text for stop in stops)

        return stop


def _ids(value: Any, index: int) -> list[int]:
    try:
        return [int(token) for token in value]
    except TypeError:
        raise TypeError(
            f"allowed({index}, ...) must return a sequence of token ids, not {value!r:.60}"
        ) from None


class SettledStream:
    """Turns the settled prefix of one prompt, which only grows, into steps."""

    def __init__(self, plan: Plan, prompt: Prompt) -> None:
        """Begin behind the prompt."""
        self._seed = plan.seed
        self._prompt = prompt
        self._count = 0
        self._cursor = TextCursor(plan.tokenizer, prompt.ids)
        self._cutter = StopCutter(plan.stops)

    def grow(self, ids: list[int], logprobs: list[float], reason: str | None) -> Iterator[Step]:
        """A step for each token of `ids` that is new; `reason` where the sequence ends with it."""
        prompt = self._prompt
        for token, logprob in list(zip(ids, logprobs, strict=True))[self._count :]:
            self._count += 1
            last = reason is not None and self._count == len(ids)
            text = self._cutter.feed(self._cursor.feed(token))
            if last and not self._cutter.stopped:
                text += self._cutter.feed(self._cursor.finish()) + self._cutter.flush()
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
