"""Where a model runs and in which number formats, checked before it loads.

That is, `device`, `dtype` and `kv_cache_dtype`.
"""

from __future__ import annotations

import difflib
from typing import Any

import numpy as np

from fastdecode.options import checks

# Formats that only the native engine has.
NATIVE_ONLY = ("bfloat16_weights", "int8", "int4")
# The formats that a GGUF file has.
AS_IN_FILE = "gguf"
# Definitions of formats as versions before them read GGUF files; each is a dtype of such files.
EARLIER = ("int8/1", "int4/1")
# What `dtype` may say: formats of torch, the native engine's, and the checkpoint's own.
DTYPES = ("float32", "float64", "bfloat16", "float16", *NATIVE_ONLY, AS_IN_FILE, "auto")
# What `kv_cache_dtype` may say.
CACHE_DTYPES = ("float32", "bfloat16", "int8")
# Names that torch has for the same formats.
_SAME = {"float": "float32", "double": "float64", "half": "float16"}
# Names that others have for them.
_MEANT = {
    **dict.fromkeys(("fp32", "f32", "single"), "float32"),
    **dict.fromkeys(("fp64", "f64"), "float64"),
    **dict.fromkeys(("fp16", "f16"), "float16"),
    **dict.fromkeys(("bf16", "bfp16", "brain"), "bfloat16"),
    **dict.fromkeys(("8bit", "8-bit", "i8", "q8", "q8_0", "uint8", "int8_float32"), "int8"),
    **dict.fromkeys(("4bit", "4-bit", "i4", "q4", "q4_0", "q4_k_m", "uint4", "nf4", "fp4"), "int4"),
}
# Definitions of the native engine's formats that now have another name.
_RENAMED = {"bfloat16/1": "bfloat16_weights"}
# Integer formats that `difflib` would take for "int4" or "int8".
_WIDE = ("int16", "int32", "int64", "uint16", "uint32", "uint64")
# torch numbers them with eight bits.
_MOST_DEVICES = 128
_SMALLER = ("int2", "int3", "2bit", "3bit", "2-bit", "3-bit", "q2", "q3", "q2_k", "q3_k_m")


def dtype_name(dtype: Any) -> str | None:
    """The name of a number format, one of `DTYPES`, or None.

    Args:
        dtype: a torch or NumPy dtype, its name, or None.

    Returns:
        One of `DTYPES` or `EARLIER`, or None for None.

    Raises:
        TypeError: for anything else.
        ValueError: for a name that is unknown, with the one that may be meant.
    """
    name = _name("dtype", dtype)
    if name is None or name in DTYPES or name in EARLIER:
        return name
    short = name.lower().replace(" ", "")
    if short in _SMALLER:
        hint = '"int4" is the smallest that there is'
    else:
        near = difflib.get_close_matches(short, DTYPES, n=1, cutoff=0.75)
        if short in _WIDE:
            near = []
        meant = _MEANT.get(short) or (near[0] if near else None)
        hint = f'did you mean "{meant}"?' if meant else "give one of these"
    known = ", ".join(f'"{one}"' for one in DTYPES)
    raise ValueError(f"dtype={checks.shown(name)} is unknown; {hint} (there are {known})")


def _name(argument: str, dtype: Any) -> str | None:
    """The name of a dtype as torch and NumPy spell it, whether or not it is known; None for None.

    Raises:
        TypeError: for what is neither a dtype nor a string.
    """
    if dtype is None:
        return None
    if not isinstance(dtype, str | np.dtype) and not _is_of_torch(dtype, "dtype"):
        raise TypeError(
            f"{argument} must be a torch dtype or its name, "
            f"not {type(dtype).__name__} ({checks.shown(dtype)})"
        )
    name = str(dtype).removeprefix("torch.")
    return _SAME.get(name, name)


def recorded_dtype(dtype: Any, engine: Any, definition: Any, *, of_gguf: bool = False) -> Any:
    """The dtype that now computes what a saved run recorded.

    Args:
        dtype: what it recorded as its dtype.
        engine: its engine.
        definition: the definition of its number format; None where it recorded none, as the first
            versions did.
        of_gguf: whether its model is a GGUF file.
    """
    if engine != "native":
        return dtype
    if of_gguf and definition in EARLIER:
        return definition
    return _RENAMED.get(definition or f"{dtype}/1", dtype)


