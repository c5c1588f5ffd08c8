"""Keywords: the strategy that the keyword arguments of `generate` describe."""

from __future__ import annotations

import operator
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from fastdecode.options import checks, foreign_names, misspelt
from fastdecode.options.keyword_types import (
    GenerateArguments,
    ModelArguments,
    StrategyKeywords,
    TransformersRunArguments,
)
from fastdecode.options.notices import warn
from fastdecode.options.strategies import Beam, Greedy, Sample, Strategy, as_sample
from fastdecode.options.table import ALIASES, BEAM_KEYWORDS, PARAMETERS

# Keywords of a whole run, as opposed to those that say how a token is chosen.
OF_A_RUN = tuple(
    name
    for name in GenerateArguments.__annotations__
    if name not in StrategyKeywords.__annotations__
)
# Arguments of functions that load a model, but not of a decoder's methods.
OF_A_MODEL = tuple(ModelArguments.__annotations__)
# What `read` takes; its callers take the other arguments themselves.
READ = frozenset((*StrategyKeywords.__annotations__, *TransformersRunArguments.__annotations__))
# What a misspelt keyword may be meant for.
_MEANT = {*OF_A_MODEL, *GenerateArguments.__annotations__} - {
    *foreign_names.OFF,
    *foreign_names.IGNORED,
}


@dataclass(frozen=True, slots=True)
class Keywords:
    """What the keywords say. None: not given."""

    strategy: Strategy
    n: int | None = None
    max_length: int | None = None
    eos_token_id: Any = None
    stop_strings: Any = None


def read(keywords: Mapping[str, Any], strategy: Strategy | None, n: int = 1) -> Keywords:
    """Check `keywords` and build the strategy that they describe.

    No keyword: greedy. `do_sample=True`, or a temperature or truncation (`temperature`, `top_k`,
    `top_p`, ...), or more than one sample, without `do_sample`: sampling (n greedy texts would be n
    times the same). `num_beams` above 1: a beam search, which returns `num_return_sequences` of its
    sequences; with sampling keywords, beam sampling. Penalties and bans alone edit the logits of
    the greedy choice. Nothing is added that is not given: no hidden top-k (transformers adds 50).
    `top_k=0` switches top-k off, as in transformers.

    Raises:
        TypeError: for an unknown keyword, with the name that is meant where there is one; for a
            wrong type.
        ValueError: for a keyword that this version does not have, and for a bad value.
    """
    for name, value in keywords.items():
        if name not in READ:
            raise TypeError(unknown(name))
        row = foreign_names.OFF.get(name)
        if row is not None and not row.accepts(value):
            raise ValueError(
                f"{name}={checks.shown(value)} is not available in this version of fastdecode: "
                f"{foreign_names.instead(row)}"
            )
    sampling = _sampling_keywords(keywords)
    beams = _beam_keywords(keywords)
    if not beams and keywords.get("prefix_allowed_tokens_fn") is not None:
        raise ValueError(
            "prefix_allowed_tokens_fn constrains a beam search, and there is none; set num_beams "
            "above 1, or give Beam(num_beams, allowed=...) as the strategy"
        )
    do_sample = keywords.get("do_sample")
    if do_sample is not None:
        do_sample = checks.boolean("do_sample", do_sample)
    if strategy is not None:
        if not isinstance(strategy, Greedy | Sample | Beam):
            raise TypeError(
                "strategy must be Greedy(...), Sample(...) or Beam(...), "
                f"not {type(strategy).__name__}"
            )
        if sampling or beams or do_sample is not None:
            names = ", ".join(
                [*sampling, *beams, *(["do_sample"] if do_sample is not None else [])]
            )
            raise ValueError(f"strategy and {names} both say how to decode; give one of the two")
        chosen: Strategy = strategy
    elif beams:
        sampling |= _prefix_function(keywords)
        chosen = _beam(beams, sampling, do_sample, keywords.get("num_return_sequences"))
    else:
        several = _above_one(n) or _above_one(keywords.get("num_return_sequences"))
        chosen = _strategy(sampling, do_sample, several)
    count = keywords.get("num_return_sequences")
    if isinstance(chosen, Beam):
        _refuse_samples(chosen, n, None if beams else count)
        count = None
    return Keywords(
        strategy=chosen,
        n=count,
        max_length=keywords.get("max_length"),
        eos_token_id=keywords.get("eos_token_id"),
        stop_strings=keywords.get("stop_strings"),
    )


def unknown(name: str) -> str:
    """What an unknown keyword is called elsewhere, or what it may be a misspelling of.

    Args:
        name: the keyword.

    Returns:
        The message of the `TypeError`.
    """
    elsewhere = foreign_names.refusal(name)
    if elsewhere is not None:
        return f"unknown keyword {name!r}: {elsewhere}"
    if name in ("model", "tokenizer"):
        return (
            f"unknown keyword {name!r}: a decoder has its model and its tokenizer; leave {name} "
            "out, or give it to Decoder(model, tokenizer) or fastdecode.generate and its like"
        )
    if name in OF_A_MODEL:
        return (
            f"unknown keyword {name!r}: a decoder has its model; give {name} to "
            "Decoder.from_pretrained, or to fastdecode.generate and its like"
        )
    near = misspelt.nearest(name, _MEANT)
    if near is not None:
        return f"unknown keyword {name!r}; did you mean {near!r}?"
    return f"unknown keyword {name!r}, and none has a similar name; see help(fastdecode.generate)"


