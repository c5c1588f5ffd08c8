"""The arguments of the checks: arrays and numbers, refused before anything is drawn."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from fastdecode.options import checks

# The kinds of NumPy's dtypes, in words.
_KINDS = {"iu": "integers", "fiu": "numbers", "b": "True and False"}
_AXES = {1: "(vocab,)", 2: "(batch, vocab)"}


def array(
    name: str,
    value: Any,
    dtype: DTypeLike | None,
    kinds: str,
    *,
    axes: int = 1,
    shape: Sequence[int] | None = None,
) -> NDArray[Any]:
    """An argument as an array.

    Args:
        name: the argument.
        value: what the caller gave: an array, a tensor on the CPU, or lists.
        dtype: of the array that is returned; None is its own.
        kinds: NumPy's letters for the kinds of elements that are accepted, a key of `_KINDS`.
        axes: how many it must have.
        shape: the shape that it must have, if that is known.

    Raises:
        TypeError: for anything but an array of such elements.
        ValueError: for another shape, and for an array without elements.
    """
    try:
        found = np.asarray(value)
        # A mask would be dropped, and bytes are numbers by accident.
        others = (np.ma.MaskedArray, bytes, bytearray, memoryview)
        if found.dtype.kind not in kinds or isinstance(value, others):
            raise TypeError
    except MemoryError:
        raise
    except Exception:  # An object that makes itself an array, or cannot, may raise anything.
        raise TypeError(
            f"{name} must be an array of {_KINDS[kinds]}, not {type(value).__name__} "
            f"({checks.shown(value)})"
        ) from None
    if shape is not None and found.shape != tuple(shape):
        raise ValueError(
            f"{name} has shape {found.shape}, and must have {tuple(shape)}, one "
            "for each entry of the row or row of the logits"
        )
    if found.ndim != axes or found.size == 0:
        raise ValueError(
            f"{name} must be {_AXES[axes]}, with at least one entry; got shape {found.shape}"
        )
    return found if dtype is None else found.astype(dtype, copy=False)


def row(value: Any) -> NDArray[np.float32]:
    """One row of logits.

    Raises:
        TypeError: for anything but an array of numbers.
        ValueError: for another shape.
    """
    return array("row", value, np.float32, "fiu")


def batch(value: Any) -> NDArray[np.float32]:
    """Rows of logits.

    Raises:
        TypeError: for anything but an array of numbers.
        ValueError: for another shape.
    """
    return array("logits", value, np.float32, "fiu", axes=2)


def probabilities(name: str, value: Any, shape: Sequence[int] | None = None) -> NDArray[np.float64]:
    """Finite numbers from 0 with a sum above 0, normalised.

    Args:
        name: the argument.
        value: what the caller gave.
        shape: the shape that it must have, if that is known.

    Raises:
        TypeError: for anything but an array of numbers.
        ValueError: for another shape, and for other numbers.
    """
    law: NDArray[np.float64] = array(name, value, np.float64, "fiu", shape=shape)
    if not (np.isfinite(law).all() and (law >= 0).all() and law.sum() > 0):
        raise ValueError(f"{name} must be finite and >= 0, with a sum above 0; got {shown(law)}")
    normalised: NDArray[np.float64] = law / law.sum()
    return normalised


def shown(found: NDArray[Any]) -> str:
    """An array as messages show it."""
    return checks.shown(found.tolist())


def seed(value: Any) -> int:
    """A seed in 0..2**64-1.

    Raises:
        TypeError: for anything but an integer.
        ValueError: out of range.
    """
    return checks.integer("seed", value, 0, checks.U64)


def draws(value: Any) -> int:
    """A number of draws, which are counted in 64 bits.

    Raises:
        TypeError: for anything but an integer.
        ValueError: for none, and out of range.
    """
    return checks.integer("draws", value, 1, 2**63 - 1)


def false_alarm(value: Any) -> float:
    """A probability between 0 and 1, both excluded.

    Raises:
        TypeError: for anything but a number.
        ValueError: out of range.
    """
    number = checks.number("false_alarm", value)
    if not 0 < number < 1:
        raise ValueError(
            f"false_alarm={checks.shown(value)} must be between 0 and 1, both excluded"
        )
    return number


def function(name: str, value: Any) -> None:
    """Check that an argument can be called.

    Raises:
        TypeError: where it cannot.
    """
    if not callable(value):
        raise TypeError(
            f"{name} must be a function, not {type(value).__name__} ({checks.shown(value)})"
        )
