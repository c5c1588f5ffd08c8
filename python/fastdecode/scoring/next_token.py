"""The likeliest next tokens after a prompt."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fastdecode.decoding.arguments import fitted
from fastdecode.models.codec import Codec
from fastdecode.models.engines.base import Engine
from fastdecode.options import checks, keywords
from fastdecode.options.strategies import Beam, Strategy
from fastdecode.results.candidates import Candidates
from fastdecode.results.law import Law


def next_token(
    engine: Engine,
    codec: Codec,
    prompt: str,
    k: int,
    *,
    strategy: Strategy | None,
    seed: int | None,
    more: Mapping[str, Any],
) -> Candidates:
    """Check the arguments of `Decoder.next_token`, and run the prompt through the model.

    Args:
        engine: the model.
        codec: its tokenizer.
        prompt: the text.
        k: the number of candidates.
        strategy: how a token would be drawn, or None.
        seed: for the draws.
        more: keywords that describe a strategy.

    Raises:
        TypeError: for a wrong type, an unknown keyword, or a keyword of a whole run.
        ValueError: for a bad value, or a prompt without room in the context.
    """
    checks.string("prompt", prompt)
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
            "next_token() shows how one token is chosen, and a beam search chooses whole "
            "texts; see generate(..., trace=True).tree"
        )
    codec.check_size("prompt", prompt, engine.context)
    ids = codec.prompts([prompt])
    checks.fits(ids, engine.context, engine.vocab_size, ["prompt"])
    _, logits = engine.start(ids, [1])
    law = Law.of(logits[0], chosen, ids[0])
    return Candidates.of(prompt, law, k, strategy=chosen, pieces=codec.pieces, seed=seed)
