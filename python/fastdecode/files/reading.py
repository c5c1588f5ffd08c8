"""Reads JSON; what is not JSON is refused with the file and the place in it."""

from __future__ import annotations

import json
import os
import re
import stat
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from fastdecode.files.inner import InnerPath

# Deeper than anything the package writes, and far from the interpreter's limit of recursion.
# Readers in other languages stop at about a hundred levels.
DEEPEST = 64
_MOST_OF_A_STREAM = 2**30
# Makes an object from its fields.
Pairs = Callable[[list[tuple[str, Any]]], dict[str, Any]]
_MARK = re.compile(r'"(?:[^"\\]++|\\.)*+"|[\[\]{}]', re.DOTALL)


def read_json(path: str | os.PathLike[str]) -> Any:
    """The data of a JSON file in UTF-8, with or without a byte order mark.

    Raises:
        ValueError: where it is something else; the message names the file, the line and the column.
        OSError: where it cannot be read.
    """
    return parse_json(read_stream(path), os.fspath(path))


def read_file(path: str | os.PathLike[str] | InnerPath) -> bytes:
    """The bytes of a regular file, of what a symbolic link leads to, or of one in a packed file.

    Raises:
        ValueError: for a pipe or a device, which may never end.
        OSError: where it cannot be read.
    """
    if isinstance(path, InnerPath):
        return path.read_bytes()
    about = os.stat(path)
    if not stat.S_ISREG(about.st_mode) and not stat.S_ISDIR(about.st_mode):
        raise ValueError(f"{os.fspath(path)}: it is a pipe or a device; give a regular file")
    return Path(path).read_bytes()


def read_stream(path: str | os.PathLike[str]) -> bytes:
    """The bytes of a file, a pipe or a device, which must not be endless.

    Raises:
        ValueError: for more than 1 GiB from what is not a regular file.
        OSError: where it cannot be read.
    """
    with open(path, "rb") as file:
        if stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            return file.read()
        raw = file.read(_MOST_OF_A_STREAM + 1)
    if len(raw) > _MOST_OF_A_STREAM:
        raise ValueError(
            f"{os.fspath(path)}: it is not a regular file, and has more than 1 GiB of data"
        )
    return raw


def parse_json(raw: bytes, where: str, line: int | None = None) -> Any:
    """The data of JSON text in UTF-8, with or without a byte order mark.

    Args:
        raw: the text.
        where: the file, for messages.
        line: where `raw` is one line of a file: its number, from 1.

    Raises:
        ValueError: where it is something else; the message names the file, the line and the column.
    """
    place = Place(where, line or 1)
    return parse_text(decoded(raw, place).removeprefix("\ufeff"), place)


class Place:
    """Names places in a text.

    Attributes:
        where: the file.
        first: the number of the text's first line; None where `where` names the line.
    """

    def __init__(self, where: str, first: int | None = 1) -> None:
        """Name places in the text of `where`."""
        self.where = where
        self.first = first

    def line(self, before: int) -> str:
        """The line after that many line ends."""
        return self.where if self.first is None else f"{self.where}, line {self.first + before}"

    def at(self, text: str, position: int) -> str:
        """The line and the column of a character."""
        column = position - text.rfind("\n", 0, position)
        return f"{self.line(text.count(chr(10), 0, position))}, column {column}"


def decoded(raw: bytes, place: Place) -> str:
    """Bytes in UTF-8 as text.

    Raises:
        ValueError: where they are not UTF-8; the message names the line.
    """
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError as error:
        line = place.line(raw.count(b"\n", 0, error.start))
        raise ValueError(f"{line}: it is not UTF-8 text (byte {raw[error.start]:#04x})") from None


def parse_text(text: str, place: Place, pairs: Pairs | None = None) -> Any:
    """The data of JSON text.

    Args:
        text: the text.
        place: for messages.
        pairs: makes an object from its fields; None is `dict`.

    Raises:
        ValueError: where it is something else; the message names the place.
    """
    try:
        return json.loads(text, object_pairs_hook=pairs)
    except json.JSONDecodeError as error:
        position, problem = error.pos, f"it is not JSON: {error.msg}"
    except RecursionError:
        raise too_deep(text, place) from None
    except ValueError:
        # Python converts no more digits.
        most = sys.get_int_max_str_digits()
        digits = re.search(rf"\d{{{most + 1},}}", text)
        position = digits.start() if digits else 0
        problem = f"it has an integer of more than {most} digits"
    raise ValueError(f"{place.at(text, position)}: {problem}")


def too_deep(text: str, place: Place) -> ValueError:
    """The error for arrays and objects that are nested more than `DEEPEST` levels deep."""
    depth = position = 0
    for found in _MARK.finditer(text):
        if found[0] in ("[", "{"):
            depth += 1
            if depth > DEEPEST:
                position = found.start()
                break
        elif found[0] in ("]", "}"):
            depth -= 1
    return ValueError(f"{place.at(text, position)}: it is nested more than {DEEPEST} levels deep")
