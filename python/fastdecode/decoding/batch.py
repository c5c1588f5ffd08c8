"""Rows side by side, and what the core asks of them as arrays."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastdecode.decoding.request import Plan, Row
from fastdecode.options.strategies import Sample, as_u32


@dataclass(slots=True)
class Group:
    """Rows that take a token together. Entry i of each array belongs to row i.

    Attributes:
        rows: the rows.
        streams: the random streams, uint32.
        samples: which samples of their prompts they are, uint32.
        positions: the place of each row's next token in its sequence, uint32.
        last: the place of the last token that each row may have.
        mus: mirostat's states, NaN before the first token; None without mirostat.
    """

    rows: list[Row]
    streams: NDArray[np.uint32]
    samples: NDArray[np.uint32]
    positions: NDArray[np.uint32]
    last: NDArray[np.uint32]
    mus: NDArray[np.float64] | None

    @classmethod
    def of(cls, plan: Plan, rows: list[Row]) -> Group:
        """Rows before their first token."""
        adapts = isinstance(plan.strategy, Sample) and plan.strategy.adapts
        return cls(
            rows,
            streams=as_u32([row.prompt.stream for row in rows]),
            samples=as_u32([row.sample for row in rows]),
            positions=as_u32([len(row.prompt.ids) for row in rows]),
            last=as_u32([row.prompt.longest - 1 for row in rows]),
            mus=np.full(len(rows), np.nan) if adapts else None,
        )

    def take(self, index: NDArray[np.int64]) -> Group:
        """The rows `index` of it."""
        return Group(
            [self.rows[i] for i in index],
            self.streams[index],
            self.samples[index],
            self.positions[index],
            self.last[index],
            None if self.mus is None else self.mus[index],
        )

    def join(self, others: Group) -> Group:
        """The rows of both."""
        return Group(
            self.rows + others.rows,
            np.concatenate([self.streams, others.streams]),
            np.concatenate([self.samples, others.samples]),
            np.concatenate([self.positions, others.positions]),
            np.concatenate([self.last, others.last]),
            None
            if self.mus is None or others.mus is None
            else np.concatenate([self.mus, others.mus]),
        )

    def place(self, plan: Plan) -> dict[str, Any]:
        """Where the next tokens stand, as `strategies.choose` asks."""
        rows = self.rows
        remembers = isinstance(plan.strategy, Sample) and plan.strategy.needs_history
        return {
            "seed": plan.seed,
            "streams": self.streams,
            "samples": self.samples,
            "positions": self.positions,
            "histories": [as_u32(r.prompt.ids + r.ids) for r in rows] if remembers else None,
            "prompt_lengths": as_u32([len(r.prompt.ids) for r in rows]) if remembers else None,
            "mus": self.mus,
        }
