"""How a model numbers the tokens of a sequence, where its forward pass takes `position_ids`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch


@dataclass(frozen=True, slots=True)
class Positions:
    """The numbers of a sequence's tokens.

    Attributes:
        first: the number of the first token: 0, or padding_idx + 1 for RoBERTa and its relatives.
        uncounted: a token that takes the number `first - 1` and does not advance the count, as
            RoBERTa's padding token does wherever it occurs; None where every token counts.
    """

    first: int = 0
    uncounted: int | None = None

    def of(self, ids: torch.Tensor, own: torch.Tensor) -> torch.Tensor:
        """The numbers of prompts that are padded on the left.

        Args:
            ids: tokens, shape (prompts, width).
            own: which of them belong to a prompt, same shape, bool.
        """
        counted = own if self.uncounted is None else own & (ids != self.uncounted)
        numbers = counted.cumsum(1) + (self.first - 1)
        return numbers.where(counted, max(self.first - 1, 0))

    def after(
        self, ids: torch.Tensor, lengths: torch.Tensor, skipped: torch.Tensor
    ) -> torch.Tensor:
        """The numbers of one further token for each row, shape (rows, 1).

        Args:
            ids: the tokens, shape (rows, 1).
            lengths: tokens of each row before them, shape (rows,).
            skipped: how many of those do not count, shape (rows,).
        """
        numbers = (lengths - skipped + self.first)[:, None]
        if self.uncounted is None:
            return numbers
        return numbers.where(ids != self.uncounted, self.first - 1)

    def skipped(self, prompts: Sequence[Sequence[int]]) -> list[int]:
        """How many tokens of each prompt do not count."""
        if self.uncounted is None:
            return [0] * len(prompts)
        return [sum(token == self.uncounted for token in prompt) for prompt in prompts]
