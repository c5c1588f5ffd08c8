"""The interface of a sampler, and two implementations: the core's and torch's."""

from collections.abc import Iterator
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from fastdecode import core
from fastdecode.options import checks
from fastdecode.testing import arguments

# The maximum number of logits in one call where a row is drawn from many times.
LOGITS_AT_ONCE = 1 << 24
FIRST_DRAWS = 1 << 12
SEEDS = 2**64


class Sampler(Protocol):
    """Draws one token for each row of logits."""

    def __call__(
        self, logits: NDArray[np.float32], seed: int, streams: NDArray[np.int64], /
    ) -> Any:
        """Tokens, an array or tensor of (batch,) integers, for logits of (batch, vocab)."""
        ...


def core_sampler(params: core.Sample | None = None) -> Sampler:
    """fastdecode's sampler with these parameters.

    Raises
    ------
    TypeError
        For what are no parameters.
    """
    if params is not None and not isinstance(params, core.Sample):
        raise TypeError(f"params must be a Sample or None, not {checks.shown(params)}")

    def draw(
        logits: NDArray[np.float32], seed: int, streams: NDArray[np.int64], /
    ) -> NDArray[np.int64]:
        return core.sample(logits, params, seed=seed, streams=streams).tokens

    return draw


def torch_sampler(processors: Any = None) -> Sampler:
    """`torch.multinomial` on the softmax, after transformers' logits processors if any are given.

    Parameters
    ----------
    processors : callable, optional
        Takes (input_ids, scores) and returns scores, such as a `LogitsProcessorList`.
    """
    import torch

    if processors is not None:
        arguments.function("processors", processors)

    def draw(
        logits: NDArray[np.float32], seed: int, streams: NDArray[np.int64], /
    ) -> NDArray[np.int64]:
        generator = torch.Generator().manual_seed(seed)
        scores = torch.from_numpy(np.ascontiguousarray(logits))
        if processors is not None:
            scores = processors(torch.zeros((len(scores), 1), dtype=torch.long), scores)
        tokens = torch.multinomial(scores.softmax(-1), 1, generator=generator)
        return tokens[:, 0].numpy()

    return draw


def tokens_of(
    sampler: Sampler, logits: NDArray[np.float32], seed: int, streams: NDArray[np.int64]
) -> NDArray[np.int64]:
    """The tokens that a sampler returns, as int64 of shape (batch,).

    Raises
    ------
    ValueError
        The sampler did not return one token of the vocabulary for each row.
    """
    tokens = np.asarray(sampler(logits, seed, streams))
    if tokens.shape != (len(logits),):
        raise ValueError(
            f"the sampler gave tokens of shape {tokens.shape} for {len(logits)} rows of logits; "
            f"it must give one a row, shape ({len(logits)},)"
        )
    tokens = tokens.astype(np.int64)
    outside = (tokens < 0) | (tokens >= logits.shape[1])
    if outside.any():
        row = int(outside.argmax())
        raise ValueError(
            f"the sampler gave token {tokens[row]} for row {row}, outside the vocabulary, "
            f"0..{logits.shape[1] - 1}"
        )
    return tokens


def many_draws(
    sampler: Sampler, row: NDArray[np.float32], draws: int, seed: int
) -> Iterator[NDArray[np.int64]]:
    """`draws` tokens of one row, in pieces of growing size, each with a seed of its own.

    The arguments are checked at the call.
    """
    arguments.function("sampler", sampler)
    return _pieces(sampler, arguments.row(row), arguments.draws(draws), arguments.seed(seed))


def _pieces(
    sampler: Sampler, row: NDArray[np.float32], draws: int, seed: int
) -> Iterator[NDArray[np.int64]]:
    most = max(LOGITS_AT_ONCE // len(row), 1)
    size, done, piece = FIRST_DRAWS, 0, 0
    while done < draws:
        count = min(size, most, draws - done)
        streams = np.arange(count, dtype=np.int64)
        logits = np.broadcast_to(row, (count, len(row)))
        yield tokens_of(sampler, logits, (seed + piece) % SEEDS, streams)
        done, piece, size = done + count, piece + 1, 2 * size
