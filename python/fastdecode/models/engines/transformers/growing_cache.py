"""A KV cache layer that grows in place, for models whose layers attend to all of the past."""

from __future__ import annotations

from typing import Any

import torch
from transformers.cache_utils import DynamicLayer


class GrowingLayer(DynamicLayer):  # type: ignore[misc]
    """A KV cache layer that writes in place, in buffers that double when they are full.

    The layer of transformers concatenates, which copies the whole cache at every step.
    """

    def __init__(self) -> None:
        """Start empty; the first update or `place` gives shape and dtype."""
        super().__init__()
        self._key_buffer: torch.Tensor | None = None
        self._value_buffer: torch.Tensor | None = None

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Append states of shape (rows, heads, new, dim); return views of all of them."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        start = self.get_seq_length()
        end = start + key_states.shape[-2]
        self._key_buffer = _reserve(self._key_buffer, key_states, start, end)
        self._value_buffer = _reserve(self._value_buffer, value_states, start, end)
        self._key_buffer[:, :, start:end] = key_states
        self._value_buffer[:, :, start:end] = value_states
        self.keys = self._key_buffer[:, :, :end]
        self.values = self._value_buffer[:, :, :end]
        return self.keys, self.values

    def place(self, layer: DynamicLayer, targets: torch.Tensor, total: int, width: int) -> None:
        """Copy a prefilled layer, right-aligned at `width`, into rows `targets[0]` of `total`.

        `targets` has shape (2, count): the row here and the row of `layer` that it takes.
        """
        if not self.is_initialized:
            self.lazy_initialization(layer.keys, layer.values)
            shape = (total, layer.keys.shape[1], width + width // 4 + 32)
            # Zeros, because masked positions are multiplied by weight 0 and must be finite.
            self._key_buffer = layer.keys.new_zeros((*shape, layer.keys.shape[3]))
            self._value_buffer = layer.values.new_zeros((*shape, layer.values.shape[3]))
        start = width - layer.keys.shape[-2]
        rows, sources = targets.to(layer.keys.device)
        for buffer, states in ((self._key_buffer, layer.keys), (self._value_buffer, layer.values)):
            if buffer is not None:
                buffer[rows, :, start:width] = states[sources]
        self._refresh(width)

    def reorder_cache(self, beam_idx: torch.Tensor) -> None:
        """Keep the rows `beam_idx`, in that order."""
        width = self.get_seq_length()
        if self._key_buffer is not None and self._value_buffer is not None:
            rows = beam_idx.to(self._key_buffer.device)
            self._key_buffer = self._key_buffer.index_select(0, rows)
            self._value_buffer = self._value_buffer.index_select(0, rows)
            self._refresh(width)

    def take_columns(self, order: torch.Tensor) -> None:
        """Keep the columns `order`, shape (rows, columns), of each row."""
        if self._key_buffer is not None and self._value_buffer is not None:
            shape = self.keys.shape
            index = order[:, None, :, None].expand(-1, shape[1], -1, shape[3])
            self._key_buffer = self.keys.gather(2, index)
            self._value_buffer = self.values.gather(2, index)
            self._refresh(order.shape[1])

    def _refresh(self, width: int) -> None:
        if self._key_buffer is not None and self._value_buffer is not None:
            self.keys = self._key_buffer[:, :, :width]
            self.values = self._value_buffer[:, :, :width]


def _reserve(buffer: torch.Tensor | None, new: torch.Tensor, start: int, end: int) -> torch.Tensor:
    if buffer is not None and buffer.shape[2] >= end:
        return buffer
    capacity = end if buffer is None else max(end, 2 * buffer.shape[2])
    grown = new.new_empty((new.shape[0], new.shape[1], capacity, new.shape[3]))
    if buffer is not None:
        grown[:, :, :start] = buffer[:, :, :start]
    return grown
