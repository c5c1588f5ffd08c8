"""The base of every result with several items, and the texts and pickles of single items."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from copy import copy
from dataclasses import MISSING, fields
from typing import Any, Generic, Self, TypeVar, overload

T = TypeVar("T")

_SHOWN_CHARACTERS = 60


class Items(Sequence[T], Generic[T]):
    """Items in order, immutable; a slice of them is of the same class."""

    def __init__(self, items: Iterable[T]) -> None:
        """Hold `items`."""
        self._items = tuple(items)

    def __len__(self) -> int:
        """The number of items."""
        return len(self._items)

    @overload
    def __getitem__(self, index: int) -> T: ...
    @overload
    def __getitem__(self, index: slice) -> Self: ...
    def __getitem__(self, index: int | slice) -> T | Self:
        """One item, or a slice of them with everything else that belongs to the result."""
        if isinstance(index, slice):
            return self._part(self._items[index])
        return at(self, self._items, index)

    def _part(self, items: tuple[T, ...]) -> Self:
        """The same result with some of its items."""
        part = copy(self)
        part._items = items
        return part


def at(owner: object, items: Sequence[T], index: int) -> T:
    """The item at a place of `items`, which belong to the result `owner`.

    Raises:
        IndexError: where there is none.
        TypeError: for anything but an integer.
    """
    # The help of the command line, which imports this module, needs no NumPy.
    from fastdecode.options import checks

    try:
        place = checks.whole("index", index)
    except TypeError:
        raise TypeError(
            f"{type(owner).__name__} takes an integer or a slice as index, "
            f"not {checks.shown(index)}"
        ) from None
    if not -len(items) <= place < len(items):
        raise IndexError(
            f"index {checks.shown(place)} is out of range: there are {len(items)} items"
        )
    return items[place]


def summary(item: object, **shown: Any) -> str:
    """The `repr` of an item whose fields are too long to print: some of them, on one line.

    Args:
        item: the item.
        **shown: names and values; a long string is cut, a float rounded to six digits.
    """
    named = ", ".join(f"{name}={_short(value)}" for name, value in shown.items())
    return f"{type(item).__name__}({named})"


def _short(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, str) and len(value) > _SHOWN_CHARACTERS:
        value = value[: _SHOWN_CHARACTERS - 1] + "…"
    return repr(value)


def restore(item: Any, state: Sequence[Any]) -> None:
    """Set the fields of a frozen dataclass with slots from its pickled state.

    Fields that were added after the pickle was written get their defaults.

    Args:
        item: an instance without fields.
        state: the values of its fields in order, as many as the class had then.
    """
    own = fields(item)
    for one, value in zip(own, state, strict=False):
        object.__setattr__(item, one.name, value)
    for one in own[len(state) :]:
        made = one.default_factory
        object.__setattr__(item, one.name, one.default if made is MISSING else made())
