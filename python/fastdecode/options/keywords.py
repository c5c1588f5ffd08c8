"""Keywords: transformers' names for a strategy, for moved code, and the fixes for wrong ones."""

from __future__ import annotations

import difflib
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from fastdecode.options.strategies import Beam, Greedy, Sample, Strategy

# Each with the value that switches it off, as transformers has it, besides None.
_SAMPLING: dict[str, Any] = {
    "temperature": None,
    "top_k": 0,
    "top_p": None,
    "min_p": None,
    "typical_p": 1.0,
    "epsilon_cutoff": 0.0,
    "eta_cutoff": 0.0,
    "top_n_sigma": None,
    "dynamic_temperature": None,
    "mirostat": None,
    "xtc": None,
    "repetition_penalty": 1.0,
    "frequency_penalty": 0.0,
    "presence_penalty": 0.0,
    "dry": None,
    "no_repeat_ngram_size": 0,
    "logit_bias": None,
    "bad_words": None,
    "min_new_tokens": 0,
    "allowed": None,
}
# Those that act on a greedy choice too: without do_sample they do not ask for sampling.
_EDITS = (
    "repetition_penalty",
    "frequency_penalty",
    "presence_penalty",
    "dry",
    "no_repeat_ngram_size",
    "logit_bias",
    "bad_words",
    "min_new_tokens",
    "allowed",
)
# Those of a beam search, each with the value that says nothing.
_BEAMS: dict[str, Any] = {
    "num_beams": 1,
    "num_beam_groups": 1,
    "length_penalty": 1.0,
    "early_stopping": False,
    "diversity_penalty": 0.0,
}
# transformers' names for what has another here.
_ALIASES = {"bad_words_ids": "bad_words", "sequence_bias": "logit_bias"}
_OTHERS = (
    "prefix_allowed_tokens_fn",
    "do_sample",
    "num_return_sequences",
    "max_length",
    "eos_token_id",
    "stop_strings",
)
# Known to transformers and accepted where they change nothing here.
_IGNORED = ("pad_token_id", "use_cache", "return_dict_in_generate")
# Known to transformers, not available in this version: each with the value that switches it off.
_LATER: dict[str, Any] = {
    "encoder_repetition_penalty": 1.0,
    "penalty_alpha": None,
    "min_length": 0,
    "suppress_tokens": None,
    "begin_suppress_tokens": None,
    "forced_bos_token_id": None,
    "forced_eos_token_id": None,
    "stopping_criteria": None,
    "generation_config": None,
    "assistant_model": None,
    "guidance_scale": None,
    "max_time": None,
    "streamer": None,
    "output_scores": False,
    "output_logits": False,
    "output_attentions": False,
    "output_hidden_states": False,
}
_ARGUMENTS = (
    "model",
    "tokenizer",
    "strategy",
    "max_new_tokens",
    "n",
    "seed",
    "streams",
    "stop",
    "logprobs",
    "trace",
    "logits_processor",
    "progress",
    "batch_size",
)
# Keywords that say something about a whole run, not about how a token is chosen.
OF_A_RUN = ("num_return_sequences", "max_length", "stop_strings", "eos_token_id")
KNOWN = frozenset((*_SAMPLING, *_BEAMS, *_ALIASES, *_OTHERS, *_IGNORED, *_LATER, *_ARGUMENTS))


