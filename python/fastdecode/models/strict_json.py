"""Strict JSON: texts and files as Python values, with errors that name the place."""

from __future__ import annotations

import json
import math
import re
import sys
from collections.abc import Collection
from pathlib import Path
from typing import Any

# Files that people write have a few levels; readers in other languages stop at about a hundred.
MOST_LEVELS = 64
_SURROGATE = re.compile("[\ud800-\udfff]")
_BRACKET = re.compile(r'"(?:[^"\\]|\\.)*"?|[\[\]{}]', re.DOTALL)
_NAME = re.compile(r"\w+")


def read(path: Path, *, unbounded: Collection[str] = ()) -> Any:
    """The value in a UTF-8 file.

    Args:
        path: the file.
        unbounded: fields of the outermost object in which numbers may be infinite.

    Raises:
        ValueError: where it is not JSON as `parse` takes it; the message begins with the path.
        OSError: where the file cannot be read.
    """
    raw = path.read_bytes()
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise ValueError(
            f"{path}, line {line}: it is not UTF-8 text (byte {raw[error.start]:#04x})"
        ) from None
    return parse(text, str(path), unbounded=unbounded)


def parse(
    text: str,
    source: str,
    *,
    one_line: bool = False,
    unbounded: Collection[str] = (),
    unique: bool = False,
) -> Any:
    """The value of a JSON text.

    Args:
        text: the text.
        source: where it is from, for error messages.
        one_line: whether `source` names the line already.
        unbounded: fields of the outermost object in which numbers may be infinite.
        unique: whether to refuse objects that have a field twice, of which JSON keeps the last.

    Raises:
        ValueError: for what is not JSON, numbers that are not finite, text that is not Unicode,
            and nesting deeper than `MOST_LEVELS`; the message names source and place.
    """

    def at(position: int) -> str:
        column = position - text.rfind("\n", 0, position)
        if one_line:
            return f"{source}, column {column}"
        return f"{source}, line {text.count(chr(10), 0, position) + 1}, column {column}"

    if text.startswith("\ufeff"):
        raise ValueError(
            f"{at(0)}: it begins with a byte order mark, which JSON does not have; save it as "
            "UTF-8 without one"
        )
    too_deep = f"nested more than {MOST_LEVELS} levels deep"
    try:
        value = json.loads(text, object_pairs_hook=_unique if unique else None)
    except json.JSONDecodeError as error:
        raise ValueError(f"{at(error.pos)}: it is not JSON ({error.msg})") from None
    except RecursionError:
        raise ValueError(f"{at(_deepest(text))}: it is {too_deep}") from None
    except _FieldTwice as error:
        raise ValueError(f"{source}: {error}") from None
    except ValueError:
        # Python converts no more digits.
        most = sys.get_int_max_str_digits()
        raise ValueError(f"{source}: it has an integer of more than {most} digits") from None
    left: list[tuple[tuple[str | int, ...], Any]] = [((), value)]
    while left:
        path, item = left.pop()
        if isinstance(item, dict | list):
            if len(path) >= MOST_LEVELS:
                raise ValueError(f"{at(_deepest(text))}: it is {too_deep}")
            entries = item.items() if isinstance(item, dict) else enumerate(item)
            left += [((*path, key), entry) for key, entry in entries]
        bounded = not (path and path[0] in unbounded)
        if isinstance(item, float) and not math.isfinite(item) and bounded:
            raise ValueError(f"{source}: {_field(path)} is {shown(item)}, which is not finite")
        if not _is_unicode(item) or (path and not _is_unicode(path[-1])):
            raise ValueError(
                f"{source}: {_field(path)} has half of a surrogate pair, which is not text"
            )
    return value


class _FieldTwice(ValueError):
    """An object has a field twice."""


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object whose fields have different names."""
    found: dict[str, Any] = {}
    for name, value in pairs:
        if name in found:
            raise _FieldTwice(f"the object has {shown(name)} twice; keep one of them")
        found[name] = value
    return found


def shown(value: Any) -> str:
    """A value as JSON writes it, or as Python does where it is none, shortened."""
    if isinstance(value, int) and value.bit_length() > 256:
        return f"an integer of {value.bit_length()} bits"
    try:
        text = json.dumps(value)
    except (TypeError, ValueError, RecursionError):
        text = ascii(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _field(path: tuple[str | int, ...]) -> str:
    """A place within a value: "rope_scaling.factor", "tokens[3].content"."""
    text = ""
    for key in path:
        if isinstance(key, int):
            text += f"[{key}]"
        else:
            name = key if key.isascii() and _NAME.fullmatch(key) else json.dumps(key)
            text += f".{name}" if text else name
    return text or "the value"


def _is_unicode(value: Any) -> bool:
    return not isinstance(value, str) or value.isascii() or not _SURROGATE.search(value)


def _deepest(text: str) -> int:
    """Where the nesting first exceeds `MOST_LEVELS`."""
    depth = 0
    for found in _BRACKET.finditer(text):
        bracket = found[0]
        if bracket in "[{":
            depth += 1
            if depth > MOST_LEVELS:
                return found.start()
        elif bracket in "]}":
            depth -= 1
    return 0
