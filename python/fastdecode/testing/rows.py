"""Rows of logits on which samplers tend to fail.

>>> from fastdecode.testing import rows
>>> for name, row in rows.adversarial(50_257).items(): ...
"""

import numpy as np
from numpy.typing import NDArray

from fastdecode.options import checks
from fastdecode.testing import arguments

Row = NDArray[np.float32]

SMALLEST = np.float32(1e-45)
LARGEST = np.finfo(np.float32).max


def adversarial(vocabulary: int, seed: int = 0) -> dict[str, Row]:
    """Named float32 rows, each with at least one finite logit.

    Parameters
    ----------
    vocabulary : int
        The number of tokens, at least 1.
    seed : int
        For the rows with random numbers; the same seed gives the same rows.
    """
    vocabulary = _size(vocabulary)
    generator = np.random.default_rng(arguments.seed(seed))
    ids = np.arange(vocabulary)
    normal = generator.normal(size=vocabulary)
    uniform = generator.random(vocabulary)
    banned = np.full(vocabulary, -np.inf)
    made = {
        "ordinary": 3 * normal,
        "peaked": 12 * normal,
        "all equal": np.zeros(vocabulary),
        "ties in steps": np.round(2 * normal),
        "near-ties": 10 + ids % 7 * 1e-6,
        "one survivor, first": np.where(ids == 0, 1.0, banned),
        "one survivor, last": np.where(ids == vocabulary - 1, 1.0, banned),
        "banned block first": np.where(ids < vocabulary // 2, banned, normal),
        "banned block last": np.where(ids >= (vocabulary + 1) // 2, banned, normal),
        "every other one banned": np.where(ids % 2 == 1, banned, normal),
        "denormal": ids % 5 * float(SMALLEST),
        "huge spread": (2 * uniform - 1) * float(LARGEST),
        "largest and smallest": np.where(ids % 3 == 0, float(LARGEST), -float(LARGEST)),
        "signed zeros": np.where(ids % 2 == 0, 0.0, -0.0),
        "geometric": -np.log(2) * ids,
        "edge of the weights": -(29 + 0.3 * uniform) * (ids > 0),
        "large offset": normal + 30_000,
        "one against many": 0.3 + (ids == 0) * np.log(max(vocabulary - 1, 1)),
        "long tail": long_tail(vocabulary),
    }
    return {name: row.astype(np.float32) for name, row in made.items()}


def long_tail(vocabulary: int, mass: float = 2.0**-26) -> Row:
    """A first token with most of the mass, and a tail of tokens with `mass` of its mass each.

    Each token of the tail is lost in a float32 sum near 1, so a cumulative sum in float32
    misses all of them: 0.45% of the mass at 300,000 tokens.
    """
    share = checks.number("mass", mass)
    if not 0 < share <= 1:
        raise ValueError(f"mass={checks.shown(mass)} must be above 0 and at most 1")
    row = np.full(_size(vocabulary), np.log(share), dtype=np.float32)
    row[0] = 0.0
    return row


def _size(vocabulary: int) -> int:
    return checks.integer("vocabulary", vocabulary, 1, checks.U32)
