"""Reads JSON; what is not JSON is refused with the file and the place in it."""

from __future__ import annotations

import json
import os
import re
import sys
from pathlib import Path
from typing import Any

# Deeper than anything the package writes, and far from the interpreter's limit of recursion.
DEEPEST = 64
_MARK = re.compile(r'"(?:[^"\\]++|\\.)*+"|[\[\]{}]', re.DOTALL)


def read_json(path: str | os.PathLike[str]) -> Any:
    """The data of a JSON file in UTF-8, with or without a byte order mark.

    Raises:
        ValueError: where it is something else; the message names the file, the line and the column.
        OSError: where it cannot be read.
    """
    return parse_json(Path(path).read_bytes(), os.fspath(path))


def parse_json(raw: bytes, where: str, line: int | None = None) -> Any:
    """The data of JSON text in UTF-8.

    Args:
        raw: the text.
        where: the file, for messages.
        line: where `raw` is one line of a file: its number, from 1.

    Raises:
        ValueError: where it is something else; the message names the file, the line and the column.
    """
    first = 1 if line is None else line
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        before = error.object[: error.start]
        number = first + before.count(b"\n")
        raise ValueError(
            f"{where}, line {number}: it is not UTF-8 text (byte {error.object[error.start]:#04x})"
        ) from None
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        position, problem = error.pos, f"it is not JSON: {error.msg}"
    except RecursionError:
        position = _deep(text)
        problem = f"arrays and objects are nested more than {DEEPEST} deep"
    except ValueError as error:
        # Python converts no integer of more digits than this.
        digits = re.search(rf"\d{{{sys.get_int_max_str_digits() + 1},}}", text)
        position, problem = (digits.start() if digits else 0), f"it is not JSON: {error}"
    number = first + text.count("\n", 0, position)
    column = position - text.rfind("\n", 0, position)
    raise ValueError(f"{where}, line {number}, column {column}: {problem}")


def _deep(text: str) -> int:
    """Where arrays and objects are nested deeper than in any file of the package."""
    depth = 0
    for found in _MARK.finditer(text):
        if found[0] in ("[", "{"):
            depth += 1
            if depth > DEEPEST:
                return found.start()
        elif found[0] in ("]", "}"):
            depth -= 1
    return 0
