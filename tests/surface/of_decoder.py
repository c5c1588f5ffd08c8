"""`Decoder`, the functions that have its arguments, and saved runs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import fastdecode
from fastdecode import Decoder
from hostile import also, either, flag, integer, optional, path, several, text

from surface.kinds import IDS, NAMES, PROMPTS, TEXTS
from surface.made import TEMPLATE, decoder, saved
from surface.target import target


def of_decoder() -> dict[str, tuple[dict[str, Any], dict[str, Any]]]:
    """Valid arguments and kinds of each method that runs the model."""
    talk = {"messages": "Hello", "chat_template": TEMPLATE}
    once = {"prompt": "Once", "max_new_tokens": 1}
    scored: dict[str, Any] = {"texts": ["Once", "Twice"], "bos": True, "eos": False}
    labels: dict[str, Any] = {"labels": ["a", "b"], "bos": True}
    of_text = {"texts": TEXTS, "text": TEXTS, "eos": flag}
    generation = lambda value: isinstance(value, fastdecode.Generation)  # noqa: E731
    return {
        "generate": ({"prompts": "Once", "max_new_tokens": 1}, {}),
        "stream": (once, {"prompt": PROMPTS}),
        "next_token": ({"prompt": "Once", "k": 2}, {}),
        "enumerate_continuations": (
            {"prompt": "Once", "max_new_tokens": 2, "min_probability": 0.5},
            {"max_new_tokens": integer},
        ),
        "score": (scored, {"texts": either(PROMPTS, generation, several(generation))}),
        "compare": (scored, {"texts": several(either(text, IDS))}),
        "surprising": (scored, {"texts": several(either(text, IDS))}),
        "classify": (
            {"texts": "Once"} | labels,
            {"prompts": optional(TEXTS, lambda value: isinstance(value, Mapping)), **of_text},
        ),
        "tokens": ({"text": "Once"}, {}),
        "encode": ({"text": "Once"}, {"text": TEXTS}),
        "decode": ({"ids": [1, 2]}, {"ids": either(IDS, several(IDS))}),
        "logits": ({"text": "Once"}, {"text": PROMPTS}),
        "log_probs": ({"text": "Once"}, {"text": PROMPTS}),
        "chat": (talk | {"max_new_tokens": 1}, {"add_special_tokens": optional(flag)}),
        "stream_chat": (talk | {"max_new_tokens": 1}, {"add_special_tokens": optional(flag)}),
        "chat_prompt": (talk, {}),
        "fingerprint": ({}, {}),
        "keep_prefixes": ({"nbytes": 0}, {"nbytes": integer}),
        "identity": ({}, {}),
    }


def enter() -> None:
    for name, (valid, kinds) in of_decoder().items():
        target(
            f"Decoder.{name}",
            getattr(Decoder, name),
            valid,
            of=decoder,
            files=("chat_template",),
            shown={"separator": ("separator", "texts")},
            **kinds,
        )
        function_ = getattr(fastdecode, name, None)
        if function_ is not None and name != "fingerprint":
            renamed = {"texts": "text"} if name == "classify" else {}
            given = {renamed.get(k, k): v for k, v in valid.items()}
            target(
                name,
                function_,
                lambda given=given: given | {"model": decoder()},
                **kinds,
                engine=also("auto"),
                dtype=lambda value: value is None,
                kv_cache_dtype=lambda value: value in (None, "auto"),
                device=lambda value: value is None,
                revision=lambda value: value is None,
                trust_remote_code=lambda value: not value,
            )
    source = {"name_or_path": "demo"}
    target(
        "Decoder.from_pretrained",
        Decoder.from_pretrained,
        source,
        files=("name_or_path",),
        shown={"name_or_path": ("name_or_path", "model")},
    )
    target(
        "Decoder",
        Decoder,
        lambda: {"model": decoder().engine, "tokenizer": decoder().tokenizer},
        model=lambda value: value is decoder().engine,
        tokenizer=lambda value: callable(getattr(value, "decode", None)),
        engine=also("auto"),
        dtype=lambda value: value is None,
        kv_cache_dtype=lambda value: value in (None, "auto"),
    )
    target("unload", fastdecode.unload, {"model": "none-such"}, model=optional(path))
    # Where a model is loaded by name.
    for name in ("tokens", "vocabulary"):
        given = {"text": "Once"} if name == "tokens" else {}
        target(
            f"{name}, by name",
            getattr(fastdecode, name),
            given | {"model": "demo"},
            files=("model",),
            late=("text",),
        )
    target(
        "vocabulary",
        fastdecode.vocabulary,
        lambda: {"model": decoder()},
        engine=also("auto"),
        dtype=lambda v: v is None,
        kv_cache_dtype=lambda v: v in (None, "auto"),
        device=lambda v: v is None,
        revision=lambda v: v is None,
        trust_remote_code=lambda v: not v,
    )
    target("fingerprint", fastdecode.fingerprint, {"model": "demo"}, files=("model",))
    target(
        "replay",
        fastdecode.replay,
        lambda: {"path": str(saved())},
        files=("path", "model"),
        model=optional(NAMES["model"]),
    )
    target(
        "verify",
        fastdecode.verify,
        lambda: {"path": str(saved())},
        files=("path", "model"),
        model=optional(NAMES["model"]),
        engine=optional(text),
    )
