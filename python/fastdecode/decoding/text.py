"""Text from tokens: all at once, or token by token without ever splitting a character."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

# Tokenizers of the SentencePiece family drop a leading space, so a continuation is decoded
# together with the last few tokens of its prompt.
_TAIL = 6
_REPLACEMENT = "\ufffd"


def decode(tokenizer: Any, ids: Sequence[int]) -> str:
    """`ids` as text, without special tokens and without tidying up spaces."""
    text: str = tokenizer.decode(
        list(ids), skip_special_tokens=True, clean_up_tokenization_spaces=False
    )
    return text


def continuation(tokenizer: Any, prompt: Sequence[int], ids: Sequence[int]) -> str:
    """The text that the tokens `ids` add after the tokens `prompt`."""
    tail = list(prompt[-_TAIL:])
    return decode(tokenizer, tail + list(ids))[len(decode(tokenizer, tail)) :]


class TextCursor:
    """An incremental detokenizer: each call returns the characters that are complete.

    A token may end inside a UTF-8 character. Such a piece is held back until the character is
    complete, so the pieces and `finish()` together are exactly the text of all tokens.
    """

    def __init__(self, tokenizer: Any, prompt: Sequence[int]) -> None:
        """Begin after the tokens `prompt`."""
        self._tokenizer = tokenizer
        self._ids = list(prompt[-_TAIL:])
        self._first = len(self._ids)
        self._start = 0
        self._read = len(self._ids)
        self._seen = decode(tokenizer, self._ids)
        self._given: list[str] = []

    def feed(self, token: int) -> str:
        """The text that is complete with `token`; empty while a character is not."""
        self._ids.append(token)
        text = decode(self._tokenizer, self._ids[self._start :])
        if len(text) <= len(self._seen) or text.endswith(_REPLACEMENT):
            return ""
        piece = text[len(self._seen) :]
        self._start, self._read = self._read, len(self._ids)
        self._seen = decode(self._tokenizer, self._ids[self._start :])
        self._given.append(piece)
        return piece

    def finish(self) -> str:
        """The text still held back, once no token follows."""
        whole = continuation(self._tokenizer, self._ids[: self._first], self._ids[self._first :])
        given = "".join(self._given)
        if whole.startswith(given):
            return whole[len(given) :]
        return decode(self._tokenizer, self._ids[self._start :])[len(self._seen) :]
