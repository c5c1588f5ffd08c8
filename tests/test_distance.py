"""The law against the softmax in arbitrary precision: total variation at most 1e-6."""

import os
from pathlib import Path

import mpmath
import numpy as np
import pytest
from fastdecode import core
from fastdecode.testing import rows, strategies
from hypothesis import given, settings
from hypothesis import strategies as st

DIGITS = 40
PROMISE = 1e-6


def total_variation(row, temperature):
    """Between `weights / total` and the softmax of the logits as they are, both exact."""
    weights = core.weights(row, core.Sample(temperature=temperature))
    total = int(weights.sum())
    assert total < 2**64
    # Equal logits have equal weights, so that one of each is enough.
    values, first, counts = np.unique(row, return_index=True, return_counts=True)
    assert (weights == weights[first][np.searchsorted(values, row)]).all()
    with mpmath.workdps(DIGITS):
        top = mpmath.mpf(float(values[-1]))
        exact = [
            mpmath.exp((mpmath.mpf(value) - top) / mpmath.mpf(temperature))
            if np.isfinite(value)
            else mpmath.mpf(0)
            for value in values.tolist()
        ]
        counts = counts.tolist()
        normaliser = mpmath.fsum(p * count for p, count in zip(exact, counts, strict=True))
        distance = mpmath.fsum(
            count * abs(mpmath.mpf(weight) / total - p / normaliser)
            for p, count, weight in zip(exact, counts, weights[first].tolist(), strict=True)
        )
        return float(distance / 2)


@pytest.mark.parametrize("vocabulary", [1, 2, 3, 17, 512, 513, 5_000])
def test_adversarial_rows(vocabulary):
    for name, row in rows.adversarial(vocabulary, seed=vocabulary).items():
        for temperature in (0.05, 0.7, 1.0, 3.0) if vocabulary < 1000 else (0.7,):
            assert total_variation(row, temperature) <= PROMISE, (name, temperature)


@pytest.mark.parametrize("vocabulary", [50_257, 300_000])
def test_large_vocabularies(vocabulary):
    """Among them one token against 299,999 of the same mass together, the hardest for rounding."""
    for name, row in rows.adversarial(vocabulary).items():
        # Rows whose numbers are all different take seconds each at this precision.
        if len(np.unique(row)) < 1000 or (name == "ordinary" and vocabulary < 100_000):
            assert total_variation(row, 1.0) <= PROMISE, name
    # A flat row loses the most to rounding down: nearly a unit a token.
    coarse = np.random.default_rng(3).choice(np.linspace(-9, 0, 500), vocabulary)
    assert total_variation(coarse.astype(np.float32), 1.0) <= PROMISE


@given(strategies.rows(), st.one_of(st.just(1.0), st.floats(0.01, 100), st.floats(1e-6, 1e6)))
@settings(max_examples=300)
def test_any_row(row, temperature):
    assert total_variation(row, temperature) <= PROMISE


@given(strategies.rows(), st.floats(-1000, 1000, width=32))
def test_a_constant_added_without_rounding_changes_nothing(row, constant):
    moved = (row.astype(np.float64) + constant).astype(np.float32)
    exact = np.isfinite(row)
    if (moved[exact].astype(np.float64) - row[exact] == constant).all():
        np.testing.assert_array_equal(core.weights(moved), core.weights(row))


@given(strategies.rows(), st.integers(-3, 3))
def test_a_power_of_two_in_logits_and_temperature_changes_nothing(row, power):
    with np.errstate(over="ignore"):
        scaled = row * np.float32(2.0**power)
    back = scaled / np.float32(2.0**power)
    if np.array_equal(back, row):
        np.testing.assert_array_equal(
            core.weights(scaled, core.Sample(temperature=2.0**power)), core.weights(row)
        )


LOGITS = os.environ.get("FASTDECODE_GPT2_LOGITS")


@pytest.mark.skipif(not LOGITS, reason="FASTDECODE_GPT2_LOGITS does not name a folder of row*.f32")
def test_real_rows_of_gpt2():
    files = sorted(Path(LOGITS or "").glob("row*.f32"))
    assert files, f"no row*.f32 in {LOGITS}"
    for file in files:
        row = np.fromfile(file, dtype=np.float32)
        for temperature in (0.7, 1.0):
            assert total_variation(row, temperature) <= PROMISE, (file.name, temperature)
