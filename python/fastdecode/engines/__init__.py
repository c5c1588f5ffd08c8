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
        name: "transformers" calls the model's own forward pass; "torch" and "auto" take the lean
            GPT-2 step where the model is a plain GPT-2 on the CPU, and "transformers" elsewhere.

    Raises:
        ValueError: for an unknown name.
    """
    if name not in NAMES:
        raise ValueError(f"engine={name!r} is unknown; choose one of {', '.join(NAMES)}")
    from fastdecode.engines.gpt2 import GPT2Engine, is_plain_gpt2
    from fastdecode.engines.torch import TorchEngine

    if name != "transformers" and is_plain_gpt2(model):
        return GPT2Engine(model)
    return TorchEngine(model)
