"""What is different about generating the reply to a conversation."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from fastdecode.models.engines.base import Engine
from fastdecode.options.keyword_types import DEFAULT_REPLY_TOKENS, ChatKeywords

_PLACE = re.compile(r"\bprompts?\[(\d+)\]")


def split(arguments: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Arguments in two: those of the template, and those of `generate`."""
    names = ChatKeywords.__annotations__
    return (
        {name: value for name, value in arguments.items() if name in names},
        {name: value for name, value in arguments.items() if name not in names},
    )


def reply_arguments(engine: Engine, tokenizer: Any, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of `generate` for a reply, where the caller has not given others.

    The template writes the special tokens, a reply may be longer than 20 tokens, and it ends with
    the tokenizer's EOS token as well: of a chat model that is the end of a turn.
    """
    found = dict(arguments)
    if found.get("add_special_tokens") is None:
        found["add_special_tokens"] = False
    if found.get("max_new_tokens") is None and found.get("max_length") is None:
        found["max_new_tokens"] = DEFAULT_REPLY_TOKENS
    eos = getattr(tokenizer, "eos_token_id", None)
    known = engine.eos_ids
    if found.get("eos_token_id") is None and isinstance(eos, int) and 0 <= eos < engine.vocab_size:
        found["eos_token_id"] = list(dict.fromkeys((*known, eos)))
    return found


@contextmanager
def of_conversations(single: bool) -> Iterator[None]:
    """Let errors about a prompt name the conversation that it was made of."""
    try:
        yield
    except (ValueError, TypeError) as error:
        whole = "messages" if single else r"messages[\1]"
        told = _PLACE.sub(whole, str(error))
        if told == str(error):
            raise
        raise type(error)(told) from error
