"""Any transformers causal language model as an engine, through its own forward pass."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from transformers.cache_utils import DynamicCache, DynamicLayer

# The maximum tokens of a prefill pass, and rows of logits of a scoring pass, which bound the
# memory of activations and of logits.
PREFILL_TOKENS = 4096
SCORING_TOKENS = 1024


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
        rows, sources = targets
        for buffer, states in ((self._key_buffer, layer.keys), (self._value_buffer, layer.values)):
            if buffer is not None:
                buffer[rows, :, start:width] = states[sources]
        self._refresh(width)

    def reorder_cache(self, beam_idx: torch.Tensor) -> None:
        """Keep the rows `beam_idx`, in that order."""
        width = self.get_seq_length()
        if self._key_buffer is not None and self._value_buffer is not None:
            self._key_buffer = self._key_buffer.index_select(0, beam_idx)
            self._value_buffer = self._value_buffer.index_select(0, beam_idx)
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


class TorchBatch:
    """The rows of a batch in progress: their cache, and the length of each.

    Ragged prompts are padded on the left, so all rows end at the same column `width`; row i has
    `lengths[i]` tokens, which is also the position of its next token.
    """

    def __init__(self, engine: TorchEngine, cache: Any, lengths: NDArray[np.int64]) -> None:
        """Take over a prefilled cache of `max(lengths)` columns."""
        self._engine = engine
        self.cache = cache
        self.lengths = torch.from_numpy(lengths).to(engine.device)
        self.width = int(lengths.max())
        self.padded = bool((lengths != self.width).any())

    @torch.inference_mode()
    def step(self, tokens: NDArray[np.int64]) -> torch.Tensor:
        """Append one token to each row; see `base.CachedBatch`."""
        ids = torch.as_tensor(tokens, dtype=torch.int64, device=self._engine.device)
        logits = self._engine.step(self, ids[:, None])
        self.lengths = self.lengths + 1
        self.width += 1
        return ready(logits)

    @torch.inference_mode()
    def keep(self, rows: NDArray[np.int64]) -> None:
        """Keep these rows only; see `base.CachedBatch`."""
        index = torch.as_tensor(rows, dtype=torch.int64, device=self._engine.device)
        self.cache.reorder_cache(index)
        self.lengths = self.lengths[index]
        self.padded = bool((self.lengths != self.width).any())

    def attended(self, width: int) -> torch.Tensor:
        """Which of `width` columns belong to the row, shape (rows, width), bool."""
        columns = torch.arange(width, device=self.lengths.device)
        return columns >= (self.width - self.lengths)[:, None]


class TorchEngine:
    """A transformers causal language model; logits come from its own forward pass."""

    def __init__(self, model: Any) -> None:
        """Use `model`, in evaluation mode."""
        self.model = model.eval()
        self.config = model.config.get_text_config(decoder=True)
        self.device: torch.device = model.device
        parameters = inspect.signature(model.forward).parameters
        self._takes_positions = "position_ids" in parameters
        self._takes_keep = "logits_to_keep" in parameters
        layers = DynamicCache(config=model.config).layers
        self._plain = all(type(layer) is DynamicLayer for layer in layers)

    @property
    def context(self) -> int | None:
        """The maximum length of a sequence in tokens, or None."""
        value = getattr(self.config, "max_position_embeddings", None)
        return int(value) if value else None

    @property
    def vocab_size(self) -> int:
        """The width of a row of logits."""
        head = self.model.get_output_embeddings()
        return int(self.config.vocab_size if head is None else head.weight.shape[0])

    @property
    def eos_ids(self) -> tuple[int, ...]:
        """The tokens that end a sequence by the model's own settings."""
        settings = getattr(self.model, "generation_config", None)
        value = getattr(settings, "eos_token_id", None)
        if value is None:
            value = getattr(self.config, "eos_token_id", None)
        if value is None:
            return ()
        return tuple(int(v) for v in value) if isinstance(value, list | tuple) else (int(value),)

    @property
    def name(self) -> str:
        """The name that selects it in `open_engine`."""
        return "transformers"

    @property
    def joins(self) -> bool:
        """Whether rows may join a batch; they cannot, because it is padded on the left."""
        return False

    @property
    def dtype(self) -> str:
        """The dtype that the model computes in, such as "float32"."""
        return str(self.model.dtype).removeprefix("torch.")

    @property
    def bytes_per_token(self) -> int:
        """Memory of one token of one row in the KV cache, in bytes."""
        config = self.config
        heads = getattr(config, "num_attention_heads", 1)
        kv_heads = getattr(config, "num_key_value_heads", None) or heads
        dim = getattr(config, "head_dim", None) or config.hidden_size // heads
        return int(2 * config.num_hidden_layers * kv_heads * dim * self.model.dtype.itemsize)

    @torch.inference_mode()
    def start(
        self, prompts: Sequence[Sequence[int]], repeats: Sequence[int]
    ) -> tuple[TorchBatch, torch.Tensor]:
        """Prefill each prompt once; see `base.Engine`."""
        lengths = np.array([len(prompt) for prompt in prompts], dtype=np.int64)
        owners = np.repeat(np.arange(len(prompts)), repeats)
        width, total = int(lengths.max()), len(owners)
        cache: Any = None
        logits: torch.Tensor | None = None
        for chunk in self._chunks(lengths):
            part, last = self.prefill([prompts[i] for i in chunk])
            place = {int(prompt): row for row, prompt in enumerate(chunk)}
            pairs = [(row, place[int(o)]) for row, o in enumerate(owners) if int(o) in place]
            targets = torch.tensor(pairs, device=self.device).T
            if logits is None:
                logits = last.new_empty((total, last.shape[1]))
            logits[targets[0]] = last[targets[1]]
            if not self._plain:
                part.reorder_cache(targets[1])
                cache = part
                continue
            if cache is None:
                cache = self.empty_cache()
            for layer, filled in zip(cache.layers, part.layers, strict=True):
                layer.place(filled, targets, total, width)
        if logits is None:
            raise ValueError("prompts is empty; an engine starts with at least one row")
        return self.rows(cache, lengths[owners]), ready(logits)

    def rows(self, cache: Any, lengths: NDArray[np.int64]) -> TorchBatch:
        """The rows over a prefilled cache."""
        return TorchBatch(self, cache, lengths)

    def empty_cache(self) -> Any:
        """A cache for this model, with growing layers in place of plain ones."""
        cache = DynamicCache(config=self.model.config)
        if self._plain:
            cache.layers = [GrowingLayer() for _ in range(self.config.num_hidden_layers)]
            cache.layer_class_to_replicate = None
        return cache

    def prefill(self, prompts: Sequence[Sequence[int]]) -> tuple[Any, torch.Tensor]:
        """The cache of `prompts`, padded on the left, and the last logits (prompts, vocab)."""
        ids, positions, mask = left_padded(prompts)
        cache = self.empty_cache()
        ragged = not bool(mask.all())
        return cache, self._forward(ids.to(self.device), cache, positions, mask, ragged)

    def step(self, rows: Any, ids: torch.Tensor) -> torch.Tensor:
        """One token, shape (rows, 1), after `rows`; the logits, shape (rows, vocab)."""
        positions = rows.lengths[:, None]
        mask = rows.attended(rows.width + 1) if rows.padded or not self._takes_positions else None
        return self._forward(ids, rows.cache, positions, mask, rows.padded)

    @torch.inference_mode()
    def all_logits(self, sequences: Sequence[Sequence[int]]) -> Iterator[torch.Tensor]:
        """Logits after every token; see `base.Engine`."""
        for batch in _batches(sequences):
            width = max(map(len, batch))
            ids = torch.zeros((len(batch), width), dtype=torch.int64)
            for row, sequence in enumerate(batch):
                ids[row, : len(sequence)] = torch.tensor(sequence)
            # Padding is on the right, which a causal model does not attend to.
            mask = torch.arange(width) < torch.tensor([len(s) for s in batch])[:, None]
            output = self.model(
                input_ids=ids.to(self.device),
                attention_mask=mask.to(self.device, torch.int64),
                use_cache=False,
            )
            for row, sequence in enumerate(batch):
                yield ready(output.logits[row, : len(sequence)])

    def _forward(
        self,
        ids: torch.Tensor,
        cache: Any,
        positions: torch.Tensor,
        mask: torch.Tensor | None,
        ragged: bool,
    ) -> torch.Tensor:
        keywords: dict[str, Any] = {}
        if self._takes_positions:
            keywords["position_ids"] = positions.to(self.device)
        if mask is not None and (ragged or not self._takes_positions):
            keywords["attention_mask"] = mask.to(self.device, torch.int64)
        if self._takes_keep:
            keywords["logits_to_keep"] = 1
        output = self.model(input_ids=ids, past_key_values=cache, use_cache=True, **keywords)
        logits: torch.Tensor = output.logits[:, -1]
        return logits

    def _chunks(self, lengths: NDArray[np.int64]) -> list[NDArray[np.int64]]:
        """Indices of prompts, similar lengths together, in chunks of bounded size."""
        order = np.argsort(lengths, kind="stable")
        if not self._plain:
            return [order]
        chunks: list[NDArray[np.int64]] = []
        first = 0
        for end in range(1, len(order) + 1):
            full = end < len(order) and (end - first + 1) * lengths[order[end]] > PREFILL_TOKENS
            if full or end == len(order):
                chunks.append(order[first:end])
                first = end
        return chunks


