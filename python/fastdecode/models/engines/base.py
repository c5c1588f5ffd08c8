"""The interface of an engine. An engine knows tokens and logits, never text or sampling."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NoReturn, Protocol

import numpy as np
from numpy.typing import NDArray


class CachedBatch(Protocol):
    """The rows of one batch in progress, with their KV cache. Several may be open at a time."""

    def step(self, tokens: NDArray[np.int64]) -> Any:
        """Append one token to each row, shape (rows,), and return the next logits.

        Returns:
            Logits of shape (rows, vocab): a contiguous array, or CPU tensor, in float32,
            float16 or bfloat16.
        """
        ...

    def keep(self, rows: NDArray[np.int64]) -> None:
        """Continue with the rows `rows` only, in this order; a row may occur several times."""
        ...


class JoinableBatch(CachedBatch, Protocol):
    """A batch that new rows may join, of an engine whose `joins` is true."""

    def join(self, prompts: Sequence[Sequence[int]], repeats: Sequence[int]) -> Any:
        """Append rows to those in progress: prompt i becomes `repeats[i]` rows.

        Returns:
            The new rows' logits, as from `step`.
        """
        ...


class Engine(Protocol):
    """A model that turns tokens into logits."""

    @property
    def context(self) -> int | None:
        """The maximum length of a sequence in tokens, or None."""
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
        """The name that selects it in `open_engine`."""
        ...

    @property
    def joins(self) -> bool:
        """Whether `start` returns a `JoinableBatch`, which holds any lengths without padding."""
        ...

    @property
    def dtype(self) -> str:
        """The number format of the weights, such as "float32"."""
        ...

    @property
    def bytes_per_token(self) -> int:
        """Memory of one token of one row in the KV cache, in bytes."""
        ...

    def start(
        self, prompts: Sequence[Sequence[int]], repeats: Sequence[int]
    ) -> tuple[CachedBatch, Any]:
        """Prefill each prompt once; row order is prompt order, each prompt `repeats[i]` times.

        Returns:
            The batch, and its logits as from `CachedBatch.step`.
        """
        ...

    def all_logits(self, sequences: Sequence[Sequence[int]]) -> Iterator[Any]:
        """For each sequence in turn, the logits after each of its tokens, shape (length, vocab).

        Memory stays bounded: sequences go through the model a few at a time.
        """
        ...


def cache_setting(engine: Engine) -> dict[str, str]:
    """What records of a run say of the number format of an engine's KV cache.

    Nothing where it is float32 or the engine's own affair, as in the files of earlier versions.
    """
    kept = getattr(engine, "kv_cache_dtype", None)
    return {} if kept in (None, "float32") else {"kv_cache_dtype": str(kept)}


class ClosedEngine:
    """What a decoder has in place of an engine once it is closed: every use is refused."""

    def __getattr__(self, name: str) -> NoReturn:
        """Refuse.

        Raises:
            ValueError: always.
        """
        raise ValueError("this decoder is closed; load the model again")
