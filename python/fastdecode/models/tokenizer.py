"""A tokenizer from its files, without transformers, which takes seconds to import."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, overload

from fastdecode.files.inner import Folder
from fastdecode.models.chat.templates import ChatTemplates
from fastdecode.models.tokenizer_files.files import TokenizerFiles
from fastdecode.models.tokenizer_files.refusal import NeedsTransformers


class FileTokenizer:
    """The part of a transformers tokenizer that the package uses, from its files.

    It is the tokenizer that `AutoTokenizer.from_pretrained` of transformers would make of the
    folder, or none: where the files need more than is known here, they are refused.

    Attributes:
        bos_token_id: the token that begins a text, or None.
        eos_token_id: the token that ends a text, or None.
        chat_template: the template of conversations, several by name, or None.
        chat_templates: the same with the places in the files.
        special_tokens_map: the special tokens by name, such as "bos_token".
    """

    # As in transformers: it knows where each token is in the text.
    is_fast = True

    def __init__(self, folder: Folder) -> None:
        """Read `tokenizer.json`, or `vocab.json` and `merges.txt`, and `tokenizer_config.json`.

        Raises:
            ValueError: where they are missing or damaged, or need transformers.
        """
        files = TokenizerFiles(folder)
        self.chat_templates = ChatTemplates.of_folder(folder, files.settings)
        self.chat_template = self.chat_templates.value()
        self._tokenizer = files.tokenizer()
        self.bos_token_id: int | None = files.special("bos_token", self._tokenizer)
        self.eos_token_id: int | None = files.special("eos_token", self._tokenizer)
        self.special_tokens_map = files.named_tokens()

    def __call__(
        self,
        text: str | Sequence[str],
        *,
        add_special_tokens: bool = True,
        return_offsets_mapping: bool = False,
        verbose: bool = True,
    ) -> dict[str, Any]:
        """The tokens of a text, or of each of several.

        Args:
            text: a text, or a list or tuple of texts.
            add_special_tokens: whether to add the special tokens that the tokenizer adds by itself.
            return_offsets_mapping: whether to return the place of each token in its text as well.
            verbose: changes nothing.

        Returns:
            `{"input_ids": ...}`, a list of ids for one text and a list of lists for several; with
            `return_offsets_mapping` also "offset_mapping", where each token has a pair (start, end)
            of character positions.

        Raises:
            TypeError: for anything but strings.
        """
        texts = [text] if isinstance(text, str) else text
        if not isinstance(texts, list | tuple) or not all(isinstance(one, str) for one in texts):
            raise TypeError(f"text must be a string or a list of strings, not {text!r:.60}")
        found = self._tokenizer.encode_batch(list(texts), add_special_tokens=add_special_tokens)
        columns: dict[str, list[Any]] = {"input_ids": [one.ids for one in found]}
        if return_offsets_mapping:
            columns["offset_mapping"] = [one.offsets for one in found]
        if isinstance(text, str):
            return {name: values[0] for name, values in columns.items()}
        return columns

    def encode(self, text: str, *, add_special_tokens: bool = True) -> list[int]:
        """The tokens of one text."""
        ids: list[int] = self([text], add_special_tokens=add_special_tokens)["input_ids"][0]
        return ids

    @property
    def backend_tokenizer(self) -> Any:
        """The underlying `tokenizers.Tokenizer`, under the name that transformers gives it."""
        return self._tokenizer

    def __len__(self) -> int:
        """The number of tokens, special ones included."""
        return int(self._tokenizer.get_vocab_size())

    def decode(
        self,
        token_ids: int | Sequence[int],
        *,
        skip_special_tokens: bool = False,
        clean_up_tokenization_spaces: bool = False,
    ) -> str:
        """The text of one token or several; spaces are never tidied up."""
        ids = [token_ids] if isinstance(token_ids, int) else list(token_ids)
        text: str = self._tokenizer.decode(ids, skip_special_tokens=skip_special_tokens)
        return text

    @overload
    def convert_ids_to_tokens(self, ids: int) -> str | None: ...
    @overload
    def convert_ids_to_tokens(self, ids: Sequence[int]) -> list[str | None]: ...
    def convert_ids_to_tokens(self, ids: int | Sequence[int]) -> str | list[str | None] | None:
        """One token or several, as written in the vocabulary; None for an unknown id."""
        if isinstance(ids, int):
            found: str | None = self._tokenizer.id_to_token(ids)
            return found
        return [self._tokenizer.id_to_token(token) for token in ids]


def read_tokenizer(folder: Path) -> Any:
    """The tokenizer in a folder, by transformers only where its files need that.

    Raises:
        ValueError: where its files are missing or damaged, or need Python code.
    """
    try:
        return FileTokenizer(folder)
    except NeedsTransformers:
        from fastdecode.models.checkpoints import load_tokenizer

        return load_tokenizer(folder)
