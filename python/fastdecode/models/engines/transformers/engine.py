"""Any transformers causal language model as an engine, through its own forward pass."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from transformers.cache_utils import DynamicCache

from fastdecode.models.engines.base import CachedBatch
from fastdecode.models.engines.torch_pass import torch_pass
from fastdecode.models.engines.transformers import limits
from fastdecode.models.engines.transformers.batch import TorchBatch, ready
from fastdecode.models.engines.transformers.cache_rows import selected
from fastdecode.models.engines.transformers.forward import Forward
from fastdecode.models.engines.transformers.growing_cache import GrowingLayer
from fastdecode.models.engines.transformers.probe import Findings, assume, examine
from fastdecode.models.engines.transformers.split_batch import FullPassBatch, SplitBatch
from fastdecode.models.settings import EndTokens

# The maximum tokens of a prefill pass, and rows of logits of a scoring pass, which bound the
# memory of activations and of logits.
PREFILL_TOKENS = 4096
SCORING_TOKENS = 1024
# Raised whenever the same model and tokens are computed in another way, as with another padding;
# what torch and transformers change is recorded by their versions.
_DEFINITION = 1


class TorchEngine:
    """A transformers causal language model; logits come from its own forward pass.

    Attributes:
        model: the model, in evaluation mode.
        capabilities: how its forward pass is called, and what its batches can do.
        forward: its forward pass, called that way.
    """

    def __init__(self, model: Any, *, probe: bool = True) -> None:
        """Use `model`, in evaluation mode.

        Args:
            model: the model.
            probe: whether to run a few tokens through the model, to find out what it can do;
                otherwise its signature and configuration are trusted.

        Raises:
            ValueError: where it is not a causal language model.
        """
        self.model = model.eval()
        self.config = limits.text_config(model)
        self.device: torch.device = model.device
        self._found: Findings = examine(model) if probe else assume(model)
        self.capabilities = self._found.capabilities
        self.forward = Forward(model, self.capabilities.convention)
        if not self.capabilities.concurrent:
            self.forward.watch()
        self._context = limits.context(model)
        self._ends = EndTokens(model, self.vocab_size)

    @property
    def context(self) -> int | None:
        """The maximum length of a sequence in tokens, or None."""
        return self._context

    @property
    def vocab_size(self) -> int:
        """The width of a row of logits."""
        if self._found.width is not None:
            return self._found.width
        head = self.model.get_output_embeddings()
        return int(self.config.vocab_size if head is None else head.weight.shape[0])

    @property
    def eos_ids(self) -> tuple[int, ...]:
        """The tokens that end a sequence by the model's own settings."""
        return self._ends.within(self.vocab_size)

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
    def definition(self) -> str:
        """The number of the definition of `dtype`, "float32/1"; see `_DEFINITION`."""
        return f"{self.dtype}/{_DEFINITION}"

    @property
    def bytes_per_token(self) -> int:
        """Memory of one token of one row in the KV cache, in bytes, at least 1."""
        found = self._found.bytes_per_token
        return max(1, limits.cache_bytes(self.model) if found is None else found)

    @torch_pass()
    @torch.inference_mode()
    def start(
        self, prompts: Sequence[Sequence[int]], repeats: Sequence[int]
    ) -> tuple[CachedBatch, torch.Tensor]:
        """Prefill each prompt once; see `base.Engine`."""
        if self.capabilities.together:
            return self.together(prompts, repeats)
        if self.capabilities.convention.cache != "none":
            split = SplitBatch(self)
            return split, split.start(prompts, repeats)
        rows = [p for p, count in zip(prompts, repeats, strict=True) for _ in range(count)]
        return FullPassBatch(self, rows), self.last_logits(rows)

    @torch.inference_mode()
    def together(
        self, prompts: Sequence[Sequence[int]], repeats: Sequence[int]
    ) -> tuple[TorchBatch, torch.Tensor]:
        """Rows that share one cache, and their logits."""
        lengths = np.array([len(prompt) for prompt in prompts], dtype=np.int64)
        owners = np.repeat(np.arange(len(prompts)), repeats)
        width, total = int(lengths.max(initial=0)), len(owners)
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
            if not self._growing:
                same = targets.shape[1] == len(chunk) and not bool((targets[0] - targets[1]).any())
                cache = part if same else selected(part, targets[1], len(chunk))
                continue
            if cache is None:
                cache = self.empty_cache()
                cache.layers = [GrowingLayer() for _ in part.layers]
            for layer, filled in zip(cache.layers, part.layers, strict=True):
                if filled.is_initialized:
                    layer.place(filled, targets, total, width)
        if logits is None:
            raise ValueError("prompts is empty; an engine starts with at least one row")
        batch = self.rows(cache, lengths[owners])
        self.forward.count(batch, [prompts[owner] for owner in owners.tolist()])
        return batch, ready(logits)

    def rows(self, cache: Any, lengths: NDArray[np.int64]) -> TorchBatch:
        """The rows over a prefilled cache."""
        return TorchBatch(self, cache, lengths)

    def empty_cache(self) -> DynamicCache:
        """A cache for this model, with growing layers in place of plain ones."""
        return self.forward.empty_cache()

    def prefill(self, prompts: Sequence[Sequence[int]]) -> tuple[Any, torch.Tensor]:
        """The cache of `prompts`, padded on the left, and the last logits (prompts, vocab)."""
        return self.forward.prefill(prompts)

    def step(self, rows: Any, ids: torch.Tensor) -> torch.Tensor:
        """One token, shape (rows, 1), after `rows`; the logits, shape (rows, vocab)."""
        return self.forward.step(rows, ids)

    @torch.inference_mode()
    def all_logits(self, sequences: Sequence[Sequence[int]]) -> Iterator[torch.Tensor]:
        """Logits after every token; see `base.Engine`.

        They are those that the model gives when it generates the sequence: where LongRoPE's border
        lies within it, the tokens up to the border are read with the short factors.
        """
        border = self.capabilities.border
        for batch in self._scoring_batches(sequences):
            with torch_pass():
                logits = self.forward.plain(batch)
                if border is not None and len(batch[0]) > border:
                    logits = logits.clone()
                    logits[:, :border] = self.forward.plain([s[:border] for s in batch])
            for row, sequence in enumerate(batch):
                yield ready(logits[row, : len(sequence)])

    def last_logits(self, sequences: Sequence[Sequence[int]]) -> torch.Tensor:
        """The logits after each sequence, by full passes; equal sequences go through once."""
        distinct = sorted({tuple(sequence) for sequence in sequences}, key=len)
        # A copy, so that the logits of the earlier tokens are released.
        found = {
            ids: logits[-1].clone()
            for ids, logits in zip(distinct, self.all_logits(distinct), strict=True)
        }
        return torch.stack([found[tuple(sequence)] for sequence in sequences])

    @property
    def _growing(self) -> bool:
        return self.capabilities.convention.cache == "growing"

    def _chunks(self, lengths: NDArray[np.int64]) -> list[NDArray[np.int64]]:
        """Indices of prompts, similar lengths together, in chunks of bounded size."""
        order = np.argsort(lengths, kind="stable")
        if not self._growing:
            return [order] if len(order) else []
        chunks: list[NDArray[np.int64]] = []
        first = 0
        for end in range(1, len(order) + 1):
            full = end < len(order) and (end - first + 1) * lengths[order[end]] > PREFILL_TOKENS
            if full or end == len(order):
                chunks.append(order[first:end])
                first = end
        return chunks

    def _scoring_batches(self, sequences: Sequence[Sequence[int]]) -> Iterator[list[Sequence[int]]]:
        """Adjacent sequences that may share a pass, in batches of bounded size."""
        able = self.capabilities
        batch: list[Sequence[int]] = []
        for sequence in sequences:
            width = max([len(sequence), *map(len, batch)])
            alike = not batch or (
                able.batches
                and (able.pads_right or len(batch[0]) == len(sequence))
                and (able.border is None or (len(batch[0]) > able.border) == (width > able.border))
            )
            if batch and (not alike or width * (len(batch) + 1) > SCORING_TOKENS):
                yield batch
                batch = []
            batch.append(sequence)
        if batch:
            yield batch
