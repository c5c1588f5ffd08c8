"""Tokens to text: what a tokenizer's decoder makes of each token, and which it leaves out."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any, Literal

from fastdecode._core import probe_memory
from fastdecode.models.pieces import ROOM, byte_of_character

REPLACEMENT = "\ufffd"
_BYTE_TOKEN = re.compile(r"<0x([0-9A-Fa-f]{2})>")
# Methods that turn tokens into text through the `tokenizers` library alone.
_PLAIN_MODULES = (
    "transformers.tokenization_utils_base",
    "transformers.tokenization_utils_fast",
    "transformers.tokenization_utils_tokenizers",
    "fastdecode.models.tokenizer",
)
# Tokens that are decoded before others as their context.
_TAIL = 6
_LONGEST_TAIL = 64

# How the text of several tokens follows from the tokens:
# "bytes": it is the bytes of all tokens, decoded as UTF-8 (byte-level BPE);
# "runs": tokens such as <0x0A> stand for bytes, and each run of them is decoded on its own: as
#     UTF-8, or as one U+FFFD for each byte where the run is not valid (byte fallback);
# "windows": a token's text depends on a few tokens before it (every other decoder).
Kind = Literal["bytes", "runs", "windows"]


class Detokenizer:
    """Turns tokens into text, without tidying up spaces.

    Attributes:
        kind: how the text follows from the tokens: "bytes", "runs" or "windows".
        replaces: whether U+FFFD at the end of a text may stand for a character that is incomplete.
        skip_special_tokens: whether special tokens are left out of the text.
        names: what is written in the vocabulary for the special tokens that are left out.
    """

    def __init__(self, tokenizer: Any, *, skip_special_tokens: bool = True) -> None:
        """Decode with `tokenizer`, a transformers tokenizer or one that behaves like it."""
        self.skip_special_tokens = skip_special_tokens
        self._tokenizer = tokenizer
        self._backend = getattr(tokenizer, "backend_tokenizer", None)
        self._hidden: dict[int, str | None] = {}
        self._bytes: dict[int, bytes] = {}
        self._byte: dict[int, int | None] = {}
        special = _special_tokens(tokenizer, self._backend) if skip_special_tokens else {}
        self._special = special
        self.names = frozenset(special.values()) - {""}
        steps = None if self._backend is None else _steps(self._backend)
        self.kind: Kind = "windows"
        self.replaces = True
        # A few classes put a method of their own in place of the backend's.
        changed = "decode" in getattr(self._backend, "__dict__", {})
        plain = not changed and _is_plain(type(tokenizer))
        if steps is not None:
            self.replaces = not plain or "ByteLevel" in steps
            if plain and steps in (["ByteLevel"], ["ByteLevel", "Fuse"]):
                self.kind = "bytes"
            elif "ByteFallback" in steps and "ByteLevel" not in steps:
                self.kind = "runs"

    def decode(self, ids: Sequence[int]) -> str:
        """The text of `ids`."""
        probe_memory(ROOM)
        text: str = self._tokenizer.decode(
            list(ids),
            skip_special_tokens=self.skip_special_tokens,
            clean_up_tokenization_spaces=False,
        )
        return text

    def hidden(self, token: int) -> str | None:
        """What is written in the vocabulary for a token that is left out of texts.

        None for a token that adds to a text. The empty string for an id that the tokenizer does
        not know, which is left out as well.
        """
        if token not in self._hidden:
            unknown = "" if self._piece(token) is None else None
            self._hidden[token] = self._special.get(token, unknown)
        return self._hidden[token]

    def bytes(self, token: int) -> bytes:
        """The bytes that the token adds to a text, where `kind` is "bytes"."""
        found = self._bytes.get(token)
        if found is None:
            piece = None if self.hidden(token) is not None else self._piece(token)
            table = byte_of_character()
            if piece is None:
                found = b""
            elif all(character in table for character in piece):
                found = bytes(table[character] for character in piece)
            else:
                found = piece.encode()
            self._bytes[token] = found
        return found

    def byte(self, token: int) -> int | None:
        """The byte that the token stands for, where `kind` is "runs"; None for any other token."""
        if token not in self._byte:
            byte = _BYTE_TOKEN.fullmatch(self._piece(token) or "")
            self._byte[token] = int(byte[1], 16) if byte else None
        return self._byte[token]

    def visible(self, ids: Sequence[int]) -> list[int]:
        """Those of `ids` that add to a text."""
        return [token for token in ids if self.hidden(token) is None]

    def tail(self, ids: Sequence[int]) -> list[int]:
        """The last tokens of `ids`, after which further tokens decode as they do after all of them.

        They have text wherever `ids` has: decoders treat the first token of a text in a way of its
        own, and some strip leading spaces.
        """
        found: list[int] = []
        for token in reversed(ids):
            if len(found) >= _LONGEST_TAIL:
                break
            if self.hidden(token) is not None:
                continue
            if len(found) >= _TAIL and self._has_text(found):
                break
            found.append(token)
        return found[::-1]

    def _has_text(self, backwards: list[int]) -> bool:
        return bool(self.decode(backwards[::-1]).strip())

    def _piece(self, token: int) -> str | None:
        probe_memory(ROOM)
        if self._backend is not None:
            piece: str | None = self._backend.id_to_token(token)
            return piece
        found = self._tokenizer.convert_ids_to_tokens([token])[0]
        return None if found is None else str(found)


def _special_tokens(tokenizer: Any, backend: Any) -> dict[int, str]:
    """The tokens that `skip_special_tokens` leaves out, and what is written for them."""
    if backend is not None:
        probe_memory(ROOM)
        added = backend.get_added_tokens_decoder()
        names = {one.content for one in added.values() if one.special}
        # The backend goes by what is written for a token, which its normalizer may have changed.
        written = {token: backend.id_to_token(token) for token in added}
        return {token: name for token, name in written.items() if name in names}
    ids = list(getattr(tokenizer, "all_special_ids", None) or ())
    names = tokenizer.convert_ids_to_tokens(ids) if ids else []
    return {token: str(name) for token, name in zip(ids, names, strict=True)}


def _steps(backend: Any) -> list[str]:
    """The names of the steps of the backend's decoder, in their order."""
    if backend.decoder is None:
        return []
    state = json.loads(backend.decoder.__getstate__())
    steps = state["decoders"] if state["type"] == "Sequence" else [state]
    return [step["type"] for step in steps]


def _is_plain(kind: type) -> bool:
    """Whether a class of tokenizers leaves decoding to its backend."""
    for name in ("decode", "_decode"):
        owner = next((one for one in kind.__mro__ if name in vars(one)), None)
        if owner is not None and owner.__module__ not in _PLAIN_MODULES:
            return False
    return True
