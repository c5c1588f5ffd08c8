"""The files that hold a model's weights: their names, the index of several, and their headers."""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from fastdecode.files.inner import Folder, InnerPath
from fastdecode.files.reading import parse_json
from fastdecode.models import strict_json
from fastdecode.models.strict_json import shown

# The file that holds all weights, and the index of several files that do, in the order in which
# loaders look for them.
NAMES = (
    ("model.safetensors", "model.safetensors.index.json"),
    ("pytorch_model.bin", "pytorch_model.bin.index.json"),
)
# The most characters of the name of a file, in all systems.
_LONGEST = 255
_LENGTH_BYTES = 8


@dataclass(frozen=True, slots=True)
class Header:
    """The header of a safetensors file.

    Attributes:
        tensors: what it says about each tensor, by name; it has not been checked.
        first: the byte of the file at which the values of the tensors begin.
        size: the size of the file, in bytes.
    """

    tensors: dict[str, Any]
    first: int
    size: int


def read_header(file: BinaryIO) -> Header:
    """The header of a safetensors file that has just been opened.

    Raises:
        ValueError: where it is not a JSON object within the file; the message names the file.
        OSError: where it cannot be read.
    """
    size = os.fstat(file.fileno()).st_size
    length = int.from_bytes(file.read(_LENGTH_BYTES), "little")
    if length > size - _LENGTH_BYTES:
        raise ValueError(
            f"{file.name}: the header is damaged: it takes {length} bytes, and the file has "
            f"{size}; take the checkpoint again"
        )
    tensors = parse_json(file.read(length), f"{file.name}, header")
    if not isinstance(tensors, dict):
        raise ValueError(
            f"{file.name}: the header is damaged: it must be an object, not {shown(tensors)}"
        )
    tensors.pop("__metadata__", None)
    return Header(tensors, _LENGTH_BYTES + length, size)


def check_index(folder: Folder) -> None:
    """Check the index of a model's weights, where they are not in a single file.

    A packed file has its weights in another form, and no index.

    Raises:
        ValueError: where it is damaged, or names a file that is not there.
        OSError: where it cannot be read.
    """
    if isinstance(folder, InnerPath):
        return
    for single, several in NAMES:
        index = folder / several
        if (folder / single).is_file():
            return
        if index.is_file():
            _check(index)
            return


def _check(index: Path) -> None:
    contents = strict_json.read(index)
    for name in _listed(contents, index):
        if not _is_file(index.parent / name):
            raise ValueError(
                f"{index}: weight_map names {shown(name)}, and the folder has no such file; take "
                "the checkpoint again"
            )
    # Only loading needs it, and a fingerprint does not.
    if "metadata" not in contents:
        raise ValueError(f'{index}: it has no metadata; add "metadata": {{}}')
    if not isinstance(contents["metadata"], dict):
        raise ValueError(f"{index}: metadata must be an object, not {shown(contents['metadata'])}")


def _is_file(path: Path) -> bool:
    """Whether there is such a file; a name may be too long for one."""
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False


def listed_files(index: Path) -> tuple[str, ...]:
    """The names of the files that an index lists, each once, in the order of their names.

    Raises:
        ValueError: where it is damaged; the message names the place.
        OSError: where it cannot be read.
    """
    return _listed(strict_json.read(index), index)


def _listed(contents: Any, index: Path) -> tuple[str, ...]:
    places = contents.get("weight_map") if isinstance(contents, dict) else None
    if not isinstance(places, dict) or not places:
        raise ValueError(f"{index}: weight_map must be an object of file names by tensor")
    for tensor, name in places.items():
        if not isinstance(name, str) or not _is_name(name):
            raise ValueError(
                f"{index}: weight_map[{shown(tensor)}] must be the name of a file in the same "
                f"folder, not {shown(name)}"
            )
    return tuple(sorted(set(places.values())))


def _is_name(name: str) -> bool:
    """Whether this can be the name of a file in the same folder."""
    return name == Path(name).name and len(name) <= _LONGEST and "\0" not in name


def open_weights(path: Path, index: Path | None = None) -> BinaryIO:
    """Open a file of weights for reading.

    Args:
        path: the file.
        index: the index that lists it, for messages; None where none does.

    Raises:
        FileNotFoundError: where there is no such file.
        ValueError: where it is a folder, a pipe or a device.
        OSError: where it cannot be read.
    """
    try:
        mode = path.stat().st_mode
    except FileNotFoundError as error:
        if index is None:
            raise
        reason = f"{error.strerror}, but {index} lists it; take the checkpoint again"
        raise FileNotFoundError(error.errno, reason, str(path)) from None
    if not stat.S_ISREG(mode):
        what = "a folder" if stat.S_ISDIR(mode) else "a pipe or a device"
        if index is None:
            raise ValueError(f"{path}: it is {what}; weights are read from files")
        raise ValueError(
            f"{index}: weight_map names {shown(path.name)}, which is {what}; take the checkpoint "
            "again"
        )
    return path.open("rb")
