"""The base of every result with several items: an immutable sequence."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Generic, TypeVar, overload

T = TypeVar("T")


class Items(Sequence[T], Generic[T]):
    """Items in order; a slice of them is a tuple, unless a subclass overrides that."""

    def __init__(self, items: Iterable[T]) -> None:
        """Hold `items`."""
        self._items = tuple(items)

    def __len__(self) -> int:
        """The number of items."""
        return len(self._items)

    @overload
    def __getitem__(self, index: int) -> T: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[T]: ...
    def __getitem__(self, index: int | slice) -> T | Sequence[T]:
        """One item, or a slice of them."""
        return self._items[index]
