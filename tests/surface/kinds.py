"""What arguments may be, by their names."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import hostile
import numpy as np
from fastdecode import Beam, Decoder, Greedy, Sample
from fastdecode.options.table import PARAMETERS
from hostile import (
    Kind,
    also,
    anything,
    array,
    either,
    flag,
    function,
    group,
    integer,
    number,
    optional,
    path,
    several,
    text,
)


def lone_text(value: Any) -> bool:
    return hostile.axes(value) == 0 and isinstance(value.tolist(), str)


IDS = several(integer)
TEXTS = either(text, several(text))
# A structured array is read as a list of tuples, and an array without dimensions as its text.
PROMPT = either(text, IDS, several(IDS), lone_text)
PROMPTS = either(text, IDS, several(either(text, IDS)), lone_text)
LOGITS_KIND = array("float32", "float16", "bfloat16", "f4")
WORDS = optional(integer, several(integer))
OPTIONAL_FLAG = optional(flag)
MESSAGE = either(text, lambda value: isinstance(value, Mapping))
MESSAGES = either(text, several(MESSAGE), several(several(MESSAGE)))


def sample(value: Any) -> bool:
    return isinstance(value, Sample)


# What an argument of this name is, wherever it has no other kind.
NAMES: dict[str, Kind] = {
    **dict.fromkeys(("prompts", "texts"), PROMPTS),
    **dict.fromkeys(("prompt", "text"), PROMPT),
    "add_generation_prompt": OPTIONAL_FLAG,
    "add_special_tokens": flag,
    "allowed": optional(several(integer), function),
    "alternatives": integer,
    "bad_words": optional(several(several(integer))),
    "bad_words_ids": optional(several(several(integer))),
    "batch_size": optional(integer),
    "bos": OPTIONAL_FLAG,
    "bytes": integer,
    "candidates": optional(integer),
    "chat_template": optional(text, path),
    "chat_template_kwargs": optional(lambda value: isinstance(value, Mapping)),
    "context": TEXTS,
    "continue_final_message": either(flag, text),
    "count": integer,
    "device": optional(text, integer, lambda v: type(v).__module__ == "torch"),
    "diversity_penalty": optional(number),
    "do_sample": OPTIONAL_FLAG,
    "documents": optional(several(lambda value: isinstance(value, Mapping))),
    "draws": integer,
    "dry": optional(lambda value: isinstance(value, dict)),
    "dtype": optional(text, lambda v: isinstance(v, np.dtype) or type(v).__module__ == "torch"),
    "dynamic_temperature": optional(several(number)),
    "early_stopping": optional(flag, also("never")),
    "engine": text,
    "eos": OPTIONAL_FLAG,
    "eos_token_id": optional(integer, several(integer), group(integer)),
    "eos_token_ids": optional(several(integer)),
    "exact": flag,
    "false_alarm": number,
    "files": lambda value: isinstance(value, dict),
    "histories": optional(several(several(integer))),
    "k": integer,
    "kv_cache_dtype": optional(
        text, lambda v: isinstance(v, np.dtype) or type(v).__module__ == "torch"
    ),
    "labels": several(text),
    "ledger": flag,
    "length_penalty": optional(number),
    "limit_reasons": optional(text, several(text)),
    "logit_bias": optional(anything),
    "logits": LOGITS_KIND,
    "logits_processor": lambda value: value is None,
    "logprobs": optional(integer),
    "max_length": optional(integer),
    "max_new_tokens": optional(integer),
    "messages": MESSAGES,
    "min_new_tokens": optional(integer),
    "min_probability": number,
    "mirostat": optional(several(number)),
    "model": either(path, lambda value: isinstance(value, Decoder)),
    "mus": optional(several(number)),
    "n": integer,
    "name_or_path": path,
    "num_beam_groups": optional(integer),
    "num_beams": optional(integer),
    "num_return_sequences": optional(integer),
    "num_samples": integer,
    "no_repeat_ngram_size": optional(integer),
    "padding": integer,
    "params": optional(sample, several(sample)),
    "path": path,
    "penalties_count_prompt": OPTIONAL_FLAG,
    "per_token": flag,
    "position": optional(integer),
    "prefix_allowed_tokens_fn": optional(function),
    "priors": optional(several(number), lambda value: isinstance(value, Mapping)),
    "probe": flag,
    "processed_logprobs": flag,
    "progress": OPTIONAL_FLAG,
    "pruned": flag,
    "raw_logprobs": flag,
    "replacement": flag,
    "revision": optional(text),
    "sample": integer,
    "samples": WORDS,
    "seed": optional(integer),
    "separator": text,
    "sequence_bias": optional(anything),
    "size": integer,
    "skip_special_tokens": flag,
    "stochastic": flag,
    "stop": optional(text, several(text), group(text)),
    "stop_strings": optional(text, several(text), group(text)),
    "stop_token_ids": optional(integer, several(integer), group(integer)),
    "strategy": optional(lambda value: isinstance(value, Sample | Beam | Greedy)),
    "stream": optional(integer),
    "streams": optional(several(integer)),
    "stride": optional(integer),
    "tokenizer": lambda value: value is None,
    "tolerance": number,
    "tools": optional(several(anything)),
    "trace": flag,
    "trust_remote_code": flag,
    "xtc": optional(several(number)),
}
# The sampling parameters that are one number.
NAMES |= {
    name: optional({"integer": integer, "number": number}[one.kind])
    for name, one in PARAMETERS.items()
    if one.kind in ("integer", "number") and name not in NAMES
}
