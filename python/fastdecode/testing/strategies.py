"""hypothesis strategies for rows of logits, parameters and keys.

>>> from hypothesis import given
>>> from fastdecode.testing import strategies
>>> @given(strategies.rows(), strategies.parameters(), strategies.keys())
... def test_my_sampler(row, parameters, key): ...

Needs hypothesis (`pip install hypothesis`).
"""

from functools import cache
from typing import Any

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from fastdecode import core
from fastdecode.options.table import PARAMETERS, Parameter

Row = NDArray[np.float32]

_WORD = st.integers(0, 2**32 - 1)
_NEGATIVE_INFINITY = float("-inf")


def logits() -> st.SearchStrategy[float]:
    """One logit of any kind: ordinary, from a few values (ties), -inf, or any finite float32."""
    return st.one_of(
        st.floats(-12, 12, width=32),
        st.integers(-3, 3).map(float),
        st.just(_NEGATIVE_INFINITY),
        st.floats(allow_nan=False, allow_infinity=False, width=32),
    )


def rows(min_size: int = 1, max_size: int = 64) -> st.SearchStrategy[Row]:
    """Rows of logits, float32 of shape (vocab,), with at least one finite entry.

    Ordinary rows, ties, near-ties, one survivor, blocks of -inf, denormals, huge spreads, and
    mixtures of all of them.

    Parameters
    ----------
    min_size, max_size : int
        Bounds on the vocabulary.
    """
    sizes = st.integers(min_size, max_size)

    def of(elements: st.SearchStrategy[float]) -> st.SearchStrategy[Row]:
        return hnp.arrays(np.float32, sizes, elements=elements)

    kinds = [
        of(logits()),
        of(st.floats(-12, 12, width=32)),
        of(st.integers(-2, 2).map(float)),
        of(st.integers(-4, 4).map(lambda step: float(np.float32(1 + step * 2.0**-23)))),
        of(st.integers(-8, 8).map(lambda step: float(np.float32(step * 1e-45)))),
        of(st.sampled_from([3e38, -3e38, 1e30, 0.0, -0.0, 1e-38, _NEGATIVE_INFINITY])),
        _banned_blocks(sizes),
        _one_survivor(sizes),
    ]
    return st.one_of(kinds).filter(lambda row: bool(np.isfinite(row).any()))


@st.composite
def _banned_blocks(draw: st.DrawFn, sizes: st.SearchStrategy[int]) -> Row:
    size = draw(sizes)
    row: Row = draw(hnp.arrays(np.float32, size, elements=st.floats(-12, 12, width=32)))
    start, stop = sorted((draw(st.integers(0, size)), draw(st.integers(0, size))))
    row[start:stop] = -np.inf
    return row


@st.composite
def _one_survivor(draw: st.DrawFn, sizes: st.SearchStrategy[int]) -> Row:
    size = draw(sizes)
    row: Row = np.full(size, -np.inf, dtype=np.float32)
    row[draw(st.integers(0, size - 1))] = draw(st.floats(-12, 12, width=32))
    return row


def batches(max_rows: int = 6, max_size: int = 64) -> st.SearchStrategy[NDArray[np.float32]]:
    """Batches of rows, float32 of shape (batch, vocab) with at least two rows."""

    def of_size(size: int) -> st.SearchStrategy[NDArray[np.float32]]:
        row = rows(size, size)
        return st.lists(row, min_size=2, max_size=max_rows).map(np.stack)

    return st.integers(1, max_size).flatmap(of_size)


# Narrower than the accepted range: below, a check against exact arithmetic would take very long.
_NARROWER: dict[str, st.SearchStrategy[Any]] = {
    "temperature": st.one_of(st.just(0.0), st.just(1.0), st.floats(0.05, 5)),
    "typical_p": st.floats(0.01, 1),
    "epsilon_cutoff": st.floats(1e-6, 0.9),
    "eta_cutoff": st.floats(1e-6, 0.9),
    "top_n_sigma": st.floats(0.01, 5),
}
_TOKEN = st.integers(0, 63)
_IDS = st.lists(_TOKEN, min_size=1, max_size=3)


def parameters(*names: str) -> st.SearchStrategy[dict[str, Any]]:
    """Keywords for `Sample`, each one there or not.

    Parameters
    ----------
    *names : str
        Which parameters may occur; by default all with which a token depends on the row alone.
        Others need the text so far, a key or a state. Token ids are in 0..63.
    """
    unknown = set(names) - set(PARAMETERS)
    if unknown:
        raise ValueError(f"no strategy for {sorted(unknown)}; there are {list(PARAMETERS)}")
    wanted = names or [name for name, p in PARAMETERS.items() if p.needs_only_the_row]
    found = st.fixed_dictionaries({}, optional={name: _values(name) for name in wanted})
    # Two parameters may not go together.
    return found.filter(_accepted)


@cache
def _values(name: str) -> st.SearchStrategy[Any]:
    """Values of a parameter, and its default."""
    parameter = PARAMETERS[name]
    values = _NARROWER.get(name)
    if values is None:
        values = _of_kind(parameter).filter(lambda value: _accepted({name: value}))
    return st.just(parameter.default) | values


def _of_kind(parameter: Parameter) -> st.SearchStrategy[Any]:
    # Where a number above 1 is refused, the parameter is a probability.
    kinds = {
        "flag": st.booleans(),
        "integer": st.integers(1, 70),
        "number": st.floats(0, 5 if _accepted({parameter.name: 5.0}) else 1),
        "numbers": st.lists(
            st.floats(0, 1), min_size=parameter.required, max_size=len(parameter.names)
        ).map(tuple),
        "tokens": _IDS,
        "sequences": st.lists(_IDS, min_size=1, max_size=3),
        "biases": st.lists(
            st.tuples(_IDS.map(tuple), st.floats(-5, 5, width=32)),
            max_size=3,
            unique_by=lambda pair: pair[0],
        ),
        "record": st.fixed_dictionaries(
            {}, optional={field["name"]: _OF_FIELDS[field["kind"]] for field in parameter.fields}
        ),
    }
    return kinds[parameter.kind]


_OF_FIELDS: dict[str, st.SearchStrategy[Any]] = {
    "integer": st.integers(1, 4),
    "number": st.floats(1, 3),
    "sequences": st.lists(_IDS, max_size=2),
}


def _accepted(keywords: dict[str, Any]) -> bool:
    try:
        core.Sample(**keywords)
    except (TypeError, ValueError):
        return False
    return True


def samples(*names: str) -> st.SearchStrategy[core.Sample]:
    """`Sample` objects, from `parameters`."""
    return parameters(*names).map(lambda keywords: core.Sample(**keywords))


def keys() -> st.SearchStrategy[dict[str, int]]:
    """What a draw is keyed by: a dict of seed, streams, samples and positions, one integer each."""
    return st.fixed_dictionaries(
        {"seed": st.integers(0, 2**64 - 1), "streams": _WORD, "samples": _WORD, "positions": _WORD}
    )
