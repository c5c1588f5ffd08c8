"""Text to tokens: a tokenizer with the conventions of the package."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any

from fastdecode.models.pieces import Pieces


class Codec:
    """Encodes texts with a transformers tokenizer, or with one that behaves like it.

    Attributes:
        tokenizer: the tokenizer.
    """

    def __init__(self, tokenizer: Any) -> None:
        """Use `tokenizer`."""
        self.tokenizer = tokenizer

    @cached_property
    def pieces(self) -> Pieces:
        """The tokens one by one, as bytes and in readable form."""
        return Pieces(self.tokenizer)

    def prompts(self, texts: Sequence[str]) -> list[list[int]]:
        """The tokens of each prompt, with the special tokens that the tokenizer adds by itself.

        An empty prompt becomes the BOS token.

        Raises:
            ValueError: for an empty prompt where the tokenizer has no BOS token.
        """
        if not texts:
            return []
        ids: list[list[int]] = self.tokenizer(list(texts), verbose=False)["input_ids"]
        if all(ids):
            return ids
        bos = getattr(self.tokenizer, "bos_token_id", None)
        if bos is None:
            row = next(row for row, tokens in enumerate(ids) if not tokens)
            raise ValueError(
                f"prompts[{row}] is empty and the tokenizer has no BOS token to begin from; "
                "give at least one token of text"
            )
        return [tokens or [bos] for tokens in ids]

    def plain(self, texts: Sequence[str]) -> list[list[int]]:
        """The tokens of each text, without special tokens around them."""
        if not texts:
            return []
        ids: list[list[int]] = self.tokenizer(list(texts), add_special_tokens=False, verbose=False)[
            "input_ids"
        ]
        return ids

    def special(self, name: str) -> int:
        """The special token `name`, "bos" or "eos".

        Raises:
            ValueError: where the tokenizer has none.
        """
        token = getattr(self.tokenizer, f"{name}_token_id", None)
        if token is None:
            raise ValueError(f"the tokenizer has no {name.upper()} token; use {name}=False")
        return int(token)
