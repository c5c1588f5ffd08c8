"""The decode loop: rows in, a token a row and step out, until each row ends.

An engine gives logits, the core chooses tokens, and this loop keeps the books. `generate` and
`stream` are both built on it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from time import perf_counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastdecode import core, traces
from fastdecode.engines.base import Engine
from fastdecode.stopping import StopCutter
from fastdecode.strategies import Beam, Sample, Strategy, as_u32, choose
from fastdecode.text import TextCursor, continuation
from fastdecode.traces import Trace

# A window of this many batches is sorted by length, so that a batch holds like with like.
_WINDOW = 16


@dataclass(slots=True)
class Timer:
    """Seconds spent in the model's forward pass and in the core."""

    forward: float = 0.0
    core: float = 0.0


@dataclass(frozen=True, slots=True)
class Prompt:
    """A prompt, ready to decode: its place in the call, tokens, stream and room for new tokens."""

    index: int
    ids: list[int]
    stream: int
    limit: int
    limit_reason: str


@dataclass(frozen=True, slots=True)
class Plan:
    """Everything that a decode needs besides the engine. Checked by who makes it."""

    prompts: Sequence[Prompt]
    n: int
    strategy: Strategy
    seed: int
    batch_size: int
    eos_ids: tuple[int, ...]
    stops: tuple[str, ...]
    logprobs: int | None
    tokenizer: Any
    text_by_step: bool = False
    trace: bool = False
    pieces: Any = None


@dataclass(slots=True, eq=False)
class Row:
    """One generation under way. `reason` is None until it ends."""

    prompt: Prompt
    sample: int
    ids: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    alternatives: list[list[tuple[int, float]]] = field(default_factory=list)
    traces: list[Trace] = field(default_factory=list)
    reason: str | None = None
    score: float | None = None
    inclusion: float | None = None
    pieces: list[str] | None = None
    cursor: TextCursor | None = None
    cutter: StopCutter | None = None

    def text(self, tokenizer: Any) -> str:
        """The text so far, cut at a stop string."""
        if self.pieces is not None:
            return "".join(self.pieces)
        return continuation(tokenizer, self.prompt.ids, self.ids)


def decode(engine: Engine, plan: Plan, timer: Timer) -> Iterator[list[Row]]:
    """Decode the plan batch by batch; after each step yield the rows that took a token.

    The yielded rows are updated in place and live on in the next step unless their `reason` is
    set. A batch begins only when the one before has ended, so memory does not grow with the
    number of prompts.
    """
    for batch in batches(plan):
        yield from _decode_batch(engine, plan, batch, timer)


def batches(plan: Plan) -> Iterator[list[Row]]:
    """The rows of the plan in batches of at most `batch_size`, similar lengths together."""
    window = plan.batch_size * _WINDOW
    for first in range(0, len(plan.prompts), window):
        prompts = sorted(plan.prompts[first : first + window], key=lambda p: len(p.ids))
        batch: list[Row] = []
        for prompt in prompts:
            for sample in range(plan.n):
                batch.append(_row(plan, prompt, sample))
                if len(batch) == plan.batch_size:
                    yield batch
                    batch = []
        if batch:
            yield batch


def _row(plan: Plan, prompt: Prompt, sample: int) -> Row:
    row = Row(prompt, sample)
    if plan.stops or plan.text_by_step or plan.trace:
        row.pieces = []
        row.cursor = TextCursor(plan.tokenizer, prompt.ids)
        row.cutter = StopCutter(plan.stops)
    return row


def _decode_batch(engine: Engine, plan: Plan, live: list[Row], timer: Timer) -> Iterator[list[Row]]:
    prompts, repeats = _unique(live)
    clock = perf_counter()
    rows, logits = engine.start([prompt.ids for prompt in prompts], repeats)
    timer.forward += perf_counter() - clock
    streams = as_u32([row.prompt.stream for row in live])
    samples = as_u32([row.sample for row in live])
    positions = as_u32([len(row.prompt.ids) for row in live])
    limits = np.array([row.prompt.limit for row in live])
    strategy = plan.strategy
    if isinstance(strategy, Beam):
        raise TypeError("a beam search is run by fastdecode.beams.BeamSearch")
    remembers = isinstance(strategy, Sample) and strategy.needs_history
    mus = np.full(len(live), np.nan) if isinstance(strategy, Sample) and strategy.adapts else None
    taken = 0
    while True:
        clock = perf_counter()
        place: dict[str, Any] = {
            "seed": plan.seed,
            "streams": streams,
            "samples": samples,
            "positions": positions,
            "histories": [as_u32(row.prompt.ids + row.ids) for row in live] if remembers else None,
            "prompt_lengths": as_u32([len(r.prompt.ids) for r in live]) if remembers else None,
            "mus": mus,
        }
        if plan.trace:
            tokens, mus, seen = traces.choose(logits, strategy, plan.pieces, **place)
            for row, trace in zip(live, seen, strict=True):
                row.traces.append(trace)
        else:
            tokens, mus = choose(logits, strategy, **place)
        if plan.logprobs is not None:
            _note_logprobs(live, logits, tokens, plan.logprobs)
        timer.core += perf_counter() - clock
        taken += 1
        ended = limits <= taken
        for eos in plan.eos_ids:
            ended |= tokens == eos
        _advance(plan, live, tokens, ended)
        yield live
        going = np.array([i for i, row in enumerate(live) if row.reason is None], dtype=np.int64)
        if len(going) == 0:
            return
        if len(going) < len(live):
            live = [live[i] for i in going]
            streams, samples, positions = streams[going], samples[going], positions[going]
            limits, tokens = limits[going], tokens[going]
            mus = None if mus is None else mus[going]
            clock = perf_counter()
            rows.keep(going)
            timer.forward += perf_counter() - clock
        positions = positions + np.uint32(1)
        clock = perf_counter()
        logits = rows.step(tokens)
        timer.forward += perf_counter() - clock


def _advance(
    plan: Plan, live: list[Row], tokens: NDArray[np.int64], ended: NDArray[np.bool_]
) -> None:
    """Give each row its token, its new text, and the reason if it ends here."""
    for row, token, last in zip(live, tokens.tolist(), ended.tolist(), strict=True):
        row.ids.append(token)
        if last:
            row.reason = "eos" if token in plan.eos_ids else row.prompt.limit_reason
        if row.cursor is not None and row.cutter is not None and row.pieces is not None:
            piece = row.cutter.feed(row.cursor.feed(token))
            if last and not row.cutter.stopped:
                piece += row.cutter.feed(row.cursor.finish())
                piece += row.cutter.flush()
            row.pieces.append(piece)
            if row.cutter.stopped:
                row.reason = "stop"


def _note_logprobs(live: list[Row], logits: Any, tokens: NDArray[np.int64], count: int) -> None:
    for row, logprob in zip(live, core.token_logprobs(logits, tokens).tolist(), strict=True):
        row.logprobs.append(logprob)
    if count == 0:
        return
    values, ids = core.top_k(logits, count)
    logprobs = values.astype(np.float64) - core.logsumexp(logits)[:, None]
    for row, some, best in zip(live, ids.tolist(), logprobs.tolist(), strict=True):
        row.alternatives.append(list(zip(some, best, strict=True)))


def _unique(live: list[Row]) -> tuple[list[Prompt], list[int]]:
    """The prompts of neighbouring rows, and how many rows each has."""
    prompts: list[Prompt] = []
    repeats: list[int] = []
    for row in live:
        if prompts and prompts[-1] is row.prompt:
            repeats[-1] += 1
        else:
            prompts.append(row.prompt)
            repeats.append(1)
    return prompts, repeats
