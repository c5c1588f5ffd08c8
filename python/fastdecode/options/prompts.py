"""Prompts as a caller gives them: texts and token ids, one or several."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from numbers import Integral
from typing import Any, Protocol

import numpy as np

from fastdecode.options import checks


class IdArray(Protocol):
    """An array of integers, such as a NumPy array or a torch tensor."""

    @property
    def shape(self) -> Sequence[int]:
        """Its lengths: (tokens,) for one prompt, (prompts, tokens) for several."""
        ...

    def tolist(self) -> Any:
        """Its numbers in lists."""
        ...


# One prompt: a text, or its token ids.
PromptLike = str | Sequence[int] | IdArray
# One prompt or several.
Prompts = PromptLike | Sequence[PromptLike]
# What a message says that an argument must be.
_PROMPTS = "a string, token ids, or a sequence of strings or lists of token ids"
_PROMPT = "a string or a list of token ids"
_IDS = "a list of token ids, or several"
# A prompt that has been read.
Given = str | list[int]


def read(value: Any, vocab_size: int, name: str = "prompts") -> list[Given]:
    """One prompt or several, each a text or a list of token ids.

    Integers are the token ids of one prompt. A sequence, or an array of two dimensions, is several.

    Args:
        value: what the caller gave.
        vocab_size: how many tokens the model has.
        name: what the caller calls it.

    Raises:
        TypeError: for anything else.
        ValueError: for a token id that the model does not have, and for an empty list of them.
    """
    value = _unwrapped(value)
    if isinstance(value, str):
        return [checks.well_formed(name, value)]
    items = _items(name, value, _PROMPTS)
    if _begins_with_id(items[:1]):
        return [_ids(name, items, vocab_size)]
    return [_prompt(f"{name}[{row}]", item, vocab_size) for row, item in enumerate(items)]


def one(value: Any, vocab_size: int, name: str = "prompt") -> Given:
    """One prompt, a text or token ids; an array may have a row dimension of length 1.

    Raises:
        TypeError: for anything else, and for several prompts.
        ValueError: as for `read`.
    """
    value = _unwrapped(value)
    if isinstance(value, str):
        return checks.well_formed(name, value)
    items = _items(name, value, _PROMPTS)
    if tuple(getattr(value, "shape", ()))[:1] == (1,) and isinstance(items[0], list):
        (items,) = items
    if items and not _begins_with_id(items[:1]):
        raise TypeError(
            f"{name} must be one string or the token ids of one prompt, "
            f"not {type(value).__name__} ({checks.shown(value)})"
        )
    return _ids(name, items, vocab_size)


def ids(name: str, value: Any, count: int) -> tuple[list[list[int]], bool]:
    """Lists of token ids, of which any may be empty, and whether a single one was given.

    Args:
        name: what the caller calls it.
        value: what the caller gave.
        count: how many tokens there are.

    Raises:
        TypeError: for anything else.
        ValueError: for a token id that does not exist.
    """
    if isinstance(value, str):
        raise TypeError(f"{name} must be token ids, not a string ({checks.shown(value)})")
    items = _items(name, value, _IDS)
    if not items or _begins_with_id(items[:1]):
        return [_checked(name, items, count)], True
    rows = [f"{name}[{row}]" for row in range(len(items))]
    return [
        _checked(row, _items(row, item, "a list of token ids"), count)
        for row, item in zip(rows, items, strict=True)
    ], False


def is_one(value: Any) -> bool:
    """Whether a value that `read` accepts is a single prompt, not a sequence of them."""
    value = _unwrapped(value)
    if isinstance(value, str):
        return True
    shape = getattr(value, "shape", None)
    if shape is not None:
        return len(shape) == 1 and _begins_with_id(value.tolist()[:1])
    if isinstance(value, bytes | bytearray | memoryview) or not isinstance(value, Sequence):
        return False
    return _begins_with_id(_items("prompts", value[:1], _PROMPTS))


def _prompt(name: str, value: Any, vocab_size: int) -> Given:
    value = _unwrapped(value)
    if isinstance(value, str):
        return checks.well_formed(name, value)
    return _ids(name, _items(name, value, _PROMPT), vocab_size)


def _unwrapped(value: Any) -> Any:
    """A text in an array without dimensions as the text; anything else unchanged."""
    if getattr(value, "shape", None) == () and isinstance(value, np.ndarray | np.generic):
        item = value.tolist()
        return item if isinstance(item, str) else value
    return value


def _items(name: str, value: Any, expected: str) -> list[Any]:
    """The entries of a sequence or an array; `expected` says what it must be."""
    if isinstance(value, Mapping) and "input_ids" in value:
        raise TypeError(
            f'{name} is a {type(value).__name__}; give its "input_ids", each prompt without padding'
        )
    return checks.entries(name, value, expected)


def _ids(name: str, items: Sequence[Any], vocab_size: int) -> list[int]:
    """Token ids, at least one."""
    if not items:
        raise ValueError(f"{name} has no token ids; give at least one, such as the BOS token's")
    return _checked(name, items, vocab_size)


def _checked(name: str, items: Sequence[Any], vocab_size: int) -> list[int]:
    """Token ids, perhaps none."""
    for place, item in enumerate(items):
        if not _begins_with_id([item]):
            raise TypeError(
                f"{name}[{place}] must be a token id, an integer, not {type(item).__name__} "
                f"({checks.shown(item)})"
            )
        if not 0 <= item < vocab_size:
            raise ValueError(
                f"{name}[{place}] is {int(item)}, but token ids go from 0 to {vocab_size - 1}"
            )
    return [int(item) for item in items]


def _begins_with_id(first: Sequence[Any]) -> bool:
    """Whether a list begins with a token id."""
    return bool(first) and isinstance(first[0], Integral) and not isinstance(first[0], bool)
