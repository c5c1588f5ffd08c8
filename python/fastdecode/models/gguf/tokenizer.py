"""The tokenizer of a GGUF file."""

from __future__ import annotations

from pathlib import Path

from fastdecode._core import GgufFile
from fastdecode.models.chat.templates import ChatTemplates
from fastdecode.models.gguf.metadata import Metadata
from fastdecode.models.gguf.vocabulary import Vocabulary
from fastdecode.models.tokenizer import FileTokenizer


class GgufTokenizer(FileTokenizer):
    """A tokenizer from the metadata of a GGUF file, without transformers.

    It is the tokenizer of the model that the file was made of; where the file does not say enough
    to know it, it is refused.

    Attributes:
        eos_ids: the tokens that end a text.
    """

    def __init__(self, file: GgufFile | Metadata | Path) -> None:
        """Read it.

        Args:
            file: the file, what it says of its tokenizer, or where it is.

        Raises:
            ValueError: where the file is damaged, or has a tokenizer of a kind that is not known.
            OSError: where it cannot be read.
        """
        if not isinstance(file, GgufFile | Metadata):
            file = GgufFile(file)
        path = file.path
        try:
            vocabulary = Vocabulary.of(file)
            self._tokenizer = vocabulary.tokenizer()
            templates = vocabulary.templates()
            self.bos_token_id = vocabulary.special("bos_token")
            self.eos_token_id = vocabulary.special("eos_token")
            self.special_tokens_map = vocabulary.named_tokens()
            self.eos_ids = vocabulary.ends()
        except (KeyboardInterrupt, MemoryError):
            raise
        except Exception as error:
            raise ValueError(f"{path}: the tokenizer cannot be read: {error}") from error
        place = f"{path}: tokenizer.chat_template"
        self.chat_templates = ChatTemplates.of_value(templates, place)
        self.chat_template = self.chat_templates.value()
