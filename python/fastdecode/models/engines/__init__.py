"""Engines: what runs the model's forward pass. `open_engine` picks one for a model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fastdecode.models.engines.base import CachedBatch, Engine
from fastdecode.models.placement import (
    NATIVE_ONLY,
    cache_dtype_name,
    check_device,
    dtype_name,
)
from fastdecode.options import checks

__all__ = [
    "NAMES",
    "NATIVE_DTYPES",
    "CachedBatch",
    "Engine",
    "check_name",
    "open_engine",
    "prefers_native",
]

NAMES = ("auto", "native", "torch", "transformers")
# The formats in which the native engine keeps weights.
NATIVE_DTYPES = ("float32", "bfloat16", *NATIVE_ONLY)


def prefers_native(
    engine: str, device: Any = None, dtype: Any = None, kv_cache_dtype: Any = None
) -> bool:
    """Whether the native engine should try to read a model's files before transformers does.

    Args:
        engine: one of `NAMES`.
        device: a torch device; None is the CPU.
        dtype: a torch dtype or the name of a format; None is float32.
        kv_cache_dtype: the format of the KV cache, which is for the native engine to choose.

    Raises:
        ValueError: for an unknown engine, and for what no engine supports: one of `NATIVE_ONLY` or
            a format of the KV cache outside the native engine, or the native engine outside the
            CPU.
    """
    check_name(engine)
    check_device(device)
    kept = dtype_name(dtype) or "float32"
    able = engine in ("auto", "native")
    on_cpu = device is None or str(device) == "cpu"
    if engine == "native" and kept not in NATIVE_DTYPES:
        raise ValueError(
            f"dtype={kept!r} is none of the native engine's; give {_quoted(NATIVE_DTYPES)}, or use "
            f'engine="torch"'
        )
    if engine == "native" and not on_cpu:
        raise ValueError(
            f"engine='native' runs on the CPU, and device={str(device)!r} was given; leave one of "
            "the two out"
        )
    if kept in NATIVE_ONLY and not (able and on_cpu):
        other = f"device={str(device)!r}" if able else f"engine={engine!r}"
        raise ValueError(
            f"dtype={kept!r} needs the native engine, on the CPU; leave {other} out, or give "
            '"bfloat16" or "float16"'
        )
    native = able and on_cpu and kept in NATIVE_DTYPES
    cache = cache_dtype_name(kv_cache_dtype)
    if cache is not None and not native:
        other = f"engine={engine!r}" if not able else f"device={str(device)!r}"
        if able and on_cpu:
            other = f"dtype={kept!r}"
        raise ValueError(
            f"kv_cache_dtype={cache!r} needs the native engine, on the CPU; leave {other} out, or "
            "leave kv_cache_dtype out"
        )
    return native


def open_engine(
    model: Any,
    name: str = "auto",
    dtype: Any = None,
    *,
    kv_cache_dtype: Any = None,
    probe: bool = True,
) -> Engine:
    """The engine for a transformers causal language model.

    Args:
        model: a `transformers.PreTrainedModel` with a causal head.
        name: "native" is the Rust engine, for the families that it knows, on the CPU; "torch" the
            lean GPT-2 step in torch, where the model is a plain GPT-2 on the CPU in float32 or
            float64, and "transformers" otherwise; "transformers" calls the model's own forward
            pass; "auto" takes the first of these that supports the model and the dtype.
        dtype: the format in which the native engine keeps weights, one of `NATIVE_DTYPES`; for
            other engines the model's own. None is the model's own, and "auto" then leaves a model
            that is not in float32 to torch, which computes in the model's own dtype.
        kv_cache_dtype: the format in which the native engine keeps keys and values, "float32",
            "bfloat16" or "int8"; None is float32 there. Other engines have none to choose.
        probe: whether a model that runs through its own forward pass is first probed with a few
            tokens; see `Decoder`.

    Raises:
        ValueError: for an unknown name, where "native" cannot run the model, and for a dtype that
            neither the native engine nor the model has, and for a model that is not a causal
            language model.
    """
    check_name(name)
    from fastdecode.models.engines.gpt2.engine import GPT2Engine
    from fastdecode.models.engines.native import LoadedEngine, runs_natively
    from fastdecode.models.engines.plain_gpt2 import is_plain_gpt2
    from fastdecode.models.engines.transformers.engine import TorchEngine

    own, asked = str(model.dtype).removeprefix("torch."), dtype_name(dtype)
    if asked == "auto":
        asked = None
    kept = asked or own
    cache = cache_dtype_name(kv_cache_dtype)
    native = name == "native" or (name == "auto" and (asked or cache or own == "float32"))
    if native and kept in NATIVE_DTYPES and runs_natively(model):
        return LoadedEngine(model, kept, cache or "float32")
    if name == "native" or kept in NATIVE_ONLY or cache is not None:
        raise ValueError(_refusal(model, name, own, kept, cache))
    if kept != own:
        raise ValueError(
            f"dtype={kept!r}, but the model is in {own}; convert it first, as with "
            f"model.to(torch.{kept})"
        )
    if name != "transformers" and is_plain_gpt2(model):
        return GPT2Engine(model)
    return TorchEngine(model, probe=probe)


def check_name(engine: Any) -> None:
    """Refuse what is no engine's name.

    Raises:
        TypeError: for anything but a string.
        ValueError: for another one.
    """
    if checks.string("engine", engine) not in NAMES:
        raise ValueError(
            f"engine={checks.shown(engine)} is unknown; choose one of {', '.join(NAMES)}"
        )


def _refusal(model: Any, engine: str, own: str, kept: str, cache: str | None) -> str:
    """Why the native engine cannot run a model, which `engine` or one of the formats calls for."""
    called = "engine='native'" if engine == "native" else f"dtype={kept!r}"
    if engine != "native" and kept not in NATIVE_ONLY:
        called = f"kv_cache_dtype={cache!r}"
        if engine != "auto":
            return (
                f"{called} needs the native engine; leave engine={engine!r} out, or leave "
                "kv_cache_dtype out"
            )
    from fastdecode.models.engines.native import refusal

    kind = type(model).__name__
    if own in ("float32", "float16", "bfloat16") and kept not in NATIVE_DTYPES:
        why = f"the native engine keeps weights as {_quoted(NATIVE_DTYPES)}"
    else:
        why = refusal(model)
    instead = "leave dtype out" if kept in NATIVE_ONLY else "use engine='auto'"
    if called.startswith("kv_"):
        instead = "leave kv_cache_dtype out"
    return f"{called} cannot run a {kind} in {own}: {why}; {instead}"


def _quoted(names: Sequence[str]) -> str:
    return ", ".join(f'"{name}"' for name in names)