def warn_of_seed(seed: int, keywords: Mapping[str, Any], strategy: Strategy) -> None:
    """Warn of a seed where decoding is greedy and no keyword says so.

    Args:
        seed: as the caller gave it.
        keywords: those that `strategy` was built from.
        strategy: how a token is chosen.
    """
    told = any(keywords.get(name) is not None for name in ("do_sample", "temperature"))
    if not told and not isinstance(strategy, Beam) and as_sample(strategy).temperature == 0:
        warn(
            f"seed={seed} does nothing to greedy decoding; add do_sample=True to draw tokens, or "
            "do_sample=False to decode greedily without this warning"
        )


def _above_one(count: Any) -> bool:
    try:
        return operator.index(count) > 1
    except TypeError:
        # It is no integer, which is refused where counts are checked.
        return False


def _sampling_keywords(keywords: Mapping[str, Any]) -> dict[str, Any]:
    """The sampling keywords that are given, by this package's names."""
    given: dict[str, Any] = {}
    for spelling, value in keywords.items():
        name = ALIASES.get(spelling, spelling)
        if name not in PARAMETERS or value is None:
            continue
        if name in given:
            raise ValueError(f"{spelling} and {name} say the same; give one of the two")
        unset = PARAMETERS[name].unset
        if unset is None or not checks.is_one_of(value, (unset,)):
            if spelling != name:
                _check_alias(spelling, name, value)
            given[name] = value
    return given


def _check_alias(spelling: str, name: str, value: Any) -> None:
    """Refuse a bad value under the name that the caller gave."""
    try:
        Sample(**{name: value})
    except (TypeError, ValueError) as error:
        raise type(error)(str(error).replace(name, spelling, 1)) from None


def _beam_keywords(keywords: Mapping[str, Any]) -> dict[str, Any]:
    """The keywords of a beam search that are given."""
    given = {
        name: keywords[name]
        for name, unset in BEAM_KEYWORDS.items()
        if keywords.get(name) is not None and not checks.is_one_of(keywords[name], (unset,))
    }
    if given and "num_beams" not in given:
        raise ValueError(
            f"{', '.join(given)} shapes a beam search, and there is none; set num_beams above 1"
        )
    return given


def _prefix_function(keywords: Mapping[str, Any]) -> dict[str, Any]:
    """transformers' `prefix_allowed_tokens_fn`, which takes a tensor, as `allowed`."""
    function = keywords.get("prefix_allowed_tokens_fn")
    if function is None:
        return {}
    if keywords.get("allowed") is not None:
        raise ValueError("prefix_allowed_tokens_fn and allowed say the same; give one of the two")
    if not callable(function):
        raise TypeError(
            f"prefix_allowed_tokens_fn must be a function, not {checks.shown(function)}"
        )

    def allowed(prompt: int, ids: list[int]) -> Any:
        import torch

        return function(prompt, torch.tensor(ids))

    return {"allowed": allowed}


def _beam(
    beams: dict[str, Any], sampling: dict[str, Any], do_sample: bool | None, returned: Any
) -> Beam:
    processors, truncations = split(sampling)
    if truncations and do_sample is False:
        warn(f"do_sample=False searches without {', '.join(truncations)}")
    draws = do_sample or (truncations and do_sample is None)
    return Beam(
        **beams,
        **processors,
        sample=Sample(**truncations) if draws else None,
        num_return_sequences=1 if returned is None else returned,
    )


def split(sampling: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Sampling keywords in two: those that greedy decoding feels too, and those that it does not.

    Args:
        sampling: the keywords, by this package's names.
    """
    processors = {k: v for k, v in sampling.items() if PARAMETERS[k].affects_greedy}
    return processors, {k: v for k, v in sampling.items() if k not in processors}


def _refuse_samples(beam: Beam, n: Any, count: Any) -> None:
    for name, value in (("n", n), ("num_return_sequences", count)):
        if value is not None and checks.integer(name, value, 1) != 1:
            raise ValueError(
                f"{name}={checks.shown(value)} counts samples, and a beam search has none: say "
                "how many of its sequences to return with num_return_sequences, in Beam(...) "
                f"beside num_beams={beam.num_beams}"
            )


def _strategy(sampling: dict[str, Any], do_sample: bool | None, several: bool) -> Strategy:
    sample = Sample(**sampling)
    processors, truncations = split(sampling)
    if do_sample is False:
        if truncations:
            warn(f"do_sample=False decodes greedily, without {', '.join(truncations)}")
    elif do_sample or truncations or several:
        return sample
    return Sample(temperature=0.0, **processors) if processors else Greedy()
