"""A batch whose rows branch without copies: what a beam search does to a KV cache.

A sequence of the cache is a prompt, and its columns are append-only: first the prompt's tokens,
then, step by step, one column for each of its beams. The columns that a beam attends to, its
ancestry, are a row of a mask. So a prompt's keys and values are stored once for all its beams, and
a new set of parents moves no keys and values: it only selects rows of the mask.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from fastdecode.models.engines.torch_pass import torch_pass
from fastdecode.models.engines.transformers.batch import TorchBatch, ready

if TYPE_CHECKING:
    from fastdecode.models.engines.gpt2.engine import GPT2Engine

# Unused columns are dropped when there are this many of them, and more than used ones.
_WORTH_DROPPING = 64


class BranchingBatch(TorchBatch):
    """A batch whose cache holds one sequence for each prompt, shared by a grid of beams.

    Until a row is kept twice it behaves as `TorchBatch`. From then on row i is beam `slots[i] % B`
    of prompt `slots[i] // B`, and `seen` (prompts, B, columns) is the ancestry.
    """

    def __init__(self, engine: GPT2Engine, cache: Any, lengths: NDArray[np.int64]) -> None:
        """Take over a prefilled cache of `max(lengths)` columns."""
        super().__init__(engine, cache, lengths)
        self._gpt2 = engine
        self.seen: torch.Tensor | None = None
        self._slots = np.arange(len(lengths))

    @torch_pass()
    @torch.inference_mode()
    def step(self, tokens: NDArray[np.int64]) -> torch.Tensor:
        """Append one token to each row; see `base.CachedBatch`."""
        if self.seen is None:
            return super().step(tokens)
        prompts, beams, _ = self.seen.shape
        # A place of the grid without a row computes a token 0, whose logits are dropped.
        ids = torch.zeros(prompts * beams, dtype=torch.int64)
        positions = torch.zeros_like(ids)
        slots = torch.from_numpy(self._slots)
        ids[slots] = torch.as_tensor(tokens, dtype=torch.int64)
        positions[slots] = self.lengths
        own = torch.eye(beams, dtype=torch.bool).expand(prompts, beams, beams)
        self.seen = torch.cat([self.seen, own], dim=2)
        shape = (prompts, beams)
        logits = self._gpt2.branch(self, ids.view(shape), positions.view(shape))
        self.lengths = self.lengths + 1
        if len(slots) < len(logits):
            logits = logits[slots]
        return ready(logits)

    @torch_pass()
    @torch.inference_mode()
    def keep(self, rows: NDArray[np.int64]) -> None:
        """Keep these rows only; one that occurs several times branches."""
        rows = np.asarray(rows)
        if self.seen is None:
            if len(np.unique(rows)) == len(rows):
                super().keep(rows)
                return
            self.seen = self.attended(self.width)[:, None, :]
        beams, columns = self.seen.shape[1:]
        before = self._slots[rows]
        alive, owners = np.unique(before // beams, return_inverse=True)
        if len(alive) < len(self.seen):
            self.cache.reorder_cache(torch.from_numpy(alive))
        ranks = _ranks(owners)
        wide = int(ranks.max()) + 1
        self._slots = owners * wide + ranks
        seen = torch.zeros((len(alive) * wide, columns), dtype=torch.bool)
        seen[torch.from_numpy(self._slots)] = self.seen.reshape(-1, columns)[
            torch.from_numpy(before)
        ]
        self.seen = seen.view(len(alive), wide, columns)
        self.lengths = self.lengths[torch.from_numpy(rows)]
        self._drop_columns()

    def _drop_columns(self) -> None:
        """Drop the columns that no beam attends to, once they are most of the cache."""
        if self.seen is None:
            return
        used = self.seen.any(dim=1)
        left = int(used.sum(dim=1).max())
        if self.seen.shape[2] < 2 * left + _WORTH_DROPPING:
            return
        # Used columns first, in order; a prompt with fewer of them keeps some unused ones.
        order = torch.argsort(~used, dim=1, stable=True)[:, :left]
        for layer in self.cache.layers:
            layer.take_columns(order)
        self.seen = self.seen.gather(2, order[:, None, :].expand(-1, self.seen.shape[1], -1))


def _ranks(owners: NDArray[np.intp]) -> NDArray[np.int64]:
    """For each entry, how many equal ones precede it."""
    counts: dict[int, int] = {}
    ranks = np.empty(len(owners), dtype=np.int64)
    for i, owner in enumerate(owners.tolist()):
        ranks[i] = counts.get(owner, 0)
        counts[owner] = int(ranks[i]) + 1
    return ranks
