"""The rows of any cache: transformers' own, or whatever a model makes of tensors."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping
from typing import Any

import torch


def selected(cache: Any, rows: torch.Tensor) -> Any:
    """The cache with the rows `rows` only, in that order."""
    if callable(getattr(cache, "reorder_cache", None)):
        cache.reorder_cache(rows)
        return cache
    return _select(cache, rows)


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


def _select(value: Any, rows: torch.Tensor) -> Any:
    if isinstance(value, torch.Tensor):
        return value.index_select(0, rows.to(value.device)) if value.dim() else value
    if isinstance(value, Mapping):
        return {key: _select(inner, rows) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_select(inner, rows) for inner in value)
    if callable(value) or not hasattr(value, "__dict__"):
        return value
    twin = copy.copy(value)
    for name, inner in vars(value).items():
        setattr(twin, name, _select(inner, rows))
    return twin
