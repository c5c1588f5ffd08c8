"""Engines: what runs the model's forward pass. `open_engine` picks one for a model."""

from __future__ import annotations

from typing import Any

from fastdecode.engines.base import Engine, Rows

__all__ = ["NAMES", "Engine", "Rows", "open_engine"]

NAMES = ("auto", "native", "torch", "transformers")


def open_engine(model: Any, name: str = "auto") -> Engine:
    """The engine for a transformers causal language model.

    Args:
        model: a `transformers.PreTrainedModel` with a causal head.
        name: "native" is the Rust engine, for a plain GPT-2 in float32 on the CPU; "torch" the
            lean GPT-2 step in torch, where the model is a plain GPT-2 on the CPU, and
            "transformers" elsewhere; "transformers" calls the model's own forward pass; "auto"
            takes the first of these that there is for the model.

    Raises:
        ValueError: for an unknown name, and where "native" cannot run the model.
    """
    if name not in NAMES:
        raise ValueError(f"engine={name!r} is unknown; choose one of {', '.join(NAMES)}")
    from fastdecode.engines.gpt2 import GPT2Engine, is_plain_gpt2
    from fastdecode.engines.native import LoadedEngine, runs_natively
    from fastdecode.engines.torch import TorchEngine

    if name in ("auto", "native") and runs_natively(model):
        return LoadedEngine(model)
    if name == "native":
        raise ValueError(
            f"engine='native' runs a plain GPT-2 in float32 on the CPU, not this "
            f"{type(model).__name__} ({model.dtype}, {model.device}); use engine='auto'"
        )
    if name != "transformers" and is_plain_gpt2(model):
        return GPT2Engine(model)
    return TorchEngine(model)
