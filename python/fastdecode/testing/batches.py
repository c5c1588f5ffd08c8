"""Checks that a draw depends on its seed and stream, and on nothing else in the batch."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastdecode.options import checks
from fastdecode.testing import arguments
from fastdecode.testing.result import Result
from fastdecode.testing.samplers import SEEDS, Sampler, tokens_of

_MOST_PADDING = 2**20
# 64 rows of 256 equal logits: 512 bits of choice, so that no two results agree by chance.
FLAT = np.zeros((64, 256), dtype=np.float32)


def check_replay(
    sampler: Sampler, logits: NDArray[np.float32] | None = None, *, seed: int = 0
) -> Result:
    """Check that a seed reproduces its tokens, also after other draws, and that others differ.

    Parameters
    ----------
    sampler : Sampler
    logits : float32 array, (batch, vocab), optional
        The rows to draw from; by default 64 flat rows of 256 tokens. Whether another seed and
        other streams give other tokens is always checked on the flat rows.
    seed : int
    """
    arguments.function("sampler", sampler)
    seed = arguments.seed(seed)
    batch = FLAT if logits is None else arguments.batch(logits)
    streams = np.arange(len(batch), dtype=np.int64)
    first = tokens_of(sampler, batch, seed, streams)
    flat_streams = np.arange(len(FLAT), dtype=np.int64)
    other_seed = tokens_of(sampler, FLAT, (seed + 1) % SEEDS, flat_streams)
    again = tokens_of(sampler, batch, seed, streams)
    if (first != again).any():
        row = int((first != again).argmax())
        explanation = (
            f"with seed {seed}, row {row} gave token {first[row]}, and {again[row]} the second "
            "time."
        )
        return Result("replay", False, explanation, 2 * len(batch))
    flat = tokens_of(sampler, FLAT, seed, flat_streams)
    draws = 2 * len(batch) + 2 * len(FLAT)
    if (flat == other_seed).all():
        explanation = f"seeds {seed} and {seed + 1} gave the same {len(FLAT)} tokens."
        return Result("replay", False, explanation, draws)
    if (flat == flat[0]).all():
        explanation = f"{len(FLAT)} rows with streams of their own all gave token {flat[0]}."
        return Result("replay", False, explanation, draws)
    explanation = f"{len(batch)} tokens came again with their seed; another seed gave others."
    return Result("replay", True, explanation, draws, 256.0**-63)


def check_batch_invariance(
    sampler: Sampler,
    logits: NDArray[np.float32],
    *,
    seed: int = 0,
    streams: ArrayLike | None = None,
    padding: int = 13,
) -> Result:
    """Check that a row's token does not depend on the rest of the batch.

    Each row is drawn alone, in reverse and in shuffled order, in a batch split in two, with other
    rows, with copies of itself, and with tokens of logit -inf appended.

    Parameters
    ----------
    sampler : Sampler
    logits : float32 array, (batch, vocab)
        At least two rows.
    seed : int
    streams : int array, (batch,), optional
        The rows' streams; by default 0, 1, ...
    padding : int
        The number of tokens appended; 0 omits that variation.
    """
    arguments.function("sampler", sampler)
    seed = arguments.seed(seed)
    padding = checks.integer("padding", padding, 0, _MOST_PADDING)
    batch = arguments.batch(logits)
    if len(batch) < 2:
        raise ValueError(
            f"logits must have at least two rows, to be batch-mates; got shape {batch.shape}"
        )
    names = np.arange(len(batch), dtype=np.int64)
    if streams is not None:
        names = arguments.array("streams", streams, np.int64, "iu", shape=names.shape)
    reference = tokens_of(sampler, batch, seed, names)
    draws = len(batch)
    for what, rows, varied, compared in _variations(batch, padding):
        tokens = tokens_of(sampler, varied, seed, names[rows])
        draws += len(tokens)
        differs = (tokens != reference[rows])[:compared]
        if differs.any():
            at = int(differs.argmax())
            explanation = (
                f"row {rows[at]} gave token {reference[rows[at]]} in the batch and {tokens[at]} "
                f"{what}."
            )
            return Result("batch invariance", False, explanation, draws)
    explanation = (
        f"{len(batch)} rows gave their tokens alone, in other orders, splits and company"
        f"{', and padded' if padding else ''}."
    )
    return Result("batch invariance", True, explanation, draws)


def _variations(
    batch: NDArray[np.float32], padding: int
) -> Iterator[tuple[str, NDArray[np.int64], NDArray[np.float32], int]]:
    """The change, the rows in order, the logits, and the number of unchanged rows."""
    size = len(batch)
    everyone = np.arange(size)
    yield "in a batch in reverse order", everyone[::-1], batch[::-1], size
    shuffled = np.random.default_rng(0).permutation(size)
    yield "in a shuffled batch", shuffled, batch[shuffled], size
    half = size // 2
    yield "in the first half alone", everyone[:half], batch[:half], size
    yield "in the second half alone", everyone[half:], batch[half:], size
    if padding:
        padded = np.pad(batch, ((0, 0), (0, padding)), constant_values=-np.inf)
        yield "with banned tokens appended", everyone, padded, size
    for row in everyone:
        alone = batch[row : row + 1]
        yield "alone", np.array([row]), alone, 1
        first = np.roll(everyone, -row)
        # The logits of the other rows are negated.
        others = -np.where(np.isfinite(batch), batch, 0)[first[1:]]
        yield "beside other rows", first, np.concatenate([alone, others]), 1
        yield "beside a copy of itself", np.array([row, row]), np.repeat(alone, 2, axis=0), 2
