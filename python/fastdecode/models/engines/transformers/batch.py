"""The rows of a batch that share one cache."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from fastdecode.models.engines.torch_pass import torch_pass
from fastdecode.models.engines.transformers.cache_rows import selected


class Stepping(Protocol):
    """What runs the model for a batch."""

    device: torch.device

    def step(self, rows: Any, ids: torch.Tensor) -> torch.Tensor:
        """One token, shape (rows, 1), after `rows`; the logits, shape (rows, vocab)."""
        ...


class TorchBatch:
    """The rows of a batch in progress: their cache, and the length of each.

    Ragged prompts are padded on the left, so all rows end at the same column `width`; row i has
    `lengths[i]` tokens, of which `skipped[i]` do not count in the position of its next token.
    """

    def __init__(self, engine: Stepping, cache: Any, lengths: NDArray[np.int64]) -> None:
        """Take over a prefilled cache of `max(lengths)` columns."""
        self._engine = engine
        self.cache = cache
        self.lengths = torch.from_numpy(lengths).to(engine.device)
        self.skipped = torch.zeros_like(self.lengths)
        self.width = int(lengths.max())
        self.padded = bool((lengths != self.width).any())

    @torch_pass()
    @torch.inference_mode()
    def step(self, tokens: NDArray[np.int64]) -> torch.Tensor:
        """Append one token to each row; see `base.CachedBatch`."""
        ids = torch.as_tensor(tokens, dtype=torch.int64, device=self._engine.device)
        logits = self._engine.step(self, ids[:, None])
        self.lengths = self.lengths + 1
        self.width += 1
        return ready(logits)

    @torch_pass()
    @torch.inference_mode()
    def keep(self, rows: NDArray[np.int64]) -> None:
        """Keep these rows only; see `base.CachedBatch`."""
        index = torch.as_tensor(rows, dtype=torch.int64, device=self._engine.device)
        self.cache = selected(self.cache, index, len(self.lengths))
        self.lengths = self.lengths[index]
        self.skipped = self.skipped[index]
        self.padded = bool((self.lengths != self.width).any())

    def attended(self, width: int) -> torch.Tensor:
        """Which of `width` columns belong to the row, shape (rows, width), bool."""
        columns = torch.arange(width, device=self.lengths.device)
        return columns >= (self.width - self.lengths)[:, None]


def ready(logits: torch.Tensor) -> torch.Tensor:
    """Logits as the core reads them: on the CPU, contiguous, at most float32."""
    logits = logits.detach().to("cpu")
    if logits.dtype not in (torch.float32, torch.float16, torch.bfloat16):
        logits = logits.float()
    return logits.contiguous()
