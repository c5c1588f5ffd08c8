"""Batches of models whose rows cannot all share one cache."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from fastdecode.models.engines.torch_pass import torch_pass
from fastdecode.models.engines.transformers.batch import TorchBatch
from fastdecode.models.engines.transformers.capabilities import Capabilities


class Prefilling(Protocol):
    """What prefills the parts of a batch."""

    capabilities: Capabilities
    forward: Any

    def together(
        self, prompts: Sequence[Sequence[int]], repeats: Sequence[int]
    ) -> tuple[TorchBatch, torch.Tensor]:
        """Rows that share one cache, and their logits."""
        ...

    def last_logits(self, sequences: Sequence[Sequence[int]]) -> torch.Tensor:
        """The logits after each sequence, by full passes."""
        ...


class FullPassBatch:
    """Rows without a cache: each step is a full pass over all tokens."""

    def __init__(self, engine: Prefilling, sequences: Sequence[Sequence[int]]) -> None:
        """Begin with these rows."""
        self._engine = engine
        self._ids = [list(sequence) for sequence in sequences]

    @torch_pass()
    def step(self, tokens: NDArray[np.int64]) -> torch.Tensor:
        """Append one token to each row; see `base.CachedBatch`."""
        for ids, token in zip(self._ids, np.asarray(tokens).tolist(), strict=True):
            ids.append(token)
        return self._engine.last_logits(self._ids)

    @torch_pass()
    def keep(self, rows: NDArray[np.int64]) -> None:
        """Continue with these rows only; see `base.CachedBatch`."""
        self._ids = [list(self._ids[row]) for row in np.asarray(rows).tolist()]


class _Part:
    """Rows of a split batch that go through the model together.

    Attributes:
        rows: their numbers in the split batch.
        batch: their cache; None where they have to be prefilled again.
    """

    def __init__(self, rows: list[int], batch: TorchBatch | None = None) -> None:
        self.rows = rows
        self.batch = batch


class SplitBatch:
    """Rows in parts that each share one cache: of equal lengths, or of a single row.

    The tokens of every row are kept, so that a part whose cache is void can be prefilled again:
    where its rows change and the model's cache cannot follow, where another batch has taken over
    the state that a model keeps in its own modules, and where a row crosses LongRoPE's border.
    """

    def __init__(self, engine: Prefilling) -> None:
        """Begin without rows."""
        self._engine = engine
        self._able = engine.capabilities
        self._ids: list[list[int]] = []
        self._parts: list[_Part] = []

    def start(self, prompts: Sequence[Sequence[int]], repeats: Sequence[int]) -> torch.Tensor:
        """Prefill the rows; the logits, shape (rows, vocab)."""
        owners = np.repeat(np.arange(len(prompts)), repeats).tolist()
        self._ids = [list(prompts[owner]) for owner in owners]
        self._parts = [_Part(rows) for rows in self._groups(range(len(owners)))]
        return self._gather(self._prefill(part) for part in self._parts)

    @torch_pass()
    def step(self, tokens: NDArray[np.int64]) -> torch.Tensor:
        """Append one token to each row; see `base.CachedBatch`."""
        chosen = np.asarray(tokens)
        for ids, token in zip(self._ids, chosen.tolist(), strict=True):
            ids.append(token)
        self._cross_border()
        return self._gather(self._advance(part, chosen) for part in self._parts)

    @torch_pass()
    def keep(self, rows: NDArray[np.int64]) -> None:
        """Continue with these rows only; see `base.CachedBatch`."""
        kept = np.asarray(rows).tolist()
        parts: list[_Part] = []
        for part in self._parts:
            place = {row: i for i, row in enumerate(part.rows)}
            pairs = [(new, place[old]) for new, old in enumerate(kept) if old in place]
            if pairs:
                self._keep_in_part(part, [new for new, _ in pairs], [old for _, old in pairs])
                parts.extend(self._apart(part))
        self._ids = [list(self._ids[row]) for row in kept]
        self._parts = parts

    def _keep_in_part(self, part: _Part, rows: list[int], places: list[int]) -> None:
        """Keep the rows at `places` of a part, which become the rows `rows` of the batch."""
        if part.batch is not None and places != list(range(len(part.rows))):
            if self._able.reorders and self._engine.forward.holds(part):
                part.batch.keep(np.array(places, dtype=np.int64))
            else:
                part.batch = None
        part.rows = rows

    def _apart(self, part: _Part) -> Iterator[_Part]:
        """The part, or a part for each row where the model takes one row at a time."""
        if self._able.batches or len(part.rows) == 1:
            yield part
        else:
            yield from (_Part([row]) for row in part.rows)

    def _cross_border(self) -> None:
        """Give the rows that have just crossed LongRoPE's border a part of their own."""
        border = self._able.border
        if border is None:
            return
        crossed = []
        for part in self._parts:
            stay = [i for i, row in enumerate(part.rows) if len(self._ids[row]) != border + 1]
            if len(stay) < len(part.rows):
                crossed += [row for row in part.rows if len(self._ids[row]) == border + 1]
                if stay:
                    self._keep_in_part(part, [part.rows[i] for i in stay], stay)
                else:
                    part.rows = []
        self._parts = [part for part in self._parts if part.rows]
        self._parts += [_Part(rows) for rows in self._groups(crossed)]

    def _groups(self, rows: Sequence[int]) -> list[list[int]]:
        """The rows that may share a cache."""
        able = self._able
        groups: dict[Any, list[int]] = {}
        for row in rows:
            length = len(self._ids[row])
            side = able.border is not None and length > able.border
            single = length == 1 and not able.starts_with_one
            key: Any = row if not able.batches else length if not able.ragged else None
            groups.setdefault((side, single, key), []).append(row)
        return list(groups.values())

    def _advance(self, part: _Part, tokens: NDArray[np.int64]) -> tuple[_Part, torch.Tensor]:
        if part.batch is None or not self._engine.forward.holds(part):
            return self._prefill(part)
        logits = part.batch.step(tokens[part.rows])
        self._engine.forward.claim(part)
        return part, logits

    def _prefill(self, part: _Part) -> tuple[_Part, torch.Tensor]:
        """Prefill all tokens of a part; equal rows once, where the cache can be reordered."""
        sequences = [self._ids[row] for row in part.rows]
        if not self._able.starts_with_one and min(map(len, sequences)) == 1:
            part.batch = None
            return part, self._engine.last_logits(sequences)
        prompts, repeats = sequences, [1] * len(sequences)
        if self._able.reorders:
            prompts, repeats = _runs(sequences)
        part.batch, logits = self._engine.together(prompts, repeats)
        self._engine.forward.claim(part)
        return part, logits

    def _gather(self, results: Iterator[tuple[_Part, torch.Tensor]]) -> torch.Tensor:
        """The logits of all parts, in the order of the rows."""
        logits: torch.Tensor | None = None
        for part, found in results:
            if logits is None:
                logits = found.new_empty((len(self._ids), found.shape[1]))
            logits[part.rows] = found
        if logits is None:
            raise ValueError("prompts is empty; an engine starts with at least one row")
        return logits


def _runs(sequences: Sequence[list[int]]) -> tuple[list[list[int]], list[int]]:
    """Adjacent equal sequences once, and how many there are of each."""
    prompts: list[list[int]] = []
    repeats: list[int] = []
    for sequence in sequences:
        if prompts and prompts[-1] == sequence:
            repeats[-1] += 1
        else:
            prompts.append(sequence)
            repeats.append(1)
    return prompts, repeats