def check_not_of_file(dtype: str | None) -> None:
    """Refuse the formats that only GGUF files have.

    Raises:
        ValueError: for one of them.
    """
    if dtype == AS_IN_FILE or dtype in EARLIER:
        fix = "leave it out" if dtype == AS_IN_FILE else f'give "{dtype.split("/")[0]}"'
        raise ValueError(f"dtype={dtype!r} goes with a GGUF file, and the model is none; {fix}")


def cache_dtype_name(kv_cache_dtype: Any) -> str | None:
    """The name of a number format of the KV cache, one of `CACHE_DTYPES`, or None.

    Args:
        kv_cache_dtype: a torch or NumPy dtype, its name, or None; "auto" is None.

    Raises:
        TypeError: for anything else.
        ValueError: for a name that is unknown, with the one that may be meant.
    """
    name = _name("kv_cache_dtype", kv_cache_dtype)
    if name is None or name == "auto":
        return None
    if name in CACHE_DTYPES:
        return name
    meant = _MEANT.get(name.lower().replace(" ", ""))
    hint = f'did you mean "{meant}"?' if meant in CACHE_DTYPES else "give one of these"
    known = ", ".join(f'"{one}"' for one in CACHE_DTYPES)
    raise ValueError(f"kv_cache_dtype={checks.shown(name)} is unknown; {hint} (there are {known})")


def check_device(device: Any) -> None:
    """Refuse what cannot name a device, without importing torch.

    Raises:
        TypeError: for anything but a torch device, its name, a number or None.
        ValueError: for a number that no device has.
    """
    names = device is None or isinstance(device, str | int) or _is_of_torch(device, "device")
    if not names or isinstance(device, bool):
        raise TypeError(
            'device must be a torch device or its name, such as "cuda", '
            f"not {type(device).__name__} ({checks.shown(device)})"
        )
    if isinstance(device, int) and not 0 <= device < _MOST_DEVICES:
        raise ValueError(
            f'device={checks.shown(device)} is unknown; give "cpu", "cuda", "cuda:1" or "mps"'
        )


def _is_of_torch(value: Any, kind: str) -> bool:
    """Whether a value is of a class of torch, which need not be imported for it."""
    return (type(value).__module__, type(value).__name__) == ("torch", kind)


def device_name(device: Any) -> str | None:
    """The name of a device on which torch can hold a model, or None for None.

    Args:
        device: a torch device, its name, the number of a CUDA device, or None.

    Raises:
        TypeError: for anything else.
        ValueError: for a name that torch does not know, or a device that this machine lacks.
    """
    check_device(device)
    if device is None or (isinstance(device, str) and device == "cpu"):
        return device
    import torch

    try:
        found = torch.device(device)
    except (RuntimeError, ValueError, TypeError, OverflowError):
        raise ValueError(
            f'device={checks.shown(device)} is unknown; give "cpu", "cuda", "cuda:1" or "mps"'
        ) from None
    if found.type == "meta":
        raise ValueError('device="meta" holds no numbers; give "cpu" or "cuda"')
    try:
        torch.empty(1, device=found)
    except MemoryError:
        raise
    except Exception as error:
        given = device if isinstance(device, int) else str(device)
        raise ValueError(
            f"device={given!r} is not available here: {_why(found.type, error)}; leave device "
            "out for the CPU"
        ) from error
    return str(found)


def _why(kind: str, error: Exception) -> str:
    """Why torch has no such device."""
    import torch

    if kind == "cuda":
        if torch.version.cuda is None and getattr(torch.version, "hip", None) is None:
            return "this torch is built without CUDA"
        if not torch.cuda.is_available():
            return "torch sees no GPU"
        return f"torch sees {torch.cuda.device_count()} of them, numbered from 0"
    if kind == "mps":
        return "torch sees no GPU of Apple's"
    reason = str(error).strip().partition("\n")[0].partition(". ")[0]
    return reason if len(reason) <= 120 else reason[:119] + "…"
