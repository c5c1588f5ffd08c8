"""The model's own numbers: the logits after every token of a text."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastdecode import core
from fastdecode.models.codec import Codec
from fastdecode.models.engines.base import Engine
from fastdecode.options import checks, prompts


def logits(
    engine: Engine, codec: Codec, text: Any, add_special_tokens: bool
) -> NDArray[np.float32] | list[NDArray[np.float32]]:
    """See `Decoder.logits`."""
    text = _reusable(text)
    found = [_float32(rows) for rows in _all_logits(engine, codec, text, add_special_tokens)]
    return found[0] if prompts.is_one(text) else found


def log_probs(
    engine: Engine, codec: Codec, text: Any, add_special_tokens: bool
) -> NDArray[np.float64] | list[NDArray[np.float64]]:
    """See `Decoder.log_probs`."""
    text = _reusable(text)
    found = [
        core.log_softmax(rows) for rows in _all_logits(engine, codec, text, add_special_tokens)
    ]
    return found[0] if prompts.is_one(text) else found


def decoded(engine: Engine, codec: Codec, ids: Any, skip_special_tokens: bool) -> str | list[str]:
    """See `Decoder.decode`."""
    checks.boolean("skip_special_tokens", skip_special_tokens)
    known = max(engine.vocab_size, len(codec.pieces))
    given, single = prompts.ids("ids", ids, known)
    texts = [codec.text(one, skip_special_tokens=skip_special_tokens) for one in given]
    return texts[0] if single else texts


def _all_logits(engine: Engine, codec: Codec, text: Any, add_special_tokens: bool) -> Any:
    """The engine's logits of each text, once every argument has been checked."""
    checks.boolean("add_special_tokens", add_special_tokens)
    given = prompts.read(text, engine.vocab_size, "text")
    single = prompts.is_one(text)
    context = engine.context
    names = ["text"] if single else [f"text[{row}]" for row in range(len(given))]
    for name, one in zip(names, given, strict=True):
        if isinstance(one, str):
            codec.check_size(name, one, context)
    sequences = codec.prompts(given, add_special_tokens=add_special_tokens, name="text")
    for name, tokens in zip(names, sequences, strict=True):
        checks.known(name, tokens, engine.vocab_size)
        if context is not None and len(tokens) > context:
            raise ValueError(
                f"{name} has {len(tokens)} tokens, but the model's context is {context}; shorten it"
            )
    return engine.all_logits(sequences)


def _reusable(text: Any) -> Any:
    """An iterator as a list, since it is looked at more than once."""
    return list(text) if isinstance(text, Iterator) else text


def _float32(rows: Any) -> NDArray[np.float32]:
    """A copy, because an engine may use the memory again."""
    if not isinstance(rows, np.ndarray):
        rows = rows.float().numpy()
    return np.array(rows, dtype=np.float32)
