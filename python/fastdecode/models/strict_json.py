"""Strict JSON, for files that people write: no byte order mark, and only finite numbers."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Collection
from typing import Any

from fastdecode.files.inner import Folder
from fastdecode.files.reading import DEEPEST, Pairs, Place, decoded, parse_text, read_file, too_deep

_SURROGATE = re.compile("[\ud800-\udfff]")
_NAME = re.compile(r"\w+")


def read(path: Folder, *, unbounded: Collection[str] = ()) -> Any:
    """The value in a UTF-8 file.

    Args:
        path: the file.
        unbounded: fields of the outermost object in which numbers may be infinite.

    Raises:
        ValueError: where it is not JSON as `parse` takes it; the message begins with the path.
        OSError: where the file cannot be read.
    """
    place = Place(str(path))
    return _checked(decoded(read_file(path), place), place, unbounded)


def parse(text: str, source: str, *, unique: bool = False) -> Any:
    """The value of one line of JSON.

    Args:
        text: the line.
        source: the file and the number of the line, for error messages.
        unique: whether to refuse objects that have a field twice, of which JSON keeps the last.

    Raises:
        ValueError: for what is not JSON, a byte order mark, numbers that are not finite, text that
            is not Unicode, and nesting deeper than `DEEPEST` levels; the message names source and
            place.
    """
    try:
        return _checked(text, Place(source, None), pairs=_unique if unique else None)
    except _FieldTwice as error:
        raise ValueError(f"{source}: {error}") from None


def _checked(
    text: str, place: Place, unbounded: Collection[str] = (), pairs: Pairs | None = None
) -> Any:
    if text.startswith("\ufeff"):
        raise ValueError(
            f"{place.at(text, 0)}: it begins with a byte order mark, which JSON does not have; "
            "save it as UTF-8 without one"
        )
    value = parse_text(text, place, pairs)
    left: list[tuple[tuple[str | int, ...], Any]] = [((), value)]
    while left:
        path, item = left.pop()
        if isinstance(item, dict | list):
            if len(path) >= DEEPEST:
                raise too_deep(text, place)
            entries = item.items() if isinstance(item, dict) else enumerate(item)
            left += [((*path, key), entry) for key, entry in entries]
        bounded = not (path and path[0] in unbounded)
        if isinstance(item, float) and not math.isfinite(item) and bounded:
            raise ValueError(f"{place.where}: {_field(path)} is {shown(item)}, which is not finite")
        if not _is_unicode(item) or (path and not _is_unicode(path[-1])):
            raise ValueError(
                f"{place.where}: {_field(path)} has half of a surrogate pair, which is not text"
            )
    return value


class _FieldTwice(Exception):
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
