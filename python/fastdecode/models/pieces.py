"""Pieces: a token as written in the vocabulary, as bytes, and in readable form."""

from __future__ import annotations

import json
import re
import unicodedata
from functools import lru_cache
from typing import Any

from fastdecode._core import probe_memory

# Bytes without which no tokenizer is called: the library `tokenizers` ends the process where it is
# refused memory.
ROOM = 2**20
_BYTE_PIECE = re.compile(r"<0x([0-9A-Fa-f]{2})>")
_SIGNS = {" ": "␣", "\n": "↵", "\t": "⇥", "\r": "␍"}


class Pieces:
    """A tokenizer's tokens one by one.

    The bytes of byte-level (GPT-2) and SentencePiece tokens are exact; for any other tokenizer they
    are those of the token as written in the vocabulary.
    """

    def __init__(self, tokenizer: Any) -> None:
        """Read pieces of a transformers tokenizer, or of one like it."""
        self._tokenizer = tokenizer
        backend = getattr(tokenizer, "backend_tokenizer", None)
        self._added: dict[int, Any] = {}
        self._byte_level = False
        if backend is not None:
            self._added = backend.get_added_tokens_decoder()
            decoder = json.loads(backend.decoder.__getstate__()) if backend.decoder else {}
            self._byte_level = "ByteLevel" in json.dumps(decoder)

    def __len__(self) -> int:
        """The number of tokens, special ones included."""
        return len(self._tokenizer)

    def piece(self, token_id: int) -> str:
        """The token as written in the vocabulary; an unknown id in brackets."""
        probe_memory(ROOM)
        found = self._tokenizer.convert_ids_to_tokens([token_id])[0]
        return f"[{token_id}]" if found is None else str(found)

    def special(self, token_id: int) -> bool:
        """Whether the token is special, as the end-of-sequence token is, and adds no text."""
        if token_id in self._added:
            return bool(self._added[token_id].special)
        return token_id in getattr(self._tokenizer, "all_special_ids", ())

    def bytes(self, token_id: int) -> bytes:
        """The bytes that the token adds to a text; none for a special token."""
        if self.special(token_id):
            return b""
        piece = self.piece(token_id)
        if token_id in self._added:
            return piece.encode()
        if self._byte_level:
            table = byte_of_character()
            return bytes(table[c] for c in piece) if all(c in table for c in piece) else b""
        byte = _BYTE_PIECE.fullmatch(piece)
        if byte:
            return bytes([int(byte[1], 16)])
        return piece.replace("\u2581", " ").encode()

    def text(self, token_id: int) -> str:
        """The text that the token alone decodes to; empty for a special token."""
        probe_memory(ROOM)
        text: str = self._tokenizer.decode(
            [token_id], skip_special_tokens=True, clean_up_tokenization_spaces=False
        )
        return text

    def readable(self, token_id: int) -> str:
        """The token on one line: spaces and line ends as signs, invalid UTF-8 as \\xNN."""
        shown = "" if self.special(token_id) else readable(self.bytes(token_id))
        # Names of special tokens keep their spaces.
        return shown or "".join(
            c if c == " " or _visible(c) else _escaped(c) for c in self.piece(token_id)
        )


def readable(raw: bytes) -> str:
    """Bytes on one line: ␣ for a space, ↵ for a line end, \\xNN for invalid UTF-8."""
    text = raw.decode("utf-8", errors="backslashreplace")
    return "".join(_SIGNS.get(c) or (c if _visible(c) else _escaped(c)) for c in text)


def _visible(character: str) -> bool:
    return unicodedata.category(character)[0] not in "CZ"


def _escaped(character: str) -> str:
    code = ord(character)
    return f"\\u{code:04x}" if code <= 0xFFFF else f"\\U{code:08x}"


@lru_cache(maxsize=1)
def byte_of_character() -> dict[str, int]:
    """The byte of each character in byte-level BPE.

    Printable bytes are written as themselves, the others as the characters from U+0100 on, in order
    (Radford et al., 2019).
    """
    own = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    table = {chr(byte): byte for byte in own}
    others = (byte for byte in range(256) if byte not in set(own))
    return table | {chr(0x100 + place): byte for place, byte in enumerate(others)}
