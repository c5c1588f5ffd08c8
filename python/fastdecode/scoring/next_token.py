"""The likeliest next tokens after a prompt."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fastdecode.decoding.arguments import fitted
from fastdecode.models.codec import Codec
from fastdecode.models.engines.base import Engine
from fastdecode.options import checks, keywords, prompts
from fastdecode.options.prompts import PromptLike
from fastdecode.options.strategies import Beam, Strategy
from fastdecode.results.candidates import Candidates
from fastdecode.results.law import Law


def next_token(
    engine: Engine,
    codec: Codec,
    prompt: PromptLike,
    k: int,
    *,
    strategy: Strategy | None,
    seed: int | None,
    add_special_tokens: bool,
    more: Mapping[str, Any],
) -> Candidates:
    """Check the arguments of `Decoder.next_token`, and run the prompt through the model.

    Args:
        engine: the model.
        codec: its tokenizer.
        prompt: the text, or token ids.
        k: the number of candidates.
        strategy: how a token would be drawn, or None.
        seed: for the draws.
        add_special_tokens: whether a text gets the special tokens that the tokenizer adds.
        more: keywords that describe a strategy.

    Raises:
        TypeError: for a wrong type, an unknown keyword, or a keyword of a whole run.
        ValueError: for a bad value, or a prompt without room in the context.
    """
    given = prompts.one(prompt, engine.vocab_size)
    checks.boolean("add_special_tokens", add_special_tokens)
    k = checks.integer("k", k, 1, engine.vocab_size)
    if seed is not None:
        seed = checks.seed(seed)
    for name in more:
        if name in keywords.OF_A_RUN:
            raise TypeError(f"next_token() draws one token and has no {name}; leave it out")
    chosen: Strategy | None = None
    if strategy is not None or more:
        read = keywords.read(more, strategy).strategy
        chosen = fitted(read, engine.eos_ids, engine.vocab_size)
    if isinstance(chosen, Beam):
        raise ValueError(
            "next_token() shows how one token is chosen, and a beam search (num_beams="
            f"{chosen.num_beams}) chooses whole texts; see generate(..., trace=True).tree"
        )
    if isinstance(given, str):
        codec.check_size("prompt", given, engine.context)
    ids = codec.prompts([given], add_special_tokens=add_special_tokens, name="prompt")
    checks.fits(ids, engine.context, engine.vocab_size, ["prompt"])
    _, logits = engine.start(ids, [1])
    law = Law.of(logits[0], chosen, ids[0])
    text = given if isinstance(given, str) else codec.text(given)
    return Candidates.of(text, law, k, strategy=chosen, pieces=codec.pieces, seed=seed)
