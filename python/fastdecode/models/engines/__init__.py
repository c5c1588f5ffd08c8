"""Engines: what runs the model's forward pass. `open_engine` picks one for a model."""

from __future__ import annotations

from typing import Any

from fastdecode.models.engines.base import CachedBatch, Engine

__all__ = ["NAMES", "NATIVE_DTYPES", "CachedBatch", "Engine", "open_engine", "prefers_native"]

NAMES = ("auto", "native", "torch", "transformers")
# The formats in which the native engine keeps weights; it computes in float32 from each.
NATIVE_DTYPES = ("float32", "bfloat16", "int8")


def prefers_native(engine: str, device: Any = None, dtype: Any = None) -> bool:
    """Whether the native engine should try to read a model's files before transformers does.

    Args:
        engine: one of `NAMES`.
        device: a torch device; None is the CPU.
        dtype: a torch dtype or its name, or "int8"; None is float32.

    Raises:
        ValueError: for an unknown engine, and for what no engine supports: int8 outside the
            native engine, or the native engine outside the CPU.
    """
    _check_name(engine)
    kept = dtype_name(dtype) or "float32"
    able = engine in ("auto", "native")
    fits = kept in NATIVE_DTYPES and (device is None or str(device) == "cpu")
    if (engine == "native" and not fits) or (kept == "int8" and not (able and fits)):
        raise ValueError(_refusal(engine, kept, "a model", device or "cpu"))
    return able and fits


def open_engine(model: Any, name: str = "auto", dtype: Any = None, *, probe: bool = True) -> Engine:
    """The engine for a transformers causal language model.

    Args:
        model: a `transformers.PreTrainedModel` with a causal head.
        name: "native" is the Rust engine, for a plain GPT-2 on the CPU; "torch" the lean GPT-2
            step in torch, where the model is a plain GPT-2 on the CPU in float32 or float64, and
            "transformers" otherwise; "transformers" calls the model's own forward pass; "auto"
            takes the first of these that supports the model and the dtype.
        dtype: the format in which the native engine keeps weights, one of `NATIVE_DTYPES`; for
            other engines the model's own. None is the model's own, and "auto" then leaves a model
            that is not in float32 to torch, which computes in the model's own dtype.
        probe: whether a model that runs through its own forward pass is first probed with a few
            tokens; see `Decoder`.

    Raises:
        ValueError: for an unknown name, where "native" cannot run the model, and for a dtype that
            neither the native engine nor the model has, and for what is no causal language model.
    """
    _check_name(name)
    from fastdecode.models.engines.gpt2.engine import GPT2Engine
    from fastdecode.models.engines.native import LoadedEngine, runs_natively
    from fastdecode.models.engines.plain_gpt2 import is_plain_gpt2
    from fastdecode.models.engines.transformers.engine import TorchEngine

    own, asked = str(dtype_name(model.dtype)), dtype_name(dtype)
    kept = asked or own
    native = name == "native" or (name == "auto" and (asked or own == "float32"))
    if native and kept in NATIVE_DTYPES and runs_natively(model):
        return LoadedEngine(model, kept)
    if name == "native" or kept == "int8":
        raise ValueError(_refusal(name, kept, f"a {type(model).__name__} in {own}", model.device))
    if kept != own:
        raise ValueError(
            f"dtype={kept!r}, but the model is in {own}; convert it first, as with "
            f"model.to(torch.{kept})"
        )
    if name != "transformers" and is_plain_gpt2(model):
        return GPT2Engine(model)
    return TorchEngine(model, probe=probe)


def dtype_name(dtype: Any) -> str | None:
    """The name of a torch dtype; a name or None is returned unchanged."""
    return None if dtype is None else str(dtype).removeprefix("torch.")


def _check_name(engine: str) -> None:
    if engine not in NAMES:
        raise ValueError(f"engine={engine!r} is unknown; choose one of {', '.join(NAMES)}")


def _refusal(engine: str, dtype: str, what: str, device: Any) -> str:
    return (
        f"engine={engine!r} cannot run {what} on {device} with dtype={dtype!r}; engine='native', "
        f"the only one with int8, keeps weights as {', '.join(NATIVE_DTYPES)} and runs a plain "
        "GPT-2 with tied embeddings on the CPU; for anything else use engine='auto' and a torch "
        "dtype"
    )