@dataclass(frozen=True, slots=True)
class Keywords:
    """What the keywords come to. None: not said."""

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
    the greedy choice. Nothing is added that was not said: no hidden top-k (transformers adds 50).
    `top_k=0` switches top-k off, as in transformers.

    Raises:
        TypeError: for an unknown keyword, with the nearest known one; for a wrong type.
        ValueError: for a keyword that this version does not have, and for a bad value.
    """
    for name, value in keywords.items():
        if name not in KNOWN:
            near = difflib.get_close_matches(name, sorted(KNOWN), n=1, cutoff=0.0)
            raise TypeError(f"unknown keyword {name!r}; did you mean {near[0]!r}?")
        if name in _LATER and value is not None and value != _LATER[name]:
            raise ValueError(
                f"{name}={value!r} is not available in this version of fastdecode; leave it out"
            )
    said = _said(keywords)
    beams = _said_of_beams(keywords)
    if not beams and keywords.get("prefix_allowed_tokens_fn") is not None:
        raise ValueError(
            "prefix_allowed_tokens_fn constrains a beam search, and there is none; set num_beams "
            "above 1, or give Beam(num_beams, allowed=...) as the strategy"
        )
    do_sample = keywords.get("do_sample")
    if do_sample is not None and not isinstance(do_sample, bool):
        raise TypeError(f"do_sample must be True or False, not {do_sample!r}")
    if strategy is not None:
        if not isinstance(strategy, Greedy | Sample | Beam):
            raise TypeError(
                "strategy must be Greedy(...), Sample(...) or Beam(...), "
                f"not {type(strategy).__name__}"
            )
        if said or beams or do_sample is not None:
            names = ", ".join([*said, *beams, *(["do_sample"] if do_sample is not None else [])])
            raise ValueError(f"strategy and {names} both say how to decode; give one of the two")
        chosen: Strategy = strategy
    elif beams:
        said |= _prefix_function(keywords)
        chosen = _beam(beams, said, do_sample, keywords.get("num_return_sequences"))
    else:
        several = any(
            isinstance(count, int) and count > 1
            for count in (n, keywords.get("num_return_sequences"))
        )
        chosen = _strategy(said, do_sample, several)
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


def _said(keywords: Mapping[str, Any]) -> dict[str, Any]:
    """The sampling keywords that are on, by this package's names."""
    said: dict[str, Any] = {}
    for given, value in keywords.items():
        name = _ALIASES.get(given, given)
        if name not in _SAMPLING or value is None:
            continue
        if name in said:
            raise ValueError(f"{given} and {name} say the same; give one of the two")
        off = _SAMPLING[name]
        if off is None or isinstance(value, bool) or value != off:
            said[name] = value
    return said


def _said_of_beams(keywords: Mapping[str, Any]) -> dict[str, Any]:
    said = {name: keywords[name] for name in _BEAMS if keywords.get(name) is not None}
    on = {
        name: value
        for name, value in said.items()
        if isinstance(value, bool) != isinstance(_BEAMS[name], bool) or value != _BEAMS[name]
    }
    if on and "num_beams" not in on:
        raise ValueError(
            f"{', '.join(on)} shapes a beam search, and there is none; set num_beams above 1"
        )
    return on


def _prefix_function(keywords: Mapping[str, Any]) -> dict[str, Any]:
    """transformers' `prefix_allowed_tokens_fn`, which takes a tensor, as `allowed`."""
    function = keywords.get("prefix_allowed_tokens_fn")
    if function is None:
        return {}
    if keywords.get("allowed") is not None:
        raise ValueError("prefix_allowed_tokens_fn and allowed say the same; give one of the two")
    if not callable(function):
        raise TypeError(f"prefix_allowed_tokens_fn must be a function, not {function!r}")

    def allowed(prompt: int, ids: list[int]) -> Any:
        import torch

        return function(prompt, torch.tensor(ids))

    return {"allowed": allowed}


def _beam(
    beams: dict[str, Any], said: dict[str, Any], do_sample: bool | None, returned: Any
) -> Beam:
    edits = {name: value for name, value in said.items() if name in _EDITS}
    drawing = {name: value for name, value in said.items() if name not in _EDITS}
    if drawing and do_sample is False:
        warnings.warn(f"do_sample=False searches without {', '.join(drawing)}", stacklevel=5)
    draws = do_sample or (drawing and do_sample is None)
    return Beam(
        **beams,
        **edits,
        sample=Sample(**drawing) if draws else None,
        num_return_sequences=1 if returned is None else returned,
    )


def _refuse_samples(beam: Beam, n: Any, count: Any) -> None:
    for name, value in (("n", n), ("num_return_sequences", count)):
        if value not in (None, 1):
            raise ValueError(
                f"{name}={value} counts samples, and a beam search has none: say how many of its "
                f"sequences to return with num_return_sequences, in Beam(...) beside "
                f"num_beams={beam.num_beams}"
            )


def _strategy(said: dict[str, Any], do_sample: bool | None, several: bool) -> Strategy:
    sample = Sample(**said)
    edits = {name: value for name, value in said.items() if name in _EDITS}
    if do_sample is False:
        idle = [name for name in said if name not in _EDITS]
        if idle:
            warnings.warn(
                f"do_sample=False decodes greedily, without {', '.join(idle)}", stacklevel=4
            )
    elif do_sample or len(said) > len(edits) or several:
        return sample
    return Sample(temperature=0.0, **edits) if edits else Greedy()
