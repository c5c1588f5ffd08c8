"""The metadata of a GGUF file that its tokenizer is made of, as JSON."""

from __future__ import annotations

import json
from typing import Any

from fastdecode._core import GgufFile
from fastdecode.files.inner import InnerPath
from fastdecode.files.reading import parse_json

_TOKENIZER = "tokenizer."
_ARCHITECTURE = "general.architecture"


class Metadata(dict[str, Any]):
    """Entries by key, with the methods of `GgufFile` that tokenizers are made with.

    Attributes:
        path: where they come from, for messages.
    """

    path: Any

    @classmethod
    def of(cls, file: GgufFile) -> Metadata:
        """What a file says of its tokenizer."""
        keys = [key for key in file.keys() if _is_needed(key)]  # noqa: SIM118
        found = cls({key: file[key] for key in keys})
        found.path = file.path
        return found

    @classmethod
    def decoded(cls, raw: bytes, path: InnerPath) -> Metadata:
        """From JSON.

        Raises:
            ValueError: where it is none, or no object.
        """
        data = parse_json(raw, str(path))
        if not isinstance(data, dict):
            raise ValueError(f"{path}: it must be a JSON object")
        found = cls(data)
        found.path = path
        return found

    def encoded(self) -> bytes:
        """As JSON, which has every number to the last bit."""
        return json.dumps(self, ensure_ascii=False, separators=(",", ":")).encode()


def _is_needed(key: str) -> bool:
    return key.startswith(_TOKENIZER) or key == _ARCHITECTURE
