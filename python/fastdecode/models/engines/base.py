"""What the loop asks of an engine. An engine knows tokens and logits, never text or sampling."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray


class Rows(Protocol):
    """The rows of one batch under way, with their KV cache. Several may be open at a time."""

    def step(self, tokens: NDArray[np.int64]) -> Any:
        """Append one token to each row, shape (rows,), and return the next logits.

        Returns:
            Logits of shape (rows, vocab): a contiguous array, or CPU tensor, in float32,
            float16 or bfloat16.
        """
        ...

    def keep(self, rows: NDArray[np.int64]) -> None:
        """Go on with these rows only, in this order."""
        ...


class JoinableRows(Rows, Protocol):
    """Rows that others may join, of an engine whose `joins` is true."""

    def join(self, prompts: Sequence[Sequence[int]], repeats: Sequence[int]) -> Any:
        """Add rows behind those under way: prompt i becomes `repeats[i]` rows.

        Returns:
            The new rows' logits, as from `step`.
        """
        ...


class Engine(Protocol):
    """A model that turns tokens into logits."""

    @property
    def context(self) -> int | None:
        """The most tokens a sequence may have, or None."""
        ...

    @property
    def vocab_size(self) -> int:
        """The width of a row of logits."""
        ...

    @property
    def eos_ids(self) -> tuple[int, ...]:
        """The tokens that end a sequence by the model's own settings."""
        ...

    @property
    def name(self) -> str:
        """The name by which `open_engine` gives it again."""
        ...

    @property
    def joins(self) -> bool:
        """Whether its rows are `JoinableRows`, of any lengths side by side without padding."""
        ...

    @property
    def dtype(self) -> str:
        """What the weights are kept as, as "float32"."""
        ...

    @property
    def bytes_per_token(self) -> int:
        """Memory of one token of one row in the KV cache, in bytes."""
        ...

    def start(self, prompts: Sequence[Sequence[int]], repeats: Sequence[int]) -> tuple[Rows, Any]:
        """Prefill each prompt once; row order is prompt order, each prompt `repeats[i]` times.

        Returns:
            The rows, and their logits as from `Rows.step`.
        """
        ...

    def all_logits(self, sequences: Sequence[Sequence[int]]) -> Iterator[Any]:
        """For each sequence in turn, the logits behind each of its tokens, shape (length, vocab).

        Memory stays bounded: sequences go through the model a few at a time.
        """
        ...
