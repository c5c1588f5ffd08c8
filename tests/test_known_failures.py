"""What went wrong in other people's samplers, each as a case that this one must pass."""

import math

import numpy as np
import pytest
from fastdecode import core, testing

# Temperature at which an integer logit difference halves the weight exactly.
OCTAVES = 1 / math.log(2)


def logs(*probabilities):
    with np.errstate(divide="ignore"):
        return np.log(np.array(probabilities)).astype(np.float32)


def test_zero_weight_beside_one_is_never_drawn():
    """pytorch#48841: of two tokens, the one of weight 0 was drawn within 200 x 100,000 draws."""
    row = np.array([-np.inf, 0.0], np.float32)
    tokens = core.sample(np.broadcast_to(row, (1_000_000, 2)), seed=0).tokens
    assert (tokens == 1).all()


def test_zero_weight_in_the_middle_is_never_drawn():
    """pytorch#50034: token 2 of (.33, .34, 0, .33) came once in ten million draws."""
    row = logs(0.33, 0.34, 0.0, 0.33)
    weights = core.weights(row)
    assert weights[2] == 0
    assert not (core.multinomial(row, 2_000_000, seed=0) == 2).any()
    # Draws cannot show that it never comes; the map from tickets can.
    draws = core.sample(np.broadcast_to(row, (100_000, 4)), seed=1)
    testing.check_ledger(draws, weights).require()


@pytest.mark.parametrize("logits_range", [1, 10, 100])
def test_masked_tokens_of_a_batch_are_never_drawn(logits_range):
    """pytorch#4858: 40 of 50 tokens masked, and masked ones were drawn on CUDA."""
    generator = np.random.default_rng(0)
    logits = generator.uniform(-logits_range, logits_range, (128, 50)).astype(np.float32)
    masked = np.argsort(generator.random((128, 50)), axis=1)[:, :40]
    np.put_along_axis(logits, masked, -np.inf, axis=1)
    for seed in range(200):
        tokens = core.sample(logits, seed=seed).tokens
        assert np.isfinite(logits[np.arange(128), tokens]).all()


def test_weights_too_small_to_add_up_in_single_precision():
    """Cumulative sums in float32 lose a tail, or fall short of 1 so that the last token gains."""
    row = testing.rows.long_tail(300_000)
    weights = core.weights(row)
    assert weights[0] == 2**42
    assert set(weights[1:].tolist()) == {2**16}


def test_the_first_and_the_last_ticket_belong_to_tokens_with_weight():
    row = np.array([-np.inf, -np.inf, 0.0, 1.0, -np.inf], np.float32)
    draws = core.sample(np.broadcast_to(row, (500_000, 5)), seed=3)
    weights = core.weights(row)
    testing.check_ledger(draws, weights).require()
    assert set(draws.tokens.tolist()) == {2, 3}
    assert draws.tickets.max() < weights.sum()


def test_top_k_keeps_k_where_logits_tie_at_the_border():
    """transformers keeps every token that equals the k-th: k + 1 and more."""
    row = np.array([3.0, 1.0, 2.0, 1.0, 1.0, 2.0], np.float32)
    for k in range(1, 7):
        kept = np.flatnonzero(core.weights(row, core.Sample(top_k=k)))
        assert kept.tolist() == sorted([0, 2, 5, 1, 3, 4][:k])


def test_top_p_reached_exactly_adds_no_token():
    """transformers#18976: where the mass was p exactly, one token more was kept."""
    row = np.array([0, -1, -1, -2, -2], np.float32)
    sample = core.Sample(temperature=OCTAVES, top_p=0.8)
    # Weights 4, 2, 2, 1, 1 of 10, times 2**40; the double 0.8 is a little more than 8/10.
    assert np.count_nonzero(core.weights(row, sample)) == 4
    row = np.array([0, -1, -1, -1, -1, -1, -1], np.float32)
    for kept, p in [(1, 0.25), (2, 0.375), (3, 0.5), (5, 0.75), (7, 1.0)]:
        weights = core.weights(row, core.Sample(temperature=OCTAVES, top_p=p))
        assert np.flatnonzero(weights).tolist() == list(range(kept))


def test_top_p_of_zero_keeps_the_best():
    row = np.array([0.0, 2.0, 1.0], np.float32)
    assert np.flatnonzero(core.weights(row, core.Sample(top_p=0.0))).tolist() == [1]


def test_a_cold_temperature_does_not_overflow():
    """Logits divided by a small temperature become inf, and inf - inf NaN: "probability tensor
    contains either inf, nan or element < 0"."""
    row = np.array([60_000, 59_968, -60_000], np.float16)
    for temperature in (1e-3, 1e-30, 1e-300):
        weights = core.weights(row, core.Sample(temperature=temperature))
        assert weights.tolist() == [2**42, 0, 0]


def test_a_row_is_drawn_alike_beside_any_batch_mate():
    """vllm#51226: a seeded request changed with whether its batch-mate had a seed."""
    generator = np.random.default_rng(5)
    logits = generator.normal(size=(2, 1000)).astype(np.float32)
    for sample in (core.Sample(), core.Sample(top_k=50), core.Sample(top_p=0.9)):
        for position in range(50):
            alone = core.sample(logits[:1], sample, seed=42, streams=7, positions=position)
            for stream in range(3):
                both = core.sample(
                    logits, sample, seed=42, streams=[7, stream], positions=[position, 0]
                )
                assert both.tokens[0] == alone.tokens[0]


def test_the_order_of_the_batch_changes_no_row():
    """vllm#17524: the same prompts in another order gave other answers."""
    logits = np.random.default_rng(6).normal(size=(8, 5000)).astype(np.float32)
    for sample in (core.Sample(), core.Sample(temperature=0.7, top_k=50, top_p=0.9)):
        testing.check_batch_invariance(testing.core_sampler(sample), logits).require()


def test_the_number_of_samples_changes_none_of_them():
    """One generator for a call makes the first draw hang on how many are asked for."""
    row = np.random.default_rng(7).normal(size=500).astype(np.float32)
    many = core.multinomial(row, 64, seed=9)
    for count in (1, 2, 63):
        assert core.multinomial(row, count, seed=9).tolist() == many[:count].tolist()


def test_draws_do_not_touch_a_global_generator():
    before = np.random.get_state()[1].tolist()
    first = core.sample(np.zeros((4, 100), np.float32), seed=1).tokens.tolist()
    np.random.seed(0)
    assert core.sample(np.zeros((4, 100), np.float32), seed=1).tokens.tolist() == first
    np.random.set_state(("MT19937", before, 624))
