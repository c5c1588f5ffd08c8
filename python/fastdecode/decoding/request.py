"""What a decode is told and what it makes: prompts and settings in, rows of tokens out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from fastdecode.decoding.stop_strings import StopCutter
from fastdecode.decoding.text import TextCursor, continuation
from fastdecode.options.strategies import Strategy
from fastdecode.results.trace import Trace


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

    @property
    def longest(self) -> int:
        """Tokens of one of its rows at most, prompt and generated."""
        return len(self.ids) + self.limit


@dataclass(frozen=True, slots=True)
class Plan:
    """Everything that a decode needs besides the engine. Checked by who makes it.

    `batch_size` bounds the rows that are under way at a time. Where `cache_tokens` is given it
    bounds the tokens of all of them together, at their longest; a row by itself always fits.
    """

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
    cache_tokens: int | None = None


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

    @classmethod
    def of(cls, plan: Plan, prompt: Prompt, sample: int) -> Row:
        """A row of `plan`, before its first token."""
        row = cls(prompt, sample)
        if plan.stops or plan.text_by_step or plan.trace:
            row.pieces = []
            row.cursor = TextCursor(plan.tokenizer, prompt.ids)
            row.cutter = StopCutter(plan.stops)
        return row

    def text(self, tokenizer: Any) -> str:
        """The text so far, cut at a stop string."""
        if self.pieces is not None:
            return "".join(self.pieces)
        return continuation(tokenizer, self.prompt.ids, self.ids)