def left_padded(
    prompts: Sequence[Sequence[int]],
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Ids, positions and which columns belong to a prompt, each of shape (prompts, width)."""
    width = max(map(len, prompts))
    ids = torch.zeros((len(prompts), width), dtype=torch.int64)
    for row, prompt in enumerate(prompts):
        ids[row, width - len(prompt) :] = torch.tensor(prompt)
    pads = torch.tensor([width - len(prompt) for prompt in prompts])[:, None]
    columns = torch.arange(width)
    return ids, (columns - pads).clamp_(min=0), columns >= pads


def ready(logits: torch.Tensor) -> torch.Tensor:
    """Logits as the core reads them: on the CPU, contiguous, at most float32."""
    logits = logits.detach().to("cpu")
    if logits.dtype not in (torch.float32, torch.float16, torch.bfloat16):
        logits = logits.float()
    return logits.contiguous()


def _batches(sequences: Sequence[Sequence[int]]) -> Iterator[list[Sequence[int]]]:
    """Adjacent sequences in batches of bounded size."""
    batch: list[Sequence[int]] = []
    for sequence in sequences:
        width = max([len(sequence), *map(len, batch)])
        if batch and width * (len(batch) + 1) > SCORING_TOKENS:
            yield batch
            batch = []
        batch.append(sequence)
    if batch:
        yield batch
