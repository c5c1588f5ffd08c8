"""The same survivors as transformers' own logits processors, outside ties at the border."""

import inspect

import numpy as np
import pytest
import torch
from fastdecode import core
from fastdecode.testing import strategies
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from transformers.generation import (
    EpsilonLogitsWarper,
    EtaLogitsWarper,
    MinPLogitsWarper,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
    TypicalLogitsWarper,
)

# In the order in which transformers' `generate` applies them.
WARPERS = {
    "temperature": TemperatureLogitsWarper,
    "top_k": TopKLogitsWarper,
    "top_p": TopPLogitsWarper,
    "min_p": MinPLogitsWarper,
    "typical_p": TypicalLogitsWarper,
    "epsilon_cutoff": EpsilonLogitsWarper,
    "eta_cutoff": EtaLogitsWarper,
}
HAVE = [name for name in WARPERS if name in inspect.signature(core.Sample).parameters]
# Where the two sides agree on what a value means: transformers takes open intervals.
VALUES = {
    "temperature": st.floats(0.2, 4),
    "top_k": st.integers(1, 60),
    "top_p": st.floats(0.01, 0.99),
    "min_p": st.floats(0.001, 0.99),
    "typical_p": st.floats(0.05, 0.95),
    "epsilon_cutoff": st.floats(1e-4, 0.3),
    "eta_cutoff": st.floats(1e-4, 0.3),
}
# How far a border may be from a token for the two to be compared: their sums are in floating
# point, ours in integers, and both round the logits' exponentials.
MARGIN = 1e-4


def scores_of(row, parameters):
    """Scores after transformers' processors, in float64."""
    scores = torch.from_numpy(row.astype(np.float64))[None]
    for name, warper in WARPERS.items():
        if parameters.get(name) is not None:
            scores = warper(parameters[name])(None, scores)
    return scores[0]


def kept_by_transformers(row, parameters):
    return torch.isfinite(scores_of(row, parameters)).numpy()


def clearly_kept(row, parameters):
    """What transformers keeps, for rows where no token is on the border."""
    kept = kept_by_transformers(row, parameters)
    for name, value in parameters.items():
        if name not in ("top_k", "temperature"):
            for factor in (1 - MARGIN, 1 + MARGIN):
                nudged = {**parameters, name: value * factor}
                assume((kept_by_transformers(row, nudged) == kept).all())
    # A weight rounds to zero 42 octaves below the maximum; transformers' never does.
    octaves = (row - row.max()) / parameters.get("temperature", 1.0) / np.log(2)
    assume((octaves[kept] > -42).all())
    return kept


@st.composite
def distinct_rows(draw):
    """Rows of logits that differ by a hundredth at least, and some bans."""
    size = draw(st.integers(2, 60))
    steps = draw(st.lists(st.integers(-800, 800), min_size=size, max_size=size, unique=True))
    row = np.array(steps, np.float32) / 100
    banned = draw(st.sets(st.integers(0, size - 1), max_size=size // 3))
    row[list(banned)] = -np.inf
    assume(np.isfinite(row).any())
    return row


parameters = st.fixed_dictionaries({}, optional={name: VALUES[name] for name in HAVE})


@given(distinct_rows(), parameters)
@settings(max_examples=600, deadline=None)
@example(np.array([0, -1, -2, -3], np.float32), {"top_k": 2})
@example(np.array([0, -1, -2, -3], np.float32), {"top_p": 0.7, "top_k": 3, "temperature": 2.0})
def test_the_same_tokens_survive(row, parameters):
    kept = clearly_kept(row, parameters)
    weights = core.weights(row, core.Sample(**parameters))
    np.testing.assert_array_equal(weights > 0, kept)


@pytest.mark.parametrize("name", HAVE)
@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_each_parameter_by_itself(name, data):
    row = data.draw(distinct_rows())
    parameters = {name: data.draw(VALUES[name])}
    kept = clearly_kept(row, parameters)
    weights = core.weights(row, core.Sample(**parameters))
    np.testing.assert_array_equal(weights > 0, kept)


@given(distinct_rows(), parameters)
@settings(max_examples=300, deadline=None)
def test_the_probabilities_are_transformers(row, parameters):
    """Not the survivors alone: also what they are drawn with."""
    clearly_kept(row, parameters)
    expected = scores_of(row, parameters).softmax(-1).numpy()
    got = core.distribution(row, core.Sample(**parameters))
    assert abs(got - expected).sum() / 2 <= 1e-6


@given(strategies.rows(min_size=2), st.integers(1, 60))
def test_at_ties_transformers_keeps_more_and_never_fewer(row, k):
    """Where logits tie at the border, ours are the k of theirs with the lowest ids."""
    with np.errstate(over="ignore"):
        theirs = kept_by_transformers(row, {"top_k": k})
    ours = core.weights(row, core.Sample(top_k=k)) > 0
    assert not (ours & ~theirs).any()
    assert ours.sum() <= k


def test_every_warper_of_transformers_is_compared_once_the_core_has_it():
    assert set(HAVE) <= set(VALUES)
    assert {"temperature", "top_k", "top_p"} <= set(HAVE)
