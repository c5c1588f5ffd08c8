"""A tokenizer from its files, without transformers, which takes seconds to import."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

# Tokenizer classes that are fully described by `tokenizer.json`.
_PLAIN = (
    None,
    "PreTrainedTokenizerFast",
    "TokenizersBackend",
    "GPT2Tokenizer",
    "GPT2TokenizerFast",
)
_GPT2_SPECIAL = "<|endoftext|>"


class FileTokenizer:
    """The part of a transformers tokenizer that the package uses, over a `tokenizer.json`.

    Attributes:
        bos_token_id: the token that begins a text, or None.
        eos_token_id: the token that ends a text, or None.
    """

    def __init__(self, folder: Path) -> None:
        """Read `tokenizer.json` and `tokenizer_config.json`.

        Raises:
            ValueError: where they are missing or damaged, or need a tokenizer of another class.
        """
        from tokenizers import Tokenizer

        try:
            self._tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
            settings = _settings(folder / "tokenizer_config.json")
        except Exception as error:
            raise ValueError(f"{folder}: the tokenizer cannot be read: {error}") from error
        if settings.get("tokenizer_class") not in _PLAIN:
            raise ValueError(
                f"{folder}: a tokenizer of class {settings['tokenizer_class']!r} needs transformers"
            )
        # A tokenizer file may enable padding and truncation.
        self._tokenizer.no_padding()
        self._tokenizer.no_truncation()
        self.bos_token_id = self._special(settings.get("bos_token", _GPT2_SPECIAL))
        self.eos_token_id = self._special(settings.get("eos_token", _GPT2_SPECIAL))

    def __call__(
        self, texts: Sequence[str], *, add_special_tokens: bool = True, verbose: bool = True
    ) -> dict[str, list[list[int]]]:
        """The tokens of each text, as `{"input_ids": [...]}`. `verbose` changes nothing."""
        found = self._tokenizer.encode_batch(list(texts), add_special_tokens=add_special_tokens)
        return {"input_ids": [item.ids for item in found]}

    @property
    def backend_tokenizer(self) -> Any:
        """The underlying `tokenizers.Tokenizer`, under the name that transformers gives it."""
        return self._tokenizer

    def __len__(self) -> int:
        """The number of tokens, special ones included."""
        return int(self._tokenizer.get_vocab_size())

    def decode(
        self,
        ids: Sequence[int],
        *,
        skip_special_tokens: bool = False,
        clean_up_tokenization_spaces: bool = False,
    ) -> str:
        """The text of `ids`; spaces are never tidied up."""
        text: str = self._tokenizer.decode(list(ids), skip_special_tokens=skip_special_tokens)
        return text

    def convert_ids_to_tokens(self, ids: Sequence[int]) -> list[str | None]:
        """The tokens as written in the vocabulary."""
        return [self._tokenizer.id_to_token(token) for token in ids]

    def _special(self, token: Any) -> int | None:
        content = token.get("content") if isinstance(token, dict) else token
        return None if content is None else self._tokenizer.token_to_id(content)


def _settings(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        return {}
    return found if isinstance(found, dict) else {}
