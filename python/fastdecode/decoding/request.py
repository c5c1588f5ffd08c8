"""A checked request to generate text: prompts as tokens, and the settings of the run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from fastdecode.models.detokenizer import Detokenizer
from fastdecode.options.strategies import Strategy


@dataclass(slots=True)
class Timer:
    """Seconds spent in the model's forward pass and in the decoding core."""

    forward: float = 0.0
    core: float = 0.0


@dataclass(frozen=True, slots=True)
class Prompt:
    """A tokenized prompt.

    Attributes:
        index: its place in the call.
        ids: its tokens, at least one.
        stream: its random stream.
        limit: the maximum number of new tokens.
        limit_reason: the finish reason of a sequence that reaches `limit`.
    """

    index: int
    ids: list[int]
    stream: int
    limit: int
    limit_reason: str

    @property
    def longest(self) -> int:
        """The maximum length of one of its sequences: prompt and generated tokens."""
        return len(self.ids) + self.limit


@dataclass(frozen=True, slots=True)
class Request:
    """Everything a decode needs besides the engine. Whoever constructs it has checked it.

    Attributes:
        prompts: the prompts, in the order of the call.
        n: samples of each prompt.
        strategy: how tokens are chosen.
        seed: the seed of the run.
        batch_size: the maximum number of sequences in a batch.
        eos_ids: tokens that end a sequence.
        stops: stop strings.
        logprobs: None, or how many alternatives to record beside each token's log-probability.
        detokenizer: turns tokens into text.
        text_by_step: whether each token's text is needed as soon as the token is chosen.
        trace: whether to record what led to each token.
        pieces: the tokenizer's tokens in readable form, for traces.
        cache_tokens: the maximum number of tokens in the KV cache, counting every sequence at its
            longest; a sequence on its own is always admitted. None is no limit.
        stop_ids: more tokens that end a sequence, with the finish reason "stop".
    """

    prompts: Sequence[Prompt]
    n: int
    strategy: Strategy
    seed: int
    batch_size: int
    eos_ids: tuple[int, ...]
    stops: tuple[str, ...]
    logprobs: int | None
    detokenizer: Detokenizer
    text_by_step: bool = False
    trace: bool = False
    pieces: Any = None
    cache_tokens: int | None = None
    stop_ids: tuple[int, ...] = ()

    @property
    def end_ids(self) -> tuple[int, ...]:
        """All tokens that end a sequence."""
        return (*self.eos_ids, *self.stop_ids)

    def reason(self, ending: str | None, token: int) -> str | None:
        """The finish reason of a sequence that the core ended after `token`; None if it did not."""
        return "stop" if ending == "eos" and token not in self.eos_ids else ending
