"""The files that travel within a packed file, and the tokenizer that is made of them again.

They are those of the model's folder, as they are: its configuration, its generation settings, its
tokenizer and its chat templates. A GGUF file has all this in its metadata: of that, the entries
about the tokenizer travel as JSON, and the configuration is the one that the engine makes of it.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastdecode.files.inner import InnerPath
from fastdecode.models.identity.files import ModelFiles
from fastdecode.models.tokenizer import FileTokenizer, read_tokenizer
from fastdecode.models.tokenizer_files.refusal import NeedsTransformers

if TYPE_CHECKING:
    from fastdecode._core import GgufFile
    from fastdecode.models.gguf.tokenizer import GgufTokenizer

CONFIG = "config.json"
_METADATA = "gguf_metadata.json"
_TEMPLATES = ("chat_template.jinja", "additional_chat_templates/*.jinja")


def of_folder(folder: Path) -> dict[str, bytes]:
    """Those of a folder, by name.

    Raises:
        OSError: where one cannot be read.
    """
    files = ModelFiles.of(folder)
    paths = [*files.settings, *files.tokenizer]
    for pattern in _TEMPLATES:
        paths += sorted(folder.glob(pattern))
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}


def of_gguf(file: GgufFile) -> dict[str, bytes]:
    """Those of a GGUF file, by name.

    Raises:
        ValueError: where the native engine cannot run its model.
    """
    from fastdecode.models.gguf.metadata import Metadata

    return {CONFIG: file.config.encode(), _METADATA: Metadata.of(file).encoded()}


def is_of_gguf(folder: InnerPath) -> bool:
    """Whether a packed file was made of a GGUF file."""
    return (folder / _METADATA).is_file()


def gguf_tokenizer(folder: InnerPath) -> GgufTokenizer:
    """The tokenizer of a packed file that was made of a GGUF file.

    Raises:
        ValueError: where it is damaged.
    """
    from fastdecode.models.gguf.metadata import Metadata
    from fastdecode.models.gguf.tokenizer import GgufTokenizer

    return GgufTokenizer(Metadata.decoded((folder / _METADATA).read_bytes(), folder / _METADATA))


def tokenizer(folder: InnerPath) -> Any:
    """The tokenizer of a packed file that was made of a folder.

    Forms that only libraries read which want real files are unpacked for a moment, into a folder
    that only this user can read.

    Raises:
        ValueError: where it is damaged, or needs Python code.
    """
    if (folder / "tokenizer.json").is_file():
        try:
            return FileTokenizer(folder)
        except NeedsTransformers:
            pass
    with tempfile.TemporaryDirectory(prefix="fastdecode-") as name:
        unpacked = Path(name)
        _unpack(folder, unpacked)
        try:
            return read_tokenizer(unpacked)
        except ValueError as error:
            raise ValueError(str(error).replace(name, str(folder))) from error


def _unpack(folder: InnerPath, to: Path) -> None:
    """Write all files below a folder; their names have been checked when the file was opened."""
    for path in folder.iterdir():
        if path.is_dir():
            (to / path.name).mkdir()
            _unpack(path, to / path.name)
        else:
            (to / path.name).write_bytes(path.read_bytes())
