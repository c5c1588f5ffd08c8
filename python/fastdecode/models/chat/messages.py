"""Messages as a caller gives them, checked, and as the plain data that a template may see."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from numbers import Integral, Real
from typing import Any

from fastdecode.files.reading import DEEPEST
from fastdecode.options import checks

# One conversation: its messages, or the text of a single message of the user.
Conversation = str | Sequence[Mapping[str, Any]]
# One conversation or several.
Messages = Conversation | Sequence[Conversation]

_MESSAGES = (
    'a list of messages such as {"role": "user", "content": "Hello"}, a string, '
    "or a list of conversations"
)


def read(value: Any) -> tuple[list[list[dict[str, Any]]], bool]:
    """The conversations, and whether the caller gave a single one.

    A string is one message of the user. Fields of a message that are None are left out, as
    transformers does: templates test whether a field is there.

    Args:
        value: a conversation, or a sequence of them.

    Raises:
        TypeError: for anything else.
        ValueError: for an empty conversation, a message without a role or a content, and text that
            is not Unicode; the message names its place.
    """
    if isinstance(value, str) or not _is_several(value):
        return [_conversation("messages", value)], True
    return [_conversation(f"messages[{row}]", one) for row, one in enumerate(value)], False


def plain(name: str, value: Any, depth: int = 0) -> Any:
    """Data without objects whose methods a template could call: what JSON has, and tuples.

    Args:
        name: what the caller calls the value.
        value: the value. Data classes and pydantic models become dictionaries, and scalars of NumPy
            and torch become Python's.
        depth: how many containers it is in.

    Raises:
        TypeError: for any other object, and for a key that is not a string.
        ValueError: for text that is not Unicode, and for nesting deeper than `DEEPEST` levels.
    """
    if depth > DEEPEST:
        raise ValueError(f"{name} is nested more than {DEEPEST} levels deep")
    value = _as_data(value)
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        return checks.well_formed(name, str.__str__(value))
    if isinstance(value, Integral):
        return int(value)
    if isinstance(value, Real):
        return float(value)
    if isinstance(value, Mapping):
        found = {}
        for key, item in value.items():
            if not isinstance(key, str):
                raise TypeError(f"{name} has the key {checks.shown(key)}; keys must be strings")
            field = checks.well_formed(f"a key of {name}", str.__str__(key))
            found[field] = plain(f'{name}["{field}"]', item, depth + 1)
        return found
    if isinstance(value, list | tuple):
        items = [plain(f"{name}[{place}]", item, depth + 1) for place, item in enumerate(value)]
        return tuple(items) if isinstance(value, tuple) else items
    raise TypeError(
        f"{name} must be a string, a number, true or false, a list or a dictionary, "
        f"not {type(value).__name__} ({checks.shown(value)})"
    )


def mappings(name: str, value: Any) -> list[dict[str, Any]] | None:
    """A list of dictionaries as plain data, or None.

    Raises:
        TypeError: for anything else.
        ValueError: as for `plain`.
    """
    if value is None:
        return None
    items = plain(name, value)
    if not isinstance(items, list | tuple) or not all(isinstance(item, dict) for item in items):
        raise TypeError(f"{name} must be a list of dictionaries, not {checks.shown(value)}")
    return list(items)


def _is_several(value: Any) -> bool:
    """Whether a value is a sequence of conversations, not one."""
    if isinstance(value, Mapping) or callable(getattr(value, "model_dump", None)):
        raise TypeError("messages is a single message; put it into a list, as messages=[message]")
    if isinstance(value, bytes | bytearray) or not isinstance(value, Sequence):
        raise TypeError(
            f"messages must be {_MESSAGES}, not {type(value).__name__} ({checks.shown(value)})"
        )
    if not value:
        raise ValueError("messages is empty; give at least one message")
    return isinstance(value[0], str | list | tuple)


def _conversation(name: str, value: Any) -> list[dict[str, Any]]:
    if isinstance(value, str):
        return [{"role": "user", "content": checks.well_formed(name, value)}]
    if not isinstance(value, list | tuple) and not isinstance(value, Sequence):
        raise TypeError(
            f"{name} must be a string or a list of messages, not {type(value).__name__} "
            f"({checks.shown(value)}), because the first of messages is one"
        )
    if not value:
        raise ValueError(f"{name} is empty; give at least one message")
    return [_message(f"{name}[{place}]", message) for place, message in enumerate(value)]


def _message(name: str, value: Any) -> dict[str, Any]:
    value = _as_data(value)
    if not isinstance(value, Mapping):
        raise TypeError(
            f'{name} must be a dictionary such as {{"role": "user", "content": "Hello"}}, '
            f"not {type(value).__name__} ({checks.shown(value)})"
        )
    message = {key: item for key, item in plain(name, value).items() if item is not None}
    if "role" not in message:
        raise ValueError(
            f'{name} has no "role"; say who speaks: "user", "assistant", "system" or another '
            "role that the template knows"
        )
    if not isinstance(message["role"], str):
        raise TypeError(f'{name}["role"] must be a string, not {checks.shown(message["role"])}')
    content = message.get("content")
    if content is None:
        # A call of a tool may stand alone.
        if len(message) == 1:
            raise ValueError(f'{name} has no "content"; give the text of the message')
    elif isinstance(content, list | tuple):
        for place, part in enumerate(content):
            _check_part(f'{name}["content"][{place}]', part)
    elif not isinstance(content, str):
        raise TypeError(
            f'{name}["content"] must be a string, not {type(content).__name__} '
            f"({checks.shown(content)})"
        )
    return _with_reasoning(message)


def _check_part(name: str, part: Any) -> None:
    """Refuse parts of a content that are not text."""
    kind = part.get("type", "text") if isinstance(part, dict) else None
    if kind is None or (kind == "text" and not isinstance(part.get("text"), str)):
        raise TypeError(
            f'{name} must be of the form {{"type": "text", "text": "Hello"}}, '
            f"not {checks.shown(part)}"
        )
    if kind != "text":
        raise ValueError(
            f"{name} has the type {checks.shown(kind)}, but the models here read text only; "
            'give parts of the type "text"'
        )


# The names under which templates look for the reasoning of a message, the usual one first.
_REASONING = ("reasoning_content", "thinking", "reasoning")


def _with_reasoning(message: dict[str, Any]) -> dict[str, Any]:
    """A message whose reasoning has the names that templates read, as transformers has it."""
    reasoning = next((message[name] for name in _REASONING if name in message), None)
    if reasoning is None:
        return message
    return {"thinking": reasoning, **message, "reasoning_content": reasoning}


def same_text(message: Mapping[str, Any], field: str) -> list[str]:
    """The fields that hold the text of `field`: it alone, or all names of a message's reasoning."""
    if field not in _REASONING:
        return [field]
    return [name for name in _REASONING if message.get(name) == message[field]]


def _as_data(value: Any) -> Any:
    """Objects that stand for data as that data; anything else unchanged."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    if callable(dump := getattr(value, "model_dump", None)) and not isinstance(value, type):
        return dump()
    if getattr(value, "shape", None) == () and hasattr(value, "tolist"):
        return value.tolist()
    return value
