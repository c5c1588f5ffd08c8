"""A sequence: one generation in progress."""

from __future__ import annotations

from dataclasses import dataclass, field

from fastdecode.decoding.request import Prompt, Request
from fastdecode.decoding.stop_strings import StoppableText
from fastdecode.decoding.text import continuation
from fastdecode.models.detokenizer import Detokenizer
from fastdecode.results.trace import Trace


@dataclass(slots=True, eq=False)
class TokenSequence:
    """The generated tokens of one sample of a prompt, and what is recorded about them.

    Attributes:
        prompt: the prompt that it continues.
        sample: which sample of the prompt.
        ids: the generated tokens.
        logprobs: the log-probability of each, in nats, where recorded.
        alternatives: the likeliest tokens at each step, where recorded.
        traces: what led to each token, where recorded.
        reason: why it ended; None while it is in progress.
        score: a beam's final score.
        inclusion: in a stochastic beam search, the probability that the sample contains it.
        pieces: the text that each token completes, where text is needed step by step.
        growing: the text as it grows, with `pieces`.
    """

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
    growing: StoppableText | None = None

    @classmethod
    def of(cls, request: Request, prompt: Prompt, sample: int) -> TokenSequence:
        """A sequence of `request`, before its first token."""
        sequence = cls(prompt, sample)
        if request.stops or request.text_by_step or request.trace:
            sequence.pieces = []
            sequence.growing = StoppableText(request.detokenizer, prompt.ids, request.stops)
        return sequence

    def text(self, detokenizer: Detokenizer) -> str:
        """The text so far, cut at a stop string."""
        if self.pieces is not None:
            return "".join(self.pieces)
        return continuation(detokenizer, self.prompt.ids, self.ids)
