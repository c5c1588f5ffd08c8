"""The types of the keyword arguments of `generate`, `stream` and `next_token`, written once.

The functions take them as `**arguments: Unpack[...]`, so that editors complete the names and type
checkers refuse unknown names and wrong types. At run time `keywords.read` checks them.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, TypedDict

from fastdecode.options.sampling_keywords import SamplingKeywords
from fastdecode.options.transformers_keywords import IgnoredKeywords, UnavailableKeywords

if TYPE_CHECKING:
    from fastdecode.options.strategies import Strategy

__all__ = [
    "DEFAULT_MODEL",
    "DEFAULT_REPLY_TOKENS",
    "BeamKeywords",
    "ChatArguments",
    "ChatKeywords",
    "GenerateArguments",
    "GenerateCall",
    "IgnoredKeywords",
    "ModelArguments",
    "NextTokenCall",
    "RunArguments",
    "SamplingKeywords",
    "StrategyKeywords",
    "StreamArguments",
    "StreamCall",
    "StreamChatArguments",
    "TransformersKeywords",
    "TransformersRunArguments",
    "UnavailableKeywords",
]

DEFAULT_MODEL = "openai-community/gpt2"
# New tokens of the reply to a conversation: enough for most, which end earlier by themselves.
DEFAULT_REPLY_TOKENS = 256


class BeamKeywords(TypedDict, total=False):
    """transformers' names for the parameters of `Beam`."""

    num_beams: int | None
    num_beam_groups: int | None
    length_penalty: float | None
    early_stopping: bool | Literal["never"] | None
    diversity_penalty: float | None


class TransformersKeywords(TypedDict, total=False):
    """transformers' names for what has another name here."""

    do_sample: bool | None
    bad_words_ids: Sequence[Sequence[int]] | None
    sequence_bias: Any
    prefix_allowed_tokens_fn: Callable[[int, Any], Sequence[int]] | None


class StrategyKeywords(
    SamplingKeywords,
    BeamKeywords,
    TransformersKeywords,
    UnavailableKeywords,
    IgnoredKeywords,
    total=False,
):
    """Keywords that say how a token is chosen."""


class TransformersRunArguments(TypedDict, total=False):
    """transformers' names for arguments of a run."""

    num_return_sequences: int | None
    max_length: int | None
    eos_token_id: int | Sequence[int] | None
    stop_strings: str | Sequence[str] | None


class OwnRunArguments(TypedDict, total=False):
    """Arguments of a run that streams its tokens or not."""

    strategy: Strategy | None
    max_new_tokens: int | None
    n: int
    seed: int | None
    streams: Sequence[int] | None
    stop: str | Sequence[str] | None
    stop_token_ids: int | Sequence[int] | None
    add_special_tokens: bool
    skip_special_tokens: bool
    logprobs: int | None
    trace: bool
    batch_size: int | None


class RunArguments(OwnRunArguments, TransformersRunArguments, total=False):
    """Arguments of a run, by their names here or transformers'."""


class ModelArguments(TypedDict, total=False):
    """What the functions of the package take to choose a model."""

    model: Any
    tokenizer: Any
    engine: str
    dtype: Any
    kv_cache_dtype: Any
    device: Any
    revision: str | None
    trust_remote_code: bool


class StreamArguments(RunArguments, StrategyKeywords, total=False):
    """The keyword arguments of `stream`."""


class GenerateArguments(RunArguments, StrategyKeywords, total=False):
    """The keyword arguments of `generate`."""

    logits_processor: Any
    progress: bool | None


class ChatKeywords(TypedDict, total=False):
    """Keywords that say how a conversation becomes a prompt, most by transformers' names."""

    tools: Sequence[Any] | None
    documents: Sequence[Mapping[str, Any]] | None
    add_generation_prompt: bool | None
    continue_final_message: bool | str
    chat_template: str | os.PathLike[str] | None
    chat_template_kwargs: Mapping[str, Any] | None


class ChatArguments(ChatKeywords, GenerateArguments, total=False):
    """The keyword arguments of `chat`."""


class StreamChatArguments(ChatKeywords, StreamArguments, total=False):
    """The keyword arguments of `stream_chat`."""


class StreamCall(ModelArguments, StreamArguments, total=False):
    """The keyword arguments of the function `stream`: the model's and the method's."""


class GenerateCall(ModelArguments, GenerateArguments, total=False):
    """The keyword arguments of the function `generate`: the model's and the method's."""


class NextTokenCall(ModelArguments, StrategyKeywords, total=False):
    """The keyword arguments of the function `next_token`: the model's and the method's."""


# The values of those that are left out, where that is not None.
DEFAULTS: dict[str, Any] = {
    "n": 1,
    "add_special_tokens": True,
    "skip_special_tokens": True,
    "trace": False,
    "continue_final_message": False,
    "model": DEFAULT_MODEL,
    "engine": "auto",
    "trust_remote_code": False,
}
