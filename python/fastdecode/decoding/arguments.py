"""Checks the arguments of `generate` and `stream` and turns them into a request."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fastdecode import core
from fastdecode._core import check_memory
from fastdecode.decoding.request import Prompt, Request
from fastdecode.models.codec import Codec
from fastdecode.models.engines.base import Engine, cache_setting
from fastdecode.options import checks, keywords
from fastdecode.options.keyword_types import DEFAULTS, OwnRunArguments
from fastdecode.options.prompts import Prompts
from fastdecode.options.prompts import read as read_prompts
from fastdecode.options.strategies import Beam, Greedy, Strategy, describe

DEFAULT_NEW_TOKENS = 20
_MOST_SEQUENCES = 32
_CACHE_BYTES = 2**30
# Read here by name; the rest is passed to `keywords.read`.
_NAMED = tuple(OwnRunArguments.__annotations__)


@dataclass(frozen=True, slots=True)
class CheckedCall:
    """A call whose arguments have been checked.

    Attributes:
        request: what to decode.
        texts: the prompts as texts.
        record: the arguments as plain data, from which the call can be repeated.
    """

    request: Request
    texts: list[str]
    record: dict[str, Any]


def check_call(
    engine: Engine,
    codec: Codec,
    prompts: Prompts,
    arguments: Mapping[str, Any],
    *,
    origin: Mapping[str, Any] | None = None,
    text_by_step: bool = False,
    name: str = "prompts",
) -> CheckedCall:
    """Check every argument before any work.

    Args:
        engine: the model.
        codec: its tokenizer.
        prompts: one prompt or several.
        arguments: the keyword arguments, as `GenerateArguments` lists them.
        origin: the model's name and revision, for the record of the call.
        text_by_step: whether each token's text is needed as soon as the token is chosen.
        name: what the caller calls the prompts.

    Raises:
        TypeError: for a wrong type or an unknown keyword.
        ValueError: for a bad value, or a prompt without room in the context.
    """
    rest = dict(arguments)
    given = {name: rest.pop(name, DEFAULTS.get(name)) for name in _NAMED}
    processor = rest.pop("logits_processor", None)
    checks.choice("progress", rest.pop("progress", None))
    n, stop, logprobs, trace = (given[name] for name in ("n", "stop", "logprobs", "trace"))
    max_new_tokens, batch_size = given["max_new_tokens"], given["batch_size"]
    read = keywords.read(rest, given["strategy"], n)
    if processor is not None:
        raise ValueError(
            f"logits_processor={checks.shown(processor)} is not available in this version of "
            "fastdecode; leave it out"
        )
    items = read_prompts(prompts, engine.vocab_size, name)
    names = [f"{name}[{row}]" for row in range(len(items))]
    trace = checks.boolean("trace", trace)
    n = checks.integer("n", n, 1, checks.U32)
    if read.n is not None:
        if n != 1:
            raise ValueError("n and num_return_sequences are one thing; give one of the two")
        n = checks.integer("num_return_sequences", read.n, 1, checks.U32)
    if read.stop_strings is not None:
        if stop is not None:
            raise ValueError("stop and stop_strings are one thing; give one of the two")
        stop = read.stop_strings
    stops = checks.stops(stop, "stop" if read.stop_strings is None else "stop_strings")
    seed = checks.seed(given["seed"])
    streams = checks.streams(given["streams"], len(items))
    vocab, context = engine.vocab_size, engine.context
    stop_ids = checks.token_ids("stop_token_ids", given["stop_token_ids"], vocab)
    special = checks.boolean("add_special_tokens", given["add_special_tokens"])
    skip = checks.boolean("skip_special_tokens", given["skip_special_tokens"])
    beam = isinstance(read.strategy, Beam)
    if logprobs is not None:
        logprobs = checks.integer("logprobs", logprobs, 0, vocab)
        if logprobs > 0 and beam:
            raise ValueError(
                f"logprobs={logprobs} asks for alternatives, which a beam search records with "
                "trace=True; logprobs=0 gives the log-probability of each token"
            )
    elif trace and not beam:
        logprobs = 0
    eos = engine.eos_ids if read.eos_token_id is None else checks.eos(read.eos_token_id, vocab)
    strategy = fitted(read.strategy, (*eos, *stop_ids), vocab)
    if max_new_tokens is not None:
        max_new_tokens = checks.integer("max_new_tokens", max_new_tokens, 1)
    if read.max_length is not None:
        checks.integer("max_length", read.max_length, 1)
    for place, item in zip(names, items, strict=True):
        if isinstance(item, str):
            codec.check_size(place, item, context)
    ids = codec.prompts(items, add_special_tokens=special, name=name)
    checks.fits(ids, context, vocab, names)
    limits = (max_new_tokens, read.max_length, context)
    checked = [
        Prompt(i, tokens, stream, *room(names[i], len(tokens), *limits))
        for i, (tokens, stream) in enumerate(zip(ids, streams, strict=True))
    ]
    cache_tokens = None
    if batch_size is not None:
        batch_size = min(checks.integer("batch_size", batch_size, 1), checks.U32)
        width = read.strategy.num_beams if isinstance(read.strategy, Beam) else 1
        rows = max(min(batch_size, len(checked) * n * width), width)
        check_memory(min(rows * _bytes_of_row(engine, checked, beam), sys.maxsize))
    else:
        batch_size = _MOST_SEQUENCES
        fit = _CACHE_BYTES // engine.bytes_per_token
        if engine.joins and not beam:
            cache_tokens = fit
        else:
            longest = max((prompt.longest for prompt in checked), default=1)
            batch_size = int(min(max(fit // longest, 1), _MOST_SEQUENCES))
    request = Request(
        prompts=checked,
        n=n,
        strategy=strategy,
        seed=seed,
        batch_size=batch_size,
        eos_ids=eos,
        stop_ids=stop_ids,
        stops=stops,
        logprobs=logprobs,
        detokenizer=codec.decoding(skip_special_tokens=skip),
        text_by_step=text_by_step,
        # A beam search records a tree instead.
        trace=trace and not beam,
        pieces=codec.pieces if trace else None,
        cache_tokens=cache_tokens,
    )
    if given["strategy"] is None and given["seed"] is not None:
        keywords.warn_of_seed(seed, rest, read.strategy)
    record = {
        **(origin or {}),
        "engine": engine.name,
        "dtype": engine.dtype,
        **cache_setting(engine),
        "prompts": items,
        "strategy": describe(read.strategy),
        "max_new_tokens": max_new_tokens,
        "max_length": read.max_length,
        "n": n,
        "seed": seed,
        "streams": streams,
        "stop": list(stops),
        "stop_token_ids": list(stop_ids),
        "add_special_tokens": special,
        "skip_special_tokens": skip,
        "logprobs": logprobs,
        "trace": trace,
        "batch_size": request.batch_size,
        "eos_token_id": list(eos),
        "rng": core.RNG_VERSION,
    }
    texts = [
        item if isinstance(item, str) else codec.text(item, skip_special_tokens=skip)
        for item in items
    ]
    return CheckedCall(request, texts, record)


def _bytes_of_row(engine: Engine, prompts: Sequence[Prompt], beam: bool) -> int:
    """What the longest row of a batch takes: its logits, and its own part of the KV cache."""
    if beam:
        # Beams share what they have in common, so nothing more is certain.
        tokens = 1
    else:
        # Samples of a prompt share it where sequences can join a batch.
        own = (prompt.limit if engine.joins else prompt.longest for prompt in prompts)
        tokens = max(own, default=1)
    return 4 * engine.vocab_size + tokens * engine.bytes_per_token


def fitted(strategy: Strategy, eos: Sequence[int], vocab_size: int) -> Strategy:
    """The strategy with the model's end tokens, unless it has its own; its token ids checked."""
    if isinstance(strategy, Greedy):
        return strategy
    if not strategy.settings().get("eos_token_id"):
        strategy = strategy.with_eos(list(eos))
    strategy.check_vocabulary(vocab_size)
    return strategy


def room(
    name: str,
    length: int,
    max_new_tokens: int | None,
    max_length: int | None,
    context: int | None,
) -> tuple[int, str]:
    """How many tokens may follow a prompt of `length`, and the finish reason at that limit.

    Raises:
        ValueError: where `max_length` leaves no room.
    """
    if max_new_tokens is not None or max_length is None:
        limit = DEFAULT_NEW_TOKENS if max_new_tokens is None else max_new_tokens
    else:
        limit = max_length - length
        if limit < 1:
            raise ValueError(
                f"{name} has {length} tokens, which leaves no room within "
                f"max_length={max_length}; raise it, or use max_new_tokens"
            )
    if context is not None and context - length < limit:
        return context - length, "context"
    return limit, "length"
