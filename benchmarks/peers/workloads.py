"""The cells of the tables: workloads that are the same for every peer.

Prompts are token ids, so that results do not depend on a tokenizer. A `generate` cell is run twice,
with one new token per sequence and with `1 + steps`. The difference, divided by `steps`, is the
time of a decoding step; the short run is the prefill with the first token.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

# From this length on, every run gets prompts of its own: some libraries keep the blocks of earlier
# prompts, and would answer a repeated prompt without its prefill.
_LONG = 512


@dataclass(frozen=True)
class Cell:
    """One column of the tables."""

    name: str
    kind: str  # "generate", "queue" or "score"
    mode: str  # "greedy", "top-k", "top-p" or "beam"
    rows: int
    prompt: int  # tokens of a prompt; of the longest, if lengths differ
    steps: int
    repeats: int
    n: int = 1
    beams: int = 1
    shortest: int | None = None

    def prompts(self, vocabulary: int, new: int, seed: int) -> list[list[int]]:
        """The prompts of a run: the same ids in every run, or new ones for long prompts."""
        fresh = [new, seed] if self.prompt >= _LONG else []
        rng = np.random.default_rng([self.rows, self.prompt, *fresh])
        if self.shortest is None:
            lengths = np.full(self.rows, self.prompt)
        else:
            # As many between 16 and 32 tokens as between 128 and 256.
            low, high = np.log([self.shortest, self.prompt])
            lengths = np.exp(rng.uniform(low, high, self.rows)).round().astype(int)
        return [rng.integers(0, vocabulary - 1, length).tolist() for length in lengths]

    def request(self, new: int, seed: int, vocabulary: int) -> dict[str, Any]:
        """The request to a peer for `new` tokens per sequence."""
        return {
            "op": self.kind,
            "prompts": self.prompts(vocabulary, new, seed),
            "mode": self.mode,
            "new": new,
            "n": self.n,
            "beams": self.beams,
            "seed": seed,
        }


def _cells() -> dict[str, Cell]:
    cells = []
    for rows, steps in ((1, 32), (8, 32), (32, 16)):
        for mode in ("greedy", "top-k", "top-p"):
            repeats = 5 if mode == "top-k" else 3 if rows < 32 else 2
            cells.append(Cell(f"{mode}-{rows}", "generate", mode, rows, 16, steps, repeats))
    cells.append(Cell("beam-1", "generate", "beam", 1, 16, 32, 5, beams=4))
    cells.append(Cell("beam-8", "generate", "beam", 8, 16, 16, 5, beams=4))
    cells.append(Cell("samples-16", "generate", "top-k", 1, 256, 16, 3, n=16))
    cells.append(Cell("samples-16-512", "generate", "top-k", 1, 512, 16, 3, n=16))
    cells.append(Cell("long-1", "generate", "top-k", 1, 512, 32, 5))
    cells.append(Cell("long-8", "generate", "top-k", 8, 512, 16, 3))
    cells.append(Cell("queue-256", "queue", "top-k", 256, 256, 16, 1, shortest=16))
    cells.append(Cell("score-256", "score", "greedy", 256, 64, 0, 1, shortest=16))
    return {cell.name: cell for cell in cells}


CELLS = _cells()
FIRST_TOKEN = "first-token"
READ = "read"
# The cells that are measured for each model, in this order.
CELLS_OF = {
    "gpt2": (
        *(f"{mode}-{rows}" for rows in (1, 8, 32) for mode in ("greedy", "top-k", "top-p")),
        *("beam-1", "beam-8", "samples-16", "queue-256", "score-256", READ, FIRST_TOKEN),
    ),
    "smollm2": (
        *("greedy-8", "top-k-1", "top-k-8", "top-k-32", "beam-1", "long-1", "long-8"),
        *("samples-16-512", READ, FIRST_TOKEN),
    ),
    "qwen2.5": ("top-k-1", "top-k-8", "long-1", READ, FIRST_TOKEN),
}
