"""Every continuation of a prompt whose probability reaches a bound."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from fastdecode._core import Listing
from fastdecode.decoding.arguments import room
from fastdecode.decoding.request import Prompt
from fastdecode.decoding.text import continuation
from fastdecode.models.codec import Codec
from fastdecode.models.detokenizer import Detokenizer
from fastdecode.models.engines.base import Engine
from fastdecode.options import checks, prompts
from fastdecode.options.prompts import PromptLike
from fastdecode.results.continuations import Continuation, Continuations


def continuations(
    engine: Engine,
    codec: Codec,
    prompt: PromptLike,
    *,
    max_new_tokens: int,
    min_probability: float,
    eos_token_id: int | Sequence[int] | None,
    add_special_tokens: bool,
) -> Continuations:
    """Check the arguments of `Decoder.enumerate_continuations`, and enumerate.

    Raises:
        TypeError: for a wrong type.
        ValueError: for a bad value, or a prompt without room in the context.
    """
    given = prompts.one(prompt, engine.vocab_size)
    checks.boolean("add_special_tokens", add_special_tokens)
    bound = checks.number("min_probability", min_probability)
    count = checks.integer("max_new_tokens", max_new_tokens, 1)
    vocab, context = engine.vocab_size, engine.context
    eos = engine.eos_ids if eos_token_id is None else checks.eos(eos_token_id, vocab)
    if isinstance(given, str):
        codec.check_size("prompt", given, context)
    (ids,) = codec.prompts([given], add_special_tokens=add_special_tokens, name="prompt")
    checks.fits([ids], context, vocab, ["prompt"])
    start = Prompt(0, ids, 0, *room("prompt", len(ids), count, None, context))
    text = given if isinstance(given, str) else codec.text(given)
    return enumerate_continuations(engine, codec.detokenizer, text, start, bound, eos)


def enumerate_continuations(
    engine: Engine,
    detokenizer: Detokenizer,
    prompt: str,
    start: Prompt,
    bound: float,
    eos: Sequence[int],
) -> Continuations:
    """Enumerate them level by level; every argument has been checked but `bound`.

    Args:
        engine: the model.
        detokenizer: turns tokens into text.
        prompt: the prompt's text.
        start: the tokenized prompt.
        bound: the minimum probability, which the core checks.
        eos: tokens that end a continuation.
    """
    listing = Listing(bound, start.limit, eos)
    batch, logits = engine.start([start.ids], [1])
    while True:
        step = listing.step(logits)
        if listing.rows == 0:
            break
        tokens, parents = step.tokens, step.parents
        if len(parents) != len(logits) or (parents != np.arange(len(parents))).any():
            batch.keep(parents)
        logits = batch.step(tokens)
    return Continuations(
        prompt,
        bound,
        (
            Continuation(
                text=continuation(detokenizer, start.ids, outcome.token_ids),
                token_ids=outcome.token_ids,
                probability=math.exp(outcome.score),
                logprob=outcome.score,
                logprobs=outcome.logprobs,
                finish_reason="eos" if outcome.ending == "eos" else start.limit_reason,
            )
            for outcome in listing.outcomes()
        ),
    )
