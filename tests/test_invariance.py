"""What a draw depends on, for any batch and any parameters: its row and its key alone."""

import os
import subprocess
import sys

import numpy as np
from fastdecode import core, testing
from fastdecode.testing import strategies
from hypothesis import given, settings
from hypothesis import strategies as st


@given(strategies.batches(), strategies.samples(), strategies.keys())
@settings(max_examples=150, deadline=None)
def test_company_order_split_and_padding_change_nothing(batch, sample, key):
    testing.check_batch_invariance(testing.core_sampler(sample), batch, seed=key["seed"]).require()


@given(strategies.rows(), strategies.samples(), strategies.keys())
def test_draws_are_what_their_tickets_buy(row, sample, key):
    weights = core.weights(row, sample)
    many = np.broadcast_to(row, (50, len(row)))
    draws = core.sample(many, sample, **key)
    testing.check_ledger(draws, weights).require()
    assert len(set(draws.tickets.tolist())) == 1
    draws = core.sample(many, sample, seed=key["seed"])
    testing.check_ledger(draws, weights).require()


@given(strategies.rows(), strategies.samples())
def test_the_distribution_is_the_weights(row, sample):
    weights = core.weights(row, sample)
    total = int(weights.sum())
    assert 0 < total < 2**64
    distribution = core.distribution(row, sample)
    np.testing.assert_array_equal(distribution, weights / float(total))
    assert abs(distribution.sum() - 1) < 1e-9
    assert not weights[np.isneginf(row)].any()


@given(strategies.rows(), strategies.keys(), st.data())
def test_half_precision_rows_are_their_single_precision_selves(row, key, data):
    with np.errstate(over="ignore"):
        half = row.astype(np.float16)
    half[np.isposinf(half)] = np.finfo(np.float16).max
    if not np.isfinite(half).any():
        return
    sample = data.draw(strategies.samples())
    drawn = core.sample(half[None], sample, **key)
    wide = core.sample(half[None].astype(np.float32), sample, **key)
    assert (drawn.tokens, drawn.tickets, drawn.totals) == (wide.tokens, wide.tickets, wide.totals)


@given(strategies.rows(), strategies.samples())
@settings(max_examples=50)
def test_parameters_make_samples(row, sample):
    assert core.Sample(**sample.settings()) == sample


DRAW = """
import numpy as np
from fastdecode import core
logits = np.random.default_rng(0).normal(size=(64, 6000)).astype(np.float32)
for sample in (core.Sample(), core.Sample(top_k=40), core.Sample(temperature=0.8, top_p=0.9)):
    print(core.sample(logits, sample, seed=1).tokens.tolist())
"""


def test_the_number_of_threads_changes_nothing():
    said = [
        subprocess.run(
            [sys.executable, "-c", DRAW],
            check=True,
            capture_output=True,
            env=os.environ | {"RAYON_NUM_THREADS": threads},
        ).stdout
        for threads in ("1", "2", "5")
    ]
    assert len(said[0]) > 600
    assert said[0] == said[1] == said[2]


def test_the_strategies_reach_every_kind_of_row():
    """The rows that matter come up, and not once in a thousand only."""
    seen = {"ties": 0, "bans": 0, "one survivor": 0, "denormals": 0, "huge": 0, "long": 0}

    @given(strategies.rows())
    @settings(max_examples=400, database=None, derandomize=True)
    def look(row):
        finite = row[np.isfinite(row)]
        seen["ties"] += len(np.unique(finite)) < len(finite)
        seen["bans"] += len(finite) < len(row)
        seen["one survivor"] += len(finite) == 1 < len(row)
        seen["denormals"] += bool(((abs(finite) > 0) & (abs(finite) < 1.1e-38)).any())
        seen["huge"] += bool((abs(finite) > 1e30).any())
        seen["long"] += len(row) > 20

    look()
    assert all(count >= 8 for count in seen.values()), seen
