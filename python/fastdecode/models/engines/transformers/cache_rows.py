"""The rows of any cache: transformers' own, or whatever a model makes of tensors."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping
from typing import Any

import torch


def selected(cache: Any, rows: torch.Tensor, count: int) -> Any:
    """The cache of `count` rows with the rows `rows` only, in that order."""
    methods = ("reorder_cache", "batch_select_indices")
    able = [name for name in methods if callable(getattr(cache, name, None))]
    if able:
        # A cache with more than the usual layers may have overridden one of the two only.
        getattr(cache, min(able, key=lambda name: _depth(type(cache), name)))(rows)
        return cache
    return _select(cache, rows, count)


def bytes_of(cache: Any) -> int:
    """The memory of the tensors of a cache."""
    if isinstance(cache, torch.Tensor):
        return cache.numel() * cache.element_size()
    return sum(map(bytes_of, _inside(cache)))


def _inside(value: Any) -> Iterable[Any]:
    if isinstance(value, Mapping):
        return value.values()
    if isinstance(value, list | tuple):
        return value
    if callable(value):
        return ()
    # Names with an underscore are buffers of which the public ones are views.
    return [inner for name, inner in getattr(value, "__dict__", {}).items() if name[:1] != "_"]


def _depth(kind: type, name: str) -> int:
    """How many classes up a method is defined."""
    return next(i for i, base in enumerate(kind.__mro__) if name in vars(base))


def _select(value: Any, rows: torch.Tensor, count: int) -> Any:
    if isinstance(value, torch.Tensor):
        # Others are of all rows together, such as a counter of tokens.
        by_row = value.dim() > 0 and len(value) == count
        return value.index_select(0, rows.to(value.device)) if by_row else value
    if isinstance(value, Mapping):
        return {key: _select(inner, rows, count) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_select(inner, rows, count) for inner in value)
    if not bytes_of(value):
        return value
    twin = copy.copy(value)
    for name, inner in vars(value).items():
        setattr(twin, name, _select(inner, rows, count))
    return twin
