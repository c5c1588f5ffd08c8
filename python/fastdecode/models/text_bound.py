"""How much text a token can stand for, which bounds a text before it is encoded."""

from __future__ import annotations

import json
from typing import Any

from fastdecode.models.pieces import byte_of_character

# Steps before the vocabulary that drop nothing from a text, and the factor by which they may
# shorten it, in bytes. Canonical composition makes at least one byte of three.
_NORMALIZERS = {"Prepend": 1, "Replace": 1, "NFC": 3}
_PRE_TOKENIZERS = {"ByteLevel", "Digits", "Metaspace", "Split"}


def most_bytes(tokenizer: Any) -> int | None:
    """The most bytes of UTF-8 that one token of a text can stand for; None where there is no bound.

    There is one where every byte of a text is in one of its tokens: byte-level BPE, and BPE with
    byte fallback, unless something is dropped or replaced before.
    """
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None or not _keeps_all(backend):
        return None
    factor = 1
    for step in _steps(backend.normalizer, "normalizers"):
        factor *= _NORMALIZERS.get(step["type"], 0)
        if step["type"] == "Replace" and not _keeps_length(step):
            return None
    names = [*_steps(backend.pre_tokenizer, "pretokenizers")]
    if not factor or any(
        step["type"] not in _PRE_TOKENIZERS or step.get("behavior") == "Removed" for step in names
    ):
        return None
    added = backend.get_added_tokens_decoder().values()
    if any(token.lstrip or token.rstrip for token in added):
        return None
    level = any(step["type"] == "ByteLevel" for step in names)
    if not level and not backend.model.byte_fallback:
        return None
    # In byte-level BPE a character stands for a byte.
    pieces = backend.get_vocab(with_added_tokens=not level)
    longest = max(map(len, pieces) if level else (len(piece.encode()) for piece in pieces))
    return factor * max([longest, *(len(token.content.encode()) for token in added)])


def _keeps_all(backend: Any) -> bool:
    """Whether the vocabulary has a token for every byte."""
    model = backend.model
    if type(model).__name__ != "BPE":
        return False
    if model.byte_fallback:
        return all(backend.token_to_id(f"<0x{byte:02X}>") is not None for byte in range(256))
    return all(backend.token_to_id(character) is not None for character in byte_of_character())


def _keeps_length(step: dict[str, Any]) -> bool:
    """Whether a replacement puts at least as many bytes as it takes."""
    pattern = step["pattern"].get("String")
    return pattern is not None and len(step["content"].encode()) >= len(pattern.encode())


def _steps(part: Any, inside: str) -> list[dict[str, Any]]:
    """The steps of a part of a tokenizer."""
    if part is None:
        return []
    state = json.loads(part.__getstate__())
    steps: list[dict[str, Any]] = state[inside] if state["type"] == "Sequence" else [state]
    return steps
