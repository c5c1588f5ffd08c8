"""What `inspect.signature` and `help` show of functions that take `**arguments`.

Editors read the typed dicts in `keyword_types`; this is for those who ask the running program.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from typing import Any, TypeVar

from fastdecode.options.keyword_types import (
    DEFAULTS,
    IgnoredKeywords,
    TransformersKeywords,
    UnavailableKeywords,
)

# Of each argument of a model and of a run, as docstrings have it.
DESCRIPTIONS = """
model: a hub name, a folder, a GGUF or packed file, "demo", a `Decoder`, or a transformers
    model.
tokenizer: the tokenizer, with a transformers model.
engine: "auto", "native", "torch" or "transformers"; see `Decoder.from_pretrained`.
dtype: a torch dtype, its name, "int8" or "int4"; see `Decoder.from_pretrained`. None is float32, or
    what a GGUF file has.
kv_cache_dtype: "float32", "bfloat16" or "int8", the format of the KV cache in the native engine;
    see `Decoder.from_pretrained`. None is float32.
device: a torch device, such as "cuda" or "cuda:1"; None is the CPU.
revision: a hub revision: a branch, a tag or a commit; None is the newest.
trust_remote_code: whether to run the Python code that some models bring with them; see
    `Decoder.from_pretrained`.
strategy: `Greedy()`, `Sample(...)` or `Beam(...)`; None: built from the keywords.
max_new_tokens: the maximum number of new tokens, at least 1; None is 20, for the reply to a
    conversation 256, or what `max_length` leaves.
n: samples of each prompt.
seed: 0..2**64-1; None takes a fresh one, which the result reports.
streams: the random stream of each prompt, 0..2**32-1; None: the prompts' indices. Prompts
    may share a stream: they then share their randomness.
stop: the text ends before the first of these strings, with the token that completes it. The name
    of a special token, such as `<|im_end|>`, is found although texts leave special tokens out.
stop_token_ids: tokens that end a text, beside those of `eos_token_id`; the finish reason is
    "stop". They are among the `token_ids` of the result.
add_special_tokens: whether prompts get the special tokens that the tokenizer adds by itself,
    such as a BOS token. False for texts that have theirs, as from a chat template. Token ids
    are used as they are.
skip_special_tokens: whether to leave special tokens out of the text of the result. With
    False it is the text of all its `token_ids`, up to a stop string.
logprobs: None; 0 to record each token's log-probability, in nats; or m to record those of
    the m likeliest tokens as well.
trace: record what led to each token: `Step.trace` has the candidates, what was cut, the
    ticket, and `explain()`. With `generate` and a beam search, record every candidate: the
    result has `.tree` and `.trees`.
batch_size: the maximum number of texts at a time; None: 32, or fewer where the KV cache
    would exceed 1 GiB.
num_return_sequences: transformers' name for `n`; of a beam search, how many of its sequences
    to return.
max_length: the maximum length of prompt and new tokens together, where `max_new_tokens` is
    None.
eos_token_id: tokens that end a text; None: those of the model. An empty sequence: none.
stop_strings: transformers' name for `stop`.
logits_processor: not available in this version.
progress: a progress bar on stderr: True, False, or None for many prompts on a terminal.
tools: functions that the model may call, each as a JSON schema (a dictionary), or as a Python
    function with type hints and a docstring, which transformers describes (and is imported for).
documents: texts that the reply may draw on, each a dictionary, as a rule with "title" and "text".
add_generation_prompt: whether the prompt ends where a reply begins. None: unless
    `continue_final_message` is given.
continue_final_message: whether the prompt ends within the last message, which the model then
    continues; or the name of the field of that message that it continues.
chat_template: a Jinja template, the name of one of the model's templates, or a `pathlib.Path` of a
    file with one; None: the model's own, and the one named "tool_use" where there are tools.
chat_template_kwargs: further variables of the template, such as `{"enable_thinking": False}`.
"""

# Accepted, but not shown in signatures.
_UNLISTED = {
    *TransformersKeywords.__annotations__,
    *UnavailableKeywords.__annotations__,
    *IgnoredKeywords.__annotations__,
} - {"do_sample"}

_Function = TypeVar("_Function", bound=Callable[..., Any])


def documented(arguments: type, **defaults: Any) -> Callable[[_Function], _Function]:
    """List the keyword arguments that a function's `**` parameter takes.

    The signature lists all of them. The docstring describes those of a model and of a run before
    the line of its `Args` that begins with `**`, and in its place where there are no others.

    Args:
        arguments: the typed dict that the parameter unpacks.
        **defaults: the values of arguments that are left out, where this function has its own.
    """
    names = arguments.__annotations__

    def decorate(function: _Function) -> _Function:
        own = inspect.signature(function)
        *named, rest = own.parameters.values()
        listed = [
            inspect.Parameter(
                name,
                inspect.Parameter.KEYWORD_ONLY,
                default=defaults.get(name, DEFAULTS.get(name)),
                annotation=getattr(kind, "__forward_arg__", kind),
            )
            for name, kind in names.items()
            if name not in _UNLISTED
        ]
        complete = names.keys() <= {parameter.name for parameter in listed}
        function.__signature__ = own.replace(  # type: ignore[attr-defined]
            parameters=[*named, *listed, *([] if complete else [rest.replace(annotation=Any)])]
        )
        if function.__doc__ is not None:
            function.__doc__ = _described(function.__doc__, names, complete)
        return function

    return decorate


def _described(text: str, names: Any, complete: bool) -> str:
    """The docstring with the descriptions of `names` before its `**` line, or in its place."""
    entry = re.search(r"^( *)(\*\*)", text, re.MULTILINE)
    if entry is None:
        return text
    indent, start = entry[1], entry.start(2)
    described, wanted = [], False
    for line in DESCRIPTIONS.strip().splitlines():
        if not line.startswith(" "):
            wanted = line.partition(":")[0] in names
        if wanted:
            described.append(line)
    if complete:
        end = text.index("\n", start)
        return text[:start] + f"\n{indent}".join(described) + text[end:]
    return text[:start] + f"\n{indent}".join([*described, ""]) + text[start:]
